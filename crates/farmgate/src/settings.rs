//! The settings: each has one name, written in capitals in the environment and in small letters in the settings
//! file, a default and a meaning. The environment wins over the file.

mod table;

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use farmgate_executor::{BootDefault, BuiltinJob, Defaults, ExecutorConfig};
use farmgate_job::Pattern;
use farmgate_protocol::spelling;
use serde_json::{Map, Value};

pub use table::documentation;

/// What is wrong with a setting.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("cannot read the settings file {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no YAML mapping of names to values.
    #[error("{path}: {text}")]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong, with the place.
        text: String,
    },
    /// A value is wrong.
    #[error("{name} = {value:?} ({origin}): {text}")]
    Value {
        /// Its name.
        name: String,
        /// What was given.
        value: String,
        /// Where it was given.
        origin: String,
        /// What is wrong, and what to write.
        text: String,
    },
    /// A setting that has no default.
    #[error(
        "FARM_NAME is not set: give your farm a name (letters, digits, dashes), in the environment or the settings file"
    )]
    NoFarmName,
}

/// All settings, checked.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `PRIVATE_INTERFACE`.
    pub private_interface: String,
    /// `PRIVATE_ADDRESS`, `PRIVATE_PREFIX`.
    pub private_address: Ipv4Addr,
    /// Length of the network's prefix.
    pub private_prefix: u8,
    /// `EXECUTOR_HOST`, `EXECUTOR_PORT`.
    pub executor: SocketAddr,
    /// `TRUSTED_NETWORKS`: who may use the API besides the gateway's own host.
    pub trusted: Vec<(IpAddr, u8)>,
    /// `CONNECTIONS_PER_ADDRESS`: to the API, of one address.
    pub connections_per_address: usize,
    /// `EXECUTOR_URL`, for people.
    pub public_url: String,
    /// `EXECUTOR_URL` as DUTs see it: the gateway's address, not its name.
    pub boot_url: String,
    /// `SALAD_HOST`, `SALAD_PORT`.
    pub salad_rest: SocketAddr,
    /// Machines connect here: `EXECUTOR_HOST`, `SALAD_TCPCONSOLE_PORT`.
    pub salad_console: SocketAddr,
    /// Unix socket of the console service.
    pub salad_socket: PathBuf,
    /// Records of all consoles.
    pub consoles: PathBuf,
    /// `PERMANENT_MOUNT`.
    pub permanent: PathBuf,
    /// `TMP_MOUNT`.
    pub temporary: PathBuf,
    /// `MARS_DB_FILE`.
    pub farm_file: PathBuf,
    /// `BOOTS_TFTP_ROOT`.
    pub tftp_root: PathBuf,
    /// Not in `BOOTS_DISABLE_SERVERS`.
    pub dhcp: bool,
    /// Not in `BOOTS_DISABLE_SERVERS`.
    pub tftp: bool,
    /// Clients come through a forwarder: the executor cannot call back.
    pub forwarded: bool,
    /// `CONSOLE_UPGRADE`.
    pub console_upgrade: bool,
    /// Of the executor.
    pub executor_config: ExecutorConfig,
    /// Worth a word to the operator.
    pub warnings: Vec<String>,
}

const SALAD_HOST_IS: &str = "write the address to listen on, like 127.0.0.1";

/// Given values, with where each was given.
struct Given {
    values: BTreeMap<String, (String, String)>,
}

impl Given {
    fn text(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(|(value, _)| value.as_str()).filter(|value| !value.is_empty())
    }

    fn or_default(&self, name: &str) -> String {
        self.text(name).map_or_else(|| table::default_of(name).to_owned(), str::to_owned)
    }

    fn parse<T: std::str::FromStr>(&self, name: &str, expected: &str) -> Result<T, SettingsError> {
        let value = self.or_default(name);
        value.parse().map_err(|_| self.wrong(name, expected))
    }

    fn flag(&self, name: &str) -> Result<bool, SettingsError> {
        match self.or_default(name).to_ascii_lowercase().as_str() {
            "true" | "enabled" | "1" | "yes" | "on" => Ok(true),
            "false" | "disabled" | "0" | "no" | "off" => Ok(false),
            _ => Err(self.wrong(name, "write true or false (enabled, disabled, 1 and 0 are read too)")),
        }
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        self.text(name).map(PathBuf::from)
    }

    fn wrong(&self, name: &str, text: &str) -> SettingsError {
        let (value, origin) = self
            .values
            .get(name)
            .cloned()
            .unwrap_or_else(|| (table::default_of(name).to_owned(), "default".to_owned()));
        SettingsError::Value { name: name.to_owned(), value, origin, text: text.to_owned() }
    }
}

