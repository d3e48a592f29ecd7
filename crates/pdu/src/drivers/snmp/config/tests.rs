use serde_json::json;

use super::*;
use crate::drivers::make;

/// The driver must refuse this, and its words must name all of these.
fn refused(driver: &str, config: &Value, named: &[&str]) {
    let error = make(driver, config).err().unwrap_or_else(|| panic!("{config} was accepted")).to_string();
    for word in named {
        assert!(error.contains(word), "no {word:?} in: {error}");
    }
}

fn generic_with(change: &Value) -> Value {
    let mut config = json!({
        "hostname": "10.0.0.2", "outlet_status": "1.3.6.1.4.1.318.1.1.4.4.2.1.3", "state_mapping": {"on": 1, "off": 2},
    });
    for (key, value) in change.as_object().unwrap() {
        if value.is_null() {
            config.as_object_mut().unwrap().remove(key);
        } else {
            config[key] = value.clone();
        }
    }
    config
}

#[test]
fn the_shortest_config_of_a_model_is_its_address() {
    for driver in [
        "apc_masterswitch",
        "cyberpower_pdu41004",
        "cyberpower_pdu15swhviec12atnet",
        "snmp_poe",
        "snmp_poe_tplink",
    ] {
        for hostname in ["10.0.0.2", "10.0.0.2:1161", "pdu.lab", "::1", "[fe80::1]:1161"] {
            assert!(make(driver, &json!({"hostname": hostname})).is_ok(), "{driver} {hostname}");
        }
        refused(driver, &json!({}), &["hostname"]);
        refused(driver, &json!({"hostname": "10.0.0.2:x"}), &["hostname", "10.0.0.2:161"]);
        refused(driver, &json!({"hostname": "a", "outlet_ctrl": "1.3.6"}), &["outlet_ctrl", "`snmp`"]);
    }
}

#[test]
fn the_generic_driver_needs_a_column_and_what_its_numbers_mean() {
    assert!(make("snmp", &generic_with(&json!({}))).is_ok());
    refused("snmp", &generic_with(&json!({"outlet_status": null})), &["outlet_status"]);
    refused("snmp", &generic_with(&json!({"outlet_status": "sysDescr.0"})), &["outlet_status", "sysDescr.0"]);
    refused("snmp", &generic_with(&json!({"outlet_status": "4.2.1.3"})), &["outlet_status"]);
    refused("snmp", &generic_with(&json!({"outlet_status": 4.2})), &["outlet_status", "string"]);
    refused("snmp", &generic_with(&json!({"system_id": "apc"})), &["system_id"]);
    refused("snmp", &generic_with(&json!({"state_mapping": null})), &["state_mapping", "on: 1"]);
    refused("snmp", &generic_with(&json!({"state_mapping": {"on": 1}})), &["off"]);
    refused("snmp", &generic_with(&json!({"state_mapping": {"on": 1, "off": 1}})), &["both 1"]);
    refused("snmp", &generic_with(&json!({"state_mapping": {"on": 1, "of": 2}})), &["of", "off"]);
}

#[test]
fn columns_may_be_relative_to_the_system() {
    let config = json!({"system_id": "318.1.1.4", "outlet_status": "4.2.1.3", "outlet_ctrl": "4.2.1.30"});
    let (_, table) = generic("snmp", &generic_with(&config)).ok().unwrap();
    assert_eq!(table.status.to_string(), "1.3.6.1.4.1.318.1.1.4.4.2.1.3");
    assert_eq!(table.control.to_string(), "1.3.6.1.4.1.318.1.1.4.4.2.1.30");
    let (_, table) = generic("snmp", &generic_with(&json!({}))).ok().unwrap();
    assert_eq!(table.control, table.status, "written where it is read, unless said otherwise");
}

