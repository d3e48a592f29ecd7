//! The cache against a server that misbehaves.

mod disk;
mod faults;
mod server;
mod sharing;
mod speed;
mod using;

use std::{fs, path::Path, time::Duration};

use farmgate_job::Cause;

use self::server::{End, Reply, Request, Server, reply, served};
use super::{ArtifactCache, ArtifactError, CacheConfig, Fetched, Patience};

/// A bound that a noisy machine keeps.
const SOON: Duration = Duration::from_secs(60);

fn config(root: &Path) -> CacheConfig {
    let patience = Patience {
        stall: Duration::from_secs(20),
        total: SOON,
        attempts: 5,
        pause: Duration::from_millis(1),
        ..Patience::default()
    };
    CacheConfig { settle: Duration::ZERO, patience, ..CacheConfig::new(root.to_owned()) }
}

async fn open(config: CacheConfig) -> ArtifactCache {
    // Another test may have done it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    ArtifactCache::open(config).await.unwrap()
}

async fn get(cache: &ArtifactCache, url: &str) -> Result<Fetched, ArtifactError> {
    tokio::time::timeout(SOON, cache.fetch(url, |_, _| {})).await.unwrap()
}

fn read(fetched: &Fetched) -> Vec<u8> {
    fs::read(&fetched.path).unwrap()
}

/// Every file below a folder, with what is in it.
fn all_files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(all_files(&path));
        } else {
            found.push((path.display().to_string(), fs::read(&path).unwrap()));
        }
    }
    found
}

/// Bytes that differ from place to place.
fn bytes(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let next = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    (0..length).map(next).collect()
}
