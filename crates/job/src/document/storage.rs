//! Reading `storage`: files, images of containers, block devices.

use std::collections::BTreeMap;

use super::{
    artifact::{self, Groups},
    fields, lists,
    supported::{self, Feature},
};
use crate::{
    Backing, BlockDevice, ComplexList, ContainerImage, Deployment, PathPattern, PullPolicy, StorageFile,
    check::{self, Fields},
    error::{Place, Report},
    path_pattern::RESERVED,
    yaml::Node,
};

const DEFAULT_PLATFORM: &str = "linux/amd64";

/// Fills in the fields that `storage` has.
pub(super) fn read(node: &Node, path: &str, boot: &mut Deployment, report: &mut Report<'_>) {
    let Some(fields) = Fields::open(node, &format!("`{path}`"), &fields::STORAGE, report) else { return };
    let files = |name: &str, feature, report: &mut Report<'_>| {
        let path = format!("{path}.{name}");
        let node = fields.get(name)?;
        supported::ask(feature, node, &path, report);
        Some(read_files(node, &path, report))
    };
    boot.http = files("http", Feature::Http, report).unwrap_or_default();
    boot.tftp = files("tftp", Feature::Tftp, report).unwrap_or_default();
    if let Some(node) = fields.get("imagestore") {
        let path = format!("{path}.imagestore");
        supported::ask(Feature::ImageStore, node, &path, report);
        boot.images = read_imagestore(node, &path, report);
    }
    if let Some(node) = fields.get("nbd") {
        let path = format!("{path}.nbd");
        supported::ask(Feature::Nbd, node, &path, report);
        boot.nbd = read_devices(node, &path, report);
    }
}

fn read_files(node: &Node, path: &str, report: &mut Report<'_>) -> ComplexList<StorageFile> {
    let mut seen: Vec<(String, Place)> = Vec::new();
    lists::read(node, &fields::STORAGE_FILE, report, &mut |item, report| {
        let (file, at) = read_file(item, path, report)?;
        let text = file.path.as_str();
        match seen.iter().find(|(earlier, _)| earlier == text) {
            Some((_, first)) => {
                let text = format!(
                    "`{path}` has `{text}` twice, first on line {}: one of them is never served",
                    first.line
                );
                report.warning(at, text);
            }
            None => seen.push((text.to_owned(), at)),
        }
        Some(file)
    })
}

fn read_file(node: &Node, path: &str, report: &mut Report<'_>) -> Option<(StorageFile, Place)> {
    let fields = Fields::open(node, &format!("each of `{path}`"), &fields::STORAGE_FILE, report)?;
    let pattern = match fields.get("path") {
        Some(node) => read_path(node, &format!("`{path}.path`"), report).map(|pattern| (pattern, node.at)),
        None => {
            if fields.lacks("path") {
                let message = format!("a file of `{path}` has no `path`");
                let help = "write what the machine asks for, for example `path: /config.txt`";
                report.problem_with_help(fields.at, message, help);
            }
            None
        }
    };
    let known = pattern.as_ref().map(|(pattern, _)| pattern.known_groups());
    let groups = known.as_ref().map_or(Groups::Unknown, Groups::Of);
    let artifact = artifact::read_fields(&fields, path, groups, report);
    let (path, at) = pattern?;
    Some((StorageFile { path, artifact: artifact? }, at))
}

fn read_path(node: &Node, what: &str, report: &mut Report<'_>) -> Option<PathPattern> {
    let text = check::text(node, what, report)?;
    if !text.starts_with('/') {
        let help = "begin it with `/`; the whole path is matched, so `/.*/config.txt` finds it in any folder";
        report.problem_with_help(node.at, format!("{what} must be absolute, not {}", node.describe()), help);
        return None;
    }
    if text.starts_with(RESERVED) {
        let help = "take another folder";
        report.problem_with_help(
            node.at,
            format!("{what}: paths below {RESERVED} are the gateway's own"),
            help,
        );
        return None;
    }
    match PathPattern::new(&text) {
        Ok(pattern) => Some(pattern),
        Err(error) => {
            let help =
                "a path is a Python regex: write `\\.` and `\\+` for characters that mean something there";
            report.problem_with_help(node.at, format!("{what}: {error}"), help);
            None
        }
    }
}

