use std::time::Duration;

use farmgate_salad::{ClientError, ConsoleOffset};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use crate::harness::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fifty_consoles_at_once_are_recorded_byte_by_byte() {
    let farm = farm().await;
    let mut running = JoinSet::new();
    for number in 0..50 {
        let (salad, address) = (farm.salad.clone(), farm.console);
        running.spawn(async move {
            let machine = format!("52:54:00:11:22:{number:02}");
            let mut dice = Dice(number + 1);
            let mut said =
                format!("\x1b[0mfirmware of {number}\r\nSALAD.machine_id={machine}\r\n").into_bytes();
            let length = 50_000 + dice.roll(150_000) as usize;
            said.extend(dice.bytes(length));
            let mut subscription = salad.subscribe(&machine, ConsoleOffset(0)).await.unwrap();
            let mut console = tokio::net::TcpStream::connect(address).await.unwrap();
            let talk = async {
                let mut rest = &said[..];
                while !rest.is_empty() {
                    let most = [3, 200, 20_000][dice.roll(3) as usize];
                    let length = 1 + dice.roll(most) as usize;
                    let (piece, tail) = rest.split_at(length.min(rest.len()));
                    console.write_all(piece).await.unwrap();
                    rest = tail;
                    if dice.roll(8) == 0 {
                        tokio::time::sleep(Duration::from_micros(dice.roll(4000))).await;
                    }
                }
            };
            let (live, ()) = tokio::join!(take(&mut subscription, ConsoleOffset(0), said.len()), talk);
            assert!(live == said, "{machine}: what was heard live differs from what was said");
            let recorded = joined(&salad.read(&machine, ConsoleOffset(0), None).await.unwrap());
            assert!(recorded == said, "{machine}: what was recorded differs from what was said");
        });
    }
    soon("all consoles", async {
        while let Some(done) = running.join_next().await {
            done.unwrap();
        }
    })
    .await;
    let machines = farm.salad.machines().await.unwrap();
    assert_eq!(machines.len(), 50);
}

#[tokio::test]
async fn an_old_offset_gives_the_same_bytes_as_live() {
    let farm = farm().await;
    let mut console = farm.console_of("m").await;
    let mut live = farm.salad.subscribe("m", ConsoleOffset(0)).await.unwrap();
    let said = Dice(5).bytes(3_000_000);
    let (heard, ()) =
        tokio::join!(take(&mut live, ConsoleOffset(0), 19 + said.len()), say(&mut console, &said));
    for from in [0, 1, 19, 20, 1_000_000, 2_999_999] {
        let mut later = farm.salad.subscribe("m", ConsoleOffset(from)).await.unwrap();
        let from_here = &heard[from as usize..];
        assert!(take(&mut later, ConsoleOffset(from), from_here.len()).await == from_here, "from {from}");
        let bounded = farm.salad.read("m", ConsoleOffset(from), Some(ConsoleOffset(from + 5))).await.unwrap();
        assert_eq!(joined(&bounded), &from_here[..5]);
    }
}

#[tokio::test]
async fn a_subscription_may_be_given_up_at_any_await_and_goes_on_without_a_gap() {
    let farm = farm().await;
    let mut console = farm.console_of("m").await;
    let mut live = farm.salad.subscribe("m", ConsoleOffset(19)).await.unwrap();
    let said = Dice(6).bytes(500_000);
    let hearing = async {
        let mut heard = Vec::new();
        while heard.len() < said.len() {
            // Most of these end before anything has come.
            if let Ok(next) = tokio::time::timeout(Duration::ZERO, live.next()).await {
                heard.extend(next.unwrap().unwrap().bytes);
            }
            tokio::task::yield_now().await;
        }
        heard
    };
    let (heard, ()) = tokio::join!(soon("all bytes", hearing), say(&mut console, &said));
    assert!(heard == said);
}

