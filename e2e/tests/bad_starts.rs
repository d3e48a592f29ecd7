//! Starts that cannot work: each gets one clear line with the remedy.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a panic is how a test fails, in its helpers too

use std::{net::TcpListener, process::Command};

use farmgate_e2e::{images, program, run};

fn farmgate(folder: &std::path::Path) -> Command {
    let mut command = Command::new(program("farmgate"));
    command
        .env("FARM_NAME", "test")
        .env("PERMANENT_MOUNT", folder)
        .env("TMP_MOUNT", folder)
        .env("EXECUTOR_HOST", "127.0.0.1")
        .env("EXECUTOR_PORT", "0")
        .env("BOOTS_DISABLE_SERVERS", "dhcp,tftp")
        .env("MARS_DB_FILE", folder.join("mars_db.yaml"));
    command
}

fn last_words(said: &farmgate_e2e::Said) -> String {
    said.err.lines().filter(|l| l.starts_with("farmgate:")).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_taken_port_names_the_port_and_the_setting() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let said = run(farmgate(folder.path()).env("EXECUTOR_PORT", &port).arg("serve"));
    assert_eq!(said.code, 2, "{said:?}");
    let words = last_words(&said);
    assert!(words.contains(&port) && words.contains("EXECUTOR_PORT"), "{words}");

    let said = run(Command::new(program("vivian"))
        .args([
            "--state-dir",
            &folder.path().display().to_string(),
            "up",
            "--ports",
            &format!("executor={port}"),
        ])
        .args(["--images", &images().display().to_string()]));
    assert_ne!(said.code, 0);
    assert!(said.err.contains(&port) && said.err.contains("--ephemeral-ports"), "{}", said.err);
}

#[test]
fn a_broken_farm_file_is_shown_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("mars_db.yaml"), "duts:\n  a:\n    base_nam: x\n").unwrap();
    for command in ["check", "serve"] {
        let said = run(farmgate(folder.path()).arg(command));
        assert_eq!(said.code, 2, "{said:?}");
        let words = format!("{}{}", said.out, said.err);
        assert!(words.contains("mars_db.yaml:3:") && words.contains("base_name"), "{words}");
    }
}

#[test]
fn a_missing_name_of_the_farm_and_a_missing_interface_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let said = run(farmgate(folder.path()).env_remove("FARM_NAME").arg("serve"));
    assert!(last_words(&said).contains("FARM_NAME"), "{said:?}");

    let said = run(farmgate(folder.path())
        .env("BOOTS_DISABLE_SERVERS", "")
        .env("PRIVATE_INTERFACE", "no-such-if")
        .env("SALAD_PORT", "0")
        .env("SALAD_TCPCONSOLE_PORT", "0")
        .arg("serve"));
    let words = last_words(&said);
    assert!(words.contains("no-such-if") && words.contains("PRIVATE_INTERFACE"), "{said:?}");
    // The console service that it started stays by design; this one was for the test.
    stop_salad(folder.path());
}

fn stop_salad(folder: &std::path::Path) {
    let socket = folder.join("salad.sock").display().to_string();
    let said = run(Command::new("sh").args([
        "-c",
        r#"for p in /proc/[0-9]*; do tr '\0' '\n' <$p/environ 2>/dev/null | grep -qxF "SALAD_SOCKET=$1" && echo "${p#/proc/}"; done; true"#,
        "sh",
        &socket,
    ]));
    for pid in said.out.lines() {
        run(Command::new("kill").arg(pid));
    }
}

#[test]
fn a_missing_qemu_is_told_with_its_package() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().display().to_string();
    let said = run(Command::new(program("vpdu")).env("PATH", folder.path()).args([
        "--state-dir",
        &state,
        "--port",
        "0",
    ]));
    assert_ne!(said.code, 0);
    assert!(said.err.contains("apt-get install qemu-system-x86"), "{}", said.err);
}

#[test]
fn a_missing_tun_device_is_told_with_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    // Namespaces of its own, in which /dev/net is empty.
    let script = r#"
        mount -t tmpfs none /dev/net && ip link set lo up && ip link add private type bridge && ip link set private up
        "$1" --port 9191 --state-dir "$3" --accel tcg 2>"$3/log" & vpdu=$!
        for i in $(seq 300); do "$2" --outlet 1 --status >/dev/null 2>&1 && break; sleep 0.1; done
        "$2" --outlet 1 --on
        echo "exit $?"
        kill $vpdu
        wait $vpdu
        cat "$3/log"
    "#;
    let said = run(Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "--net", "bash", "-c", script, "bash"])
        .args([program("vpdu"), program("vpductl")])
        .arg(folder.path()));
    assert!(said.out.contains("exit 1"), "{said:?}");
    assert!(said.err.contains("vPDU's log"), "{said:?}");
    assert!(said.out.contains("no /dev/net/tun") && said.out.contains("modprobe tun"), "{said:?}");
}
