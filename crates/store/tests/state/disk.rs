//! A full disk: a small file system of the test's own, in a mount namespace of its own.
//!
//! The test binary starts itself again there (`disk::inside`, which does nothing unless it is told where).

use std::process::Command;

use farmgate_store::{Health, Store, StoreError};
use serde_json::Value;

use crate::samples::{Place, create, dispatch, finish, kept, until, value};
use farmgate_protocol::JobStatus;

/// The small file system.
const WHERE: &str = "FARMGATE_STORE_SMALL_DISK";

/// Whether a mount namespace can be made here; in CI it must be.
fn possible() -> bool {
    let works = Command::new("unshare").args(["-m", "true"]).output().is_ok_and(|o| o.status.success());
    assert!(
        works || std::env::var_os("CI").is_none(),
        "no mount namespace: run the tests as root, with util-linux installed"
    );
    works
}

#[test]
fn a_full_disk_is_an_error_and_no_end() {
    if !possible() {
        eprintln!("skipped: a_full_disk_is_an_error_and_no_end needs root, for a mount namespace");
        return;
    }
    let place = Place::new();
    let script = "mount -t tmpfs -o size=2m,mode=0700 small \"$1\" && shift && exec \"$@\"";
    let output = Command::new("unshare")
        .args(["-m", "sh", "-c", script, "sh"])
        .arg(place.folder())
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "disk::inside", "--nocapture", "--test-threads=1"])
        .env(WHERE, place.folder())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}\n{}", String::from_utf8_lossy(&output.stderr));
    // That it really ran, and was not filtered out.
    assert!(told.contains("the disk was full"), "{told}");
}

fn large(key: &str, kilobytes: usize) -> farmgate_store::Change {
    value(key, Value::from("x".repeat(kilobytes << 10)))
}

#[tokio::test(flavor = "multi_thread")]
async fn inside() {
    let Some(folder) = std::env::var_os(WHERE).map(std::path::PathBuf::from) else { return };
    let database = folder.join("state.db");
    let ballast = folder.join("ballast");
    std::fs::write(&ballast, vec![0; 1 << 20]).unwrap();
    let store = Store::open(&database, Default::default()).unwrap();
    let health = store.health();
    store.write(vec![create(1)]).await.unwrap();
    let mut stored = Vec::new();
    let error = loop {
        let key = format!("k{}", stored.len());
        match store.write(vec![large(&key, 40), value(&format!("{key}+"), 1)]).await {
            Ok(()) => stored.extend([key.clone(), format!("{key}+")]),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StoreError::Full { .. }), "{error:?}");
    assert!(error.to_string().ends_with("free some space there"), "{error}");
    let Health::Failing { error: told, .. } = health.borrow().clone() else { panic!("health says nothing") };
    assert!(told.contains("is full"), "{told}");
    println!("the disk was full after {} values", stored.len());

    // What fits is still stored, also beside something that does not; reads go on.
    let (small, big) =
        tokio::join!(store.write(vec![value("small", 1)]), store.write(vec![large("big", 900)]));
    assert!(matches!(big, Err(StoreError::Full { .. })), "{big:?}");
    small.unwrap();
    stored.push("small".to_owned());
    assert_eq!(store.open_runs().await.unwrap().len(), 1);

    // Room again: that is noticed without anybody writing, and the same handle goes on.
    store.write(vec![large("big", 900)]).await.unwrap_err();
    assert_ne!(*health.borrow(), Health::Ok);
    std::fs::remove_file(&ballast).unwrap();
    until("health is told", async || *health.borrow() == Health::Ok).await;
    store.write(vec![large("after", 40)]).await.unwrap();
    stored.push("after".to_owned());
    stored.sort();
    assert_eq!(store.values("test").await.unwrap().into_keys().collect::<Vec<_>>(), stored);
    store.close().await;
    let by_hand = rusqlite::Connection::open(&database).unwrap();
    let sound: String = by_hand.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(sound, "ok");
}

#[tokio::test]
async fn the_secrets_of_a_finished_run_are_nowhere_in_the_file() {
    let place = Place::new();
    let store = place.open();
    let here = |text: &str| {
        let bytes = std::fs::read(place.database()).unwrap();
        bytes.windows(text.len()).any(|w| w == text.as_bytes())
    };
    store.write(vec![create(1), dispatch(1, "a"), create(2)]).await.unwrap();
    store.close().await;
    assert!(here("hunter2"), "the test looks for the wrong thing");
    let store = place.open();
    store.write(vec![finish(1, crate::samples::at(1), JobStatus::Pass)]).await.unwrap();
    store.write(vec![farmgate_store::Change::Forget { run: 2, kept: kept() }]).await.unwrap();
    store.close().await;
    assert!(!here("hunter2"));
    assert!(here("hello.yml"));
}