impl Settings {
    /// Reads the file, if there is one, and the environment.
    ///
    /// # Errors
    /// The first setting that is wrong, with where it was given and what to write.
    pub fn load(
        file: Option<&Path>,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, SettingsError> {
        let mut warnings = Vec::new();
        let mut given = Given { values: file.map_or_else(|| Ok(BTreeMap::new()), read_file)? };
        for name in table::names().map(str::to_owned).chain(table::special_boot_defaults()) {
            if let Some(value) = environment(&name) {
                given.values.insert(name, (value, "environment".to_owned()));
            }
        }
        for name in table::LATER {
            if environment(name).is_some() || given.text(name).is_some() {
                warnings.push(format!("{name} is set, but what it is for is not supported yet"));
            }
        }
        // A variable that is not UTF-8 is none of ours.
        let all =
            std::env::vars_os().filter_map(|(n, v)| Some((n.into_string().ok()?, v.into_string().ok()?)));
        let mut job_variables = job_variables(&given, all);
        job_variables.insert("minio_url".to_owned(), Value::from(given.or_default("MINIO_URL")));
        let permanent = permanent_mount(&given, &mut warnings);
        let temporary = PathBuf::from(given.or_default("TMP_MOUNT"));
        let private_address: Ipv4Addr =
            given.parse("PRIVATE_ADDRESS", "write an IPv4 address, like 10.42.0.1")?;
        let any: IpAddr = given.parse("EXECUTOR_HOST", "write the address to listen on, like 0.0.0.0")?;
        let port = |name: &str| given.parse::<u16>(name, "write a TCP port, 1 to 65535");
        let executor = SocketAddr::new(any, port("EXECUTOR_PORT")?);
        let boot_url = match executor.port() {
            80 => format!("http://{private_address}"),
            other => format!("http://{private_address}:{other}"),
        };
        let disabled = given.or_default("BOOTS_DISABLE_SERVERS");
        let is_off = |server: &str| disabled.split([',', ' ']).any(|name| name.eq_ignore_ascii_case(server));
        Ok(Self {
            private_interface: given.or_default("PRIVATE_INTERFACE"),
            private_address,
            private_prefix: private_prefix(&given)?,
            executor,
            trusted: trusted_networks(&given)?,
            connections_per_address: connections_per_address(&given)?,
            public_url: given.or_default("EXECUTOR_URL"),
            boot_url,
            salad_rest: SocketAddr::new(given.parse("SALAD_HOST", SALAD_HOST_IS)?, port("SALAD_PORT")?),
            salad_console: SocketAddr::new(any, port("SALAD_TCPCONSOLE_PORT")?),
            salad_socket: given.path("SALAD_SOCKET").unwrap_or_else(|| temporary.join("salad.sock")),
            consoles: permanent.join("consoles"),
            farm_file: given.path("MARS_DB_FILE").unwrap_or_else(|| default_farm_file(&permanent)),
            tftp_root: PathBuf::from(given.or_default("BOOTS_TFTP_ROOT")),
            dhcp: !is_off("dhcp"),
            tftp: !is_off("tftp"),
            forwarded: given.flag("FARMGATE_FORWARDED")?,
            console_upgrade: given.flag("CONSOLE_UPGRADE")?,
            executor_config: executor_config(&given, &temporary, job_variables)?,
            permanent,
            temporary,
            warnings,
        })
    }
}

impl Settings {
    /// Look at everything, do nothing.
    pub fn observe(&mut self) {
        self.executor_config.observe = true;
        (self.dhcp, self.tftp) = (false, false);
    }

    /// Names by which people call this host; its addresses are no names.
    pub fn host_names(&self) -> Vec<String> {
        let host = rustix::system::uname();
        let host = host.nodename().to_string_lossy().into_owned();
        vec!["localhost".to_owned(), "ci-gateway".to_owned(), host_of(&self.public_url), host]
    }

