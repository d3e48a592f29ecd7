//! Shelly of both kinds, simulated from <https://shelly-api-docs.shelly.cloud/gen1/> and
//! <https://shelly-api-docs.shelly.cloud/gen2/>.

use farmgate_pdu::{DriverError, make};
use farmgate_protocol::PortId;
use ring::digest::{SHA256, digest};
use serde_json::{Map, Value, json};

use crate::{
    conformance::{self, Misbehave, labels},
    device::{Device, State},
    web::{self, Request, Response},
};

const PASSWORD: &str = "jok\"er";
/// `admin:jok"er`.
const BASIC: &str = "YWRtaW46am9rImVy";
const REALM: &str = "shellypro4pm-f008d1d8b8b8";

fn first_generation(state: &mut State, request: &Request) -> Response {
    if request.path == "/shelly" {
        return Response::json(
            json!({"type": "SHSW-44", "mac": "A4CF12F45F10", "auth": true, "fw": "20230913-113421/v1.14.0",
            "num_outputs": state.outlets.len(), "num_meters": state.outlets.len()}),
        );
    }
    if !request.is_basic(BASIC) {
        return Response::text(401, "401 Unauthorized")
            .with("WWW-Authenticate", "Basic realm=\"shelly4pro\"");
    }
    let relay = |state: &State, n: usize| {
        Response::json(json!({"ison": state.shown(n).unwrap(), "has_timer": false, "overpower": false}))
    };
    let path: Vec<_> = request.path.split('/').skip(1).collect();
    let number = |text: &str| text.parse::<usize>().ok().filter(|n| *n < state.outlets.len());
    match path[..] {
        ["settings"] => {
            let relays: Vec<_> =
                state.outlets.iter().map(|o| json!({"name": o.label, "default_state": "off"})).collect();
            Response::json(json!({"device": {"type": "SHSW-44"}, "mode": "relay", "relays": relays}))
        }
        ["relay", n] if number(n).is_some() => {
            let n = number(n).unwrap();
            match request.value("turn") {
                Some("on") => drop(state.switch(n, true)),
                Some("off") => drop(state.switch(n, false)),
                Some(_) => return Response::text(400, "Bad turn!"),
                None => {}
            }
            relay(state, n)
        }
        // Watt-minutes.
        ["meter", n] if number(n).is_some() => {
            Response::json(json!({"power": 12.5, "is_valid": true, "timestamp": 1, "total": 30}))
        }
        _ => Response::text(404, "Not Found"),
    }
}

