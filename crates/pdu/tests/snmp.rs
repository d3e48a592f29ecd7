//! The SNMP drivers against the real `snmpd`, which serves each model's table.
#![allow(clippy::unwrap_used)] // all of this file is tests

mod conformance;
mod snmpd;

use conformance::{Fault, Misbehave, bounded, labels};
use farmgate_pdu::{DriverError, make};
use farmgate_protocol::{PortId, pdu::PortState};
use serde_json::{Value, json};
use snmpd::{Snmpd, Version, users};

async fn conforms(model: &str, driver: &'static str, version: Version, extra: Value) {
    if let Some(mut snmpd) = Snmpd::start(model, driver, version, extra).await {
        conformance::all(&mut snmpd).await;
    }
}

/// The generic driver, told of the APC's table relative to its system.
fn generic() -> Value {
    json!({
        "system_id": "1.3.6.1.4.1.318.1.1.4", "outlet_labels": "4.2.1.4", "outlet_status": "4.2.1.3",
        "state_mapping": {"on": 1, "off": 2, "reboot": 3},
    })
}

// Several at a time: most of the suite's time is waiting for silent devices.

#[tokio::test]
async fn the_drivers_of_pdus_conform() {
    tokio::join!(
        conforms("apc", "apc_masterswitch", Version::V1, json!({})),
        conforms("pdu41004", "cyberpower_pdu41004", Version::V2c, json!({})),
        conforms("pdu15swhviec12atnet", "cyberpower_pdu15swhviec12atnet", Version::V1, json!({})),
    );
}

#[tokio::test]
async fn the_drivers_of_switches_and_of_anything_else_conform() {
    tokio::join!(
        conforms("apc", "snmp", Version::V3, generic()),
        conforms("poe", "snmp_poe", Version::V2c, json!({})),
        conforms("tplink", "snmp_poe_tplink", Version::V3, json!({})),
    );
}

#[tokio::test]
async fn each_security_level_of_v3_reads_and_switches() {
    let Some(mut snmpd) = Snmpd::start("apc", "snmp", Version::V3, generic()).await else { return };
    for (name, credentials) in users() {
        snmpd.outfit(&labels(2)).await;
        let mut driver = make("snmp", &snmpd.config(&credentials)).unwrap();
        let ports = bounded(driver.ports()).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(ports[0].label, labels(1)[0], "{name}");
        let id = PortId::from(2);
        bounded(driver.write(&id, true)).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        let state = bounded(driver.read(&id)).await;
        assert!(matches!(state, Ok(PortState::On)), "{name}: {state:?}");
        assert!(snmpd.is_on(1).await && !snmpd.is_on(0).await, "{name}");
    }
}

#[tokio::test]
async fn v3_says_which_of_the_credentials_is_wrong() {
    let Some(mut snmpd) = Snmpd::start("apc", "apc_masterswitch", Version::V3, json!({})).await else {
        return;
    };
    snmpd.outfit(&labels(1)).await;
    let good = users()[3].1.clone();
    for (key, value, named) in [
        ("username", "nobody", "username"),
        ("auth_password", "not the password", "auth_password"),
        ("auth_protocol", "MD5", "auth_p"),
        ("privacy_password", "not the password", "privacy_password"),
    ] {
        let mut credentials = good.clone();
        credentials[key] = json!(value);
        let mut driver = make("apc_masterswitch", &snmpd.config(&credentials)).unwrap();
        let error = bounded(driver.read(&PortId::from(1))).await.unwrap_err();
        let text = error.to_string();
        // net-snmp drops what it cannot decrypt without a report of its own.
        let silent = key == "privacy_password" && matches!(error, DriverError::Unreachable { .. });
        assert!(
            matches!(error, DriverError::Authentication(_)) && text.contains(named) || silent,
            "{key}: {text}"
        );
        assert!(!text.contains(value) || key == "auth_protocol", "a secret in {text}");
    }
    let mut weaker = good;
    for key in ["privacy_protocol", "privacy_password"] {
        weaker.as_object_mut().unwrap().remove(key);
    }
    let mut driver = make("apc_masterswitch", &snmpd.config(&weaker)).unwrap();
    let error = bounded(driver.write(&PortId::from(1), true)).await.unwrap_err();
    assert!(matches!(error, DriverError::Authentication(_) | DriverError::Refused(_)), "{error}");
    assert!(!snmpd.is_on(0).await);
}

