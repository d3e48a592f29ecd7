//! GUDE Expert Power Control, simulated from the HTTP chapter of <https://wiki.gude-systems.com/>.

use serde_json::json;

use crate::{
    conformance::{self, Misbehave, labels},
    device::{Device, State},
    web::{self, Request, Response},
};

/// `admin:secret`.
const BASIC: &str = "YWRtaW46c2VjcmV0";

fn handle(state: &mut State, request: &Request, status: &str) -> Response {
    if !request.is_basic(BASIC) {
        return Response::text(401, "Unauthorized").with("WWW-Authenticate", "Basic realm=\"EPC\"");
    }
    if request.path == status && request.value("components") == Some("1") {
        let output = |n: usize| {
            let on = u8::from(state.shown(n).unwrap());
            json!({"name": state.outlets[n].label, "state": on, "sw_cnt": 3, "type": 1, "batch": [0, 0, 0, 0, 0], "wdog": [0]})
        };
        let outputs: Vec<_> = (0..state.outlets.len()).map(output).collect();
        return Response::json(json!({"outputs": outputs}));
    }
    match (request.path.as_str(), request.value("cmd")) {
        ("/ov.html", Some("1")) => {
            let n: usize = request.value("p").unwrap().parse().unwrap();
            let on = match request.value("s") {
                Some("1") => true,
                Some("0") => false,
                other => panic!("{other:?} is no state"),
            };
            // A number that does not exist is passed over in silence.
            state.switch(n.wrapping_sub(1), on);
            Response::text(200, "<html><body>Overview</body></html>")
        }
        _ => Response::text(404, "Not Found"),
    }
}

async fn device(talk: crate::device::Talk) -> Device {
    let config = |address: &str, _: &State| json!({"hostname": address, "password": "secret"});
    let mut device = Device::start("gude", talk, config).await;
    device.wrong = Some(|address, _| json!({"hostname": address, "username": "x", "password": "y"}));
    device
}

pub async fn conforms() {
    let talk: crate::device::Talk = |stream, state| {
        Box::pin(web::talk(stream, state, |state, request| handle(state, request, "/statusjsn.js")))
    };
    conformance::all(&mut device(talk).await).await;
}

#[tokio::test]
async fn newer_firmware_that_calls_its_status_otherwise_works_too() {
    let talk: crate::device::Talk = |stream, state| {
        Box::pin(web::talk(stream, state, |state, request| handle(state, request, "/status.json")))
    };
    let mut device = device(talk).await;
    device.outfit(&labels(8)).await;
    let mut driver = device.driver();
    assert_eq!(driver.ports().await.unwrap().len(), 8);
    driver.write(&8.into(), true).await.unwrap();
    assert!(device.is_on(7).await);
}