fn sha256(text: String) -> String {
    digest(&SHA256, text.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A value of the `Authorization` header.
fn field(header: &str, name: &str) -> Option<String> {
    let (_, rest) = header.split_once(&format!("{name}="))?;
    match rest.strip_prefix('"') {
        Some(quoted) => quoted.split_once('"').map(|(value, _)| value.to_owned()),
        None => Some(rest.split(',').next()?.trim().to_owned()),
    }
}

/// RFC 7616 from the server's side. A nonce is good for three requests, then it is stale.
fn is_admin(state: &mut State, request: &Request) -> bool {
    let nonce = format!("60dc{:x}", state.counter / 4);
    let check = || {
        let header = request.header("authorization")?.strip_prefix("Digest ")?;
        let get = |name| field(header, name);
        let ha1 = sha256(format!("admin:{REALM}:{PASSWORD}"));
        let ha2 = sha256(format!("{}:{}", request.method, request.uri));
        let (nc, cnonce) = (get("nc")?, get("cnonce")?);
        let response = sha256(format!("{ha1}:{nonce}:{nc}:{cnonce}:auth:{ha2}"));
        let named = get("username")? == "admin" && get("realm")? == REALM && get("uri")? == request.uri;
        let counted = u32::from_str_radix(&nc, 16).ok()? == state.counter % 4 + 1;
        Some(named && counted && get("nonce")? == nonce && get("response")? == response)
    };
    let good = check() == Some(true) && state.counter % 4 < 3;
    if good {
        state.counter += 1;
    }
    good
}

fn later_generation(state: &mut State, request: &Request) -> Response {
    if request.path == "/shelly" {
        return Response::json(
            json!({"name": null, "id": REALM, "mac": "F008D1D8B8B8", "model": "SPSW-004PE16EU",
            "gen": 2, "app": "Pro4PM", "auth_en": true, "auth_domain": REALM}),
        );
    }
    if !is_admin(state, request) {
        state.counter = (state.counter / 4 + 1) * 4;
        let nonce = state.counter / 4;
        let ask =
            format!("Digest qop=\"auth\", realm=\"{REALM}\", nonce=\"60dc{nonce:x}\", algorithm=SHA-256");
        return Response::text(401, "").with("WWW-Authenticate", &ask);
    }
    if request.path == "/rpc/Shelly.GetConfig" {
        let mut config = Map::new();
        config.insert("sys".to_owned(), json!({"device": {"name": null}}));
        config.insert("input:0".to_owned(), json!({"id": 0, "name": "button"}));
        // In no order.
        for (n, outlet) in state.outlets.iter().enumerate().rev() {
            config.insert(format!("switch:{n}"), json!({"id": n, "name": outlet.label, "in_mode": "follow"}));
        }
        return Response::json(Value::Object(config));
    }
    let n = request.value("id").unwrap();
    let Some(n) = n.parse::<usize>().ok().filter(|n| *n < state.outlets.len()) else {
        return Response::json(
            json!({"code": -105, "message": format!("Argument 'id', value {n} not found!")}),
        )
        .status(500);
    };
    match request.path.as_str() {
        "/rpc/Switch.GetStatus" => {
            Response::json(json!({"id": n, "source": "http", "output": state.shown(n).unwrap(),
            "apower": 8.9, "voltage": 237.5, "aenergy": {"total": 6.5, "minute_ts": 1}}))
        }
        "/rpc/Switch.Set" => {
            let was = state.shown(n).unwrap();
            let on = request.value("on").unwrap();
            assert!(["true", "false"].contains(&on));
            state.switch(n, on == "true");
            Response::json(json!({"was_on": was}))
        }
        other => {
            Response::json(json!({"code": 404, "message": format!("No handler for {other}")})).status(404)
        }
    }
}

async fn device(talk: crate::device::Talk) -> Device {
    let mut device =
        Device::start("shelly", talk, |address, _| json!({"hostname": address, "password": PASSWORD})).await;
    device.wrong = Some(|address, _| json!({"hostname": address, "username": "admin", "password": "wrong"}));
    device.id = |n| PortId::from(n as u32);
    device
}

async fn first() -> Device {
    device(|stream, state| Box::pin(web::talk(stream, state, first_generation))).await
}

async fn later() -> Device {
    device(|stream, state| Box::pin(web::talk(stream, state, later_generation))).await
}

pub async fn first_generation_conforms() {
    conformance::all(&mut first().await).await;
}

pub async fn later_generation_conforms() {
    conformance::all(&mut later().await).await;
}

#[tokio::test]
async fn power_and_energy_have_the_units_of_their_generation() {
    let mut first = first().await;
    first.outfit(&labels(2)).await;
    let mut driver = first.driver();
    assert_eq!(driver.power(&1.into()).await.unwrap(), 12.5);
    assert_eq!(driver.energy(&1.into()).await.unwrap(), 30.0 * 60.0);
    let mut later = later().await;
    later.outfit(&labels(2)).await;
    let mut driver = later.driver();
    assert_eq!(driver.power(&1.into()).await.unwrap(), 8.9);
    assert_eq!(driver.energy(&1.into()).await.unwrap(), 6.5 * 3600.0);
}

#[tokio::test]
async fn without_a_password_a_protected_device_asks_for_one() {
    for mut device in [first().await, later().await] {
        device.outfit(&labels(1)).await;
        let mut driver = make("shelly", &json!({"hostname": device.address()})).unwrap();
        let error = driver.ports().await.unwrap_err();
        assert!(matches!(error, DriverError::Authentication(_)), "{error:?}");
    }
}

#[tokio::test]
async fn an_open_device_needs_no_password_and_a_meterless_one_says_so() {
    let mut device = Device::start(
        "shelly",
        |stream, state| {
            Box::pin(web::talk(stream, state, |state, request| match request.path.as_str() {
                "/shelly" => Response::json(json!({"gen": 3, "app": "Mini1G3"})),
                "/rpc/Shelly.GetConfig" => Response::json(json!({"switch:0": {"id": 0, "name": null}})),
                "/rpc/Switch.GetStatus" => Response::json(json!({"id": 0, "output": state.shown(0)})),
                _ => Response::text(404, ""),
            }))
        },
        |address, _| json!({"hostname": address}),
    )
    .await;
    device.outfit(&labels(1)).await;
    let mut driver = device.driver();
    assert_eq!(driver.ports().await.unwrap()[0].label, "relay 0");
    assert!(matches!(driver.power(&0.into()).await, Err(DriverError::Unavailable(_))));
    assert!(matches!(driver.energy(&0.into()).await, Err(DriverError::Unavailable(_))));
}

#[tokio::test]
async fn a_roller_shutter_is_no_pdu() {
    let device = Device::start(
        "shelly",
        |stream, state| {
            Box::pin(web::talk(stream, state, |_, request| match request.path.as_str() {
                "/shelly" => Response::json(json!({"type": "SHSW-25", "auth": false, "num_outputs": 2})),
                "/settings" => {
                    Response::json(json!({"mode": "roller", "relays": [{"name": null}, {"name": null}]}))
                }
                _ => Response::text(404, ""),
            }))
        },
        |address, _| json!({"hostname": address}),
    )
    .await;
    let error = device.driver().ports().await.unwrap_err();
    assert!(matches!(&error, DriverError::Refused(what) if what.contains("relay mode")), "{error:?}");
}