#[tokio::test]
async fn sixty_four_outlets_are_listed_in_one_call_though_half_of_the_requests_get_lost() {
    for version in [Version::V1, Version::V2c, Version::V3] {
        let Some(mut snmpd) = Snmpd::start("apc", "apc_masterswitch", version, json!({})).await else {
            return;
        };
        snmpd.outfit(&labels(64)).await;
        snmpd.fault(Fault::LosesEverySecond).await;
        let mut driver = snmpd.driver();
        let shown: Vec<_> =
            bounded(driver.ports()).await.unwrap().into_iter().map(|port| port.label).collect();
        assert_eq!(shown, labels(64), "{version:?}");
    }
}

#[tokio::test]
async fn an_agent_that_shows_nothing_behind_its_outlets_is_listed_too() {
    let Some(mut snmpd) = Snmpd::start("apc", "apc_masterswitch", Version::V1, json!({})).await else {
        return;
    };
    for (version, n) in [(1, 24), (1, 1), (1, 0), (2, 24), (2, 0)] {
        snmpd.outfit(&labels(n)).await;
        // Its last column is the last thing that this community may see.
        let config = snmpd.config(&json!({"version": version, "community": "outlets"}));
        let ports = bounded(make("apc_masterswitch", &config).unwrap().ports()).await.unwrap();
        let shown: Vec<_> = ports.into_iter().map(|port| port.label).collect();
        assert_eq!(shown, labels(n), "version {version}");
    }
}

#[tokio::test]
async fn a_pdu_may_be_reached_over_ipv6() {
    let Some(mut snmpd) =
        Snmpd::start_at("[::1]:0", "apc", "apc_masterswitch", Version::V2c, json!({})).await
    else {
        return;
    };
    snmpd.outfit(&labels(1)).await;
    let mut driver = snmpd.driver();
    bounded(driver.write(&PortId::from(1), true)).await.unwrap();
    assert!(snmpd.is_on(0).await);
}

#[tokio::test]
async fn power_and_energy_come_in_watts_and_joules_where_a_column_is_named() {
    let extra = json!({
        "outlet_power": "1.3.6.1.4.1.318.1.1.26.9.4.3.1.7",
        "outlet_energy": "1.3.6.1.4.1.318.1.1.26.9.4.3.1.11", "energy_unit": 360_000,
    });
    let Some(mut snmpd) = Snmpd::start("apc", "apc_masterswitch", Version::V1, extra).await else { return };
    snmpd.outfit(&labels(2)).await;
    snmpd.press(1, true).await;
    let mut driver = snmpd.driver();
    let two = PortId::from(2);
    assert_eq!(bounded(driver.power(&two)).await.unwrap(), 142.0);
    assert_eq!(bounded(driver.energy(&two)).await.unwrap(), 20.0 * 360_000.0);

    let Some(mut snmpd) = Snmpd::start("tplink", "snmp_poe_tplink", Version::V2c, json!({})).await else {
        return;
    };
    snmpd.outfit(&labels(2)).await;
    snmpd.press(1, true).await;
    let mut driver = snmpd.driver();
    assert!((bounded(driver.power(&two)).await.unwrap() - 14.2).abs() < 1e-9);
    assert!(matches!(bounded(driver.energy(&two)).await, Err(DriverError::Unavailable(_))));
}

#[tokio::test]
async fn a_poe_port_that_nobody_named_is_called_as_its_interface_is() {
    for version in [Version::V1, Version::V2c] {
        let Some(mut snmpd) = Snmpd::start("poe", "snmp_poe", version, json!({})).await else { return };
        snmpd.outfit(&[String::new(), "camera".to_owned()]).await;
        snmpd.change(|state| state["nameless"] = json!(true));
        let mut driver = snmpd.driver();
        let ports = bounded(driver.ports()).await.unwrap();
        let shown: Vec<_> = ports.iter().map(|port| (port.id.as_str(), port.label.as_str())).collect();
        assert_eq!(
            shown,
            [("1", "gigabitEthernet 1/0/1"), ("2", "gigabitEthernet 1/0/2: camera")],
            "{version:?}"
        );
    }
}