#[test]
fn numbers_that_are_read_may_differ_from_those_that_are_written() {
    let read = |inverse: Value| {
        generic("snmp", &generic_with(&json!({"inverse_state_mapping": inverse})))
            .map(|(_, table)| table.mapping.read)
    };
    let expected = [(1, PortState::On), (2, PortState::Off), (3, PortState::Reboot)].into();
    assert_eq!(read(json!({"1": "on", "2": "OFF", "3": "reboot"})).ok().unwrap(), expected);
    assert_eq!(read(json!({"on": 1, "off": 2, "reboot": 3})).ok().unwrap(), expected);
    assert_eq!(read(json!({"1": true, "2": false, "3": "reboot"})).ok().unwrap(), expected);
    for wrong in [
        json!({"1": "on"}),
        json!({"1": "on", "2": "of"}),
        json!({"on": 1, "off": 1}),
        json!({"1": 2, "off": 3}),
    ] {
        let error = read(wrong.clone()).err().unwrap_or_else(|| panic!("{wrong} was accepted")).to_string();
        assert!(error.contains("inverse_state_mapping"), "{error}");
    }
    let (_, table) = generic("snmp", &generic_with(&json!({}))).ok().unwrap();
    assert_eq!(table.mapping.read, [(1, PortState::On), (2, PortState::Off)].into());
}

#[test]
fn a_misspelt_key_is_answered_with_the_nearest() {
    refused(
        "apc_masterswitch",
        &json!({"hostname": "a", "comunity": "x"}),
        &["comunity", "did you mean `community`"],
    );
    refused("snmp", &generic_with(&json!({"outlet_label": "1.3.6"})), &["did you mean `outlet_labels`"]);
}

#[test]
fn versions_are_written_in_several_ways() {
    for version in [json!(1), json!("1"), json!("v1"), json!(2), json!("2c"), json!("v2c")] {
        assert!(make("apc_masterswitch", &json!({"hostname": "a", "version": version})).is_ok(), "{version}");
    }
    for version in [json!(3), json!("v3")] {
        let config = json!({"hostname": "a", "version": version, "username": "u"});
        assert!(make("apc_masterswitch", &config).is_ok(), "{version}");
    }
    refused("apc_masterswitch", &json!({"hostname": "a", "version": 4}), &["version", "1, 2 or 3"]);
}

#[test]
fn half_a_security_level_is_refused_and_no_secret_is_shown() {
    let config = |keys: Value| {
        let mut config = json!({"hostname": "a", "version": 3, "username": "u"});
        config.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        config
    };
    let make_3 = |keys: Value| make("apc_masterswitch", &config(keys));
    assert!(make_3(json!({"auth_protocol": "SHA-256", "auth_password": "secret-12"})).is_ok());
    for privacy in ["DES", "AES", "AES-192", "aes256", "AES256C"] {
        let keys = json!({
            "auth_protocol": "sha", "auth_password": "secret-12", "privacy_protocol": privacy,
            "priv_key": "secret-34", "security_level": "authPriv", "context": "c",
        });
        assert!(make_3(keys).is_ok(), "{privacy}");
    }
    for (keys, named) in [
        (json!({"username": null}), "username"),
        (json!({"username": "x".repeat(33)}), "username"),
        (json!({"auth_protocol": "SHA"}), "auth_password"),
        (json!({"auth_password": "secret-12"}), "auth_protocol"),
        (json!({"auth_protocol": "SHA", "auth_password": "secret"}), "8 characters"),
        (json!({"auth_protocol": "SHA3", "auth_password": "secret-12"}), "SHA3"),
        (json!({"privacy_protocol": "AES", "privacy_password": "secret-12"}), "auth_protocol"),
        (json!({"security_level": "authPriv"}), "security_level"),
    ] {
        refused("apc_masterswitch", &config(keys.clone()), &[named]);
        assert!(!make_3(keys).err().unwrap().to_string().contains("secret"));
    }
    refused(
        "apc_masterswitch",
        &json!({"hostname": "a", "auth_password": "secret-12"}),
        &["auth_password", "version: 3"],
    );
    refused("apc_masterswitch", &json!({"hostname": "a", "community": ""}), &["community"]);
}

#[test]
fn a_meter_has_a_column_and_a_unit_above_zero() {
    let with = |keys: Value| {
        let mut config = json!({"hostname": "a"});
        config.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        config
    };
    assert!(make("apc_masterswitch", &with(json!({"outlet_power": "1.3.6.1.4.1.318.1"}))).is_ok());
    refused("apc_masterswitch", &with(json!({"power_unit": 1})), &["outlet_power"]);
    refused("apc_masterswitch", &with(json!({"outlet_power": "1.3.6.1", "power_unit": 0})), &["power_unit"]);
    refused("apc_masterswitch", &with(json!({"outlet_energy": "x"})), &["outlet_energy"]);
}
