//! The schema of what the boots load.

use serde_json::{Value, json};

use super::{
    complex_list, count, flag, named, not_yet, object, one_or_several, plain_text, reference, requiring,
    shaped, text, word,
};

/// What tells an artifact from a mapping of categories.
const ARTIFACT: [&str; 4] = ["url", "data", "archive", "format"];
const STORED: [&str; 5] = ["path", "url", "data", "archive", "format"];

const OFFER: [&str; 2] = ["match", "options"];

const PACKED: [&str; 4] = ["cpio", "iso", "tar", "zip"];
const REPACKED: [&str; 5] = ["none", "cpio", "iso", "tar", "zip"];
const COMPRESSIONS: [&str; 8] = ["none", "gz", "gzip", "bz2", "bzip2", "xz", "zstd", "zst"];

const UBOOT_ARCHITECTURES: [&str; 15] = [
    "arm", "arm32", "arm64", "aarch64", "mips", "mips64", "ppc", "powerpc", "riscv", "riscv32", "riscv64",
    "x86", "i386", "x86_64", "amd64",
];
const UBOOT_COMPRESSIONS: [&str; 10] =
    ["none", "gzip", "gz", "bzip2", "bz2", "lzma", "lzo", "lz4", "zstd", "zst"];
const UBOOT_SYSTEMS: [&str; 12] = [
    "arm-trusted-firmware",
    "efi",
    "freebsd",
    "invalid",
    "linux",
    "netbsd",
    "openbsd",
    "opensbi",
    "tee",
    "u-boot",
    "uboot",
    "u_boot",
];
const UBOOT_TYPES: [&str; 9] = [
    "filesystem",
    "firmware",
    "flat_dt",
    "kernel",
    "kernel_noload",
    "multi",
    "ramdisk",
    "script",
    "standalone",
];
const PULL: [&str; 3] = ["always", "relaxed_always", "missing"];

