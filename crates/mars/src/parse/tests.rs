//! Files as people write them, right and wrong.

use super::*;
use crate::farm::{RunnerType, Secret};

const OLD: &str = r#"
pdus:
  APC: {driver: apc_masterswitch, config: {hostname: 10.0.0.2}, reserved_port_ids: ["8"]}
  Lab:
    driver: dummy
    config:
      ports: [one, two]
duts:
  # the one on the top shelf
  DE:AD:BE:EF:CA:FE:
    base_name: gfx9
    tags: [amdgpu:codename:RENOIR, 'mem:size:8']
    manual_tags: []
    ip_address: 10.42.0.42
    local_tty_device: ttyUSB0
    gitlab: {freedesktop: {token: <token>, exposed: true, runner_id: 12}}
    pdu: APC
    pdu_port_id: 1
    ready_for_service: True
    is_retired: no
    first_seen: 2021-12-22 16:57:08.146275
    comment: null
  52:54:00:11:22:00:
    pdu: VPDU
    pdu_port: 2
gitlab:
  freedesktop: {url: https://gitlab.freedesktop.org/, registration_token: <t>, access_token: <t>, runner_type: instance_type,
    group_id: null, project_id: null, expose_runners: true, maximum_timeout: 21600, gateway_runner: {token: <t>, exposed: true}}
"#;

fn context() -> CheckContext {
    let pdu_check: PduCheck = Arc::new(|driver, config| {
        if config.get("hostname").is_none() && driver != "dummy" {
            return Err(format!("{driver} needs a hostname"));
        }
        Ok(())
    });
    CheckContext {
        extra_pdus: BTreeSet::from(["VPDU".to_owned()]),
        pdu_check,
        private_network: Some((Ipv4Addr::new(10, 42, 0, 1), 24)),
    }
}

fn good(text: &str) -> Parsed {
    parse("mars_db.yaml", text, &context()).unwrap_or_else(|error| panic!("{error}"))
}

fn bad(text: &str) -> String {
    let error = parse("mars_db.yaml", text, &context()).err();
    error.unwrap_or_else(|| panic!("this was taken: {text}")).to_string()
}

#[test]
fn the_old_shape_is_read() {
    let Parsed { farm, warnings } = good(OLD);
    let dut = &farm.duts[&DutId::new("de:ad:be:ef:ca:fe").unwrap()];
    assert_eq!(dut.mac_address.unwrap().to_string(), "de:ad:be:ef:ca:fe");
    assert_eq!(dut.tags, ["amdgpu:codename:RENOIR", "mem:size:8"]);
    assert_eq!(dut.pdu_port_id, Some(1.into()));
    assert_eq!(dut.first_seen.as_deref(), Some("2021-12-22T16:57:08.146275+00:00"));
    assert!(dut.ready_for_service && !dut.is_retired && dut.comment.is_none());
    assert_eq!(dut.pdu_off_delay, 30.0);
    assert_eq!(dut.gitlab["freedesktop"].runner.runner_id, Some(12));
    assert_eq!(farm.pdus["APC"].config, serde_json::json!({"hostname": "10.0.0.2"}));
    assert_eq!(farm.pdus["APC"].reserved_port_ids, [8.into()]);
    assert_eq!(farm.gitlab["freedesktop"].runner_type, RunnerType::Instance);
    let virtual_dut = &farm.duts[&DutId::new("52:54:00:11:22:00").unwrap()];
    assert_eq!(virtual_dut.pdu_port_id, Some(2.into()), "pdu_port is the old word");
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].render("f").starts_with("f:25:5: pdu_port is read as pdu_port_id"),
        "{}",
        warnings[0].render("f")
    );
}

