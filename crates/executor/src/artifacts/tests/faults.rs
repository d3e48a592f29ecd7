//! Downloads that break: each way by itself, and any script of them.

use proptest::prelude::*;

use super::{server::Served, *};

/// A server that cuts the first answer after `keep` bytes, and is good from then on.
async fn breaks_once(content: Vec<u8>, keep: usize, end: End) -> Server {
    Server::start(move |request, number| {
        let (answer, body) = served(&content, "a").answer(request);
        if number == 0 { answer.cut(body, keep, end) } else { answer }
    })
    .await
}

#[tokio::test]
async fn a_broken_download_goes_on_where_it_stood() {
    let content = bytes(500_000, 1);
    for end in [End::Close, End::Reset, End::Hang] {
        let folder = tempfile::tempdir().unwrap();
        let server = breaks_once(content.clone(), 300_000, end).await;
        let mut config = config(folder.path());
        if end == End::Hang {
            config.patience.stall = Duration::from_millis(500);
        }
        let cache = open(config).await;
        assert_eq!(read(&get(&cache, &server.url("kernel")).await.unwrap()), content, "{end:?}");
        // A stall of this machine may have cost an attempt more.
        let second = server.requests()[1].clone();
        let from = second.header("range").unwrap().strip_prefix("bytes=").unwrap().strip_suffix('-').unwrap();
        let from: usize = from.parse().unwrap();
        // A reset may overtake bytes that were sent before it.
        assert!(from == 300_000 || (end == End::Reset && from < 300_000), "{end:?}: {from}");
        assert_eq!(second.header("if-range"), Some("\"a\""));
    }
}

#[tokio::test]
async fn a_download_is_gone_on_with_after_a_restart() {
    let (content, folder) = (bytes(900_000, 1), tempfile::tempdir().unwrap());
    let server = breaks_once(content.clone(), 700_000, End::Hang).await;
    let url = server.url("kernel");
    {
        let cache = open(config(folder.path())).await;
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let mut sender = Some(sender);
        tokio::select! {
            _ = cache.fetch(&url, move |_, progress| {
                if progress.got >= 256 * 1024 && let Some(sender) = sender.take() {
                    sender.send(()).unwrap();
                }
            }) => panic!("it hangs"),
            arrived = tokio::time::timeout(SOON, receiver) => arrived.unwrap().unwrap(),
        }
    }
    let cache = open(config(folder.path())).await;
    assert_eq!(read(&get(&cache, &url).await.unwrap()), content);
    let from = server.requests()[1].header("range").unwrap().to_owned();
    let from: usize = from.strip_prefix("bytes=").unwrap().strip_suffix('-').unwrap().parse().unwrap();
    assert!((256 * 1024..=700_000).contains(&from), "{from}");
}

#[tokio::test]
async fn a_file_that_changes_in_between_is_loaded_anew() {
    let (old, new) = (bytes(50_000, 1), bytes(50_000, 2));
    // By the rules; with the rest of the other file; and with the rest of one of another length.
    for how in 0..3 {
        let folder = tempfile::tempdir().unwrap();
        let (old, now) = (old.clone(), new.clone());
        let server = Server::start(move |request, number| match (number, how, request.header("range")) {
            (0, ..) => served(&old, "a").whole().cut(50_000, 20_000, End::Close),
            (_, 1, Some(_)) => served(&now, "b").part(20_000),
            (_, 2, Some(_)) => served(&[&now[..], b"more"].concat(), "a").part(20_000),
            _ => served(&now, "b").answer(request).0,
        })
        .await;
        let cache = open(config(folder.path())).await;
        assert_eq!(read(&get(&cache, &server.url("kernel")).await.unwrap()), new, "{how}");
    }
}

