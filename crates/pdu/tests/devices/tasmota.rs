//! Tasmota, simulated from <https://tasmota.github.io/docs/Commands/>, and what any HTTP device may do wrong.

use farmgate_pdu::{Driver, DriverError, make};
use farmgate_protocol::{PortId, pdu::PortState};
use serde_json::{Map, Value, json};
use tokio::{io::AsyncWriteExt, net::TcpListener, task::JoinSet};

use crate::{
    conformance::{self, Misbehave, bounded, labels},
    device::{Device, State},
    web::{self, Request, Response},
};

const USER: &str = "admin";
const PASSWORD: &str = "jok&r ü";

fn state_word(state: &State, n: usize) -> Value {
    json!(if state.shown(n).unwrap() { "ON" } else { "OFF" })
}

fn key(state: &State, n: usize) -> String {
    if state.outlets.len() == 1 { "POWER".to_owned() } else { format!("POWER{}", n + 1) }
}

fn handle(state: &mut State, request: &Request) -> Response {
    if request.path != "/cm" {
        return Response::text(404, "File Not Found");
    }
    if request.value("user") != Some(USER) || request.value("password") != Some(PASSWORD) {
        return Response::json(json!({"WARNING": "Need user=<username>&password=<password>"})).status(401);
    }
    let unknown = || Response::json(json!({"Command": "Unknown"}));
    let command = request.value("cmnd").unwrap();
    let (command, wish) = command.split_once(' ').unwrap_or((command, ""));
    if let Some(relay) = command.strip_prefix("Power") {
        let n = relay.parse::<usize>().unwrap() - 1;
        if n >= state.outlets.len() || (!wish.is_empty() && !state.switch(n, wish == "ON")) {
            return unknown();
        }
        return Response::json(json!({key(state, n): state_word(state, n)}));
    }
    match (command, wish) {
        ("Status", "") => {
            // Names of eight relays, and one name if there is none.
            let mut names: Vec<_> =
                state.outlets.iter().take(8).map(|outlet| outlet.label.as_str()).collect();
            if names.is_empty() {
                names.push("Tasmota");
            }
            Response::json(
                json!({"Status": {"Module": 1, "DeviceName": "x", "FriendlyName": names, "Power": 0}}),
            )
        }
        ("State", "") => {
            let mut answer = Map::new();
            answer.insert("Time".to_owned(), json!("2026-11-22T10:00:00"));
            answer.insert("POWERONSTATE".to_owned(), json!(3));
            answer.extend((0..state.outlets.len()).map(|n| (key(state, n), state_word(state, n))));
            Response::json(Value::Object(answer))
        }
        ("Status", "8") if state.outlets.len() == 1 => Response::json(
            json!({"StatusSNS": {"Time": "x", "ENERGY": {"Total": 1.5, "Power": 42, "Voltage": 230}}}),
        ),
        ("Status", "8") if state.outlets.len() == 2 => {
            Response::json(json!({"StatusSNS": {"ENERGY": {"Total": 3.0, "Power": [7, 8.5]}}}))
        }
        ("Status", "8") => Response::json(json!({"StatusSNS": {"Time": "x"}})),
        _ => unknown(),
    }
}

async fn device() -> Device {
    let mut device = Device::start(
        "tasmota",
        |stream, state| Box::pin(web::talk(stream, state, handle)),
        |address, _| json!({"hostname": address, "username": USER, "password": PASSWORD}),
    )
    .await;
    device.wrong = Some(|address, _| json!({"hostname": address, "password": "wrong"}));
    device.outlets = (0, 32);
    device.id = |n| PortId::from(n as u32);
    device.label = |n, given| if n < 8 { given.to_owned() } else { format!("relay {n}") };
    device
}

pub async fn conforms() {
    conformance::all(&mut device().await).await;
}

#[tokio::test]
async fn power_and_energy_are_read_where_they_are_the_relay_s_own() {
    let mut device = device().await;
    let first = PortId::from(0);
    device.outfit(&labels(1)).await;
    let mut driver = device.driver();
    assert_eq!(driver.power(&first).await.unwrap(), 42.0);
    assert_eq!(driver.energy(&first).await.unwrap(), 5_400_000.0);
    device.outfit(&labels(2)).await;
    let mut driver = device.driver();
    assert_eq!(driver.power(&PortId::from(1)).await.unwrap(), 8.5);
    // One counter for both is nobody's.
    assert!(matches!(driver.energy(&first).await, Err(DriverError::Unavailable(_))));
    device.outfit(&labels(3)).await;
    assert!(matches!(device.driver().power(&first).await, Err(DriverError::Unavailable(_))));
}

#[tokio::test]
async fn no_password_is_told_as_a_missing_one_and_a_wrong_one_stays_hidden() {
    let mut device = device().await;
    device.outfit(&labels(1)).await;
    let mut none = make("tasmota", &json!({"hostname": device.address()})).unwrap();
    assert!(matches!(none.ports().await, Err(DriverError::Authentication(_))));
    let mut wrong = make("tasmota", &json!({"hostname": device.address(), "password": "hunter2"})).unwrap();
    let error = wrong.ports().await.unwrap_err();
    assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
}

/// A server that answers each connection with these bytes and hangs up.
async fn answering(answer: Vec<u8>) -> (Box<dyn Driver>, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            if web::request(&mut stream).await.is_some() {
                let _ = stream.write_all(&answer).await;
            }
        }
    });
    (make("tasmota", &json!({"hostname": address, "password": "hunter2"})).unwrap(), tasks)
}

fn http(status: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

#[tokio::test]
async fn whatever_a_server_answers_is_an_error_of_its_kind_and_never_a_panic() {
    let huge = format!("{{\"WARNING\": \"{}\"}}", "x".repeat(2_000_000));
    let deep = "[".repeat(100_000);
    for (answer, kind) in [
        (Vec::new(), "Unreachable"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"POW".to_vec(), "Unreachable"),
        (b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(), "Protocol"),
        (vec![0xff; 300], "Protocol"),
        (http("200 OK", "<html>Login</html>"), "Protocol"),
        (http("200 OK", "[]"), "Protocol"),
        (http("200 OK", "\u{feff}{}"), "Protocol"),
        (http("200 OK", &huge), "Protocol"),
        (http("200 OK", &deep), "Protocol"),
        (b"HTTP/1.1 302 Found\r\nLocation: https://x/\r\nContent-Length: 0\r\n\r\n".to_vec(), "Protocol"),
        (http("404 Not Found", "no"), "Protocol"),
        (http("403 Forbidden", "hunter2 is wrong"), "Authentication"),
        (http("500 Internal Server Error", "out of memory near hunter2"), "Refused"),
        (http("503 Service Unavailable", "busy"), "Refused"),
    ] {
        let (mut driver, _server) = answering(answer.clone()).await;
        let start = String::from_utf8_lossy(&answer[..answer.len().min(60)]).into_owned();
        for error in [
            bounded(driver.ports()).await.map(drop).unwrap_err(),
            bounded(driver.read(&0.into())).await.map(drop).unwrap_err(),
            bounded(driver.write(&0.into(), true)).await.unwrap_err(),
        ] {
            assert!(format!("{error:?}").starts_with(kind), "{start:?}: {error:?}");
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{start:?}: {error:?}");
        }
    }
}

#[tokio::test]
async fn other_words_for_on_and_off_are_not_guessed() {
    let (mut driver, _server) =
        answering(http("200 OK", r#"{"POWER": "AN", "Status": {"FriendlyName": ["x"]}}"#)).await;
    assert_eq!(driver.read(&0.into()).await.unwrap(), PortState::Unknown);
}
