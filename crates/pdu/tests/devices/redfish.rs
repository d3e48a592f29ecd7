//! A BMC, simulated from DMTF DSP0266 (protocol) and DSP0268 (ComputerSystem): <https://www.dmtf.org/dsp/DSP0266>.

use std::sync::Arc;

use farmgate_pdu::{DriverError, make};
use farmgate_protocol::pdu::PortState;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;

use crate::{
    conformance::{self, Misbehave, labels},
    device::{Device, State},
    web::{self, Request, Response},
};

/// `root:calvin`, an administrator.
const ADMIN: &str = "cm9vdDpjYWx2aW4=";
/// `viewer:calvin`, with the role ReadOnly.
const VIEWER: &str = "dmlld2VyOmNhbHZpbg==";
const SYSTEMS: &str = "/redfish/v1/Systems";

fn refusal(status: u16, id: &str) -> Response {
    let message = json!({"MessageId": id, "Message": "The request was not carried out."});
    Response::json(json!({"error": {"code": id, "@Message.ExtendedInfo": [message]}})).status(status)
}

/// How this BMC differs from others.
#[derive(Clone, Copy)]
struct Ways {
    /// It refuses to switch on what is on.
    strict: bool,
    allowed: &'static [&'static str],
    target: &'static str,
}

const COMMON: Ways =
    Ways { strict: true, allowed: &["On", "ForceOff", "GracefulShutdown", "ForceRestart"], target: "" };

fn handle(state: &mut State, request: &Request, ways: Ways) -> Response {
    let admin = request.is_basic(ADMIN);
    if !admin && !request.is_basic(VIEWER) {
        return refusal(401, "Base.1.8.NoValidSession");
    }
    let Some(below) = request.path.strip_prefix(SYSTEMS) else {
        return refusal(404, "Base.1.8.ResourceMissing");
    };
    let path: Vec<_> = below.split('/').skip(1).collect();
    // A name, not a number: 01 is another one.
    let member = |text: &str| (0..state.outlets.len()).find(|n| (n + 1).to_string() == text);
    match (request.method.as_str(), &path[..]) {
        ("GET", []) => {
            let members: Vec<_> =
                (1..=state.outlets.len()).map(|n| json!({"@odata.id": format!("{SYSTEMS}/{n}")})).collect();
            Response::json(json!({"Members@odata.count": members.len(), "Members": members}))
        }
        ("GET", [n]) if member(n).is_some() => {
            let n = member(n).unwrap();
            let target = format!("{SYSTEMS}/{}/Actions/ComputerSystem.Reset", n + 1);
            let target = if ways.target.is_empty() { target.as_str() } else { ways.target };
            let reset = json!({"target": target, "ResetType@Redfish.AllowableValues": ways.allowed});
            let on: Value = if state.shown(n).unwrap() { "On".into() } else { "Off".into() };
            Response::json(
                json!({"@odata.id": request.path, "Name": "System", "HostName": state.outlets[n].label,
                "PowerState": on, "Actions": {"#ComputerSystem.Reset": reset, "Oem": {}}}),
            )
        }
        ("POST", [n, "Actions", "ComputerSystem.Reset"]) if member(n).is_some() => {
            let n = member(n).unwrap();
            let on = match request.json().unwrap()["ResetType"].as_str() {
                Some("On") => true,
                Some("ForceOff") => false,
                other => panic!("{other:?} is not used"),
            };
            if !admin {
                return refusal(403, "Base.1.8.InsufficientPrivilege");
            }
            if ways.strict && state.shown(n) == Some(on) {
                return refusal(409, "IDRAC.2.8.PSU501");
            }
            state.switch(n, on);
            Response { status: 204, headers: Vec::new(), body: Vec::new() }
        }
        _ => refusal(404, "Base.1.8.ResourceMissing"),
    }
}

fn with(address: &str, user: &str, password: &str) -> Value {
    json!({"hostname": address, "username": user, "password": password, "https": false})
}

async fn bmc(talk: crate::device::Talk) -> Device {
    let mut device = Device::start("redfish", talk, |address, _| with(address, "root", "calvin")).await;
    device.wrong = Some(|address, _| with(address, "root", "wrong"));
    device.reading = Some(|address, _| with(address, "viewer", "calvin"));
    device
}

/// A BMC with these ways; a handler is a plain function, so each has its own.
macro_rules! bmc {
    ($ways:expr) => {
        bmc(|stream, state| {
            Box::pin(web::talk(stream, state, |state, request| handle(state, request, $ways)))
        })
        .await
    };
}

