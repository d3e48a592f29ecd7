//! The names of all fields of a job, in one place: what is not here is an unknown field.

pub(crate) const TOP: [&str; 7] =
    ["version", "deadline", "target", "timeouts", "console_patterns", "deployment", "proxy"];
pub(crate) const TARGET: [&str; 2] = ["id", "tags"];
pub(crate) const PATTERNS: [&str; 6] =
    ["session_end", "session_reboot", "job_success", "job_warn", "machine_unfit_for_service", "watchdogs"];
pub(crate) const PROXY: [&str; 1] = ["allowed_endpoints"];

pub(crate) const DEPLOYMENT: [&str; 2] = ["start", "continue"];
pub(crate) const BOOT: [&str; 6] = ["kernel", "initramfs", "dtb", "storage", "fastboot", "dhcp"];
pub(crate) const KERNEL: [&str; 5] = ["url", "data", "archive", "format", "cmdline"];

/// The fields of an artifact; a mapping that has one of them is no mapping of categories.
pub(crate) const ARTIFACT: [&str; 4] = ["url", "data", "archive", "format"];
pub(crate) const ARCHIVE: [&str; 3] = ["extension", "compression", "add"];
pub(crate) const ARCHIVE_ADD: [&str; 3] = ["path", "artifact", "mode"];
pub(crate) const FORMAT: [&str; 2] = ["archive", "uboot"];
pub(crate) const FORMAT_ARCHIVE: [&str; 5] = ["extension", "compression", "keep", "add", "match"];
pub(crate) const FORMAT_UBOOT: [&str; 4] = ["architecture", "compression", "os", "type"];
pub(crate) const KEEP: [&str; 2] = ["path", "rewrite"];

pub(crate) const STORAGE: [&str; 4] = ["http", "tftp", "imagestore", "nbd"];
pub(crate) const STORAGE_FILE: [&str; 5] = ["path", "url", "data", "archive", "format"];
pub(crate) const IMAGESTORE: [&str; 1] = ["public"];
pub(crate) const IMAGESTORE_PUBLIC: [&str; 1] = ["images"];
pub(crate) const IMAGE: [&str; 4] = ["name", "tls_verify", "platform", "pull"];
pub(crate) const NBD: [&str; 4] = ["url", "size", "readonly", "max_connections"];

pub(crate) const FASTBOOT: [&str; 11] = [
    "header_version",
    "base",
    "kernel_offset",
    "ramdisk_offset",
    "dtb_offset",
    "tags_offset",
    "pagesize",
    "board",
    "os_version",
    "os_patch_level",
    "boot_image",
];

pub(crate) const DHCP: [&str; 2] = ["match", "options"];
pub(crate) const DHCP_MATCH: [&str; 7] =
    ["architecture", "firmware", "mac_address", "protocol", "vendor_class", "user_class", "uuid"];

pub(crate) const BOOT_METHODS: [&str; 3] = ["version", "dhcp", "fastboot"];
pub(crate) const BOOT_METHOD: [&str; 2] = ["match", "defaults"];
/// What a boot method's `match` has beside [`DHCP_MATCH`].
pub(crate) const SCRIPT_MATCH: [&str; 3] = ["bootloader", "buildarch", "platform"];
pub(crate) const FASTBOOT_MATCH: [&str; 2] = ["usb", "variables"];
pub(crate) const USB_MATCH: [&str; 5] =
    ["idVendor", "idProduct", "iManufacturer", "iProduct", "iSerialNumber"];

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a page has the name as code: alone, in a path, or among others.
    fn names(page: &str, name: &str) -> bool {
        let codes = page.split('`').skip(1).step_by(2);
        codes.flat_map(|code| code.split(|c: char| !c.is_alphanumeric() && c != '_')).any(|word| word == name)
    }

    #[test]
    fn the_manual_has_every_field() {
        let job = include_str!("../../../../docs/job-format.md");
        let methods = include_str!("../../../../docs/boot-methods.md");
        let tables: [&[&str]; 22] = [
            &TOP,
            &TARGET,
            &PATTERNS,
            &PROXY,
            &DEPLOYMENT,
            &BOOT,
            &KERNEL,
            &ARTIFACT,
            &ARCHIVE,
            &ARCHIVE_ADD,
            &FORMAT,
            &FORMAT_ARCHIVE,
            &FORMAT_UBOOT,
            &KEEP,
            &STORAGE,
            &STORAGE_FILE,
            &IMAGESTORE,
            &IMAGESTORE_PUBLIC,
            &IMAGE,
            &NBD,
            &FASTBOOT,
            &DHCP,
        ];
        for name in tables.into_iter().flatten().chain(&DHCP_MATCH) {
            assert!(names(job, name), "docs/job-format.md does not speak of `{name}`");
        }
        let tables: [&[&str]; 5] = [&BOOT_METHODS, &BOOT_METHOD, &SCRIPT_MATCH, &FASTBOOT_MATCH, &USB_MATCH];
        for name in tables.into_iter().flatten() {
            assert!(names(methods, name), "docs/boot-methods.md does not speak of `{name}`");
        }
    }
}