fn read_imagestore(node: &Node, path: &str, report: &mut Report<'_>) -> BTreeMap<String, ContainerImage> {
    let mut all = BTreeMap::new();
    let Some(stores) = Fields::open(node, &format!("`{path}`"), &fields::IMAGESTORE, report) else {
        return all;
    };
    let Some(public) = stores.get("public") else { return all };
    let path = format!("{path}.public");
    let Some(fields) = Fields::open(public, &format!("`{path}`"), &fields::IMAGESTORE_PUBLIC, report) else {
        return all;
    };
    let Some(images) = fields.get("images") else { return all };
    let path = format!("{path}.images");
    let help = "write NAME: {name: registry/image:tag}";
    for (key, value) in check::named(images, &format!("`{path}`"), help, report) {
        if check::is_resource_name(key, "an image", report)
            && !value.is_null()
            && let Some(image) = read_image(value, &format!("{path}.{}", key.text), report)
        {
            all.insert(key.text.clone(), image);
        }
    }
    all
}

fn read_image(node: &Node, path: &str, report: &mut Report<'_>) -> Option<ContainerImage> {
    let fields = Fields::open(node, &format!("`{path}`"), &fields::IMAGE, report)?;
    if fields.lacks("name") {
        let help = "write where the image is: registry/image:tag";
        report.problem_with_help(fields.at, format!("`{path}` has no `name`"), help);
    }
    let name = fields.get("name").and_then(|n| read_image_name(n, &format!("`{path}.name`"), report));
    let tls_verify = match fields.get("tls_verify") {
        Some(node) => check::boolean(node, &format!("`{path}.tls_verify`"), report),
        None => Some(true),
    };
    let platform = match fields.get("platform") {
        Some(node) => read_platform(node, &format!("`{path}.platform`"), report),
        None => Some(DEFAULT_PLATFORM.to_owned()),
    };
    let pull = match fields.get("pull") {
        Some(node) => {
            let what = format!("`{path}.pull`");
            check::word(node, &what, PullPolicy::ALL, PullPolicy::from_word, report)
        }
        None => Some(PullPolicy::RelaxedAlways),
    };
    Some(ContainerImage { name: name?, tls_verify: tls_verify?, platform: platform?, pull: pull? })
}

fn read_image_name(node: &Node, what: &str, report: &mut Report<'_>) -> Option<String> {
    let text = check::text(node, what, report)?;
    let name = text.strip_prefix("docker://").unwrap_or(&text);
    let fine = |c: char| c.is_ascii_alphanumeric() || "._-/:@".contains(c);
    if name.is_empty() || name.starts_with('/') || name.contains("//") || !name.chars().all(fine) {
        let help =
            "write registry/image:tag or registry/image@sha256:..., with docker:// before it if you like";
        report.problem_with_help(
            node.at,
            format!("{what} is no name of an image: {}", node.describe()),
            help,
        );
        return None;
    }
    Some(text)
}

fn read_platform(node: &Node, what: &str, report: &mut Report<'_>) -> Option<String> {
    let text = check::text(node, what, report)?;
    let parts: Vec<&str> = text.split('/').collect();
    let fine = |part: &&str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    };
    if !(2..=3).contains(&parts.len()) || !parts.iter().all(fine) {
        let help = "write os/architecture, for example linux/arm64";
        report.problem_with_help(node.at, format!("{what} is no platform: {}", node.describe()), help);
        return None;
    }
    Some(text)
}

fn read_devices(node: &Node, path: &str, report: &mut Report<'_>) -> BTreeMap<String, BlockDevice> {
    let mut all = BTreeMap::new();
    let help = "write NAME: {size: 10G} or NAME: {url: ...}";
    for (key, value) in check::named(node, &format!("`{path}`"), help, report) {
        if check::is_resource_name(key, "a block device", report)
            && !value.is_null()
            && let Some(device) = read_device(value, &format!("{path}.{}", key.text), report)
        {
            all.insert(key.text.clone(), device);
        }
    }
    all
}

