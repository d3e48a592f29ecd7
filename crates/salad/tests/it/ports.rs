use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::*;

async fn port(farm: &Farm, key: &str) -> TcpStream {
    let (_, machine) = farm.http("GET", "/api/v1/machine/m").await;
    let port = u16::try_from(machine[key].as_u64().unwrap()).unwrap();
    TcpStream::connect(("127.0.0.1", port)).await.unwrap()
}

async fn has_client(farm: &Farm) -> bool {
    farm.http("GET", "/api/v1/machine/m").await.1["has_client"] == json!(true)
}

#[tokio::test]
async fn rest_makes_a_machine_on_demand_and_tells_its_ports() {
    let farm = farm().await;
    assert_eq!(farm.http("GET", "/api/v1/machine").await, ("200".to_owned(), json!({"machines": {}})));
    let (status, machine) = farm.http("GET", "/api/v1/machine/52:54:00:11:22:01").await;
    assert_eq!(status, "200");
    assert_eq!(machine["id"], json!("52:54:00:11:22:01"));
    assert_eq!(machine["has_client"], json!(false));
    assert!(machine["tcp_port"].as_u64().unwrap() > 0 && machine["tcp_port_logs"].as_u64().unwrap() > 0);
    assert_eq!(machine.as_object().unwrap().len(), 4);
    let (_, list) = farm.http("GET", "/api/v1/machine").await;
    assert_eq!(list, json!({"machines": {"52:54:00:11:22:01": machine}}));
}

#[tokio::test]
async fn rest_errors_are_json_and_say_what_is_wrong() {
    let farm = farm().await;
    for (method, path, expected) in [
        ("POST", "/api/v1/machine/m/reset", "501"),
        ("GET", "/api/v1/machine/a%2Fb", "400"),
        ("GET", "/api/v1/machines", "404"),
        ("DELETE", "/api/v1/machine/m", "405"),
    ] {
        let (status, body) = farm.http(method, path).await;
        assert_eq!(status, expected, "{method} {path}");
        assert!(body["error"].is_string(), "{method} {path}: {body}");
    }
}

#[tokio::test]
async fn the_raw_port_carries_bytes_both_ways() {
    let farm = farm().await;
    let mut console = farm.console_of("m").await;
    let mut client = port(&farm, "tcp_port").await;
    until("the client is there", || has_client(&farm)).await;
    say(&mut client, b"root\r").await;
    hear(&mut console, b"root\r").await;
    say(&mut console, b"\xff\x00login").await;
    hear(&mut client, b"\xff\x00login").await;
}

#[tokio::test]
async fn a_second_client_of_the_raw_port_is_told_to_come_back() {
    let farm = farm().await;
    let first = port(&farm, "tcp_port").await;
    until("the first is there", || has_client(&farm)).await;
    let mut second = port(&farm, "tcp_port").await;
    second.write_all(b"me too").await.unwrap();
    let mut told = String::new();
    soon("a refusal", second.read_to_string(&mut told)).await.unwrap();
    assert_eq!(told, "A client is already connected, re-try later!");
    drop(first);
    until("the place is free", async || !has_client(&farm).await).await;
    let _third = port(&farm, "tcp_port").await;
    until("the third has it", || has_client(&farm)).await;
}

#[tokio::test]
async fn many_read_the_logs_port_and_none_can_type_there() {
    let farm = farm().await;
    let mut console = farm.console_of("m").await;
    let mut readers = vec![port(&farm, "tcp_port_logs").await, port(&farm, "tcp_port_logs").await];
    for reader in &mut readers {
        say(reader, b"nobody hears this").await;
        // They read from now on: speak until each has begun.
        let mut byte = [0];
        let heard = async {
            loop {
                console.write_all(b".").await.unwrap();
                let wait = std::time::Duration::from_millis(20);
                if let Ok(read) = tokio::time::timeout(wait, reader.read_exact(&mut byte)).await {
                    return read.unwrap();
                }
            }
        };
        soon("the reader has begun", heard).await;
        assert_eq!(&byte, b".");
    }
    say(&mut console, b"the end").await;
    for reader in &mut readers {
        let mut heard = Vec::new();
        soon("the end comes", async {
            while !heard.ends_with(b"the end") {
                assert!(reader.read_buf(&mut heard).await.unwrap() > 0);
            }
        })
        .await;
    }
    farm.salad.write("m", b"typed").await.unwrap();
    hear(&mut console, b"typed").await;
}
