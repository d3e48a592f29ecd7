//! Compares what a machine says of itself with what the farm file knows of it.

use std::collections::BTreeSet;

use farmgate_mars::DutEntry;
use farmgate_protocol::dut::Registration;

/// Each difference in words, none if the machine is what it was.
pub fn differences(known: &DutEntry, found: &Registration) -> Vec<String> {
    let mut list = Vec::new();
    if known.base_name != found.base_name {
        list.push(format!("base name was {:?}, is {:?}", known.base_name, found.base_name));
    }
    let before: BTreeSet<&String> = known.tags.iter().collect();
    let now: BTreeSet<&String> = found.tags.iter().collect();
    list.extend(before.difference(&now).map(|tag| format!("gone: {tag}")));
    list.extend(now.difference(&before).map(|tag| format!("new: {tag}")));
    let mut compare = |what: &str, before: Option<String>, now: Option<String>| {
        if let (Some(before), Some(now)) = (before, now)
            && before != now
        {
            list.push(format!("{what} was {before}, is {now}"));
        }
    };
    compare(
        "MAC address",
        known.mac_address.map(|m| m.to_string()),
        found.mac_address.map(|m| m.to_string()),
    );
    compare("IP address", known.ip_address.map(|a| a.to_string()), found.ip_address.map(|a| a.to_string()));
    compare("console", known.local_tty_device.clone(), found.local_tty_device.clone());
    if known.local_tty_device.is_some() && found.local_tty_device.is_none() {
        list.push("its console does not reach the gateway any more: nobody answered SALAD.ping".to_owned());
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_dimm_and_a_dead_console_are_named() {
        let known = DutEntry {
            base_name: "virtio".into(),
            tags: vec!["mem:size:2GiB".into(), "cpu:cores:1".into()],
            local_tty_device: Some("ttyS0".into()),
            ..DutEntry::default()
        };
        let found = Registration {
            base_name: "virtio".into(),
            tags: vec!["cpu:cores:1".into(), "mem:size:1GiB".into()],
            ..Registration::default()
        };
        let list = differences(&known, &found);
        assert_eq!(list[..2], ["gone: mem:size:2GiB".to_owned(), "new: mem:size:1GiB".to_owned()]);
        assert!(list[2].contains("console"));
        let same = Registration {
            tags: known.tags.iter().rev().cloned().collect(),
            local_tty_device: known.local_tty_device.clone(),
            ..found
        };
        assert!(differences(&known, &same).is_empty());
    }
}