pub async fn conforms() {
    conformance::all(&mut bmc!(COMMON)).await;
}

#[tokio::test]
async fn a_bmc_that_says_yes_to_everything_conforms_too() {
    conformance::may_be_told_the_same_twice(&mut bmc!(Ways { strict: false, ..COMMON })).await;
}

#[tokio::test]
async fn only_force_off_will_do_and_a_bmc_without_it_is_told() {
    let mut device = bmc!(Ways { allowed: &["On", "GracefulShutdown"], ..COMMON });
    device.outfit(&labels(1)).await;
    let mut driver = device.driver();
    driver.write(&1.into(), true).await.unwrap();
    let error = driver.write(&1.into(), false).await.unwrap_err();
    assert!(matches!(&error, DriverError::Refused(what) if what.contains("GracefulShutdown")), "{error:?}");
    assert!(device.is_on(0).await);
}

#[tokio::test]
async fn credentials_are_sent_nowhere_but_to_the_bmc() {
    for mut device in [
        bmc!(Ways { target: "http://evil.example/redfish/v1/x", ..COMMON }),
        bmc!(Ways { target: "//evil.example/redfish/", ..COMMON }),
        bmc!(Ways { target: "@evil.example/redfish/", ..COMMON }),
        bmc!(Ways { target: "/redfish/v1/x?y", ..COMMON }),
    ] {
        device.outfit(&labels(1)).await;
        let error = device.driver().write(&1.into(), true).await.unwrap_err();
        assert!(matches!(error, DriverError::Protocol(_)), "{error:?}");
    }
}

#[tokio::test]
async fn a_server_on_its_way_is_neither_on_nor_off() {
    let device = Device::start(
        "redfish",
        |stream, state| {
            Box::pin(web::talk(stream, state, |_, _| Response::json(json!({"PowerState": "PoweringOn"}))))
        },
        |address, _| with(address, "root", "calvin"),
    )
    .await;
    let mut driver = device.driver();
    assert_eq!(driver.read(&1.into()).await.unwrap(), PortState::Unknown);
    let error = driver.write(&1.into(), true).await.unwrap_err();
    assert!(matches!(&error, DriverError::Refused(what) if what.contains("no reset action")), "{error:?}");
}

/// A conversation over TLS, with the certificate that a BMC signs itself. Both ends of a pipe: TLS outside, the web
/// server inside.
async fn tls(stream: tokio::net::TcpStream, state: crate::device::Shared) {
    let certificate = CertificateDer::from_pem_slice(include_bytes!("tls/certificate.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("tls/key.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    // A client that does not trust us hangs up.
    let Ok(mut outside) = TlsAcceptor::from(Arc::new(config)).accept(stream).await else { return };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut inside = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (server, _) = listener.accept().await.unwrap();
    let handler: web::Handler = |state, request| handle(state, request, COMMON);
    let pipe = async {
        // Ends with the connection, however it ends.
        let _ = tokio::io::copy_bidirectional(&mut outside, &mut inside).await;
    };
    tokio::join!(web::talk(server, state, handler), pipe);
}

fn over_tls(address: &str, verify: bool) -> Value {
    json!({"hostname": address, "username": "root", "password": "calvin", "verify_certificate": verify})
}

#[tokio::test]
async fn a_bmc_with_its_own_certificate_works_over_tls_unless_it_shall_be_verified() {
    let mut device = Device::start(
        "redfish",
        |stream, state| Box::pin(tls(stream, state)),
        |address, _| over_tls(address, false),
    )
    .await;
    device.outfit(&labels(1)).await;
    let mut driver = device.driver();
    assert_eq!(driver.ports().await.unwrap().len(), 1);
    driver.write(&1.into(), true).await.unwrap();
    assert!(device.is_on(0).await);

    let mut strict = make("redfish", &over_tls(&device.address(), true)).unwrap();
    let error = strict.ports().await.unwrap_err();
    let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
    assert!(cause.contains("not trusted") && cause.contains("verify_certificate: false"), "{error:?}");
}

#[tokio::test]
async fn a_bmc_without_tls_is_told_as_that() {
    let device = Device::start(
        "redfish",
        |mut stream, _| {
            Box::pin(async move {
                let mut hello = [0; 2048];
                let _ = stream.read(&mut hello).await;
                let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await;
            })
        },
        |address, _| over_tls(address, false),
    )
    .await;
    let error = device.driver().ports().await.unwrap_err();
    assert!(matches!(&error, DriverError::Protocol(what) if what.contains("no TLS")), "{error:?}");
}