#[test]
fn the_current_shape_is_read() {
    let farm = good(
        r#"
pdus:
  Switch: {driver: snmp_poe, config: {hostname: 10.42.0.7}, mac_address: "00:11:22:33:44:55", hidden: true}
duts:
  gfx10-left:
    mac_address: "de:ad:be:ef:ca:fe"
    firmware_boot_time: 12.5
    boot_sequence_power: [[0, 12.5], [1, 80]]
    gitlab:
      fdo:
        acl: {deny: {users: [mallory]}}
        priority_queues:
          low: {token: x, runner_id: 3, exposed: false}
    github: {mesa: {exposed: true, priority_queues: {low: {runner_group_id: 2, exposed: true}}}}
gitlab:
  fdo:
    url: https://gitlab.freedesktop.org
    runner_type: group_type
    group_id: 7
    expose_all_runners_by_default: false
    exposed_priorities: {low: {acl: {allow: {projects: [mesa/mesa]}}}}
    acl: {allow: {projects_in_groups: [mesa]}}
github:
  mesa: {url: https://github.com/x, authorization_token: t, runner_group_id: 1, expose_runners: true, exposed_priorities: {low: {}}}
jobs: {proxy: {allowed_endpoints: [gitlab.freedesktop.org:443]}, priorities: [high, default]}
"#,
    )
    .farm;
    let dut = &farm.duts[&DutId::new("gfx10-left").unwrap()];
    assert_eq!(dut.firmware_boot_time, Some(12.5));
    assert_eq!(dut.boot_sequence_power, Some(serde_json::json!([[0, 12.5], [1, 80]])));
    assert_eq!(dut.gitlab["fdo"].runner.acl.deny.users, ["mallory"]);
    assert_eq!(dut.gitlab["fdo"].priority_queues["low"].token, Some(Secret::new("x".to_owned())));
    assert_eq!(dut.github["mesa"].priority_queues["low"].runner_group_id, Some(2));
    assert_eq!(farm.gitlab["fdo"].exposed_priorities["low"].allow.projects, ["mesa/mesa"]);
    assert_eq!(farm.github["mesa"].exposed_priorities, ["low"]);
    assert_eq!(farm.jobs.priorities, ["high", "default"]);
    assert_eq!(farm.jobs.allowed_endpoints, ["gitlab.freedesktop.org:443"]);
    assert!(farm.pdus["Switch"].hidden);
    assert!(!format!("{farm:?}").contains("Some(\"t\")"), "tokens are not printed");
}

#[test]
fn the_examples_that_people_are_shown_are_right() {
    let manual = include_str!("../../../../docs/farm-file.md");
    let (_, example) = manual.split_once("```yaml\n").unwrap();
    let farm = good(example.split_once("```").unwrap().0).farm;
    assert_eq!((farm.pdus.len(), farm.duts.len(), farm.gitlab.len()), (1, 1, 1));
    let (_, example) = crate::file::EMPTY.split_once("#\n").unwrap();
    let farm = good(&example.replace("# ", "")).farm;
    assert_eq!((farm.pdus.len(), farm.duts.len()), (1, 1));
    assert_eq!(good(crate::file::EMPTY).farm, Farm::default());
}

#[test]
fn nothing_and_empty_sections_are_an_empty_farm() {
    for text in ["", "# only this\n", "---\n", "duts:\npdus:\n", "duts: {}\ngitlab: ~\n", "{}"] {
        assert_eq!(good(text).farm, Farm::default(), "{text:?}");
    }
}

#[test]
fn anchors_and_merge_keys_are_resolved() {
    let farm = good(
        "pdus: {P: {driver: dummy}}\nduts:\n  a: &std\n    pdu: P\n    pdu_port_id: 1\n    tags: &t [x]\n  b:\n    <<: *std\n    pdu_port_id: 2\n    manual_tags: *t\n",
    )
    .farm;
    let b = &farm.duts[&DutId::new("b").unwrap()];
    assert_eq!((b.pdu.as_deref(), b.pdu_port_id.clone()), (Some("P"), Some(2.into())));
    assert_eq!((b.tags.as_slice(), b.manual_tags.as_slice()), (&["x".to_owned()][..], &["x".to_owned()][..]));
}

#[test]
fn an_error_names_file_line_column_shows_the_line_and_says_what_to_do() {
    let text = "pdus:\n  VPDU2: {driver: vpdu, config: {hostname: h}}\nduts:\n  a:\n    pdu: vpdu\n    pdu_port_id: 1\n";
    assert_eq!(
        bad(text),
        "mars_db.yaml:5:10: the PDU \"vpdu\" does not exist\n  5 |     pdu: vpdu\n    |          ^^^^\n  fix: did you mean \"VPDU\"?"
    );
}

#[test]
fn each_mistake_is_found_and_explained() {
    for (text, place, words) in [
        ("duts:\n  a:\n    reday_for_service: true\n", "3:5", "did you mean `ready_for_service`?"),
        ("dut:\n  a: {}\n", "1:1", "did you mean `duts`?"),
        ("duts:\n  a:\n    pdu: X\n", "3:10", "known are VPDU"),
        (
            "duts:\n  a: {pdu: VPDU, pdu_port_id: 1}\n  b: {pdu: VPDU, pdu_port_id: \"1\"}\n",
            "3:31",
            "used twice: by the machine a (line 2) and by the machine b",
        ),
        (
            "duts:\n  a: {mac_address: '00:11:22:33:44:55'}\n  00-11-22-33-44-55: {}\n",
            "3:3",
            "the MAC address 00:11:22:33:44:55 is used twice",
        ),
        (
            "duts:\n  a: {ip_address: 10.42.0.9}\n  b: {ip_address: 10.42.0.9}\n",
            "3:19",
            "the address 10.42.0.9 is used twice",
        ),
        ("duts:\n  a: {ip_address: 10.43.0.9}\n", "2:19", "outside the private network 10.42.0.0/24"),
        ("duts:\n  a: {ip_address: 10.42.0.1}\n", "2:19", "the gateway's own"),
        ("duts:\n  a: {ip_address: 10.42.0.255}\n", "2:19", "no host's address"),
        ("duts:\n  a: {ip_address: 10.42.0}\n", "2:19", "ip_address is wrong"),
        ("duts:\n  a: {pdu_off_delay: -1}\n", "2:22", "a number from 0"),
        ("duts:\n  a: {pdu_off_delay: .inf}\n", "2:22", "a number from 0"),
        ("duts:\n  a: {power: sometimes}\n", "2:14", "managed, manual or never_off"),
        ("duts:\n  a: {max_on_time: 0}\n", "2:20", "a second or more"),
        ("pdus:\n  P: {driver: dummy, power_on_interval: 61}\n", "2:41", "a number from 0 to 60"),
        ("duts:\n  a: {tags: x}\n", "2:13", "must be a list"),
        ("duts:\n  a: {first_seen: yesterday}\n", "2:19", "no date and time"),
        ("duts:\n  a: 1\n", "2:6", "must be a mapping"),
        ("duts:\n  a: {}\n  b: {}\n  a: {}\n", "4:3", "also in line 2"),
        ("duts:\n  00:11:22:33:44:aa: {}\n  00:11:22:33:44:AA: {}\n", "3:3", "stands here twice"),
        ("duts:\n  'a/b': {}\n", "2:3", "not usable"),
        ("pdus:\n  P: {config: {}}\n", "2:6", "has no `driver`"),
        ("pdus:\n  P: {driver: apc}\n", "2:15", "apc needs a hostname"),
        (
            "pdus:\n  P: {driver: x, config: {hostname: h}, mac_address: '00:11:22:33:44:55'}\n",
            "2:54",
            "needs an IPv4 address",
        ),
        ("gitlab:\n  a: {url: gitlab.org}\n", "2:12", "https://"),
        ("gitlab:\n  a:\n", "2:3", "has no `url`"),
        ("gitlab:\n  a: {url: 'https://x', runner_type: big}\n", "2:38", "group_type"),
        ("jobs: {proxy: {allowed_endpoints: [x]}}\n", "1:36", "not host:port"),
        ("duts:\n\ta: 1\n", "2:2", "tabs"),
        ("duts: [\n", "1:7", "unclosed"),
        ("duts: {}\n---\nduts: {}\n", "2:1", "one document"),
        ("duts: {[a]: b}\n", "1:8", "not a text"),
        ("- a\n", "1:1", "must be a mapping"),
    ] {
        let error = bad(text);
        assert!(
            error.starts_with(&format!("mars_db.yaml:{place}: ")) && error.contains(words),
            "{text}\n{error}"
        );
    }
}

#[test]
fn all_mistakes_are_reported_at_once_in_the_order_of_the_file() {
    let error = bad("duts:\n  a:\n    pdu: X\n    tagz: []\n  b:\n    is_retired: maybe\n");
    let lines: Vec<_> = error.lines().filter(|l| l.starts_with("mars_db")).map(|l| &l[13..16]).collect();
    assert_eq!(lines, ["3:1", "4:5", "6:1"], "{error}");
}

#[test]
fn what_a_stranger_could_write_is_refused_and_does_no_harm() {
    let bomb: String = (0..30)
        .map(|i| {
            format!(
                "a{i}: &a{i} [{}]\n",
                vec![if i == 0 { "x".to_owned() } else { format!("*a{}", i - 1) }; 9].join(",")
            )
        })
        .collect();
    assert!(bad(&bomb).contains("holds too much"));
    assert!(bad(&"[".repeat(10_000)).starts_with("mars_db.yaml:1:"));
    assert!(bad(&format!("duts: {}1{}", "{a: ".repeat(100), "}".repeat(100))).contains("too deeply"));
    assert!(bad(&"#".repeat(LARGEST_FILE + 1)).contains("larger than 4 MiB"));
    assert!(!bad("duts:\n  a: {pdu: \"\u{1b}[31mx\"}\n").contains('\u{1b}'));
}

mod any_text {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn is_read_or_refused_without_a_panic(text in "[a-z0-9:{}\\[\\]\\-#&*<>|'\", \\n\\tü!%]{0,200}") {
            let _ = super::parse("f", &format!("duts:\n  a:\n    {text}"), &super::context());
            let _ = super::parse("f", &text, &super::context());
        }
    }
}
