//! Reading `deployment`: both boots of a job, and the defaults of a boot method.

use super::{
    artifact::{self, Groups},
    dhcp, fastboot, fields, format, lists, storage,
    supported::{self, Feature},
};
use crate::{
    Artifact, BootSpec, ComplexList, Deployment,
    check::{self, Fields},
    error::Report,
    yaml::{Kind, Node},
};

/// What the first boot loads, and what later boots load.
pub(super) fn read(node: &Node, report: &mut Report<'_>) -> (BootSpec, BootSpec) {
    let Some(fields) = Fields::open(node, "`deployment`", &fields::DEPLOYMENT, report) else {
        return Default::default();
    };
    let mut boot = |name: &str| match fields.get(name) {
        Some(node) => read_boot(node, &format!("deployment.{name}"), report),
        None => Deployment::default(),
    };
    let start = boot("start");
    let later = boot("continue");
    if let Some(node) = fields.get("continue") {
        compare(&start, &later, node, "deployment.continue", report);
    }
    let merged = start.updated_by(&later);
    (start.into(), merged.into())
}

/// One boot.
pub(super) fn read_boot(node: &Node, path: &str, report: &mut Report<'_>) -> Deployment {
    let mut boot = Deployment::default();
    let Some(fields) = Fields::open(node, &format!("`{path}`"), &fields::BOOT, report) else { return boot };
    if let Some(node) = fields.get("kernel") {
        read_kernel(node, &format!("{path}.kernel"), &mut boot, report);
    }
    if let Some(node) = fields.get("initramfs") {
        boot.initramfs = read_artifacts(node, &format!("{path}.initramfs"), report);
    }
    if let Some(node) = fields.get("dtb") {
        let path = format!("{path}.dtb");
        supported::ask(Feature::Dtb, node, &path, report);
        boot.dtb = read_artifacts(node, &path, report);
    }
    if let Some(node) = fields.get("storage") {
        storage::read(node, &format!("{path}.storage"), &mut boot, report);
    }
    if let Some(node) = fields.get("fastboot") {
        let path = format!("{path}.fastboot");
        supported::ask(Feature::Fastboot, node, &path, report);
        boot.fastboot = fastboot::read(node, &path, report);
    }
    if let Some(node) = fields.get("dhcp") {
        let path = format!("{path}.dhcp");
        supported::ask(Feature::Dhcp, node, &path, report);
        boot.dhcp = dhcp::read(node, &path, report);
    }
    boot
}

fn read_kernel(node: &Node, path: &str, boot: &mut Deployment, report: &mut Report<'_>) {
    let Some(kernel) = Fields::open(node, &format!("`{path}`"), &fields::KERNEL, report) else { return };
    boot.kernel = artifact::read_source(&kernel, path, Groups::None, report);
    boot.kernel_format = format::read(&kernel, path, Groups::None, report);
    if let Some(node) = kernel.get("cmdline") {
        let what = format!("each part of `{path}.cmdline`");
        boot.cmdline = lists::read(node, &[], report, &mut |item, report| check::text(item, &what, report));
    }
}

fn read_artifacts(node: &Node, path: &str, report: &mut Report<'_>) -> ComplexList<Artifact> {
    lists::read(node, &fields::ARTIFACT, report, &mut |item, report| artifact::read(item, path, report))
}

/// What `continue` says of things that `start` has.
fn compare(start: &Deployment, later: &Deployment, node: &Node, path: &str, report: &mut Report<'_>) {
    let artifact = &fields::ARTIFACT;
    let file = &fields::STORAGE_FILE;
    let list = |names: &[&str]| below(node, names).map(|node| (node, format!("{path}.{}", names.join("."))));
    if let Some((node, path)) = list(&["kernel", "cmdline"]) {
        lists::compare(&start.cmdline, node, &path, &[], report);
    }
    if let Some((node, path)) = list(&["initramfs"]) {
        lists::compare(&start.initramfs, node, &path, artifact, report);
    }
    if let Some((node, path)) = list(&["dtb"]) {
        lists::compare(&start.dtb, node, &path, artifact, report);
    }
    if let Some((node, path)) = list(&["storage", "http"]) {
        lists::compare(&start.http, node, &path, file, report);
    }
    if let Some((node, path)) = list(&["storage", "tftp"]) {
        lists::compare(&start.tftp, node, &path, file, report);
    }
    if let Some((node, path)) = list(&["dhcp"]) {
        lists::compare(&start.dhcp, node, &path, &fields::DHCP, report);
    }
    let changed_image =
        |name: &str| later.images.get(name).is_some_and(|l| start.images.get(name).is_some_and(|s| s != l));
    if let Some((node, path)) = list(&["storage", "imagestore", "public", "images"]) {
        refuse_changed(node, &path, "an image is pulled once for the whole job", &changed_image, report);
    }
    let changed_device =
        |name: &str| later.nbd.get(name).is_some_and(|l| start.nbd.get(name).is_some_and(|s| s != l));
    if let Some((node, path)) = list(&["storage", "nbd"]) {
        refuse_changed(node, &path, "a block device lives as long as the job", &changed_device, report);
    }
}

/// The node at the end of these fields.
fn below<'a>(node: &'a Node, names: &[&str]) -> Option<&'a Node> {
    names.iter().try_fold(node, |node, name| match &node.kind {
        Kind::Map(entries) => entries.iter().find(|(key, _)| key.text == *name).map(|(_, value)| value),
        _ => None,
    })
}

fn refuse_changed(
    node: &Node,
    path: &str,
    why: &str,
    changed: &dyn Fn(&str) -> bool,
    report: &mut Report<'_>,
) {
    let Kind::Map(entries) = &node.kind else { return };
    for (key, _) in entries.iter().filter(|(key, _)| changed(&key.text)) {
        let message = format!("`{path}.{}` is another than that of `start`", key.text);
        report.problem_with_help(
            key.at,
            message,
            format!("{why}: take another name, or leave it out to keep it"),
        );
    }
}
