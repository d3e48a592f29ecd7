//! The farm file on disk while people and the gateway change it.
#![allow(clippy::unwrap_used)] // all of this file is tests

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use farmgate_mars::{CheckContext, DutChange, Farm, Mars, MarsError};
use farmgate_protocol::DutId;
use tempfile::TempDir;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Ten times and more what it usually takes.
const BOUND: Duration = Duration::from_secs(20);

const START: &str = "# mine\npdus:\n  P: {driver: dummy} # the only one\nduts:\n  a:\n    pdu: P   # left\n";

struct Place {
    path: PathBuf,
    mars: Mars,
    _folder: TempDir,
}

async fn place(text: &str) -> Place {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("mars_db.yaml");
    fs::write(&path, text).unwrap();
    let mars = open(&path).await.unwrap();
    Place { path, mars, _folder: folder }
}

async fn open(path: &Path) -> Result<Mars, MarsError> {
    Mars::open(path, CheckContext::default(), CancellationToken::new()).await
}

fn id(text: &str) -> DutId {
    DutId::new(text).unwrap()
}

fn comment(text: &str) -> DutChange {
    DutChange { comment: Some(Some(text.to_owned())), ..DutChange::default() }
}

fn new() -> DutChange {
    DutChange { create: true, base_name: Some("virtio".to_owned()), ..DutChange::default() }
}

async fn until(mars: &Mars, what: impl FnMut(&Arc<Farm>) -> bool) {
    let found = timeout(BOUND, mars.farm().wait_for(what)).await.is_ok();
    assert!(found, "never seen: {:?}\n{:?}", mars.farm().borrow(), mars.problem().borrow());
}

async fn complaint(mars: &Mars, words: &str) {
    let mut problem = mars.problem();
    let found = problem.wait_for(|p| p.as_ref().is_some_and(|p| p.contains(words)));
    assert!(timeout(BOUND, found).await.is_ok(), "{:?}", mars.problem().borrow());
}

/// As vim and others save: a new file takes the place of the old one.
fn save_by_rename(path: &Path, text: &str) {
    let new = path.with_file_name("4913~");
    fs::write(&new, text).unwrap();
    fs::rename(new, path).unwrap();
}

/// As nano and others save: the same file is emptied and written again, here in two pieces.
fn save_in_place(path: &Path, text: &str) {
    use std::io::Write;
    let mut file = fs::File::create(path).unwrap();
    let (first, second) = text.split_at(text.len() / 2);
    file.write_all(first.as_bytes()).unwrap();
    file.write_all(second.as_bytes()).unwrap();
}

#[tokio::test]
async fn an_absent_file_is_made_and_takes_its_first_machines() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("mars_db.yaml");
    let mars = open(&path).await.unwrap();
    let explained = fs::read_to_string(&path).unwrap();
    assert!(explained.starts_with("# The farm"));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    mars.update_dut(&id("52:54:00:11:22:01"), new()).await.unwrap();
    let farm = mars.update_dut(&id("52:54:00:11:22:02"), new()).await.unwrap();
    assert_eq!(farm.duts.len(), 2);
    assert!(farm.duts[&id("52:54:00:11:22:02")].first_seen.is_some());
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.starts_with(&explained) && text.contains("\n  \"52:54:00:11:22:02\":\n"), "{text}");
    assert_eq!(*mars.farm().borrow(), farm);
    mars.remove_dut(&id("52:54:00:11:22:01")).await.unwrap();
    mars.remove_dut(&id("52:54:00:11:22:02")).await.unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), format!("{explained}duts:\n"));
    assert!(matches!(mars.remove_dut(&id("x")).await, Err(MarsError::NoSuchDut(_))));
    assert!(matches!(mars.update_dut(&id("x"), comment("c")).await, Err(MarsError::NoSuchDut(_))));
    mars.close().await;
    assert!(matches!(mars.remove_dut(&id("x")).await, Err(MarsError::Stopped)));
}

#[tokio::test]
async fn a_broken_file_at_the_start_is_an_error_with_its_place() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("mars_db.yaml");
    fs::write(&path, "duts:\n  a: {pdu: NO}\n").unwrap();
    let error = open(&path).await.err().unwrap().to_string();
    assert!(error.contains("mars_db.yaml:2:12: the PDU \"NO\" does not exist"), "{error}");
}

#[tokio::test]
async fn saves_of_every_kind_take_effect_at_once() {
    let Place { path, mars, _folder } = place(START).await;
    for round in 0..4 {
        for (how, save) in [("rename", save_by_rename as fn(&Path, &str)), ("in place", save_in_place)] {
            let name = format!("{how}-{round}").replace(' ', "-");
            let start = Instant::now();
            save(&path, &format!("{START}  {name}: {{}}\n"));
            until(&mars, |farm| farm.duts.contains_key(&id(&name)) && farm.duts.len() == 2).await;
            assert!(start.elapsed() < Duration::from_secs(1), "{how}: {:?}", start.elapsed());
        }
    }
}

