//! Every setting in one table: its name, its default and what it means.

/// `(name, default, meaning)`.
const TABLE: &[(&str, &str, &str)] = &[
    (
        "FARM_NAME",
        "",
        "Name of this farm. Default: X on a host that is called X-gateway; otherwise it must be given.",
    ),
    (
        "PRIVATE_INTERFACE",
        "private",
        "Network interface that the test machines are behind. DHCP is served on it alone.",
    ),
    ("PRIVATE_ADDRESS", "10.42.0.1", "The gateway's address on the private interface."),
    ("PRIVATE_PREFIX", "24", "Prefix length of the private network."),
    ("EXECUTOR_HOST", "0.0.0.0", "Address that the REST API, the boot scripts and the consoles listen on."),
    ("EXECUTOR_PORT", "80", "TCP port of the REST API and the boot scripts."),
    (
        "TRUSTED_NETWORKS",
        "",
        "Networks (like 10.8.0.0/24, separated by commas) whose hosts may do everything over the API without a token. \
         Whoever gets into such a network is an administrator.",
    ),
    (
        "CONNECTIONS_PER_ADDRESS",
        "256",
        "Connections that one address may have to the API; the gateway's own host as many as there are, a machine 32.",
    ),
    (
        "EXECUTOR_URL",
        "http://ci-gateway",
        "URL of the gateway for people. Test machines are given its address instead.",
    ),
    (
        "EXECUTOR_REGISTRATION_JOB",
        "",
        "File of the job template that registers a machine. Default: built in.",
    ),
    ("EXECUTOR_BOOTLOOP_JOB", "", "File of the job template of training boots. Default: built in."),
    ("EXECUTOR_VPDU_ENDPOINT", "", "host:port of a virtual PDU; adds a PDU named VPDU."),
    ("EXECUTOR_ARTIFACT_CACHE_ROOT", "", "Folder of downloaded artifacts. Default: artifacts in TMP_MOUNT."),
    (
        "EXECUTOR_ARTIFACT_ATTEMPTS",
        "12",
        "How often the download of an artifact is tried before the job fails.",
    ),
    (
        "EXECUTOR_ARTIFACT_STALL",
        "30",
        "Seconds without a byte after which an attempt to download has failed.",
    ),
    ("EXECUTOR_ARTIFACT_CACHE_SIZE", "20", "The most that downloaded artifacts may take on the disk, GiB."),
    (
        "CONSOLE_UPGRADE",
        "true",
        "Whether a job's console runs on the submitting connection. false: the gateway calls the client back.",
    ),
    (
        "CONSOLE_PATTERN_DEFAULT_MACHINE_UNFIT_FOR_SERVICE_REGEX",
        "",
        "What a console prints when its machine is unfit for service; a job's own pattern goes before it.",
    ),
    ("SERGENT_HARTMAN_BOOT_COUNT", "20", "Boots in a training."),
    ("SERGENT_HARTMAN_QUALIFYING_BOOT_COUNT", "19", "Boots of a training that must pass."),
    (
        "SERGENT_HARTMAN_REGISTRATION_RETRIAL_DELAY",
        "120",
        "Seconds before a failed registration is tried again.",
    ),
    ("SERGENT_HARTMAN_QUICK_CHECK", "enabled", "Boot each machine in service once when the gateway starts."),
    (
        "MARS_DB_FILE",
        "/config/mars_db.yaml",
        "The farm file. Where /config does not exist: mars_db.yaml in PERMANENT_MOUNT.",
    ),
    ("BOOTS_TFTP_ROOT", "/usr/lib/ipxe", "Folder of the iPXE binaries that are served over TFTP."),
    ("BOOTS_DISABLE_SERVERS", "", "Servers not to start: dhcp, tftp (separated by commas)."),
    (
        "BOOTS_DEFAULT_KERNEL",
        "",
        "Kernel for machines that nothing else is meant for. It registers them. This and the next two may be given for a \
         boot loader, architecture and platform too: boots_default_ipxe_arm64_efi_kernel; the most specific wins.",
    ),
    ("BOOTS_DEFAULT_INITRD", "", "Initramfs that goes with it."),
    (
        "BOOTS_DEFAULT_CMDLINE",
        "console=ttyS0,115200 farmgate.action=register",
        "Kernel command line that goes with it.",
    ),
    ("SALAD_URL", "http://ci-gateway:8005", "URL of the console service for people."),
    (
        "SALAD_HOST",
        "127.0.0.1",
        "Address of the console service's REST API and raw ports. Machines must not reach it: they could read each other.",
    ),
    ("SALAD_PORT", "8005", "TCP port of the console service's REST API."),
    ("SALAD_TCPCONSOLE_PORT", "8100", "TCP port that consoles connect to."),
    (
        "SALAD_SOCKET",
        "",
        "Unix socket between gateway and console service. Default: salad.sock in TMP_MOUNT.",
    ),
    ("MINIO_URL", "http://ci-gateway:9000", "URL of the S3 server; the template variable minio_url."),
    ("TMP_MOUNT", "/mnt/tmp", "Folder of everything that can be fetched again."),
    (
        "PERMANENT_MOUNT",
        "/mnt/permanent",
        "Folder of everything that must survive. /mnt/persistent is used where only it exists.",
    ),
    (
        "FARMGATE_FORWARDED",
        "false",
        "Clients reach the gateway through a port forwarder, so it cannot call them back.",
    ),
];

