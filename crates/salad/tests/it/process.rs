use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use farmgate_salad::{ClientError, ConsoleOffset, SaladError, Server};

use crate::harness::*;

#[tokio::test]
async fn a_server_that_was_dropped_like_a_killed_one_leaves_its_records_whole() {
    let first = farm().await;
    let dir = Arc::clone(&first.dir);
    let mut console = first.console_of("m").await;
    let said = Dice(9).bytes(5_000_000);
    say(&mut console, &said).await;
    first.wait_for("m", &said[said.len() - 100..]).await;
    let before = first.record("m").await;
    first.task.abort();
    until("it is gone", async || first.task.is_finished()).await;

    let second = farm_in(dir).await;
    assert!(second.record("m").await == before);
    assert_eq!(second.salad.end("m").await.unwrap().0, before.len() as u64);
    let _console = second.console_of("m").await;
    let after = second.record("m").await;
    assert_eq!(
        String::from_utf8_lossy(&after[before.len()..]),
        "\r\n[SALAD was restarted: bytes may be missing here]\r\nSALAD.machine_id=m\n"
    );
}

#[tokio::test]
async fn a_second_server_is_told_that_one_runs_and_the_first_goes_on() {
    let farm = farm().await;
    let again = Server::bind(config(farm.dir.path())).await;
    assert!(matches!(again, Err(SaladError::AlreadyRuns { .. })));
    let other_records = tempfile::tempdir().unwrap();
    let mut same_socket = config(other_records.path());
    same_socket.socket = farm.socket();
    assert!(matches!(Server::bind(same_socket).await, Err(SaladError::AlreadyRuns { .. })));
    assert!(farm.salad.alive().await);
}

#[tokio::test]
async fn the_socket_is_its_owners_and_a_stale_one_is_replaced() {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let socket = dir.path().join("salad.sock");
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    assert!(socket.exists());
    let farm = farm_in(dir).await;
    assert!(farm.salad.alive().await);
    let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn a_shutdown_ends_every_connection_and_clients_are_told() {
    let mut farm = farm().await;
    let _console = farm.console_of("m").await;
    let mut subscription = farm.salad.subscribe("m", ConsoleOffset(19)).await.unwrap();
    farm.stop.cancel();
    soon("the server ends", &mut farm.task).await.unwrap().unwrap();
    assert!(matches!(soon("it is told", subscription.next()).await, Some(Err(ClientError::Closed))));
    assert!(subscription.next().await.is_none());
    assert!(matches!(farm.salad.end("m").await, Err(ClientError::Away { .. })));
    assert!(!farm.salad.alive().await);
    assert!(!farm.socket().exists());
}

#[tokio::test]
async fn an_id_that_cannot_be_is_refused_with_the_reason() {
    let farm = farm().await;
    let refused = farm.salad.end("a/b").await;
    assert!(matches!(&refused, Err(ClientError::Refused(why)) if why.contains("slash")), "{refused:?}");
    assert!(matches!(farm.salad.write("nobody", b"x").await, Err(ClientError::NoConsole { .. })));
}