#[tokio::test]
async fn a_broken_file_keeps_the_last_good_one_and_says_where() {
    let Place { path, mars, _folder } = place(START).await;
    let good = mars.farm().borrow().clone();
    save_in_place(&path, &START.replace("pdu: P ", "pdu: Q "));
    complaint(&mars, "mars_db.yaml:6:10: the PDU \"Q\" does not exist").await;
    assert_eq!(*mars.farm().borrow(), good);
    let refused = mars.update_dut(&id("a"), comment("x")).await.err().unwrap().to_string();
    assert!(refused.contains(":6:10:"), "{refused}");
    save_by_rename(&path, START);
    timeout(BOUND, mars.problem().wait_for(Option::is_none)).await.unwrap().unwrap();
    mars.update_dut(&id("a"), comment("x")).await.unwrap();
}

#[tokio::test]
async fn a_file_that_is_empty_or_gone_is_a_problem_and_no_empty_farm() {
    let Place { path, mars, _folder } = place(START).await;
    let good = mars.farm().borrow().clone();
    fs::write(&path, "").unwrap();
    complaint(&mars, "the file is empty").await;
    save_in_place(&path, START);
    timeout(BOUND, mars.problem().wait_for(Option::is_none)).await.unwrap().unwrap();
    fs::remove_file(&path).unwrap();
    complaint(&mars, "cannot be read").await;
    assert_eq!(*mars.farm().borrow(), good);
    fs::write(&path, START).unwrap();
    timeout(BOUND, mars.problem().wait_for(Option::is_none)).await.unwrap().unwrap();
    fs::write(&path, b"duts:\n  a: {comment: \xff}\n").unwrap();
    complaint(&mars, "line 2 is not UTF-8").await;
}

#[tokio::test]
async fn our_write_keeps_the_file_as_it_was_but_for_the_value() {
    let Place { path, mars, _folder } = place(START).await;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    mars.update_dut(&id("a"), comment("x")).await.unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), format!("{START}    comment: x\n"));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    let names: Vec<_> =
        fs::read_dir(path.parent().unwrap()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "the file and its lock: {names:?}");
}

#[tokio::test]
async fn a_link_stays_a_link() {
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join("real")).unwrap();
    let real = folder.path().join("real/farm.yaml");
    fs::write(&real, START).unwrap();
    let link = folder.path().join("mars_db.yaml");
    std::os::unix::fs::symlink(&real, &link).unwrap();
    let mars = open(&link).await.unwrap();
    mars.update_dut(&id("a"), comment("x")).await.unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert!(fs::read_to_string(&real).unwrap().contains("comment: x"));
    save_by_rename(&real, START);
    until(&mars, |farm| farm.duts[&id("a")].comment.is_none()).await;
}

#[tokio::test]
async fn many_writers_lose_nothing() {
    let Place { path, mars, _folder } = place(START).await;
    let other = open(&path).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..20 {
        let mars = if n % 2 == 0 { mars.clone() } else { other.clone() };
        tasks.spawn(async move { mars.update_dut(&id(&format!("dut{n}")), new()).await.map(drop) });
    }
    for result in tasks.join_all().await {
        result.unwrap();
    }
    until(&mars, |farm| farm.duts.len() == 21).await;
    until(&other, |farm| farm.duts.len() == 21).await;
    assert!(fs::read_to_string(&path).unwrap().starts_with(START));
}

#[tokio::test]
async fn a_person_and_the_gateway_at_the_same_time_lose_nothing() {
    for save in [save_by_rename as fn(&Path, &str), save_in_place] {
        let Place { path, mars, _folder } = place(START).await;
        let person = tokio::task::spawn_blocking({
            let path = path.clone();
            move || {
                for n in 0..30 {
                    // Read, edit, save: what an editor does that looks for changes before it saves. It cannot see
                    // one that comes between its look and its save, so it looks again afterwards.
                    loop {
                        let text = fs::read_to_string(&path).unwrap();
                        if text.contains(&format!("# note {n}\n")) {
                            break;
                        }
                        save(&path, &format!("{text}# note {n}\n"));
                        std::thread::sleep(Duration::from_millis(3));
                    }
                    std::thread::sleep(Duration::from_millis(25));
                }
            }
        });
        let mut written = 0;
        while !person.is_finished() {
            mars.update_dut(&id("a"), comment(&format!("c{written}"))).await.unwrap();
            written += 1;
        }
        person.await.unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with(START), "{text}");
        assert!((0..30).all(|n| text.contains(&format!("# note {n}\n"))), "{text}");
        assert!(written > 5, "{written}");
        mars.update_dut(&id("a"), comment("last")).await.unwrap();
        assert!(fs::read_to_string(&path).unwrap().contains("comment: last"));
    }
}
