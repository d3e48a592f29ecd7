//! Reading `dhcp`: offers, which requests they are for, and options.

use std::{collections::BTreeMap, net::Ipv4Addr};

use farmgate_protocol::MacAddress;

use super::{fields, lists};
use crate::{
    ComplexList, DhcpMatch, DhcpOffer, DhcpOption, DhcpValue, OptionKind, TextMatch,
    check::{self, Fields},
    error::Report,
    yaml::{Key, Kind, Node},
};

/// Bytes that one option may hold; longer ones would need pieces, which boot firmware rarely joins.
const MAX_OPTION: usize = 255;

pub(super) fn read(node: &Node, path: &str, report: &mut Report<'_>) -> ComplexList<DhcpOffer> {
    lists::read(node, &fields::DHCP, report, &mut |item, report| read_offer(item, path, report))
}

fn read_offer(node: &Node, path: &str, report: &mut Report<'_>) -> Option<DhcpOffer> {
    let fields = Fields::open(node, &format!("each of `{path}`"), &fields::DHCP, report)?;
    let matches = match fields.get("match") {
        Some(node) => {
            let path = format!("{path}.match");
            let open = Fields::open(node, &format!("`{path}`"), &fields::DHCP_MATCH, report)?;
            read_match(&open, &path, report)
        }
        None => DhcpMatch::default(),
    };
    let options = match fields.get("options") {
        Some(node) => read_options(node, &format!("{path}.options"), report),
        None => BTreeMap::new(),
    };
    if fields.get("options").is_none_or(Node::is_empty) {
        report.warning(fields.at, format!("one of `{path}` has no `options`: it offers nothing"));
    }
    Some(DhcpOffer { matches, options })
}

/// The fields of a mapping that speak of DHCP requests.
pub(super) fn read_match(fields: &Fields<'_>, path: &str, report: &mut Report<'_>) -> DhcpMatch {
    let mut one = |name: &str, known: &[&str]| read_texts(fields, name, path, known, report);
    let mut matches = DhcpMatch {
        architecture: one("architecture", &DhcpMatch::ARCHITECTURES),
        firmware: one("firmware", &DhcpMatch::FIRMWARES),
        mac_address: Vec::new(),
        protocol: one("protocol", &DhcpMatch::PROTOCOLS),
        vendor_class: one("vendor_class", &[]),
        user_class: one("user_class", &[]),
        uuid: one("uuid", &[]),
    };
    if let Some(node) = fields.get("mac_address") {
        let what = format!("`{path}.mac_address`");
        let items = check::one_or_several(node).iter();
        matches.mac_address = items.filter_map(|item| read_mac(item, &what, report)).collect();
    }
    matches
}

/// One text or several. `known`: what it is compared with can only be one of these; none: anything.
pub(super) fn read_texts(
    fields: &Fields<'_>,
    name: &str,
    path: &str,
    known: &[&str],
    report: &mut Report<'_>,
) -> Vec<TextMatch> {
    let Some(node) = fields.get(name) else { return Vec::new() };
    let what = format!("`{path}.{name}`");
    let mut all = Vec::new();
    for item in check::one_or_several(node) {
        let Some(text) = check::text(item, &what, report) else { continue };
        let one = TextMatch::from(text);
        if !known.is_empty() && !known.iter().any(|word| one.fits(word)) {
            let help = check::meant(one.as_str(), known, "known");
            report.warning(item.at, format!("{what}: `{}` never fits; {help}", one.as_str()));
        } else if !one.is_regex() {
            report.warning(item.at, format!("{what}: `{}` is no regex, it is only compared", one.as_str()));
        }
        all.push(one);
    }
    all
}

/// An address, or a regex for the way addresses are shown.
fn read_mac(node: &Node, what: &str, report: &mut Report<'_>) -> Option<TextMatch> {
    let text = check::text(node, what, report)?;
    if let Ok(mac) = text.parse::<MacAddress>() {
        return Some(mac.to_string().into());
    }
    let one = TextMatch::from(text);
    if !one.is_regex() {
        let message = format!("{what} is neither an address nor a regex: {}", node.describe());
        report.problem_with_help(node.at, message, "write 52:54:00:11:22:01, or '52:54:00:.*' for many");
        return None;
    }
    if one.as_str().chars().any(|c| c.is_ascii_uppercase() && c.is_ascii_hexdigit())
        && !one.as_str().contains("(?i")
    {
        let text = format!("{what}: addresses are compared in lower case, so `{}` hardly fits", one.as_str());
        report.warning(node.at, text);
    }
    Some(one)
}

fn read_options(node: &Node, path: &str, report: &mut Report<'_>) -> BTreeMap<u8, DhcpValue> {
    let mut all = BTreeMap::new();
    let help = "write NAME: VALUE, for example `bootfile_name: boot.efi`";
    for (key, value) in check::named(node, &format!("`{path}`"), help, report) {
        let Some((code, kind)) = read_code(key, path, report) else { continue };
        if value.is_null() {
            report.warning(value.at, format!("`{path}.{}` is empty: it counts as not given", key.text));
            continue;
        }
        let Some(found) = read_value(value, kind, &format!("`{path}.{}`", key.text), report) else {
            continue;
        };
        if found.encode().len() > MAX_OPTION {
            let message = format!("`{path}.{}` is longer than {MAX_OPTION} bytes", key.text);
            report.problem_with_help(value.at, message, "an option of DHCP has no room for more");
        } else if all.insert(code, found).is_some() {
            let message = format!("option {code} of `{path}` is given twice, as number and as name");
            report.problem_with_help(key.at, message, "remove one of them");
        }
    }
    all
}

