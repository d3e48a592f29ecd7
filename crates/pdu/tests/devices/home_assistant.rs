//! Home Assistant, simulated from <https://developers.home-assistant.io/docs/api/rest/>.

use farmgate_pdu::{DriverError, make};
use farmgate_protocol::{PortId, pdu::PortState};
use serde_json::{Value, json};

use crate::{
    conformance::{self, Misbehave, labels},
    device::{Device, State},
    web::{self, Request, Response},
};

const TOKEN: &str = "eyJ0eXAiOiJKV1QifQ.abc";

fn entity(n: usize) -> String {
    let domain = ["switch", "light", "input_boolean"][n % 3];
    format!("{domain}.rack_{}", n + 1)
}

fn handle(state: &mut State, request: &Request) -> Response {
    if request.header("authorization") != Some(&format!("Bearer {TOKEN}")) {
        return Response::text(401, "401: Unauthorized");
    }
    let index = |id: &str| (0..state.outlets.len()).find(|n| entity(*n) == id);
    let shown = |state: &State, n: usize| {
        let on = if state.shown(n).unwrap() { "on" } else { "off" };
        json!({"entity_id": entity(n), "state": on, "attributes": {"friendly_name": state.outlets[n].label}})
    };
    let path: Vec<_> = request.path.split('/').skip(1).collect();
    match (request.method.as_str(), &path[..]) {
        ("GET", ["api", ""]) => Response::json(json!({"message": "API running."})),
        ("GET", ["api", "states", "switch.lost"]) => {
            Response::json(json!({"entity_id": "switch.lost", "state": "unavailable", "attributes": {}}))
        }
        ("GET", ["api", "states", id]) => match index(id) {
            Some(n) => Response::json(shown(state, n)),
            None => Response::json(json!({"message": "Entity not found."})).status(404),
        },
        ("POST", ["api", "services", domain, service]) => {
            let body = request.json().unwrap();
            let id = body["entity_id"].as_str().unwrap();
            assert!(id.starts_with(&format!("{domain}.")), "{id} is not of {domain}");
            let on = match *service {
                "turn_on" => true,
                "turn_off" => false,
                other => panic!("{other} is no service that we use"),
            };
            // Service calls for what does not exist are answered with success.
            let changed: Vec<Value> =
                index(id).map(|n| (state.switch(n, on), shown(state, n)).1).into_iter().collect();
            Response::json(Value::Array(changed))
        }
        _ => Response::text(404, "404: Not Found"),
    }
}

fn with(address: &str, state: &State, token: &str) -> Value {
    let entities: Vec<_> = (0..state.outlets.len()).map(entity).collect();
    json!({"hostname": address, "token": token, "entities": entities})
}

async fn device() -> Device {
    let mut device = Device::start(
        "home_assistant",
        |stream, state| Box::pin(web::talk(stream, state, handle)),
        |address, state| with(address, state, TOKEN),
    )
    .await;
    device.wrong = Some(|address, state| with(address, state, "wrong"));
    device.id = |n| PortId::new(&entity(n)).unwrap();
    device
}

pub async fn conforms() {
    conformance::all(&mut device().await).await;
}

#[tokio::test]
async fn an_entity_that_is_not_listed_is_not_touched_and_a_renamed_one_hides_no_other() {
    let mut device = device().await;
    device.outfit(&labels(3)).await;
    let entities = ["switch.rack_1", "switch.renamed", "switch.lost"];
    let config = json!({"hostname": device.address(), "token": TOKEN, "entities": entities});
    let mut driver = make("home_assistant", &config).unwrap();
    let ports = driver.ports().await.unwrap();
    assert_eq!(ports.iter().map(|port| port.id.as_str()).collect::<Vec<_>>(), entities);
    let id = |text: &str| PortId::new(text).unwrap();
    assert_eq!(driver.read(&id("switch.rack_1")).await.unwrap(), PortState::Off);
    assert_eq!(driver.read(&id("switch.lost")).await.unwrap(), PortState::Unknown);
    // The second one exists there, but was not given to us.
    for port in ["switch.renamed", "light.rack_2"] {
        assert!(matches!(driver.write(&id(port), true).await, Err(DriverError::UnknownPort(_))), "{port}");
    }
    assert_eq!(device.commands().await, 0);
}
