//! Devantech modules, simulated from <https://www.robot-electronics.co.uk/htm/eth008tech.htm>, "TCP/IP commands".

use farmgate_pdu::{DriverError, make};
use farmgate_protocol::{PortId, pdu::PortState};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    conformance::{self, Misbehave, labels},
    device::{Device, Shared, State},
};

const PASSWORD: &[u8] = b"apple";

/// Module id, and bytes of all states.
fn module(relays: usize) -> (u8, usize) {
    match relays {
        2 => (18, 1),
        4 => (20, 2),
        8 => (19, 1),
        10 => (52, 2),
        20 => (21, 3),
        // Not one of theirs.
        _ => (99, 1),
    }
}

/// The answer to one command, which is one packet.
fn answer(state: &mut State, packet: &[u8], unlocked: &mut bool, password: Option<&[u8]>) -> Vec<u8> {
    let relays = state.outlets.len();
    match *packet {
        [0x10] => vec![module(relays).0, 1, 7],
        [0x20 | 0x21, relay, time] => {
            assert_eq!(time, 0, "a pulse");
            let may = password.is_none() || *unlocked;
            let done = may && relay > 0 && state.switch(usize::from(relay) - 1, packet[0] == 0x20);
            vec![u8::from(!done)]
        }
        [0x24] => {
            let mut bits = vec![0_u8; module(relays).1];
            for n in 0..relays {
                bits[n / 8] |= u8::from(state.shown(n).unwrap()) << (n % 8);
            }
            bits
        }
        [0x79, ref given @ ..] => {
            *unlocked = Some(given) == password;
            vec![if *unlocked { 1 } else { 2 }]
        }
        [0x7a] => vec![match (password, *unlocked) {
            (None, _) => 255,
            (_, true) => 30,
            (_, false) => 0,
        }],
        _ => Vec::new(),
    }
}

async fn talk(mut stream: TcpStream, state: Shared, password: Option<&'static [u8]>) {
    let mut unlocked = false;
    let mut packet = [0; 64];
    while let Ok(length @ 1..) = stream.read(&mut packet).await {
        let delay = state.lock().unwrap().delay();
        tokio::time::sleep(delay).await;
        let answer = answer(&mut state.lock().unwrap(), &packet[..length], &mut unlocked, password);
        if stream.write_all(&answer).await.is_err() {
            return;
        }
    }
}

async fn open() -> Device {
    let mut device = Device::start(
        "devantech",
        |stream, state| Box::pin(talk(stream, state, None)),
        |address, _| json!({"hostname": address}),
    )
    .await;
    // The number of relays is the model.
    device.outlets = (20, 20);
    device.id = |n| PortId::from(n as u32);
    device.label = |n, _| format!("ETH8020 relay {}", n + 1);
    device
}

async fn protected() -> Device {
    let mut device = Device::start(
        "devantech",
        |stream, state| Box::pin(talk(stream, state, Some(PASSWORD))),
        |address, _| json!({"hostname": address, "password": "apple"}),
    )
    .await;
    device.outlets = (20, 20);
    device.id = |n| PortId::from(n as u32);
    device.label = |n, _| format!("ETH8020 relay {}", n + 1);
    device.wrong = Some(|address, _| json!({"hostname": address, "password": "pear"}));
    // Reading needs no password.
    device.reading = Some(|address, _| json!({"hostname": address}));
    device
}

pub async fn conforms() {
    conformance::all(&mut open().await).await;
}

pub async fn conforms_with_a_password() {
    conformance::all(&mut protected().await).await;
}

#[tokio::test]
async fn every_model_has_its_relays_and_an_unknown_one_is_named() {
    let mut device = open().await;
    for relays in [2, 4, 8, 10, 20] {
        device.outfit(&labels(relays)).await;
        let mut driver = device.driver();
        assert_eq!(driver.ports().await.unwrap().len(), relays);
        let last = PortId::from(relays as u32 - 1);
        driver.write(&last, true).await.unwrap();
        assert_eq!(driver.read(&last).await.unwrap(), PortState::On);
        assert!(device.is_on(relays - 1).await);
    }
    device.outfit(&labels(3)).await;
    let error = device.driver().ports().await.unwrap_err();
    assert!(matches!(&error, DriverError::Protocol(what) if what.contains("module id 99")), "{error:?}");
}

#[tokio::test]
async fn a_round_of_reads_needs_no_conversation_for_each_port() {
    let mut device = open().await;
    device.outfit(&labels(20)).await;
    let mut driver = device.driver();
    let before = device.connections();
    for n in 0..20 {
        assert_eq!(driver.read(&n.into()).await.unwrap(), PortState::Off);
    }
    // A busy machine may make the answer too old in between.
    let took = device.connections() - before;
    assert!((1..20).contains(&took), "{took}");
}

#[tokio::test]
async fn half_an_answer_is_no_state() {
    let device = Device::start(
        "devantech",
        |mut stream, _| {
            Box::pin(async move {
                let mut packet = [0; 64];
                let _ = stream.read(&mut packet).await;
                let _ = stream.write_all(&[21, 1, 7]).await;
                let _ = stream.read(&mut packet).await;
                // Two of three bytes, and then it restarts.
                let _ = stream.write_all(&[0, 0]).await;
            })
        },
        |address, _| json!({"hostname": address}),
    )
    .await;
    let error = device.driver().read(&0.into()).await.unwrap_err();
    assert!(matches!(error, DriverError::Unreachable { .. }), "{error:?}");
}

#[tokio::test]
async fn the_password_is_in_no_error() {
    let mut device = protected().await;
    device.outfit(&labels(20)).await;
    let mut driver =
        make("devantech", &json!({"hostname": device.address(), "password": "hunter2"})).unwrap();
    let error = driver.write(&0.into(), true).await.unwrap_err();
    assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
}
