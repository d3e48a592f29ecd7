//! The names of all fields of a job, in one place: what is not here is an unknown field.

pub(crate) const TOP: [&str; 7] =
    ["version", "deadline", "target", "timeouts", "console_patterns", "deployment", "proxy"];
pub(crate) const PATTERNS: [&str; 6] =
    ["session_end", "session_reboot", "job_success", "job_warn", "machine_unfit_for_service", "watchdogs"];
pub(crate) const BOOT: [&str; 6] = ["kernel", "initramfs", "dtb", "storage", "fastboot", "dhcp"];
/// The fields of an artifact; a mapping that has one of them is no mapping of categories.
pub(crate) const ARTIFACT: [&str; 4] = ["url", "data", "archive", "format"];
pub(crate) const KERNEL: [&str; 5] = ["url", "data", "archive", "format", "cmdline"];
