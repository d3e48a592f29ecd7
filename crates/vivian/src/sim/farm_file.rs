//! A farm file for simulated machines, each wired to its outlet.

use std::fmt::Write as _;

use super::{BASE_NAME, TAG, mac, options::Options};

/// The text. `pdus`: name and address of each; each has as many outlets as `options` say.
pub(super) fn text(options: &Options, pdus: &[(String, String)]) -> String {
    let mut text = String::from("# Simulated machines.\npdus:\n");
    for (name, address) in pdus {
        let _ = writeln!(text, "  {name}: {{driver: vpdu, config: {{hostname: \"{address}\"}}}}");
    }
    text.push_str("duts:\n");
    let outlets = u32::from(options.outlets);
    for dut in 1..=options.duts {
        let Some((pdu, _)) = pdus.get(((dut - 1) / outlets) as usize) else { break };
        let (mac, outlet) = (mac(dut), (dut - 1) % outlets + 1);
        let _ = writeln!(text, "  \"{mac}\":\n    base_name: {BASE_NAME}\n    tags: [\"{TAG}\"]");
        let _ = writeln!(text, "    manual_tags: [\"sim:number:{dut}\"]\n    mac_address: \"{mac}\"");
        let _ = writeln!(text, "    pdu: {pdu}\n    pdu_port_id: \"{outlet}\"");
        let _ = writeln!(text, "    pdu_off_delay: {}", options.off_delay);
        if let Some(seconds) = options.firmware_boot_time {
            let _ = writeln!(text, "    firmware_boot_time: {seconds}");
        }
        let _ = writeln!(text, "    ready_for_service: {}", !options.untrained);
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[test]
    fn each_machine_has_an_outlet_of_its_own() {
        let arguments = "simduts --duts 5 --outlets 2 --gateway a:1 --console a:2 --dir /x --untrained";
        let options = Options::parse_from(arguments.split(' '));
        let pdus: Vec<_> = (1..=3).map(|n| (format!("SIM{n}"), format!("127.0.0.1:{n}"))).collect();
        let text = text(&options, &pdus);
        let wired: Vec<&str> =
            text.lines().filter(|l| l.contains("pdu: ") || l.contains("pdu_port_id")).collect();
        let wired: Vec<&str> = wired.iter().map(|l| l.trim()).collect();
        assert_eq!(wired[..4], ["pdu: SIM1", "pdu_port_id: \"1\"", "pdu: SIM1", "pdu_port_id: \"2\""]);
        assert_eq!(wired[8..], ["pdu: SIM3", "pdu_port_id: \"1\""]);
        assert_eq!(text.matches("ready_for_service: false").count(), 5);
    }
}