#[tokio::test]
async fn a_table_of_another_model_is_no_outlet_and_a_number_it_does_not_take_is_told() {
    let Some(mut snmpd) = Snmpd::start("pdu41004", "apc_masterswitch", Version::V2c, json!({})).await else {
        return;
    };
    snmpd.outfit(&labels(2)).await;
    assert_eq!(bounded(snmpd.driver().ports()).await.unwrap(), []);

    let extra = json!({
        "outlet_status": "1.3.6.1.4.1.3808.1.1.3.3.3.1.1.4", "state_mapping": {"on": 9, "off": 2},
    });
    let config = json!({"version": 2, "hostname": snmpd.hostname()});
    let mut config = config.as_object().unwrap().clone();
    config.extend(extra.as_object().unwrap().clone());
    let mut driver = make("snmp", &Value::Object(config)).unwrap();
    let error = bounded(driver.write(&PortId::from(1), true)).await.unwrap_err();
    assert!(
        matches!(error, DriverError::Protocol(_)) && error.to_string().contains("the number 9"),
        "{error}"
    );
    assert_eq!(bounded(driver.ports()).await.unwrap()[0].label, "outlet 1");
    assert_eq!(snmpd.commands().await, 0);
}

#[tokio::test]
async fn an_agent_that_is_another_one_after_its_restart_is_greeted_anew() {
    let Some(mut snmpd) = Snmpd::start("apc", "apc_masterswitch", Version::V3, json!({})).await else {
        return;
    };
    snmpd.outfit(&labels(1)).await;
    let mut driver = snmpd.driver();
    let id = PortId::from(1);
    assert_eq!(bounded(driver.read(&id)).await.unwrap(), PortState::Off);
    snmpd.fault(Fault::Gone).await;
    snmpd.forget_engine();
    snmpd.press(0, true).await;
    snmpd.fault(Fault::None).await;
    // The same driver, which still knows the old one.
    assert_eq!(bounded(driver.read(&id)).await.unwrap(), PortState::On);
}

#[tokio::test]
async fn the_states_of_many_outlets_come_in_one_packet_and_that_of_a_watched_one_alone() {
    for version in [Version::V1, Version::V2c] {
        let Some(mut snmpd) = Snmpd::start("apc", "apc_masterswitch", version, json!({})).await else {
            return;
        };
        snmpd.outfit(&labels(24)).await;
        snmpd.press(6, true).await;
        let mut driver = snmpd.driver();
        bounded(driver.ports()).await.unwrap();
        let before = snmpd.requests();
        for n in 1..=24 {
            let wanted = if n == 7 { PortState::On } else { PortState::Off };
            assert_eq!(bounded(driver.read(&PortId::from(n))).await.unwrap(), wanted, "{n}");
        }
        let asked = snmpd.requests() - before;
        // Packets are repeated, and answers get old, on a machine that is busy.
        assert!(asked < 12, "{asked} packets for 24 outlets over {version:?}");
        // One outlet is taken out: the others are still read.
        snmpd.change(|state| state["outlets"].as_array_mut().unwrap().pop());
        for n in [1, 20, 23] {
            bounded(driver.read(&PortId::from(n))).await.unwrap();
        }
        let gone = bounded(driver.read(&PortId::from(24))).await;
        assert!(matches!(gone, Err(DriverError::UnknownPort(_))), "{gone:?}");
    }
}

/// What one read costs this process, of user and system time. Run it alone:
/// `cargo test --release -p farmgate-pdu --test snmp -- --ignored --nocapture cost`.
#[tokio::test]
#[ignore = "a measurement, not a claim"]
async fn cost_of_a_read() {
    let Some(mut snmpd) = Snmpd::start("apc", "apc_masterswitch", Version::V2c, json!({})).await else {
        return;
    };
    snmpd.outfit(&labels(24)).await;
    const READS: u32 = 2000;
    for config in [json!({"version": 2}), users()[3].1.clone()] {
        // Past the relay, which is ours too.
        let mut config = snmpd.config(&config);
        config["hostname"] = json!(snmpd.backend());
        let mut driver = make("apc_masterswitch", &config).unwrap();
        driver.ports().await.unwrap();
        let (before, start) = (cpu_ticks(), std::time::Instant::now());
        for n in 0..READS {
            driver.read(&PortId::from(n % 24 + 1)).await.unwrap();
        }
        // A tick is 10 ms.
        let cost = (cpu_ticks() - before) * 10_000 / u64::from(READS);
        println!("version {}: {cost} us of CPU each, {:?} each", config["version"], start.elapsed() / READS);
    }
}

/// User and system time of this process (proc(5)).
fn cpu_ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}