    /// Addresses for strangers: the upper half of the private network, without its last address, so that a person
    /// has the lower half for fixed ones.
    pub fn pool(&self) -> std::ops::RangeInclusive<Ipv4Addr> {
        let size = 1_u32 << (32 - u32::from(self.private_prefix));
        let network = u32::from(self.private_address) & !(size - 1);
        Ipv4Addr::from(network + size / 2)..=Ipv4Addr::from(network + size - 2)
    }
}

fn executor_config(
    given: &Given,
    temporary: &Path,
    job_variables: Map<String, Value>,
) -> Result<ExecutorConfig, SettingsError> {
    let boot_count: u32 = given.parse("SERGENT_HARTMAN_BOOT_COUNT", "write the number of boots")?;
    let qualifying: u32 =
        given.parse("SERGENT_HARTMAN_QUALIFYING_BOOT_COUNT", "write the number of boots")?;
    if qualifying > boot_count {
        let text =
            format!("more boots must pass than there are (SERGENT_HARTMAN_BOOT_COUNT is {boot_count})");
        return Err(given.wrong("SERGENT_HARTMAN_QUALIFYING_BOOT_COUNT", &text));
    }
    let delay: f64 = given.parse("SERGENT_HARTMAN_REGISTRATION_RETRIAL_DELAY", "write seconds")?;
    Ok(ExecutorConfig {
        farm_name: farm_name(given)?,
        registration_job: template(
            given,
            "EXECUTOR_REGISTRATION_JOB",
            "register.yml",
            include_str!("../../../jobs/register.yml"),
        )?,
        bootloop_job: template(
            given,
            "EXECUTOR_BOOTLOOP_JOB",
            "bootloop.yml",
            include_str!("../../../jobs/bootloop.yml"),
        )?,
        boot_count,
        qualifying_boot_count: qualifying,
        registration_retrial_delay: Duration::try_from_secs_f64(delay).map_err(|_| {
            given.wrong("SERGENT_HARTMAN_REGISTRATION_RETRIAL_DELAY", "write seconds, 0 or more")
        })?,
        quick_check: given.flag("SERGENT_HARTMAN_QUICK_CHECK")?,
        boot_defaults: boot_defaults(given),
        artifact_cache: given
            .path("EXECUTOR_ARTIFACT_CACHE_ROOT")
            .unwrap_or_else(|| temporary.join("artifacts")),
        artifact_cache_size: given
            .parse::<u64>("EXECUTOR_ARTIFACT_CACHE_SIZE", "write a number of GiB, like 20")?
            .saturating_mul(1 << 30),
        artifact_attempts: given.parse("EXECUTOR_ARTIFACT_ATTEMPTS", "write a number of attempts")?,
        artifact_stall: given.parse::<f64>("EXECUTOR_ARTIFACT_STALL", "write seconds").and_then(|s| {
            Duration::try_from_secs_f64(s)
                .map_err(|_| given.wrong("EXECUTOR_ARTIFACT_STALL", "write seconds, 0 or more"))
        })?,
        unfit_pattern: unfit_pattern(given)?,
        job_variables,
        observe: false,
        vpdu_endpoint: given.text("EXECUTOR_VPDU_ENDPOINT").map(str::to_owned),
        console_host: console_host(given)?,
    })
}

fn unfit_pattern(given: &Given) -> Result<Option<Pattern>, SettingsError> {
    let name = "CONSOLE_PATTERN_DEFAULT_MACHINE_UNFIT_FOR_SERVICE_REGEX";
    let compile = |text| Pattern::new(text).map_err(|e| given.wrong(name, &e.to_string()));
    given.text(name).map(compile).transpose()
}

fn private_prefix(given: &Given) -> Result<u8, SettingsError> {
    let expected = "write a prefix length from 8 to 29";
    let length: u8 = given.parse("PRIVATE_PREFIX", expected)?;
    if (8..=29).contains(&length) { Ok(length) } else { Err(given.wrong("PRIVATE_PREFIX", expected)) }
}

fn connections_per_address(given: &Given) -> Result<usize, SettingsError> {
    let expected = "write a number of connections, 8 or more";
    let number = given.parse("CONNECTIONS_PER_ADDRESS", expected)?;
    if number < 8 { Err(given.wrong("CONNECTIONS_PER_ADDRESS", expected)) } else { Ok(number) }
}

fn trusted_networks(given: &Given) -> Result<Vec<(IpAddr, u8)>, SettingsError> {
    let wrong = || given.wrong("TRUSTED_NETWORKS", "write networks like 10.8.0.0/24, separated by commas");
    let mut networks = Vec::new();
    for text in given.or_default("TRUSTED_NETWORKS").split([',', ' ']).filter(|t| !t.is_empty()) {
        let (address, length) = text.split_once('/').ok_or_else(wrong)?;
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let length: u8 = length.parse().map_err(|_| wrong())?;
        if length > if address.is_ipv4() { 32 } else { 128 } {
            return Err(wrong());
        }
        networks.push((address, length));
    }
    Ok(networks)
}

/// Where the raw logs are reached: they listen on SALAD_HOST, and if that is any address, SALAD_URL names the host.
fn boot_defaults(given: &Given) -> Defaults {
    let set = |infix: &str| {
        let name = |what: &str| table::boot_default(infix, what);
        BootDefault {
            kernel: given.path(&name("KERNEL")),
            initrd: given.path(&name("INITRD")),
            cmdline: given.text(&name("CMDLINE")).map(str::to_owned),
        }
    };
    let mut general = set("");
    general.cmdline.get_or_insert_with(|| table::default_of("BOOTS_DEFAULT_CMDLINE").to_owned());
    let special = table::boot_infixes()
        .map(|infix| (infix.clone(), set(&infix)))
        .filter(|(_, set)| *set != BootDefault::default());
    Defaults { general, special: special.collect() }
}

fn console_host(given: &Given) -> Result<String, SettingsError> {
    let bound: IpAddr = given.parse("SALAD_HOST", SALAD_HOST_IS)?;
    Ok(if bound.is_unspecified() { host_of(&given.or_default("SALAD_URL")) } else { bound.to_string() })
}

fn host_of(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', ':']).next().unwrap_or(rest).to_owned()
}

fn template(given: &Given, setting: &str, name: &str, builtin: &str) -> Result<BuiltinJob, SettingsError> {
    match given.path(setting) {
        None => Ok(BuiltinJob { name: format!("{name} (built in)"), text: builtin.to_owned() }),
        Some(path) => match std::fs::read_to_string(&path) {
            Ok(text) => Ok(BuiltinJob { name: path.display().to_string(), text }),
            Err(error) => Err(given.wrong(setting, &format!("the job template cannot be read: {error}"))),
        },
    }
}

/// FARM_NAME, or X of a host that is called X-gateway.
fn farm_name(given: &Given) -> Result<String, SettingsError> {
    let name = match given.text("FARM_NAME") {
        Some(name) => name.to_owned(),
        None => {
            let host = rustix::system::uname();
            let host = host.nodename().to_string_lossy().into_owned();
            host.strip_suffix("-gateway")
                .filter(|x| !x.is_empty())
                .ok_or(SettingsError::NoFarmName)?
                .to_owned()
        }
    };
    if name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) {
        Ok(name)
    } else {
        Err(given
            .wrong("FARM_NAME", "write letters, digits and dashes: it becomes part of host names and tags"))
    }
}