/// Artifacts and what they are made of.
pub(super) fn definitions() -> [(&'static str, Value); 7] {
    [
        ("artifact", item(one_artifact())),
        ("artifact_or_nothing", one_artifact()),
        ("stored_artifact", item(stored_artifact())),
        ("format_step", item(format_step())),
        ("archive_member", item(archive_member())),
        ("dhcp_offer", item(dhcp_offer())),
        ("boot", boot()),
    ]
}

fn one_artifact() -> Value {
    artifact("A file; exactly one of url, data, archive.", [])
}

/// An element of a list: never nothing.
fn item(mut schema: Value) -> Value {
    schema["type"] = json!("object");
    schema
}

pub(super) fn deployment() -> Value {
    object(
        "What the machine boots.",
        [
            (
                "start",
                reference("boot", "What the first boot loads. Default: what the machine boots by default."),
            ),
            (
                "continue",
                reference(
                    "boot",
                    "What every later boot loads: a copy of start, updated field by field. Default: as start.",
                ),
            ),
        ],
    )
}

fn boot() -> Value {
    let artifacts = |text: &str| {
        complex_list(
            text,
            &json!({"$ref": "#/$defs/artifact"}),
            &ARTIFACT,
            &json!({"url": "https://example.org/file"}),
        )
    };
    let dhcp = complex_list(
        "Options that the DHCP server gives to this machine.",
        &json!({"$ref": "#/$defs/dhcp_offer"}),
        &OFFER,
        &json!({"match": {"architecture": "x86_64"}, "options": {"ntp_servers": ["10.42.0.1"]}}),
    );
    object(
        "What a boot loads.",
        [
            ("kernel", kernel()),
            (
                "initramfs",
                artifacts("Concatenated in order. Default: the initramfs of the machine's boot method."),
            ),
            ("dtb", not_yet(artifacts("Device trees, concatenated in order. Default: none."))),
            ("storage", storage()),
            ("fastboot", fastboot()),
            ("dhcp", not_yet(dhcp)),
        ],
    )
}

fn kernel() -> Value {
    let cmdline = complex_list(
        "The kernel command line; its parts are joined by a blank. Default: that of the machine's boot method.",
        &plain_text(),
        &[],
        &json!("console=ttyS0,115200"),
    );
    artifact(
        "The kernel and its command line. Without a source: the kernel of the machine's boot method.",
        [("cmdline", cmdline)],
    )
}

/// An artifact with further fields.
fn artifact<const N: usize>(description: &str, more: [(&str, Value); N]) -> Value {
    let url = url("Where it is fetched from, http or https.");
    let mut data = text("Its content: a template of its own, rendered when it is served.");
    data["examples"] = json!(["hello"]);
    let mut schema = object(
        description,
        [("url", url), ("data", data), ("archive", not_yet(archive_source())), ("format", not_yet(format()))],
    );
    for (name, field) in more {
        schema["properties"][name] = field;
    }
    schema
}

fn url(description: &str) -> Value {
    let mut url = text(description);
    url["examples"] = json!(["https://example.org/file"]);
    shaped(url, "^https?://", "write the whole address, with https:// or http://")
}

fn archive_source() -> Value {
    let archive = object(
        "An archive that the gateway packs from other artifacts.",
        [
            ("extension", word("Kind of the archive. Mandatory.", &PACKED)),
            ("compression", word("How the archive is compressed. Default: none.", &COMPRESSIONS)),
            ("add", members("What is in it.")),
        ],
    );
    let mut archive = requiring(archive, &["extension"]);
    archive["examples"] = json!([{"extension": "cpio", "add": member_example()}]);
    archive
}

fn members(description: &str) -> Value {
    one_or_several(description, &json!({"$ref": "#/$defs/archive_member"}), &member_example())
}

fn member_example() -> Value {
    json!({"path": "etc/motd", "artifact": {"data": "hello"}})
}

fn archive_member() -> Value {
    let mut path = text("Its name in the archive. Mandatory.");
    path["examples"] = json!(["etc/motd"]);
    let mode = json!({
        "description": "Its permissions in octal, as 0o755. Default: 0o644.",
        "type": ["integer", "string", "null"],
        "examples": [0o755],
    });
    let member = object(
        "A file that goes into an archive.",
        [
            ("path", path),
            ("artifact", reference("artifact", "Where its content comes from. Mandatory.")),
            ("mode", mode),
        ],
    );
    requiring(member, &["path", "artifact"])
}

fn format() -> Value {
    one_or_several(
        "What is done to the file before it is served, step by step.",
        &json!({"$ref": "#/$defs/format_step"}),
        &json!({"archive": {"extension": "cpio"}}),
    )
}

fn format_step() -> Value {
    let mut step = object("One step.", [("uboot", uboot()), ("archive", repacking())]);
    step["minProperties"] = json!(1);
    step["maxProperties"] = json!(1);
    step["examples"] = json!([{"archive": {"extension": "cpio"}}]);
    step
}

fn uboot() -> Value {
    object(
        "Wraps it as an image for U-Boot. What is absent is chosen by what the file is for.",
        [
            (
                "architecture",
                word(
                    "Architecture, as mkimage -A names it. Default: that of the machine.",
                    &UBOOT_ARCHITECTURES,
                ),
            ),
            (
                "compression",
                word(
                    "What U-Boot is told of the file's compression, as mkimage -C names it. Default: none.",
                    &UBOOT_COMPRESSIONS,
                ),
            ),
            ("os", word("Operating system, as mkimage -O names it. Default: linux.", &UBOOT_SYSTEMS)),
            (
                "type",
                word(
                    "Kind of image, as mkimage -T names it. Default: by what the file is for.",
                    &UBOOT_TYPES,
                ),
            ),
        ],
    )
}

fn repacking() -> Value {
    let regex = |text_: &str| {
        let mut regex = text(text_);
        regex["examples"] = json!(["lib/modules/.*"]);
        regex
    };
    let keep = object(
        "Members that are kept.",
        [
            ("path", regex("A regex for the whole name. Mandatory.")),
            (
                "rewrite",
                text("The new name; \\1 stands for the first group of path. Default: it keeps its own."),
            ),
        ],
    );
    object(
        "Unpacks it, filters it and packs it again. Compressed with gz, bz2, xz or zstd it is recognised.",
        [
            ("extension", word("Kind of the new archive. Default: none, a single file.", &REPACKED)),
            ("compression", word("How the result is compressed. Default: none.", &COMPRESSIONS)),
            (
                "keep",
                one_or_several(
                    "Which members are kept. Default: all.",
                    &item(requiring(keep, &["path"])),
                    &json!({"path": "lib/modules/.*"}),
                ),
            ),
            ("add", members("Files that are added after that.")),
            ("match", regex("A regex for the whole name of the one file that is the result.")),
        ],
    )
}

fn storage() -> Value {
    let files = |text: &str| {
        not_yet(complex_list(
            text,
            &json!({"$ref": "#/$defs/stored_artifact"}),
            &STORED,
            &json!({"path": "/config", "data": "hello"}),
        ))
    };
    object(
        "What else the machine can use.",
        [
            ("http", files("Files that it can fetch over HTTP.")),
            ("tftp", files("Files that it can fetch over TFTP.")),
            ("imagestore", not_yet(imagestore())),
            ("nbd", not_yet(nbd())),
        ],
    )
}

fn stored_artifact() -> Value {
    let mut path = text(
        "A regex for the whole path that is asked for, or the path itself; \\1 in the url stands for its first group. Mandatory.",
    );
    path["examples"] = json!(["/config"]);
    let path = shaped(path, "^/", "begin it with /; the whole path is matched");
    let mut stored = artifact("A file that the machine can fetch; exactly one of url, data, archive.", []);
    stored["properties"]["path"] = path;
    stored["examples"] = json!([{"path": "/config", "data": "hello"}]);
    requiring(stored, &["path"])
}

fn imagestore() -> Value {
    let mut name = text("As a registry client takes it: registry/image:tag. Mandatory.");
    name["examples"] = json!(["registry.example.org/group/image:tag"]);
    let mut platform = text("os/architecture. Default: linux/amd64.");
    platform["examples"] = json!(["linux/arm64"]);
    let image = object(
        "A container image that the gateway unpacks for the machine.",
        [
            ("name", name),
            ("tls_verify", flag("Whether the registry must show a valid certificate.", true)),
            ("platform", platform),
            (
                "pull",
                word(
                    "When it is pulled although the gateway has it: always, when the last pull is more than five minutes old (relaxed_always, the default), or never (missing).",
                    &PULL,
                ),
            ),
        ],
    );
    let images = by_name("Container images by a name of your own.", &requiring(image, &["name"]));
    let public = object("The store that all jobs share.", [("images", images)]);
    let mut store = object("Container images as network file systems.", [("public", public)]);
    store["examples"] = json!([{"public": {"images": {"name": {"name": "registry.example.org/image:tag"}}}}]);
    store
}

/// Names that also appear in templates.
fn by_name(description: &str, item: &Value) -> Value {
    let mut all = named(description, item);
    all["propertyNames"] = json!({"pattern": "^[A-Za-z0-9_]{1,64}$"});
    all
}

fn nbd() -> Value {
    let mut size = text("Size of an empty one: 512M, 10G (powers of 1024), 10GB (powers of 1000).");
    size["examples"] = json!(["10G"]);
    let mut connections = count("How many connections it takes at once, at least 1.");
    connections["minimum"] = json!(1);
    connections["maximum"] = json!(65_535);
    let url = url("Where its content is fetched from, http or https.");
    let disk = object(
        "A disk; exactly one of url and size.",
        [
            ("url", url),
            ("size", size),
            ("readonly", flag("Whether the machine cannot write to it.", false)),
            ("max_connections", connections),
        ],
    );
    let mut all = by_name("Disks over the network (NBD), by a name of your own.", &disk);
    all["examples"] = json!([{"name": {"size": "10G"}}]);
    all
}

fn fastboot() -> Value {
    let address =
        |text: &str| json!({"description": text, "type": ["integer", "string", "null"], "minimum": 0});
    let mut fastboot = object(
        "How the boot image is made for a machine that boots over fastboot, with the names of mkbootimg. What is absent is the default of the machine's boot method.",
        [
            ("header_version", address("Version of the header.")),
            ("base", address("Address that the offsets count from.")),
            ("kernel_offset", address("Where the kernel is loaded, from base.")),
            ("ramdisk_offset", address("Where the initramfs is loaded, from base.")),
            ("dtb_offset", address("Where the device tree is loaded, from base.")),
            ("tags_offset", address("Where the kernel's tags are put, from base.")),
            ("pagesize", address("Bytes of a page of the image, a power of two from 2048 to 16384.")),
            ("board", text("Name of the board.")),
            ("os_version", text("Version of the operating system, A.B.C.")),
            ("os_patch_level", text("Its patch level, year and month: 2026-11.")),
            (
                "boot_image",
                reference(
                    "artifact_or_nothing",
                    "A ready image: kernel, initramfs and device tree are not used.",
                ),
            ),
        ],
    );
    fastboot["properties"]["header_version"]["examples"] = json!([2]);
    fastboot["properties"]["pagesize"]["examples"] = json!([4096]);
    fastboot["properties"]["os_version"]["examples"] = json!(["14.0.0"]);
    fastboot["properties"]["os_patch_level"]["examples"] = json!(["2026-01"]);
    fastboot["examples"] = json!([{"header_version": 2}]);
    not_yet(fastboot)
}

fn dhcp_offer() -> Value {
    let field = |description: &str, example: &str| {
        let description = format!("{description} A text, or a regex for the whole of it.");
        one_or_several(&description, &plain_text(), &json!(example))
    };
    let matches = object(
        "Which requests it is for: each field that is given fits. Default: all of the machine.",
        [
            ("architecture", field("arm32, arm64, riscv32, riscv64, x86 or x86_64.", "x86_64")),
            ("firmware", field("bios, ipxe, raspberrypi, uboot or uefi.", "uefi")),
            ("mac_address", field("Address of the network card.", "52:54:00:11:22:01")),
            ("protocol", field("How the boot file is fetched: http or tftp.", "tftp")),
            ("vendor_class", field("Option 60.", "PXEClient")),
            ("user_class", field("Option 77.", "iPXE")),
            ("uuid", field("Option 97, with dashes.", "00000000-0000-0000-0000-000000000001")),
        ],
    );
    let value = json!({
        "type": ["string", "number", "boolean", "array", "null"],
        "items": {"type": ["string", "number", "boolean"], "examples": ["10.42.0.1"]},
        "examples": [["10.42.0.1"]],
    });
    let mut options =
        named("Options by name (those of RFC 2132, as ntp_servers) or by number (\"42\").", &value);
    options["examples"] = json!([{"ntp_servers": ["10.42.0.1"]}]);
    let mut offer =
        object("Options for the requests that match.", [("match", matches), ("options", options)]);
    offer["examples"] = json!([{"options": {"ntp_servers": ["10.42.0.1"]}}]);
    offer
}