fn read_code(key: &Key, path: &str, report: &mut Report<'_>) -> Option<(u8, OptionKind)> {
    let number = check::parse_integer(&key.text);
    let option = match number {
        Some(number) => u8::try_from(number).ok().and_then(DhcpOption::by_code),
        None => DhcpOption::by_name(&key.text),
    };
    let code = option.map(|o| o.code).or(number.and_then(|n| u8::try_from(n).ok()));
    let Some(code) = code else {
        let help = if number.is_some() {
            "options have numbers from 1 to 254".to_owned()
        } else {
            let near = DhcpOption::nearest(&key.text);
            let meant = near.first().map(|name| format!("did you mean `{name}`? ")).unwrap_or_default();
            format!("{meant}the names are those of RFC 2132; an option without one is given by its number")
        };
        report.problem_with_help(key.at, format!("`{path}`: there is no option `{}`", key.text), help);
        return None;
    };
    if DhcpOption::is_servers_own(code) {
        let message = format!("`{path}`: a job cannot set option {code}");
        report.problem_with_help(key.at, message, "the server writes it itself, the exchange depends on it");
        return None;
    }
    Some((code, option.map_or(OptionKind::Bytes, |option| option.kind)))
}

fn read_value(node: &Node, kind: OptionKind, what: &str, report: &mut Report<'_>) -> Option<DhcpValue> {
    match kind {
        OptionKind::Address | OptionKind::Addresses | OptionKind::AddressPairs => {
            let all = read_each(node, what, report, read_address)?;
            let (fits, help) = match kind {
                OptionKind::Address => (all.len() == 1, "write one address, for example 10.42.0.1"),
                OptionKind::AddressPairs => (
                    all.len().is_multiple_of(2) && !all.is_empty(),
                    "write a list of pairs: [10.0.0.0, 255.0.0.0]",
                ),
                _ => (!all.is_empty(), "write an address or a list of them"),
            };
            if !fits {
                report.problem_with_help(node.at, format!("{what} has {} addresses", all.len()), help);
                return None;
            }
            Some(DhcpValue::Addresses(all))
        }
        OptionKind::Text => check::text(node, what, report).map(DhcpValue::Text),
        OptionKind::Flag => {
            let flag = match check::parse_integer(scalar(node)) {
                Some(number @ 0..=1) => number == 1,
                _ => check::boolean(node, what, report)?,
            };
            Some(DhcpValue::Unsigned(u32::from(flag), 1))
        }
        OptionKind::Unsigned(length) => {
            let most = (1_i64 << (8 * u32::from(length))) - 1;
            let number = check::integer(node, what, 0..=most, report)?;
            Some(DhcpValue::Unsigned(u32::try_from(number).ok()?, length))
        }
        OptionKind::Signed => {
            let number = check::integer(node, what, i32::MIN.into()..=i32::MAX.into(), report)?;
            Some(DhcpValue::Signed(i32::try_from(number).ok()?))
        }
        OptionKind::Words => {
            let word = |node: &Node, what: &str, report: &mut Report<'_>| {
                check::integer(node, what, 0..=65_535, report).and_then(|number| u16::try_from(number).ok())
            };
            Some(DhcpValue::Words(read_each(node, what, report, word)?))
        }
        OptionKind::Bytes => read_bytes(node, what, report),
    }
}

fn scalar(node: &Node) -> &str {
    match &node.kind {
        Kind::Scalar { text, .. } => text,
        _ => "",
    }
}

/// One or several values; none if one of them is wrong.
fn read_each<T>(
    node: &Node,
    what: &str,
    report: &mut Report<'_>,
    read_one: fn(&Node, &str, &mut Report<'_>) -> Option<T>,
) -> Option<Vec<T>> {
    check::one_or_several(node).iter().map(|item| read_one(item, what, report)).collect()
}

fn read_address(node: &Node, what: &str, report: &mut Report<'_>) -> Option<Ipv4Addr> {
    let address = scalar(node).parse().ok();
    if address.is_none() {
        let message = format!("{what} must be an IPv4 address, not {}", node.describe());
        report.problem_with_help(node.at, message, "write it in numbers, for example 10.42.0.1");
    }
    address
}

/// What is not known to be something else. A number alone could be meant in many ways.
fn read_bytes(node: &Node, what: &str, report: &mut Report<'_>) -> Option<DhcpValue> {
    match &node.kind {
        Kind::List(_) => {
            let byte = |node: &Node, what: &str, report: &mut Report<'_>| {
                check::integer(node, what, 0..=255, report).and_then(|number| u8::try_from(number).ok())
            };
            Some(DhcpValue::Bytes(read_each(node, what, report, byte)?))
        }
        Kind::Scalar { text, plain: true } if check::parse_integer(text).is_some() => {
            let help = "write [1] for a byte, [0, 0, 0, 1] for four, or \"1\" in quotes for text";
            report.problem_with_help(node.at, format!("{what}: nobody knows how long this number is"), help);
            None
        }
        _ => check::text(node, what, report).map(DhcpValue::Text),
    }
}