/// One of the two original documents says /mnt/persistent: it is read if only it exists.
fn permanent_mount(given: &Given, warnings: &mut Vec<String>) -> PathBuf {
    if let Some(path) = given.path("PERMANENT_MOUNT") {
        return path;
    }
    let usual = PathBuf::from(table::default_of("PERMANENT_MOUNT"));
    let other = PathBuf::from("/mnt/persistent");
    match (usual.is_dir(), other.is_dir()) {
        (false, true) => other,
        (true, true) => {
            warnings.push(format!(
                "both {} and {} exist: the first is used",
                usual.display(),
                other.display()
            ));
            usual
        }
        _ => usual,
    }
}

fn default_farm_file(permanent: &Path) -> PathBuf {
    let usual = PathBuf::from(table::default_of("MARS_DB_FILE"));
    // The container's /config volume, or, on a gateway without one, beside everything else that must survive.
    if usual.parent().is_some_and(Path::is_dir) { usual } else { permanent.join("mars_db.yaml") }
}

/// `EXECUTOR_JOB__X=...` becomes the template variable `x`.
fn job_variables(given: &Given, environment: impl Iterator<Item = (String, String)>) -> Map<String, Value> {
    let from_file = given.values.iter().map(|(name, (value, _))| (name.clone(), value.clone()));
    let mut variables = Map::new();
    for (name, value) in from_file.chain(environment) {
        if let Some(variable) = name.strip_prefix("EXECUTOR_JOB__") {
            variables.insert(variable.to_ascii_lowercase(), Value::from(value));
        }
    }
    variables
}

