use std::{net::Ipv4Addr, sync::Mutex};

use axum::{body::Body, http::Request};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;

use super::*;
use crate::Reservation;

const KNOWN: &str = "/boot/52:54:00:11:22:01";

struct Fake {
    plan: Result<BootPlan, String>,
    asked: Mutex<Vec<ScriptRequest>>,
    seen: Mutex<Vec<Stage>>,
}

impl BootDirectory for Fake {
    fn reservation(&self, _: MacAddress) -> Option<Reservation> {
        None
    }
    fn is_reserved(&self, _: Ipv4Addr) -> bool {
        false
    }
    fn plan(&self, mac: MacAddress, request: &ScriptRequest) -> Result<BootPlan, String> {
        assert_eq!(mac.to_string(), "52:54:00:11:22:01");
        self.asked.lock().unwrap().push(request.clone());
        self.plan.clone()
    }
    fn saw(&self, sighting: Sighting) {
        self.seen.lock().unwrap().push(sighting.stage);
    }
}

fn fake(plan: Result<BootPlan, String>) -> Arc<Fake> {
    Arc::new(Fake { plan, asked: Mutex::default(), seen: Mutex::default() })
}

fn plan(kernel: Content, initrds: Vec<Content>) -> Result<BootPlan, String> {
    Ok(BootPlan { console_id: "dut".to_owned(), kernel, initrds, cmdline: "quiet".to_owned() })
}

fn bytes(text: &'static str) -> Content {
    Content::Bytes(Bytes::from_static(text.as_bytes()))
}

async fn ask(router: Router, method: &str, uri: &str, range: Option<&str>) -> (u16, HeaderMap, Bytes) {
    let mut request = Request::builder().method(method).uri(uri);
    if let Some(range) = range {
        request = request.header(header::RANGE, range);
    }
    let response = router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    (parts.status.as_u16(), parts.headers, body.collect().await.unwrap().to_bytes())
}

#[tokio::test]
async fn a_script_is_plain_text_and_made_for_who_asks() {
    let fake = fake(plan(bytes("k"), vec![]));
    let uri = format!("{KNOWN}/boot.ipxe?platform=efi&buildarch=x86_64&other=1");
    let (status, headers, body) = ask(router(fake.clone()), "GET", &uri, None).await;
    assert_eq!(
        (status, &headers[header::CONTENT_TYPE]),
        (200, &"text/plain; charset=utf-8".parse().unwrap())
    );
    assert!(body.starts_with(b"#!ipxe\n"));
    let dashes = "/boot/52-54-00-11-22-01/boot.ipxe?platform=a%20b&buildarch=";
    ask(router(fake.clone()), "HEAD", dashes, None).await;
    let words = |p: &str, b: &str| ScriptRequest { platform: Some(p.into()), buildarch: Some(b.into()) };
    assert_eq!(*fake.asked.lock().unwrap(), [words("efi", "x86_64"), ScriptRequest::default()]);
    assert_eq!(*fake.seen.lock().unwrap(), [Stage::Script], "HEAD is no boot");
}

#[tokio::test]
async fn a_client_without_a_plan_gets_the_reason_and_no_files() {
    let fake = fake(Err("retired".to_owned()));
    let (status, _, body) = ask(router(fake.clone()), "GET", &format!("{KNOWN}/boot.ipxe"), None).await;
    assert_eq!(status, 200);
    assert!(String::from_utf8_lossy(&body).contains("set reason:uristring retired\n"));
    let (status, _, body) = ask(router(fake), "GET", &format!("{KNOWN}/kernel"), None).await;
    assert_eq!((status, &body[..]), (404, &b"retired\n"[..]));
}

#[tokio::test]
async fn several_initrds_come_as_one_each_at_a_multiple_of_four() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("b");
    std::fs::write(&file, b"BB").unwrap();
    let fake = fake(plan(bytes("k"), vec![bytes("AAAAA"), Content::File(file), bytes("C")]));
    let uri = format!("{KNOWN}/initrd");
    let whole = b"AAAAA\0\0\0BB\0\0C";
    let (status, headers, body) = ask(router(fake.clone()), "GET", &uri, None).await;
    assert_eq!((status, &body[..]), (200, &whole[..]));
    assert_eq!(headers[header::CONTENT_LENGTH], "13");
    assert!(!headers.contains_key(header::TRANSFER_ENCODING));
    let (status, headers, body) = ask(router(fake.clone()), "GET", &uri, Some("bytes=4-9")).await;
    assert_eq!((status, &body[..]), (206, &whole[4..10]));
    assert_eq!(headers[header::CONTENT_RANGE], "bytes 4-9/13");
    let (status, headers, body) = ask(router(fake.clone()), "HEAD", &uri, None).await;
    assert_eq!((status, &headers[header::CONTENT_LENGTH], body.len()), (200, &"13".parse().unwrap(), 0));
    assert_eq!(ask(router(fake.clone()), "GET", &uri, Some("bytes=13-")).await.0, 416);
    let (start, done) = (
        |bytes| Stage::FileStart { file: "initrd".to_owned(), bytes },
        |bytes| Stage::FileDone { file: "initrd".to_owned(), bytes },
    );
    assert_eq!(*fake.seen.lock().unwrap(), [start(13), done(13), start(6), done(6)]);
}

#[tokio::test]
async fn a_large_file_arrives_whole_and_one_that_is_absent_or_a_folder_is_404() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("kernel");
    let content: Vec<u8> = (0..1_000_003u32).map(|i| (i % 251) as u8).collect();
    std::fs::write(&file, &content).unwrap();
    let uri = format!("{KNOWN}/kernel");
    let (_, _, body) = ask(router(fake(plan(Content::File(file), vec![]))), "GET", &uri, None).await;
    assert!(body == content);
    for bad in [dir.path().join("absent"), dir.path().to_owned()] {
        let fake = fake(plan(Content::File(bad), vec![]));
        assert_eq!(ask(router(fake.clone()), "GET", &uri, None).await.0, 404);
        assert!(fake.seen.lock().unwrap().is_empty());
    }
    let fake = fake(plan(bytes("k"), vec![]));
    assert_eq!(ask(router(fake), "GET", &format!("{KNOWN}/initrd"), None).await.0, 404);
}

#[tokio::test]
async fn boot_loaders_come_from_the_tftp_root_only() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("arm64")).unwrap();
    std::fs::write(dir.path().join("arm64/snponly.efi"), b"arm").unwrap();
    let routes = || router(fake(Err(String::new()))).merge(firmware_router(dir.path().to_owned()));
    assert_eq!(&ask(routes(), "GET", "/boot/ipxe/arm64/snponly.efi", None).await.2[..], b"arm");
    let (status, headers, body) = ask(routes(), "HEAD", "/boot/ipxe/arm64/snponly.efi", None).await;
    assert_eq!((status, &headers[header::CONTENT_LENGTH], body.len()), (200, &"3".parse().unwrap(), 0));
    for bad in
        ["/boot/ipxe/../secret", "/boot/ipxe/%2e%2e/secret", "/boot/ipxe/arm64", "/boot/nonsense/kernel"]
    {
        assert_eq!(ask(routes(), "GET", bad, None).await.0, 404, "{bad}");
    }
}
