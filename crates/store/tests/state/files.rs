//! The file itself: its mode, its lock, its versions, and files that are something else.

use std::{fs, os::unix::fs::PermissionsExt};

use farmgate_store::{Retention, SCHEMA_VERSION, Store, StoreError};
use rusqlite::Connection;

use crate::samples::{Place, create, value};

fn mode(path: &std::path::Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn refused(place: &Place) -> StoreError {
    Store::open(&place.database(), Retention::default()).unwrap_err()
}

#[tokio::test]
async fn only_its_owner_may_read_it_and_its_companions() {
    let place = Place::new();
    fs::write(place.database(), b"").unwrap();
    fs::set_permissions(place.database(), PermissionsExt::from_mode(0o644)).unwrap();
    let store = place.open();
    store.write(vec![value("secret", "x")]).await.unwrap();
    let mut names = Vec::new();
    for entry in fs::read_dir(place.folder()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(mode(&entry.path()), 0o600, "{:?}", entry.file_name());
        names.push(entry.file_name().into_string().unwrap());
    }
    names.sort();
    assert_eq!(names, ["state.db", "state.db-shm", "state.db-wal", "state.db.lock"]);
    store.close().await;
    assert!(!place.folder().join("state.db-wal").exists(), "the log is copied into the database and removed");
}

#[tokio::test]
async fn a_second_gateway_is_refused_until_the_first_is_gone() {
    let place = Place::new();
    let store = place.open();
    let error = refused(&place);
    assert!(
        matches!(error, StoreError::Locked { holder, .. } if holder == Some(std::process::id())),
        "{error}"
    );
    store.write(vec![value("a", 1)]).await.unwrap();
    store.close().await;
    place.open().close().await;
}

#[tokio::test]
async fn a_store_whose_handles_are_all_dropped_stores_what_was_queued_and_gives_the_lock_back() {
    let place = Place::new();
    let store = place.open();
    store.write_soon((0..500).map(|n| value(&n.to_string(), n)).collect());
    drop(store);
    crate::samples::until("the lock is free", async || {
        match Store::open(&place.database(), Retention::default()) {
            Ok(store) => {
                assert_eq!(store.values("test").await.unwrap().len(), 500);
                store.close().await;
                true
            }
            Err(StoreError::Locked { .. }) => false,
            Err(error) => panic!("{error}"),
        }
    })
    .await;
}

#[test]
fn a_folder_that_does_not_exist_is_an_error_that_names_it() {
    let place = Place::new();
    let error = Store::open(&place.folder().join("no/state.db"), Retention::default()).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("no/state.db.lock: does the folder exist"), "{text}");
}

#[tokio::test]
async fn a_file_of_a_newer_program_is_refused_with_both_versions_and_left_alone() {
    let place = Place::new();
    place.open().close().await;
    let by_hand = Connection::open(place.database()).unwrap();
    by_hand.pragma_update(None, "user_version", 4711).unwrap();
    drop(by_hand);
    let before = fs::read(place.database()).unwrap();
    let text = refused(&place).to_string();
    assert!(text.contains("4711") && text.contains(&SCHEMA_VERSION.to_string()), "{text}");
    assert_eq!(fs::read(place.database()).unwrap(), before);
}

#[test]
fn a_database_of_another_program_is_refused_and_left_alone() {
    let place = Place::new();
    let other = Connection::open(place.database()).unwrap();
    other.execute_batch("CREATE TABLE bookmarks (url TEXT); INSERT INTO bookmarks VALUES ('x')").unwrap();
    drop(other);
    let before = fs::read(place.database()).unwrap();
    assert!(matches!(refused(&place), StoreError::Foreign { .. }));
    assert_eq!(fs::read(place.database()).unwrap(), before);
}

#[tokio::test]
async fn a_damaged_file_is_refused_with_the_remedy_and_left_alone() {
    let place = Place::new();
    let store = place.open();
    for number in 1..200 {
        store.write(vec![create(number)]).await.unwrap();
    }
    store.close().await;
    let sound = fs::read(place.database()).unwrap();
    let damaged = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = sound.clone();
        change(&mut bytes);
        bytes
    };
    let table: Vec<(&str, Vec<u8>)> = vec![
        ("something else", b"hello, this is no database at all\n".repeat(200)),
        ("the head of the file is overwritten", damaged(&|b| b[..100].fill(0))),
        ("cut in the middle", damaged(&|b| b.truncate(b.len() / 2))),
        ("the schema's page is overwritten", damaged(&|b| b[100..4096].fill(0xa5))),
    ];
    for (what, bytes) in table {
        fs::write(place.database(), &bytes).unwrap();
        let error = refused(&place);
        assert!(matches!(error, StoreError::Damaged { .. }), "{what}: {error:?}");
        assert!(error.to_string().contains("restore a backup"), "{error}");
        assert_eq!(fs::read(place.database()).unwrap(), bytes, "{what}");
    }
    fs::write(place.database(), &sound).unwrap();
    let store = place.open();
    assert_eq!(store.open_runs().await.unwrap().len(), 199);
    store.close().await;
}

#[tokio::test]
async fn damage_that_is_met_later_is_an_error_and_no_panic() {
    let place = Place::new();
    let store = place.open();
    store.write((1..2000).map(create).collect()).await.unwrap();
    store.close().await;
    let mut bytes = fs::read(place.database()).unwrap();
    // All but the first pages: the schema, and the roots that opening looks at.
    let from = 4096 * 40;
    assert!(bytes.len() > 2 * from);
    bytes[from..].fill(0x5a);
    fs::write(place.database(), &bytes).unwrap();
    let store = place.open();
    let error = store.open_runs().await.unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
    store.close().await;
}
