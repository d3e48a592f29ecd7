//! NETIO, simulated from its JSON API document
//! <https://wiki.netio-products.com/index.php?title=JSON_API>.

use farmgate_pdu::DriverError;
use serde_json::{Value, json};

use crate::{
    conformance::{self, Misbehave, labels},
    device::{Device, State},
    web::{self, Request, Response},
};

/// `netio:netio` may do everything.
const WRITER: &str = "bmV0aW86bmV0aW8=";
/// `reader:netio` may read.
const READER: &str = "cmVhZGVyOm5ldGlv";

fn handle(state: &mut State, request: &Request) -> Response {
    let reads = request.method == "GET" && request.is_basic(READER);
    if !reads && !request.is_basic(WRITER) {
        return Response::text(401, "Unauthorized").with("WWW-Authenticate", "Basic realm=\"NETIO\"");
    }
    if request.path != "/netio.json" {
        return Response::text(404, "Not Found");
    }
    if request.method == "POST" {
        let Some(document) = request.json() else { return Response::text(400, "Bad request") };
        for output in document["Outputs"].as_array().unwrap() {
            let n = output["ID"].as_u64().unwrap() as usize;
            let on = match output["Action"].as_u64() {
                Some(0) => false,
                Some(1) => true,
                other => panic!("{other:?} is no action that we use"),
            };
            state.switch(n.wrapping_sub(1), on);
        }
    }
    let output = |n: usize| -> Value {
        json!({"ID": n + 1, "Name": state.outlets[n].label, "State": u8::from(state.shown(n).unwrap()), "Action": 6,
            "Delay": 5000, "Current": 120, "PowerFactor": 0.9, "Load": 25, "Energy": 13})
    };
    let outputs: Vec<_> = (0..state.outlets.len()).map(output).collect();
    let agent = json!({"Model": "NETIO 4All", "JSONVer": "2.0", "NumOutputs": outputs.len()});
    Response::json(json!({"Agent": agent, "GlobalMeasure": {"Voltage": 230.1}, "Outputs": outputs}))
}

async fn device() -> Device {
    let mut device = Device::start(
        "netio",
        |stream, state| Box::pin(web::talk(stream, state, handle)),
        |address, _| json!({"hostname": address, "password": "netio"}),
    )
    .await;
    device.wrong = Some(|address, _| json!({"hostname": address, "password": "wrong"}));
    device.reading =
        Some(|address, _| json!({"hostname": address, "username": "reader", "password": "netio"}));
    device
}

pub async fn conforms() {
    conformance::all(&mut device().await).await;
}

#[tokio::test]
async fn power_and_energy_come_with_the_state() {
    let mut device = device().await;
    device.outfit(&labels(4)).await;
    let mut driver = device.driver();
    driver.read(&3.into()).await.unwrap();
    assert_eq!(driver.power(&3.into()).await.unwrap(), 25.0);
    assert_eq!(driver.energy(&3.into()).await.unwrap(), 13.0 * 3600.0);
    assert!(matches!(driver.power(&9.into()).await, Err(DriverError::UnknownPort(_))));
}
