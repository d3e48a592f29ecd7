//! Reading the file of boot methods.

use super::{deployment, dhcp, fields};
use crate::{
    BootMethods, Deployment, DhcpBootMethod, DhcpMatch, FastbootMatch, FastbootMethod, ScriptMatch,
    TextMatch,
    check::{self, Fields},
    error::{Place, Report},
    yaml::Node,
};

const BOOTLOADERS: [&str; 1] = ["ipxe"];
const PLATFORMS: [&str; 3] = ["efi", "linux", "pcbios"];

pub(crate) fn read(tree: &Node, report: &mut Report<'_>) -> Option<BootMethods> {
    // A file of comments says nothing, which is fine.
    if tree.is_null() {
        return Some(BootMethods::default());
    }
    let fields = Fields::open(tree, "the file of boot methods", &fields::BOOT_METHODS, report)?;
    if let Some(node) = fields.get("version") {
        check::integer(node, "`version`", 1..=1, report);
    }
    let mut methods = BootMethods::default();
    let mut rest = Rest::default();
    for (name, at, open) in entries(&fields, "dhcp", report) {
        let path = format!("dhcp.{name}");
        let (matches, script) = read_dhcp_match(&open, &path, report);
        rest.check(at, &path, matches.is_empty() && script.is_empty(), report);
        let defaults = read_defaults(&open, &path, report);
        methods.dhcp.push(DhcpBootMethod { name, matches, script, defaults });
    }
    let mut rest = Rest::default();
    for (name, at, open) in entries(&fields, "fastboot", report) {
        let path = format!("fastboot.{name}");
        let matches = read_fastboot_match(&open, &path, report);
        rest.check(at, &path, matches == FastbootMatch::default(), report);
        let defaults = read_defaults(&open, &path, report);
        methods.fastboot.push(FastbootMethod { name, matches, defaults });
    }
    Some(methods)
}

/// The methods of a kind, in the order of the file.
fn entries<'a>(fields: &Fields<'a>, kind: &str, report: &mut Report<'_>) -> Vec<(String, Place, Fields<'a>)> {
    let Some(node) = fields.get(kind) else { return Vec::new() };
    let help = "write NAME: {match: {...}, defaults: {...}}";
    let mut all = Vec::new();
    for (key, value) in check::named(node, &format!("`{kind}`"), help, report) {
        let what = format!("`{kind}.{}`", key.text);
        if let Some(open) = Fields::open(value, &what, &fields::BOOT_METHOD, report) {
            all.push((key.text.clone(), key.at, open));
        }
    }
    all
}

/// Finds methods that stand behind one that takes every machine.
#[derive(Default)]
struct Rest {
    takes_all: Option<String>,
}

impl Rest {
    fn check(&mut self, at: Place, path: &str, takes_all: bool, report: &mut Report<'_>) {
        if let Some(earlier) = &self.takes_all {
            report.warning(at, format!("`{path}` is never used: `{earlier}` before it fits every machine"));
        } else if takes_all {
            self.takes_all = Some(path.to_owned());
        }
    }
}

fn read_defaults(method: &Fields<'_>, path: &str, report: &mut Report<'_>) -> Deployment {
    match method.get("defaults") {
        Some(node) => deployment::read_boot(node, &format!("{path}.defaults"), report),
        None => {
            if method.lacks("defaults") {
                let help = "write what such a machine boots, in the words of `deployment.start` of a job";
                report.problem_with_help(method.at, format!("`{path}` has no `defaults`"), help);
            }
            Deployment::default()
        }
    }
}

fn read_dhcp_match(method: &Fields<'_>, path: &str, report: &mut Report<'_>) -> (DhcpMatch, ScriptMatch) {
    let path = format!("{path}.match");
    let known: Vec<&str> = fields::DHCP_MATCH.iter().chain(&fields::SCRIPT_MATCH).copied().collect();
    let open = method.get("match").and_then(|n| Fields::open(n, &format!("`{path}`"), &known, report));
    let Some(open) = open else { return Default::default() };
    let matches = dhcp::read_match(&open, &path, report);
    let script = ScriptMatch {
        bootloader: dhcp::read_texts(&open, "bootloader", &path, &BOOTLOADERS, report),
        buildarch: dhcp::read_texts(&open, "buildarch", &path, &[], report),
        platform: dhcp::read_texts(&open, "platform", &path, &PLATFORMS, report),
    };
    (matches, script)
}

fn read_fastboot_match(method: &Fields<'_>, path: &str, report: &mut Report<'_>) -> FastbootMatch {
    let path = format!("{path}.match");
    let mut matches = FastbootMatch::default();
    let open = method
        .get("match")
        .and_then(|n| Fields::open(n, &format!("`{path}`"), &fields::FASTBOOT_MATCH, report));
    let Some(open) = open else { return matches };
    let usb_path = format!("{path}.usb");
    let usb =
        open.get("usb").and_then(|n| Fields::open(n, &format!("`{usb_path}`"), &fields::USB_MATCH, report));
    if let Some(usb) = usb {
        matches.id_vendor = read_ids(&usb, "idVendor", &usb_path, report);
        matches.id_product = read_ids(&usb, "idProduct", &usb_path, report);
        matches.manufacturer = dhcp::read_texts(&usb, "iManufacturer", &usb_path, &[], report);
        matches.product = dhcp::read_texts(&usb, "iProduct", &usb_path, &[], report);
        matches.serial_number = dhcp::read_texts(&usb, "iSerialNumber", &usb_path, &[], report);
    }
    if let Some(node) = open.get("variables") {
        let path = format!("{path}.variables");
        let help = "write NAME: VALUE, as `fastboot getvar` shows them";
        for (key, value) in check::named(node, &format!("`{path}`"), help, report) {
            let what = format!("`{path}.{}`", key.text);
            let values = check::one_or_several(value).iter();
            let texts: Vec<TextMatch> =
                values.filter_map(|item| check::text(item, &what, report)).map(TextMatch::from).collect();
            matches.variables.push((key.text.clone(), texts));
        }
    }
    matches
}

fn read_ids(usb: &Fields<'_>, name: &str, path: &str, report: &mut Report<'_>) -> Vec<u16> {
    let Some(node) = usb.get(name) else { return Vec::new() };
    let what = format!("`{path}.{name}`");
    let numbers = check::one_or_several(node).iter();
    let numbers = numbers.filter_map(|item| check::integer(item, &what, 0..=0xffff, report));
    numbers.filter_map(|number| u16::try_from(number).ok()).collect()
}