fn read_device(node: &Node, path: &str, report: &mut Report<'_>) -> Option<BlockDevice> {
    let fields = Fields::open(node, &format!("`{path}`"), &fields::NBD, report)?;
    let backing = match (fields.get("url"), fields.get("size")) {
        (Some(_), Some(size)) => {
            let help = "keep `url` for a device with that content, or `size` for an empty one";
            report.problem_with_help(size.at, format!("`{path}` has both `url` and `size`"), help);
            None
        }
        (Some(url), None) => {
            artifact::read_url(url, &format!("`{path}.url`"), Groups::None, report).map(Backing::Url)
        }
        (None, Some(size)) => read_size(size, &format!("`{path}.size`"), report).map(Backing::Size),
        (None, None) if !(fields.lacks("url") && fields.lacks("size")) => None,
        (None, None) => {
            let help = "give `url` for a device with that content, or `size` for an empty one";
            report.problem_with_help(fields.at, format!("`{path}` has neither `url` nor `size`"), help);
            None
        }
    };
    let readonly = match fields.get("readonly") {
        Some(node) => check::boolean(node, &format!("`{path}.readonly`"), report),
        None => Some(false),
    };
    let max_connections = match fields.get("max_connections") {
        Some(node) => {
            let number = check::integer(node, &format!("`{path}.max_connections`"), 1..=65_535, report)?;
            u32::try_from(number).ok()
        }
        None => None,
    };
    let (backing, readonly) = (backing?, readonly?);
    if readonly && matches!(backing, Backing::Size(_)) {
        report.warning(fields.at, format!("`{path}` is empty and read-only: nothing can be done with it"));
    }
    Some(BlockDevice { backing, readonly, max_connections })
}

/// `10G`, `512MiB`, `1000kB`, `42`: powers of 1024, but of 1000 with a plain `B`.
fn read_size(node: &Node, what: &str, report: &mut Report<'_>) -> Option<u64> {
    let text = check::text(node, what, report)?;
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = factor(unit);
    let size = number.parse::<u64>().ok().zip(factor).and_then(|(number, factor)| number.checked_mul(factor));
    if size.is_none_or(|size| size == 0) {
        let help = "write it as 512M, 10G or 1T (powers of 1024), or 10GB (powers of 1000)";
        report.problem_with_help(node.at, format!("{what} is no size: {}", node.describe()), help);
        return None;
    }
    size
}

fn factor(unit: &str) -> Option<u64> {
    let (letter, base) =
        match unit.strip_suffix("iB").or_else(|| unit.strip_suffix('B').filter(|u| u.is_empty())) {
            Some(letter) => (letter, 1024),
            None => match unit.strip_suffix('B') {
                Some(letter) => (letter, 1000),
                None => (unit, 1024_u64),
            },
        };
    let power = match letter {
        "" => 0,
        "k" | "K" => 1,
        "M" => 2,
        "G" => 3,
        "T" => 4,
        "P" => 5,
        _ => return None,
    };
    base.checked_pow(power)
}

#[cfg(test)]
mod tests {
    use super::factor;

    #[test]
    fn units_are_powers_of_1024_but_for_a_plain_b() {
        for (unit, expected) in [
            ("", Some(1)),
            ("B", Some(1)),
            ("iB", Some(1)),
            ("k", Some(1024)),
            ("kiB", Some(1024)),
            ("kB", Some(1000)),
            ("M", Some(1 << 20)),
            ("GB", Some(1_000_000_000)),
            ("G", Some(1 << 30)),
            ("T", Some(1 << 40)),
            ("P", Some(1 << 50)),
            (" k", None),
            ("kib", None),
            ("x", None),
        ] {
            assert_eq!(factor(unit), expected, "{unit:?}");
        }
    }
}
