//! The disk: its limit, what is pinned, what a gateway that died leaves, and no room at all.

use std::process::Command;

use super::*;

/// A server of files of 100,000 bytes, each with its own.
async fn hundreds() -> Server {
    Server::start(|request, _| {
        let seed = request.path.bytes().map(u64::from).sum();
        served(&bytes(100_000, seed), &request.path[1..]).with("Cache-Control: max-age=600").answer(request).0
    })
    .await
}

#[tokio::test]
async fn the_longest_unused_makes_room_and_what_a_run_uses_stays() {
    let (folder, server) = (tempfile::tempdir().unwrap(), hundreds().await);
    let mut config = config(folder.path());
    config.size = 350_000;
    let cache = open(config.clone()).await;
    let a = get(&cache, &server.url("a")).await.unwrap();
    for path in ["b", "c", "b", "d"] {
        get(&cache, &server.url(path)).await.unwrap();
    }
    assert!(cache.store.used() <= 350_000);
    assert!(a.path.exists());
    // c had to go: it was not used for the longest, of those that nobody holds.
    let loaded = server.requests().len();
    get(&cache, &server.url("b")).await.unwrap();
    get(&cache, &server.url("d")).await.unwrap();
    assert_eq!(server.requests().len(), loaded);
    get(&cache, &server.url("c")).await.unwrap();
    assert_eq!(server.requests().len(), loaded + 1);

    // A run of the gateway before goes on: its file is pinned again.
    let path = a.path.clone();
    drop((a, cache));
    let cache = open(config).await;
    let gone = folder.path().join("blobs").join("0".repeat(64));
    let again = cache.pin_again(&[path.clone(), gone, "/etc/passwd".into()]);
    let held = [get(&cache, &server.url("x")).await.unwrap(), get(&cache, &server.url("y")).await.unwrap()];
    assert!(path.exists());
    let error = get(&cache, &server.url("z")).await.unwrap_err();
    assert_eq!(error.cause(), Cause::Infrastructure);
    assert!(error.to_string().contains("350000 bytes"), "{error}");
    assert_eq!(read(&held[0]).len() + read(&held[1]).len(), 200_000);
    drop(again);
    get(&cache, &server.url("z")).await.unwrap();
    assert!(!path.exists());
}

#[tokio::test]
async fn nothing_is_removed_before_the_runs_of_the_gateway_before_had_the_time_to_pin() {
    let (folder, server) = (tempfile::tempdir().unwrap(), hundreds().await);
    let config = CacheConfig { size: 150_000, settle: SOON, ..config(folder.path()) };
    let cache = open(config).await;
    let first = get(&cache, &server.url("a")).await.unwrap().path;
    get(&cache, &server.url("b")).await.unwrap();
    assert!(first.exists());
}

#[tokio::test]
async fn leftovers_are_removed_at_the_start_and_what_is_damaged_is_not_used() {
    let (folder, server) = (tempfile::tempdir().unwrap(), hundreds().await);
    let root = folder.path();
    let a = get(&open(config(root)).await, &server.url("a")).await.unwrap().path;
    let b = get(&open(config(root)).await, &server.url("b")).await.unwrap().path;
    let leftovers = ["tmp/1-1", "blobs/half", "index/x.json", "partial/y", "partial/z.json"];
    for name in leftovers {
        fs::write(root.join(name), "{").unwrap();
    }
    // Cut short while the gateway was down, and while it runs.
    let cut = |path: &Path| {
        fs::remove_file(path).unwrap();
        fs::write(path, "short").unwrap();
    };
    cut(&a);
    let cache = open(config(root)).await;
    cut(&b);
    for name in leftovers {
        assert!(!root.join(name).exists(), "{name}");
    }
    for path in ["a", "b"] {
        assert_eq!(read(&get(&cache, &server.url(path)).await.unwrap()).len(), 100_000);
    }
    assert_eq!(server.requests().len(), 4);
}

#[tokio::test]
async fn a_folder_that_cannot_be_used_is_said_with_each_download() {
    let (folder, server) = (tempfile::tempdir().unwrap(), hundreds().await);
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let cache = open(config(&file)).await;
    let error = get(&cache, &server.url("a")).await.unwrap_err();
    assert_eq!(error.cause(), Cause::Infrastructure);
    assert!(error.to_string().contains("EXECUTOR_ARTIFACT_CACHE_ROOT"), "{error}");
    assert_eq!(fs::read(&file).unwrap(), b"");
}

/// Set where this test runs again with a small disk of its own.
const SMALL_DISK: &str = "FARMGATE_TEST_SMALL_DISK";

#[test]
fn a_full_disk_is_said_and_costs_no_other_job_its_files() {
    if let Some(folder) = std::env::var_os(SMALL_DISK) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        return runtime.block_on(fill(Path::new(&folder)));
    }
    let folder = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=1m farmgate \"$FARMGATE_TEST_SMALL_DISK\" && exec \"$@\"";
    let output = Command::new("unshare")
        .args(["-Urm", "sh", "-c", script, "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture"])
        .arg("artifacts::tests::disk::a_full_disk_is_said_and_costs_no_other_job_its_files")
        .env(SMALL_DISK, folder.path())
        .output()
        .expect("unshare(1) is there: install the package util-linux");
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    if text.contains("unshare failed") || text.contains("unshare: ") {
        assert!(std::env::var_os("CI").is_none(), "user namespaces are needed: {text}");
        eprintln!("skipped: no user namespaces here: {text}");
        return;
    }
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

async fn fill(root: &Path) {
    let server = Server::start(|request, _| match request.path.as_str() {
        "/large" => served(&bytes(2_000_000, 1), "large").answer(request).0,
        "/chunked" => {
            let body =
                [format!("{:x}\r\n", 2_000_000).as_bytes(), &bytes(2_000_000, 2), b"\r\n0\r\n\r\n"].concat();
            reply("200 OK", &["Transfer-Encoding: chunked"], &body)
        }
        path => served(&bytes(300_000, path.len() as u64), path).answer(request).0,
    })
    .await;
    let cache = open(config(root)).await;
    let held = get(&cache, &server.url("held")).await.unwrap();
    get(&cache, &server.url("loose")).await.unwrap();
    for path in ["large", "chunked"] {
        let error = get(&cache, &server.url(path)).await.unwrap_err();
        assert_eq!(error.cause(), Cause::Infrastructure);
        assert!(error.to_string().contains("is full"), "{error}");
        assert_eq!(read(&held), bytes(300_000, 5));
    }
    assert_eq!(all_files(&root.join("partial")), []);
    // What fits is served again: room was made of what nobody holds.
    assert_eq!(read(&get(&cache, &server.url("another")).await.unwrap()), bytes(300_000, 8));
}
