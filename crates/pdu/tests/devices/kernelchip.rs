//! KernelChip Laurent, simulated from "Laurent-2, TCP/IP commands", version 2.02, of <https://kernelchip.ru>.

use farmgate_pdu::{DriverError, make};
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

use crate::{
    conformance::{self, Misbehave, labels},
    device::{Device, Shared, State},
};

const PASSWORD: &str = "Laurent";

fn answer(state: &mut State, line: &str, unlocked: &mut bool) -> String {
    let Some(command) = line.strip_prefix("$KE") else { return "#ERR".to_owned() };
    let parts: Vec<_> = command.split(',').skip(1).collect();
    let relay = |text: &str| {
        text.parse::<usize>().ok().and_then(|n| n.checked_sub(1)).filter(|n| *n < state.outlets.len())
    };
    let digit = |n: usize| if state.shown(n).unwrap() { "1" } else { "0" };
    match parts[..] {
        [] => "#OK".to_owned(),
        ["PSW", "SET", given] => {
            *unlocked = given == PASSWORD;
            if *unlocked { "#PSW,SET,OK".to_owned() } else { "#PSW,SET,BAD".to_owned() }
        }
        _ if !*unlocked => "#Access denied. Password is needed.".to_owned(),
        ["RDR", "ALL"] => format!("#RDR,ALL,{}", (0..state.outlets.len()).map(digit).collect::<String>()),
        ["RDR", n] if relay(n).is_some() => format!("#RDR,{n},{}", digit(relay(n).unwrap())),
        ["REL", n, wish @ ("0" | "1")] if relay(n).is_some() => {
            state.switch(relay(n).unwrap(), wish == "1");
            "#REL,OK".to_owned()
        }
        _ => "#ERR".to_owned(),
    }
}

async fn talk(mut stream: TcpStream, state: Shared) {
    let (reader, mut writer) = stream.split();
    let mut lines = BufReader::new(reader).lines();
    let mut unlocked = false;
    let mut first = true;
    while let Ok(Some(line)) = lines.next_line().await {
        let delay = state.lock().unwrap().delay();
        tokio::time::sleep(delay).await;
        let answer = answer(&mut state.lock().unwrap(), &line, &mut unlocked);
        // What a module says of itself comes in between.
        let chatter = if std::mem::take(&mut first) { "#FLG,AB,11,11\r\nJConfig from FLASH\r\n" } else { "" };
        if writer.write_all(format!("{chatter}{answer}\r\n").as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn device() -> Device {
    let mut device = Device::start(
        "kernelchip",
        |stream, state| Box::pin(talk(stream, state)),
        |address, _| json!({"hostname": address, "password": PASSWORD}),
    )
    .await;
    device.wrong = Some(|address, _| json!({"hostname": address, "password": "laurent"}));
    device.outlets = (0, 28);
    device.label = |n, _| format!("relay {}", n + 1);
    device
}

pub async fn conforms() {
    conformance::all(&mut device().await).await;
}

#[tokio::test]
async fn a_missing_password_is_told_as_such() {
    let mut device = device().await;
    device.outfit(&labels(4)).await;
    let mut driver = make("kernelchip", &json!({"hostname": device.address()})).unwrap();
    for error in [
        driver.ports().await.map(drop).unwrap_err(),
        driver.read(&1.into()).await.map(drop).unwrap_err(),
        driver.write(&1.into(), true).await.unwrap_err(),
    ] {
        assert!(matches!(error, DriverError::Authentication(_)), "{error:?}");
    }
}

#[tokio::test]
async fn a_password_that_would_end_the_command_is_refused() {
    for password in ["a,b", "a\r\n$KE,REL,1,1"] {
        let made = make("kernelchip", &json!({"hostname": "10.0.0.2", "password": password}));
        let error = made.err().unwrap().to_string();
        assert!(error.contains("password") && !error.contains("REL"), "{error}");
    }
}

#[tokio::test]
async fn a_peer_that_talks_without_end_is_no_kernelchip() {
    for endless in ["x", "#FLG\r\n"] {
        let talk: crate::device::Talk = match endless {
            "x" => {
                |mut stream, _| Box::pin(async move { while stream.write_all(&[b'x'; 512]).await.is_ok() {} })
            }
            _ => {
                |mut stream, _| Box::pin(async move { while stream.write_all(b"#FLG\r\n").await.is_ok() {} })
            }
        };
        let device = Device::start("kernelchip", talk, |address, _| json!({"hostname": address})).await;
        let error = device.driver().ports().await.unwrap_err();
        assert!(matches!(error, DriverError::Protocol(_)), "{error:?}");
    }
}