#[tokio::test]
async fn a_server_without_ranges_or_without_etags_starts_over() {
    let content = bytes(50_000, 1);
    for etag in [Some("\"a\""), None] {
        let (folder, sent) = (tempfile::tempdir().unwrap(), content.clone());
        let server = Server::start(move |_, number| {
            let file = Served { bytes: sent.clone(), etag: etag.map(str::to_owned), more: Vec::new() };
            if number == 0 { file.whole().cut(50_000, 20_000, End::Close) } else { file.whole() }
        })
        .await;
        let cache = open(config(folder.path())).await;
        assert_eq!(read(&get(&cache, &server.url("kernel")).await.unwrap()), content);
        assert_eq!(server.requests()[1].header("range").is_some(), etag.is_some());
        assert_eq!(server.requests().len(), 2);
    }
}

#[tokio::test]
async fn faults_of_the_server_are_tried_again_and_a_no_is_final() {
    for (status, again) in [
        (500, true),
        (502, true),
        (503, true),
        (504, true),
        (408, true),
        (429, true),
        (404, false),
        (418, false),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let server = Server::start(move |_, number| match number {
            0 | 1 => reply(&format!("{status} X"), &["Content-Length: 0", "Retry-After: 0"], b""),
            _ => served(b"at last", "a").whole(),
        })
        .await;
        let cache = open(config(folder.path())).await;
        let result = get(&cache, &server.url("kernel")).await;
        assert_eq!(result.is_ok(), again, "{status}");
        assert_eq!(server.requests().len(), if again { 3 } else { 1 }, "{status}");
        assert!(again || result.unwrap_err().cause() == Cause::JobError);
    }
}

#[tokio::test]
async fn a_source_that_stays_down_is_the_infrastructures_fault_after_a_bounded_number_of_attempts() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(|_, _| Reply { bytes: Vec::new(), end: End::Close }).await;
    let cache = open(config(folder.path())).await;
    let error = get(&cache, &server.url("kernel")).await.unwrap_err();
    assert_eq!(error.cause(), Cause::Infrastructure);
    assert!(error.to_string().contains("5 attempts"), "{error}");
    assert_eq!(server.requests().len(), 5);
    // Nor is more waited than the settings say, whatever the server wants.
    let busy =
        Server::start(|_, _| reply("429 Slow", &["Content-Length: 0", "Retry-After: 9999999"], b"")).await;
    let mut config = config(folder.path());
    config.patience.longest_wait = Duration::from_millis(5);
    let cache = open(config).await;
    assert_eq!(get(&cache, &busy.url("kernel")).await.unwrap_err().cause(), Cause::Infrastructure);
    assert_eq!(busy.requests().len(), 5);
}

#[tokio::test]
async fn what_does_not_have_its_checksum_is_tried_again_and_never_used() {
    let sum = "Content-MD5: sZRqySSS0jR8YjW00mERhA==";
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(move |request, number| {
        let text: &[u8] = if number < 2 || request.path == "/bad" { b"hellO\n" } else { b"hello\n" };
        served(text, "a").with(sum).whole()
    })
    .await;
    let cache = open(config(folder.path())).await;
    assert_eq!(read(&get(&cache, &server.url("good")).await.unwrap()), b"hello\n");
    assert_eq!(server.requests().len(), 3);
    let error = get(&cache, &server.url("bad")).await.unwrap_err();
    assert_eq!(error.cause(), Cause::Infrastructure);
    assert!(error.to_string().contains("MD5"), "{error}");
}

#[tokio::test]
async fn a_body_whose_end_nobody_can_tell_is_used_only_with_a_checksum() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(|request, _| match request.path.as_str() {
        "/chunked" => reply("200 OK", &["Transfer-Encoding: chunked"], b"6\r\nhello\n\r\n0\r\n\r\n"),
        "/broken" => reply("200 OK", &["Transfer-Encoding: chunked"], b"6\r\nhello\n\r\n"),
        "/sum" => reply("200 OK", &["Content-MD5: sZRqySSS0jR8YjW00mERhA=="], b"hello\n"),
        _ => reply("200 OK", &[], b"hello\n"),
    })
    .await;
    let cache = open(config(folder.path())).await;
    for good in ["chunked", "sum"] {
        assert_eq!(read(&get(&cache, &server.url(good)).await.unwrap()), b"hello\n");
    }
    for bad in ["broken", "endless"] {
        assert_eq!(get(&cache, &server.url(bad)).await.unwrap_err().cause(), Cause::Infrastructure);
    }
}

