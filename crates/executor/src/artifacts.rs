//! Downloads what a job boots, before the machine is switched on. Each URL has one file in the cache; a download goes
//! to a file of its own and replaces the cached one only when it is whole. If the source is down, the cached copy
//! serves and the job is told.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::io::AsyncWriteExt;

/// An artifact could not be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot download {url}: {reason}")]
pub struct ArtifactError {
    url: String,
    reason: String,
}

/// A file in the cache.
#[derive(Debug)]
pub struct Fetched {
    /// Where it is.
    pub path: PathBuf,
    /// The source failed and an older copy is used: how.
    pub warning: Option<String>,
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
            Err(reason) if path.is_file() => {
                let warning = format!("{url}: {reason}; the copy of an earlier download is used");
                Ok(Fetched { path, warning: Some(warning) })
            }
            Err(reason) => Err(ArtifactError { url: url.to_owned(), reason }),
        }
    }

    async fn download(&self, url: &str, path: &Path) -> Result<(), String> {
        tokio::fs::create_dir_all(&self.root).await.map_err(|e| format!("{}: {e}", self.root.display()))?;
        let number = self.downloads.fetch_add(1, Ordering::Relaxed);
        let part = path.with_extension(format!("part{}-{number}", std::process::id()));
        let result = self.download_to(url, &part).await;
        let result = match result {
            Ok(()) => tokio::fs::rename(&part, path).await.map_err(|e| format!("{}: {e}", path.display())),
            Err(reason) => Err(reason),
        };
        if result.is_err() {
            // It may not exist; then there is nothing to remove.
            let _ = tokio::fs::remove_file(&part).await;
        }
        result
    }

    async fn download_to(&self, url: &str, part: &Path) -> Result<(), String> {
        let mut answer = self.http.get(url).send().await.map_err(|e| causes(&e))?;
        if !answer.status().is_success() {
            return Err(format!("the server answered {}", answer.status()));
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
            Some(length) if length != got => Err(format!("only {got} of {length} bytes arrived")),
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
