//! One download for all who want it at once.

use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use super::*;

/// Waits for a condition, with a bound.
async fn until(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..6000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("this never came: {what}");
}

#[tokio::test]
async fn jobs_that_want_the_same_at_once_share_one_download() {
    let folder = tempfile::tempdir().unwrap();
    let content = bytes(100_000, 1);
    let sent = content.clone();
    let server = Server::start(move |request, _| served(&sent, "a").answer(request).0).await;
    let cache = open(config(folder.path())).await;
    let url = server.url("kernel");
    let (a, b, c) = tokio::join!(get(&cache, &url), get(&cache, &url), get(&cache, &url));
    for fetched in [a, b, c] {
        assert_eq!(read(&fetched.unwrap()), content);
    }
    let loads = server.requests().iter().filter(|r| r.header("if-none-match").is_none()).count();
    assert_eq!(loads, 1);
}

#[tokio::test]
async fn who_gives_up_takes_it_from_nobody_and_the_last_ends_it() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(|_, _| served(&[7; 1000], "a").whole().cut(1000, 500, End::Hang)).await;
    let cache = Arc::new(open(config(folder.path())).await);
    let url = server.url("kernel");
    let fetch = |cache: Arc<ArtifactCache>, url: String| {
        tokio::spawn(async move { cache.fetch(&url, |_, _| {}).await.map(|_| ()) })
    };
    let first = fetch(Arc::clone(&cache), url.clone());
    let second = fetch(Arc::clone(&cache), url.clone());
    until("the request", || server.requests().len() == 1).await;
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    assert_eq!(server.left(), 0);
    second.abort();
    until("the end of the download", || server.left() == 1).await;
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn whoever_comes_while_it_is_loaded_gets_what_the_server_has_then() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(|request, number| match number {
        0 => served(b"first", "a").whole().cut(5, 2, End::Hang),
        1 => served(b"first", "a").answer(request).0,
        _ => served(b"second", "b").answer(request).0,
    })
    .await;
    let mut config = config(folder.path());
    config.patience.stall = Duration::from_secs(2);
    let cache = open(config).await;
    let (url, loading) = (server.url("kernel"), Notify::new());
    let early = cache.fetch(&url, |_, progress| {
        if progress.total.is_some() {
            loading.notify_one();
        }
    });
    let late = async {
        loading.notified().await;
        get(&cache, &url).await
    };
    let (early, late) = tokio::join!(early, late);
    assert_eq!(read(&early.unwrap()), b"first");
    assert_eq!(read(&late.unwrap()), b"second");
}

#[tokio::test]
async fn progress_is_told_up_to_the_last_byte() {
    let folder = tempfile::tempdir().unwrap();
    let content = bytes(3 << 20, 2);
    let sent = content.clone();
    let server = Server::start(move |request, number| {
        let (answer, body) = served(&sent, "a").answer(request);
        if number == 0 { answer.cut(body, 1 << 20, End::Close) } else { answer }
    })
    .await;
    let cache = open(config(folder.path())).await;
    let told = Mutex::new(Vec::new());
    let url = server.url("kernel?secret");
    let fetched = cache.fetch(&url, |name, progress| {
        assert!(name.ends_with("kernel?***"), "{name}");
        told.lock().unwrap().push(progress.clone());
    });
    assert_eq!(read(&fetched.await.unwrap()), content);
    let told = told.into_inner().unwrap();
    assert!(told.iter().map(|p| p.got).is_sorted(), "{told:?}");
    assert!(told.iter().any(|p| p.total == Some(3 << 20)), "{told:?}");
    let progress = super::super::Progress { got: 1 << 20, total: Some(3 << 20), trouble: Some("x".into()) };
    assert_eq!(progress.to_string(), "1.0 of 3.0 MiB (tried again: x)");
}
