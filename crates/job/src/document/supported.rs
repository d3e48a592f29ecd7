//! What of the language this gateway cannot do yet: one list, which loses a line when a feature lands.

use crate::{error::Report, yaml::Node};

/// A part of the language that a gateway can have or lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Feature {
    Archive,
    Dhcp,
    Dtb,
    Fastboot,
    Format,
    Http,
    ImageStore,
    Nbd,
    Proxy,
    Tftp,
}

const NOT_YET: &[Feature] = &[
    Feature::Archive,
    Feature::Dhcp,
    Feature::Dtb,
    Feature::Fastboot,
    Feature::Format,
    Feature::Http,
    Feature::ImageStore,
    Feature::Nbd,
    Feature::Proxy,
    Feature::Tftp,
];

/// Reports a field that asks for what the gateway lacks. An empty one asks for nothing and passes.
pub(super) fn ask(feature: Feature, node: &Node, path: &str, report: &mut Report<'_>) {
    if NOT_YET.contains(&feature) && !node.is_empty() {
        report.unsupported(node.at, path);
    }
}