fn read_file(path: &Path) -> Result<BTreeMap<String, (String, String)>, SettingsError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| SettingsError::Read { path: path.to_owned(), source })?;
    let wrong = |text: String| SettingsError::File { path: path.to_owned(), text };
    if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
        return Ok(BTreeMap::new());
    }
    let read: BTreeMap<String, Value> = serde_saphyr::from_str(&text).map_err(|e| wrong(e.to_string()))?;
    let mut values = BTreeMap::new();
    for (name, value) in read {
        let upper = name.to_ascii_uppercase();
        if !upper.starts_with("EXECUTOR_JOB__") && !table::is_known(&upper) {
            let near = spelling::nearest(&upper, table::names());
            let hint =
                near.first().map_or_else(String::new, |n| format!(" (did you mean {}?)", n.to_lowercase()));
            return Err(wrong(format!(
                "unknown setting {name:?}{hint}; `farmgate settings` prints all of them"
            )));
        }
        let value = match value {
            Value::String(text) => text,
            Value::Null => continue,
            Value::Bool(_) | Value::Number(_) => value.to_string(),
            _ => return Err(wrong(format!("{name}: write one value, not a list or a mapping"))),
        };
        values.insert(upper, (value, path.display().to_string()));
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str, environment: &[(&str, &str)]) -> Result<Settings, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("settings.yaml");
        std::fs::write(&path, text).unwrap();
        let environment: BTreeMap<String, String> =
            environment.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        Settings::load(Some(&path), &|name| environment.get(name).cloned()).map_err(|e| e.to_string())
    }

    #[test]
    fn the_environment_wins_over_the_file_and_the_file_over_the_default() {
        let s = load("farm_name: mine\nexecutor_port: 8080\n", &[("EXECUTOR_PORT", "81")]).unwrap();
        assert_eq!(s.executor.port(), 81);
        assert_eq!(s.boot_url, "http://10.42.0.1:81");
        assert_eq!(s.executor_config.farm_name, "mine");
        assert_eq!(s.salad_console.port(), 8100);
        assert_eq!(s.executor_config.boot_count, 20);
    }

    #[test]
    fn wrong_settings_say_what_where_and_what_to_write() {
        type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a [&'a str]);
        let cases: &[Case<'_>] = &[
            ("farm_name: a\nexecutor_prt: 8\n", &[], &["executor_prt", "did you mean executor_port"]),
            (
                "farm_name: a\n",
                &[("EXECUTOR_PORT", "http")],
                &["EXECUTOR_PORT", "http", "environment", "TCP port"],
            ),
            (
                "farm_name: a\nsergent_hartman_quick_check: maybe\n",
                &[],
                &["maybe", "settings.yaml", "true or false"],
            ),
            ("farm_name: a\nsergent_hartman_boot_count: 2\n", &[], &["QUALIFYING", "more boots"]),
            ("farm_name: 'a b'\n", &[], &["FARM_NAME", "letters"]),
            ("farm_name: [a]\n", &[], &["farm_name", "one value"]),
        ];
        for (file, environment, words) in cases {
            let error = load(file, environment).unwrap_err();
            for word in *words {
                assert!(error.contains(word), "{error} lacks {word}");
            }
        }
    }

    #[test]
    fn the_printed_settings_are_a_settings_file() {
        let text = documentation();
        assert!(load(&format!("{text}\nfarm_name: a\n"), &[]).is_ok());
        for name in table::names() {
            assert!(text.contains(&name.to_lowercase()), "{name}");
        }
    }

    #[test]
    fn what_machines_boot_may_differ_by_boot_loader_architecture_and_platform() {
        let file = "farm_name: a\nboots_default_kernel: /k\nboots_default_ipxe_arm64_efi_kernel: /arm\n";
        let s = load(file, &[("BOOTS_DEFAULT_IPXE_CMDLINE", "quiet")]).unwrap();
        let defaults = s.executor_config.boot_defaults;
        assert_eq!(defaults.general.kernel, Some(PathBuf::from("/k")));
        assert_eq!(defaults.special["IPXE_ARM64_EFI"].kernel, Some(PathBuf::from("/arm")));
        assert_eq!(defaults.special["IPXE"].cmdline.as_deref(), Some("quiet"));
        assert_eq!(defaults.special.len(), 2);
    }

    #[test]
    fn a_setting_of_what_is_still_to_come_is_a_warning_and_no_error() {
        let s =
            load("farm_name: a\ngitlab_url: https://gitlab.example\n", &[("MINIO_ROOT_USER", "x")]).unwrap();
        assert_eq!(s.warnings.len(), 2, "{:?}", s.warnings);
        assert!(s.warnings[0].contains("GITLAB_URL") || s.warnings[1].contains("GITLAB_URL"));
    }

    #[test]
    fn the_console_host_is_the_host_of_the_salad_url() {
        assert_eq!(host_of("http://ci-gateway:8005"), "ci-gateway");
        assert_eq!(host_of("http://10.42.0.1/x"), "10.42.0.1");
    }
}