#[tokio::test]
async fn an_artifact_that_is_too_large_is_refused_announced_or_not() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(|request, _| match request.path.as_str() {
        "/announced" => reply("200 OK", &["Content-Length: 999999999"], b"x"),
        _ => reply("200 OK", &["Transfer-Encoding: chunked"], b"6\r\nhello\n\r\n0\r\n\r\n"),
    })
    .await;
    let mut config = config(folder.path());
    config.patience.largest = 5;
    let cache = open(config).await;
    for path in ["announced", "chunked"] {
        let error = get(&cache, &server.url(path)).await.unwrap_err();
        assert_eq!(error.cause(), Cause::JobError);
        assert!(error.to_string().contains("larger than the 5 bytes"), "{error}");
    }
    assert_eq!(server.requests().len(), 2);
}

/// What the server does with one request.
#[derive(Debug, Clone)]
enum Fault {
    Good,
    Status(u16),
    Nothing,
    Cut(usize, bool),
    Stall(usize),
    /// The whole, whatever was asked for.
    NoRanges,
    /// The rest of what is there now, whatever `If-Range` says; true: which is another file from here on.
    IgnoresIfRange(bool),
    /// Another range than was asked for.
    OtherRange(usize),
    /// More, or less, than the head says.
    WrongLength(i8),
    Unframed(usize),
    /// A bit is wrong.
    Corrupt(usize),
    /// 304, asked or not.
    NotModified,
    Garbage(Vec<u8>),
    /// The file is another from here on; true: of another length too.
    Changes(bool),
    /// To a place that the server knows as well.
    Redirect,
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        1 => Just(Fault::Good),
        1 => prop_oneof![Just(500_u16), Just(503), Just(429), Just(404), Just(416), Just(204), Just(302)]
            .prop_map(Fault::Status),
        1 => Just(Fault::Nothing),
        4 => (0..LENGTH, any::<bool>()).prop_map(|(keep, reset)| Fault::Cut(keep, reset)),
        1 => (0..LENGTH).prop_map(Fault::Stall),
        1 => Just(Fault::NoRanges),
        3 => any::<bool>().prop_map(Fault::IgnoresIfRange),
        1 => (0..LENGTH).prop_map(Fault::OtherRange),
        1 => any::<i8>().prop_map(Fault::WrongLength),
        1 => (0..LENGTH).prop_map(Fault::Unframed),
        1 => (0..LENGTH).prop_map(Fault::Corrupt),
        1 => Just(Fault::NotModified),
        1 => prop::collection::vec(any::<u8>(), 0..64).prop_map(Fault::Garbage),
        1 => any::<bool>().prop_map(Fault::Changes),
        1 => Just(Fault::Redirect),
    ]
}

const LENGTH: usize = 3000;

fn version(number: u64, longer: bool) -> Vec<u8> {
    bytes(LENGTH + if longer { 17 } else { 0 }, number)
}

/// The server of a script. Versions have checksums if `sums`, as only those tell of a wrong bit.
struct Script {
    faults: Vec<Fault>,
    sums: bool,
    version: u64,
    longer: bool,
}

impl Script {
    fn file(&self) -> Served {
        use base64::{Engine, engine::general_purpose::STANDARD};
        let bytes = version(self.version, self.longer);
        let sum = STANDARD.encode(ring::digest::digest(&ring::digest::SHA256, &bytes));
        let file = served(&bytes, &format!("v{}", self.version));
        if self.sums { file.with(&format!("Repr-Digest: sha-256=:{sum}:")) } else { file }
    }

