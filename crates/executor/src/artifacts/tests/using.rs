//! What is used without asking, what is asked about, and what a no means.

use super::*;

#[tokio::test]
async fn an_old_copy_serves_while_the_source_is_down_but_not_when_it_says_no() {
    let folder = tempfile::tempdir().unwrap();
    for no in [401, 403, 404, 410] {
        let server = Server::start(move |_, number| match number {
            0 => served(b"hi", "a").whole(),
            1 | 2 => reply("503 Down", &["Content-Length: 0"], b""),
            _ => reply(&format!("{no} No"), &["Content-Length: 0"], b""),
        })
        .await;
        let (url, cache) = (server.url("kernel"), open(config(folder.path())).await);
        assert!(get(&cache, &url).await.unwrap().warning.is_none());
        let old = get(&cache, &url).await.unwrap();
        assert_eq!(read(&old), b"hi");
        let warning = old.warning.unwrap();
        assert!(warning.contains("503") && warning.contains(&url) && warning.contains(" s ago"), "{warning}");
        let error = get(&cache, &url).await.unwrap_err();
        assert!(error.to_string().contains(&no.to_string()), "{error}");
        assert_eq!(error.cause(), Cause::JobError);
        assert_eq!(server.requests().len(), 4);
    }
}

#[tokio::test]
async fn a_fresh_copy_is_used_without_asking_also_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let server =
        Server::start(|_, _| served(b"kernel", "a").with("Cache-Control: max-age=600").whole()).await;
    let url = server.url("kernel");
    for _ in 0..2 {
        let cache = open(config(folder.path())).await;
        for _ in 0..3 {
            assert_eq!(read(&get(&cache, &url).await.unwrap()), b"kernel");
        }
    }
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_stale_copy_is_asked_about_and_not_loaded_again() {
    let folder = tempfile::tempdir().unwrap();
    let date = "Date: Sun, 22 Nov 2026 10:00:00 GMT";
    let modified = "Last-Modified: Sun, 22 Nov 2026 09:00:00 GMT";
    let server = Server::start(move |request: &Request, _| match request.header("if-modified-since") {
        _ if request.path == "/tagged" => served(b"tagged", "a").answer(request).0,
        Some("Sun, 22 Nov 2026 09:00:00 GMT") => {
            reply("304 Not Modified", &[date, modified, "Cache-Control: max-age=600"], b"")
        }
        _ => reply("200 OK", &[date, modified, "Content-Length: 5"], b"dated"),
    })
    .await;
    let cache = open(config(folder.path())).await;
    for _ in 0..3 {
        assert_eq!(read(&get(&cache, &server.url("tagged")).await.unwrap()), b"tagged");
    }
    assert_eq!(server.requests().len(), 3);
    assert_eq!(server.requests()[2].header("if-none-match"), Some("\"a\""));
    for _ in 0..3 {
        assert_eq!(read(&get(&cache, &server.url("dated")).await.unwrap()), b"dated");
    }
    // The 304 made it fresh.
    assert_eq!(server.requests().len(), 5);
}

#[tokio::test]
async fn a_file_that_a_run_has_does_not_change_when_its_url_does() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(|request, number| {
        let file = if number == 0 { served(b"first", "a") } else { served(b"second", "b") };
        file.answer(request).0
    })
    .await;
    let (url, cache) = (server.url("kernel"), open(config(folder.path())).await);
    let first = get(&cache, &url).await.unwrap();
    let second = get(&cache, &url).await.unwrap();
    assert_eq!((read(&first), read(&second)), (b"first".to_vec(), b"second".to_vec()));
}

#[tokio::test]
async fn an_older_copy_is_not_used_where_the_source_is_known_to_have_another() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(|_, number| match number {
        0 => served(b"first", "a").whole(),
        1 => served(b"second", "b").whole().cut(6, 3, End::Close),
        _ => reply("503 Down", &["Content-Length: 0"], b""),
    })
    .await;
    let (url, cache) = (server.url("kernel"), open(config(folder.path())).await);
    get(&cache, &url).await.unwrap();
    let error = get(&cache, &url).await.unwrap_err();
    assert_eq!(error.cause(), Cause::Infrastructure);
    assert!(error.to_string().contains("newer"), "{error}");
}

#[tokio::test]
async fn what_must_not_be_kept_is_loaded_each_time() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(|_, _| served(b"secret", "a").with("Cache-Control: no-store").whole()).await;
    let cache = open(config(folder.path())).await;
    for _ in 0..2 {
        assert_eq!(read(&get(&cache, &server.url("x")).await.unwrap()), b"secret");
    }
    assert!(server.requests().iter().all(|r| r.header("if-none-match").is_none()));
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn redirects_are_followed_within_bounds_and_never_make_a_url_fresh() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(|request, _| match request.path.as_str() {
        "/latest" => reply("302 Found", &["Location: /v1", "Content-Length: 0"], b""),
        "/v1" => served(b"one", "v1").with("Cache-Control: max-age=600").answer(request).0,
        "/file" => reply("302 Found", &["Location: file:///etc/passwd", "Content-Length: 0"], b""),
        _ => reply("302 Found", &["Location: /round", "Content-Length: 0"], b""),
    })
    .await;
    let cache = open(config(folder.path())).await;
    for _ in 0..2 {
        assert_eq!(read(&get(&cache, &server.url("latest")).await.unwrap()), b"one");
    }
    let asked = server.requests();
    assert_eq!(asked.len(), 4);
    assert_eq!(asked[3].header("if-none-match"), Some("\"v1\""));
    for path in ["round", "file"] {
        let error = get(&cache, &server.url(path)).await.unwrap_err();
        assert_eq!(error.cause(), Cause::JobError, "{error}");
        assert!(error.to_string().contains("the URL leads"), "{error}");
    }
}

#[tokio::test]
async fn secrets_of_a_url_are_in_no_message_and_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(|request, number| match number {
        0 => served(b"x", "a").answer(request).0,
        1..=4 => reply("500 Oops", &["Content-Length: 0"], b""),
        5 => Reply { bytes: b"nonsense\r\n\r\n".to_vec(), end: End::Close },
        _ => reply("404 No", &["Content-Length: 0"], b""),
    })
    .await;
    let cache = open(config(folder.path())).await;
    let url = format!("http://me:sesame@{}/x?token=sesame", server.address);
    let mut said = Vec::new();
    get(&cache, &url).await.unwrap();
    for _ in 0..2 {
        said.push(get(&cache, &url).await.unwrap().warning.unwrap());
    }
    said.push(
        get(&cache, &url).await.map(|f| f.warning).map_or_else(|e| e.to_string(), Option::unwrap_or_default),
    );
    said.push(get(&cache, &url).await.unwrap_err().to_string());
    said.push(get(&cache, "http://me:sesame@127.0.0.1:1/x?token=sesame").await.unwrap_err().to_string());
    for text in said {
        assert!(!text.contains("sesame"), "{text}");
    }
    for (name, content) in all_files(folder.path()) {
        assert!(!String::from_utf8_lossy(&content).contains("sesame"), "{name}");
    }
    // They are for the server.
    assert!(server.requests()[0].path.contains("sesame"));
    assert!(server.requests()[0].header("authorization").is_some());
}
