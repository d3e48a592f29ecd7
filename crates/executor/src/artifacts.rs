//! Downloads what a job boots, before the machine is switched on. Each URL has one file in the cache; a download goes
//! to a file of its own and replaces the cached one only when it is whole. If the source is down, the cached copy
//! serves and the job is told; a source that answers that there is no such file is not down.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use reqwest::StatusCode;
use tokio::io::AsyncWriteExt;

/// An artifact could not be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot download {url}: {reason}")]
pub struct ArtifactError {
    url: String,
    reason: String,
    definite: bool,
}

impl ArtifactError {
    /// The source works, and says no: the job asks for something that is not there. Otherwise the source failed.
    pub fn is_the_jobs_fault(&self) -> bool {
        self.definite
    }
}

/// A file in the cache.
#[derive(Debug)]
pub struct Fetched {
    /// Where it is.
    pub path: PathBuf,
    /// The source failed and an older copy is used: how.
    pub warning: Option<String>,
}

/// Why a download failed.
struct Failure {
    reason: String,
    /// The source works, and says no: an older copy would be another file than the job asks for.
    definite: bool,
}

impl From<String> for Failure {
    fn from(reason: String) -> Self {
        Self { reason, definite: false }
    }
}

/// The cache.
pub struct ArtifactCache {
    root: PathBuf,
    http: reqwest::Client,
    downloads: AtomicU64,
}

impl ArtifactCache {
    /// A cache in that folder, which is made when it is first needed.
    ///
    /// # Errors
    /// The HTTP client cannot be made (no TLS provider).
    pub fn new(root: PathBuf) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(20))
            .read_timeout(Duration::from_secs(60))
            .user_agent(concat!("farmgate/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { root, http, downloads: AtomicU64::new(0) })
    }

    fn path_of(&self, url: &str) -> PathBuf {
        // Two hashes with different seeds: 128 bits, so that two URLs do not meet in one file.
        let mut name = String::new();
        for seed in 0..2_u8 {
            let mut hasher = DefaultHasher::new();
            (seed, url).hash(&mut hasher);
            name.push_str(&format!("{:016x}", hasher.finish()));
        }
        self.root.join(name)
    }

    /// The artifact as a file, freshly downloaded or, with a warning, as it was before.
    ///
    /// # Errors
    /// The source failed and there is no older copy.
    pub async fn fetch(&self, url: &str) -> Result<Fetched, ArtifactError> {
        let path = self.path_of(url);
        match self.download(url, &path).await {
            Ok(()) => Ok(Fetched { path, warning: None }),
            Err(Failure { reason, definite: false }) if path.is_file() => {
                let warning = format!("{url}: {reason}; the copy of an earlier download is used");
                Ok(Fetched { path, warning: Some(warning) })
            }
            Err(Failure { reason, definite }) => Err(ArtifactError { url: url.to_owned(), reason, definite }),
        }
    }

    async fn download(&self, url: &str, path: &Path) -> Result<(), Failure> {
        tokio::fs::create_dir_all(&self.root).await.map_err(|e| format!("{}: {e}", self.root.display()))?;
        let number = self.downloads.fetch_add(1, Ordering::Relaxed);
        let part = path.with_extension(format!("part{}-{number}", std::process::id()));
        let result = self.download_to(url, &part).await;
        let result = match result {
            Ok(()) => {
                tokio::fs::rename(&part, path).await.map_err(|e| format!("{}: {e}", path.display()).into())
            }
            Err(reason) => Err(reason),
        };
        if result.is_err() {
            // It may not exist; then there is nothing to remove.
            let _ = tokio::fs::remove_file(&part).await;
        }
        result
    }

    async fn download_to(&self, url: &str, part: &Path) -> Result<(), Failure> {
        let mut answer = self.http.get(url).send().await.map_err(|e| causes(&e))?;
        let status = answer.status();
        if !status.is_success() {
            let overloaded = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS].contains(&status);
            let definite = status.is_client_error() && !overloaded;
            return Err(Failure { reason: format!("the server answered {status}"), definite });
        }
        let announced = answer.content_length();
        let on_disk = |e: std::io::Error| format!("{}: {e}", part.display());
        let mut file = tokio::fs::File::create(part).await.map_err(on_disk)?;
        let mut got: u64 = 0;
        while let Some(piece) = answer.chunk().await.map_err(|e| causes(&e))? {
            got += piece.len() as u64;
            file.write_all(&piece).await.map_err(on_disk)?;
        }
        file.flush().await.map_err(on_disk)?;
        match announced {
            Some(length) if length != got => Err(format!("only {got} of {length} bytes arrived").into()),
            _ => Ok(()),
        }
    }
}

/// An error with all of its causes: reqwest's own text leaves out the one that matters.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::{io::AsyncReadExt, net::TcpListener};

    #[tokio::test]
    async fn an_old_copy_serves_while_the_source_is_down_but_not_when_it_says_no() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/kernel", listener.local_addr().unwrap());
        tokio::spawn(async move {
            for status in ["200 OK", "503 Down", "404 Not Found"] {
                let (mut client, _) = listener.accept().await.unwrap();
                let _ = client.read(&mut [0; 4096]).await.unwrap();
                let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi");
                client.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        let folder = tempfile::tempdir().unwrap();
        let cache = ArtifactCache::new(folder.path().to_owned()).unwrap();
        assert!(cache.fetch(&url).await.unwrap().warning.is_none());
        let old = cache.fetch(&url).await.unwrap();
        assert_eq!(std::fs::read_to_string(&old.path).unwrap(), "hi");
        assert!(old.warning.unwrap().contains("503"));
        let gone = cache.fetch(&url).await.unwrap_err();
        assert!(gone.to_string().contains("404") && gone.is_the_jobs_fault(), "{gone}");
        // Nobody listens any more: that says nothing about the job.
        let other = cache.fetch(&url.replace("kernel", "initrd")).await.unwrap_err();
        assert!(!other.is_the_jobs_fault(), "{other}");
    }
}