#[tokio::test]
async fn what_was_said_before_the_machine_was_named_joins_its_record() {
    let farm = farm().await;
    let mut console = farm.connect().await;
    for piece in [&b"BIOS\r\nSALAD.mach"[..], b"ine_id=52:54:0", b"0:11:22:01", b"\r\nlinux"] {
        say(&mut console, piece).await;
        // Pieces must arrive apart for this to test anything; when they do not, it still must hold.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let all = b"BIOS\r\nSALAD.machine_id=52:54:00:11:22:01\r\nlinux";
    farm.wait_for("52:54:00:11:22:01", all).await;
    assert_eq!(farm.record("52:54:00:11:22:01").await, all);
    assert_eq!(farm.salad.machines().await.unwrap().len(), 1, "no half id has made a machine");
}

#[tokio::test]
async fn a_console_that_names_nobody_for_too_long_is_cut_with_a_mark_and_the_rest_is_kept() {
    let farm = farm().await;
    let mut console = farm.connect().await;
    let noise = vec![b'x'; (1 << 20) + 5000];
    say(&mut console, &noise).await;
    say(&mut console, b"\nSALAD.machine_id=m\nafter").await;
    farm.wait_for("m", b"\nafter").await;
    let record = farm.record("m").await;
    assert!(record.starts_with(&noise[..1 << 20]));
    let rest = String::from_utf8_lossy(&record[1 << 20..]);
    assert_eq!(
        rest,
        "\r\n[SALAD: 5019 bytes were dropped here: the console had named no machine]\r\n\nafter"
    );
}

#[tokio::test]
async fn a_console_that_leaves_without_a_name_is_found_in_the_quarantine() {
    let farm = farm().await;
    let mut console = farm.connect().await;
    say(&mut console, b"who am I?").await;
    drop(console);
    farm.wait_for("_unassociated", b"named no machine]\r\nwho am I?").await;
}

#[tokio::test]
async fn a_ping_is_answered_on_the_same_console() {
    let farm = farm().await;
    let mut console = farm.connect().await;
    for ping in [&b"SALAD.ping\n"[..], b"\xff\x00garbage SALAD.ping\r\n", b"ping? SALAD.pinSALAD.ping\n"] {
        say(&mut console, ping).await;
        hear(&mut console, b"SALAD.pong\n").await;
    }
    say(&mut console, b"SALAD.ping me\nSALAD.pong\nSALAD.ping\n").await;
    hear(&mut console, b"SALAD.pong\n").await;
}

#[tokio::test]
async fn a_new_connection_of_the_same_host_takes_over_at_once() {
    let farm = farm().await;
    let mut old = farm.console_of("m").await;
    let mut new = farm.console_of("m").await;
    say(&mut old, b"ghost").await;
    say(&mut new, b"alive").await;
    farm.wait_for("m", b"alive").await;
    farm.salad.write("m", b"typed").await.unwrap();
    hear(&mut new, b"typed").await;
    drop(old);
    farm.wait_for("_unassociated", b"ghost").await;
    assert!(!farm.record("m").await.windows(5).any(|w| w == b"ghost"));
}

#[tokio::test]
async fn another_host_cannot_take_the_stream_of_a_live_machine() {
    let farm = farm().await;
    let mut mine = farm.console_of("m").await;
    let mut thief = farm.connect_from(2).await;
    say(&mut thief, b"hello\nSALAD.machine_id=m\nrm -rf /\n").await;
    farm.wait_for("_unassociated", b"hello\nSALAD.machine_id=m\nrm -rf /\n").await;
    say(&mut mine, b"mine").await;
    farm.wait_for("m", b"mine").await;
    assert_eq!(farm.record("m").await, b"SALAD.machine_id=m\nmine");
    farm.salad.write("m", b"secret").await.unwrap();
    hear(&mut mine, b"secret").await;

    drop(mine);
    until("the console is gone", async || !farm.salad.machines().await.unwrap()[1].connected).await;
    say(&mut thief, b"SALAD.machine_id=m\nnow it is mine").await;
    farm.wait_for("m", b"now it is mine").await;
}

#[tokio::test]
async fn a_machine_that_prints_the_name_of_another_keeps_its_own_stream() {
    let farm = farm().await;
    let _other = farm.console_of("other").await;
    let mut console = farm.connect_from(2).await;
    say(&mut console, b"SALAD.machine_id=mine\nSALAD.machine_id=other\nstill mine").await;
    farm.wait_for("mine", b"SALAD.machine_id=other\nstill mine").await;
    assert_eq!(farm.record("other").await, b"SALAD.machine_id=other\n");
}

#[tokio::test]
async fn a_neighbour_on_the_same_host_cannot_take_the_stream_of_a_machine_by_its_name() {
    let farm = farm().await;
    let mut victim = farm.console_of("victim").await;
    let mut thief = farm.console_of("thief").await;
    say(&mut thief, b"SALAD.machine_id=victim\nexecution is over: success\n").await;
    farm.wait_for("thief", b"execution is over: success\n").await;
    farm.salad.write("victim", b"secret").await.unwrap();
    hear(&mut victim, b"secret").await;
    say(&mut victim, b"mine").await;
    farm.wait_for("victim", b"mine").await;
    assert_eq!(farm.record("victim").await, b"SALAD.machine_id=victim\nmine");
}

#[tokio::test]
async fn a_console_moves_to_the_machine_that_it_named_last() {
    let farm = farm().await;
    let mut console = farm.console_of("a").await;
    say(&mut console, b"one SALAD.machine_id=b two").await;
    farm.wait_for("b", b" two").await;
    assert_eq!(farm.record("a").await, b"SALAD.machine_id=a\none SALAD.machine_id=b");
    assert!(matches!(farm.salad.write("a", b"x").await, Err(ClientError::NoConsole { .. })));
    farm.salad.write("b", b"x").await.unwrap();
    hear(&mut console, b"x").await;
}

#[tokio::test]
async fn hostile_ids_make_no_machine() {
    let farm = farm().await;
    let mut console = farm.connect().await;
    for id in ["../../etc/passwd", "a/b", "$(cat)", "_unassociated", &"x".repeat(129), "\u{fc}"] {
        say(&mut console, format!("SALAD.machine_id={id}\n").as_bytes()).await;
    }
    say(&mut console, b"SALAD.machine_id=..\nSALAD.ping\n").await;
    hear(&mut console, b"SALAD.pong\n").await;
    farm.wait_for("..", b"SALAD.ping\n").await;
    let ids: Vec<_> = farm.salad.machines().await.unwrap().into_iter().map(|m| m.id).collect();
    assert_eq!(ids, [".."]);
    assert!(farm.dir.path().join("consoles/%2E.").is_dir());
}

#[tokio::test]
async fn typed_bytes_arrive_in_order_and_whole() {
    let farm = farm().await;
    let mut console = farm.console_of("m").await;
    let typed = Dice(3).bytes(300_000);
    let writing = async {
        for piece in typed.chunks(100_000) {
            farm.salad.write("m", piece).await.unwrap();
        }
    };
    let reading = async {
        let mut heard = vec![0; typed.len()];
        soon("typed bytes", console.read_exact(&mut heard)).await.unwrap();
        heard
    };
    let ((), heard) = tokio::join!(writing, reading);
    assert!(heard == typed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_reader_that_never_reads_slows_nobody() {
    let farm = farm().await;
    let mut console = farm.console_of("m").await;
    let stuck: Vec<_> = {
        let mut all = Vec::new();
        for _ in 0..5 {
            all.push(farm.salad.subscribe("m", ConsoleOffset(0)).await.unwrap());
        }
        all
    };
    let mut live = farm.salad.subscribe("m", ConsoleOffset(19)).await.unwrap();
    let said = Dice(4).bytes(8 << 20);
    let (heard, ()) = tokio::join!(take(&mut live, ConsoleOffset(19), said.len()), say(&mut console, &said));
    assert!(heard == said);
    // And the stuck ones lost nothing.
    for mut late in stuck {
        let heard = take(&mut late, ConsoleOffset(0), 19 + said.len()).await;
        assert!(heard[19..] == said);
    }
}