/// Settings of the original whose purpose is still to come: they are read, and said to have no effect.
pub const LATER: &[&str] = &[
    "BOOTS_DB_USER_FILE",
    "GITLAB_ACCESS_TOKEN",
    "GITLAB_CONF_FILE",
    "GITLAB_REGISTRATION_TOKEN",
    "GITLAB_URL",
    "MINIO_ROOT_PASSWORD",
    "MINIO_ROOT_USER",
    "VALVE_INFRA_NO_PULL",
];

/// Boot loaders, architectures and platforms, as iPXE names them, for which [`boot_default`]s may differ.
const BOOTLOADERS: &[&str] = &["IPXE"];
const ARCHITECTURES: &[&str] = &["I386", "X86_64", "ARM32", "ARM64", "RISCV32", "RISCV64", "LOONG64"];
const PLATFORMS: &[&str] = &["PCBIOS", "EFI", "SBI", "LINUX"];

/// `IPXE`, `IPXE_X86_64`, `IPXE_X86_64_EFI` and so on.
pub fn boot_infixes() -> impl Iterator<Item = String> {
    BOOTLOADERS.iter().flat_map(|loader| {
        let architectures = ARCHITECTURES.iter().flat_map(move |architecture| {
            let platforms =
                PLATFORMS.iter().map(move |platform| format!("{loader}_{architecture}_{platform}"));
            std::iter::once(format!("{loader}_{architecture}")).chain(platforms)
        });
        std::iter::once((*loader).to_owned()).chain(architectures)
    })
}

/// `BOOTS_DEFAULT_KERNEL`, or with an infix `BOOTS_DEFAULT_IPXE_X86_64_EFI_KERNEL`.
pub fn boot_default(infix: &str, what: &str) -> String {
    if infix.is_empty() { format!("BOOTS_DEFAULT_{what}") } else { format!("BOOTS_DEFAULT_{infix}_{what}") }
}

/// All names of [`boot_default`]s with an infix.
pub fn special_boot_defaults() -> impl Iterator<Item = String> {
    boot_infixes().flat_map(|infix| ["KERNEL", "INITRD", "CMDLINE"].map(|what| boot_default(&infix, what)))
}

/// Whether a setting has that name.
pub fn is_known(name: &str) -> bool {
    names().any(|n| n == name) || LATER.contains(&name) || special_boot_defaults().any(|n| n == name)
}

/// All names.
pub fn names() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|(name, _, _)| *name)
}

/// The default of a setting; empty where it is decided at run time.
pub fn default_of(name: &str) -> &'static str {
    TABLE.iter().find(|(n, _, _)| *n == name).map_or("", |(_, default, _)| default)
}

/// All settings as a settings file in which everything is commented out.
pub fn documentation() -> String {
    let mut text = String::from(
        "# Settings of farmgate. Each is also an environment variable, in capitals, which wins over this file.\n\
         # EXECUTOR_JOB__X becomes the template variable x of all jobs.\n",
    );
    for (name, default, meaning) in TABLE {
        text.push_str(&format!("\n# {meaning}\n# {}: {}\n", name.to_lowercase(), quoted(default)));
    }
    text
}

fn quoted(default: &str) -> String {
    if default.is_empty() || default.contains(' ') { format!("{default:?}") } else { default.to_owned() }
}