    fn on(&mut self, request: &Request, number: usize) -> Reply {
        let fault = self.faults.get(number).cloned().unwrap_or(Fault::Good);
        if let Fault::Changes(longer) = fault {
            self.version += 1;
            self.longer = longer;
        }
        if let Fault::IgnoresIfRange(true) = fault {
            self.version += 1;
        }
        let file = self.file();
        let (good, body) = file.answer(request);
        let from =
            request.header("range").and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
        match fault {
            Fault::Good | Fault::Changes(_) => good,
            Fault::Status(status) => reply(&format!("{status} X"), &["Content-Length: 0"], b""),
            Fault::Nothing => Reply { bytes: Vec::new(), end: End::Close },
            Fault::Cut(keep, reset) => good.cut(body, keep, if reset { End::Reset } else { End::Close }),
            Fault::Stall(keep) => good.cut(body, keep, End::Hang),
            Fault::NoRanges => file.whole(),
            Fault::IgnoresIfRange(_) => match from {
                Some(from) if from < file.bytes.len() => file.part(from),
                _ => file.whole(),
            },
            Fault::OtherRange(from) => file.part(from),
            Fault::WrongLength(off) => {
                let length = (file.bytes.len() as i64 + i64::from(off)).to_string();
                let etag = file.etag.clone().unwrap();
                let more = &file.more;
                let mut headers = vec![format!("ETag: {etag}"), format!("Content-Length: {length}")];
                // Fewer bytes than there are, and nothing that tells: no client could know.
                if off < 0 && more.is_empty() {
                    return good;
                }
                headers.extend(more.iter().cloned());
                let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
                reply("200 OK", &headers, &file.bytes)
            }
            Fault::Unframed(keep) => {
                let headers: Vec<&str> = file.more.iter().map(String::as_str).collect();
                reply("200 OK", &headers, &file.bytes[..keep])
            }
            Fault::Corrupt(_) if !self.sums || body == 0 => good,
            Fault::Corrupt(at) => {
                let mut wrong = good;
                let at = wrong.bytes.len() - 1 - at % body;
                wrong.bytes[at] ^= 4;
                wrong
            }
            Fault::NotModified => reply("304 Not Modified", &["ETag: \"v0\""], b""),
            Fault::Garbage(bytes) => Reply { bytes, end: End::Close },
            Fault::Redirect => reply("302 Found", &["Location: /elsewhere", "Content-Length: 0"], b""),
        }
    }
}

/// Fetches three times through a script, the last by a new gateway, and looks at every byte that is handed out.
async fn play(faults: Vec<Fault>, sums: bool) {
    let folder = tempfile::tempdir().unwrap();
    let mut script = Script { faults: faults.clone(), sums, version: 0, longer: false };
    let versions: Vec<Vec<u8>> = (0..=faults.len() as u64)
        .flat_map(|number| [version(number, false), version(number, true)])
        .collect();
    let server = Server::start(move |request, number| script.on(request, number)).await;
    let mut config = config(folder.path());
    config.patience.stall = Duration::from_millis(150);
    let mut held = Vec::new();
    for gateway in 0..2 {
        let cache = open(config.clone()).await;
        for _ in gateway..2 {
            if let Ok(fetched) = get(&cache, &server.url("kernel")).await {
                let got = read(&fetched);
                assert!(versions.contains(&got), "{faults:?}: {} bytes of no version", got.len());
                held.push((fetched, got));
            }
        }
    }
    for (fetched, got) in held {
        assert_eq!(read(&fetched), got, "a file changed under a run: {faults:?}");
    }
    for (name, content) in all_files(&folder.path().join("blobs")) {
        assert!(versions.contains(&content), "{faults:?}: {name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, max_shrink_iters: 50, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_script_of_faults_ends_in_the_exact_bytes_or_an_error(
        faults in prop::collection::vec(fault(), 0..10),
        sums in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(play(faults, sums));
    }
}
