//! What jobs boot, on the disk before the machine is switched on. Promises: an artifact is the whole file that its
//! server has, or an error that says whose fault it is, never other bytes; a file that a run uses stays and does not
//! change, also where the URL leads to something newer meanwhile; what is fresh costs no network. Leaves to others:
//! which artifacts a job needs, and serving them.

mod answer;
mod attempt;
mod checksum;
mod error;
mod flight;
mod freshness;
mod part;
mod source;
mod store;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use farmgate_protocol::Timestamp;
use reqwest::redirect::Policy;

pub(crate) use self::{error::ArtifactError, store::Pin};
use self::{
    error::Problem,
    flight::{Flight, Landed, Stage},
    source::{Sha, Source},
    store::{Cached, Store},
};

/// How the cache is set up.
#[derive(Debug, Clone)]
pub(crate) struct CacheConfig {
    /// Its folder, which is made if it is not there.
    pub root: PathBuf,
    /// What it may take on the disk, bytes.
    pub size: u64,
    /// So long after the start nothing is removed: the runs of the gateway before pin theirs again.
    pub settle: Duration,
    /// How downloads are tried.
    pub patience: Patience,
}

impl CacheConfig {
    /// A cache in that folder: 20 GiB, of which an artifact may have 16.
    pub fn new(root: PathBuf) -> Self {
        Self { root, size: 20 << 30, settle: Duration::from_secs(60), patience: Patience::default() }
    }
}

/// What a download is given before it has failed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// The longest time without a byte, s.
    pub stall: Duration,
    /// The longest time for all attempts together.
    pub total: Duration,
    /// Attempts at most.
    pub attempts: u32,
    /// The same where an older copy can be used instead.
    pub attempts_with_copy: u32,
    /// Before the second attempt; it doubles with each that brings nothing.
    pub pause: Duration,
    /// The longest that a server may put off the next attempt (`Retry-After`).
    pub longest_wait: Duration,
    /// The largest artifact, bytes.
    pub largest: u64,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            stall: Duration::from_secs(30),
            total: Duration::from_secs(3600),
            attempts: 12,
            attempts_with_copy: 2,
            pause: Duration::from_millis(500),
            longest_wait: Duration::from_secs(60),
            largest: 16 << 30,
        }
    }
}

/// How far a download is.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Progress {
    /// Bytes that are there.
    pub got: u64,
    /// Bytes of the whole, where the server says that.
    pub total: Option<u64>,
    /// Why the last attempt failed.
    pub trouble: Option<String>,
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        match self.total {
            Some(total) => write!(f, "{:.1} of {:.1} MiB", mib(self.got), mib(total))?,
            None => write!(f, "{:.1} MiB", mib(self.got))?,
        }
        self.trouble.iter().try_for_each(|trouble| write!(f, " (tried again: {trouble})"))
    }
}

/// A file in the cache.
#[derive(Debug, Clone)]
pub(crate) struct Fetched {
    /// Where it is. It does not change.
    pub path: PathBuf,
    /// It stays there as long as this lives.
    pub pin: Pin,
    /// The source failed and an older copy is used: how.
    pub warning: Option<String>,
}

/// The cache.
pub(crate) struct ArtifactCache {
    store: Arc<Store>,
    http: reqwest::Client,
    patience: Patience,
    flights: Mutex<HashMap<Sha, Weak<Flight>>>,
}

/// Servers that a URL may lead to one after the other.
const REDIRECTS: usize = 10;

impl ArtifactCache {
    /// Opens it.
    ///
    /// # Errors
    /// The HTTP client cannot be made (no TLS provider).
    pub async fn open(config: CacheConfig) -> Result<Self, reqwest::Error> {
        let CacheConfig { root, size, settle, patience } = config;
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(10))
            .redirect(Policy::custom(redirect))
            .user_agent(concat!("farmgate/", env!("CARGO_PKG_VERSION")))
            .build()?;
        let folder = root.clone();
        let store = tokio::task::spawn_blocking(move || Store::open(root, size, settle)).await;
        let store = store.unwrap_or_else(|error| {
            tracing::error!(%error, "reading the artifact cache ended by a bug");
            Store::empty(folder, size, settle)
        });
        Ok(Self { store, http, patience, flights: Mutex::default() })
    }

    /// The artifact as a file: from the cache while that is fresh, else as its server has it now, or, with a warning,
    /// as it had it before. Whoever drops the future gives up; the download goes on while others wait for it.
    /// `progress` is told the URL as it may be shown, and how far it is, as often as that changes.
    ///
    /// # Errors
    /// The artifact cannot be had: see [`ArtifactError::cause`].
    pub async fn fetch(
        &self,
        url: &str,
        mut progress: impl FnMut(&str, &Progress) + Send,
    ) -> Result<Fetched, ArtifactError> {
        let source = Source::parse(url)?;
        // What another began to load before we came may be older than what the server has now: ask once more.
        let mut again = true;
        loop {
            if let Some(Cached { entry, path, pin }) = self.store.cached(source.key)
                && entry.is_fresh(Timestamp::now())
            {
                return Ok(Fetched { path, pin, warning: None });
            }
            let (flight, late) = self.join(&source);
            let end = flight.end(&mut |now| progress(&source.shown, now)).await;
            let Landed { path, pin, warning, can_ask } =
                end.unwrap_or_else(|| Err(source.error(Problem::Bug)))?;
            if !(late && can_ask && again) {
                return Ok(Fetched { path, pin, warning });
            }
            again = false;
        }
    }

    /// The download of a URL that goes on, or a new one; and whether its server had answered already.
    fn join(&self, source: &Source) -> (Arc<Flight>, bool) {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = flights.get(&source.key).and_then(Weak::upgrade) {
            let late = match &*flight.stage.borrow() {
                Stage::Asking(_) => Some(false),
                Stage::Loading(_) => Some(true),
                Stage::Done(_) => None,
            };
            if let Some(late) = late {
                return (flight, late);
            }
        }
        flights.retain(|_, flight| flight.strong_count() > 0);
        let flight = Flight::start(Arc::clone(&self.store), self.http.clone(), source.clone(), self.patience);
        let flight = Arc::new(flight);
        flights.insert(source.key, Arc::downgrade(&flight));
        (flight, false)
    }

    /// Pins the files that a run of the gateway before uses. Files that are not the cache's are left out; those that
    /// are gone are named in the log.
    pub fn pin_again(&self, paths: &[PathBuf]) -> Pin {
        let (pin, missing) = self.store.pin_again(paths);
        for path in missing {
            tracing::warn!(file = %path.display(), "an artifact of a run is not in the cache any more");
        }
        pin
    }
}

/// Where a server may lead: nowhere that the job could not have named itself, and never out of an encrypted connection.
fn redirect(attempt: reqwest::redirect::Attempt<'_>) -> reqwest::redirect::Action {
    let (scheme, before) = (attempt.url().scheme(), attempt.previous());
    let refused = if before.len() > REDIRECTS {
        Some("the URL leads from one to the next without an end")
    } else if !matches!(scheme, "http" | "https") {
        Some("the URL leads to what is neither http nor https")
    } else if scheme == "http" && before.last().is_some_and(|url| url.scheme() == "https") {
        Some("the URL leads from https to http")
    } else {
        None
    };
    match refused {
        Some(why) => attempt.error(why),
        None => attempt.follow(),
    }
}
