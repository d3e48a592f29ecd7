//! The contents of a farm file as values: machines, PDUs, forges, defaults of jobs.

use std::{collections::BTreeMap, fmt, net::Ipv4Addr};

use farmgate_protocol::{DutId, MacAddress, PortId};

/// A token or password: shown to nobody by accident.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret text.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text, for whom it is meant.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

/// A farm file that was read and checked.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Farm {
    /// PDUs by name.
    pub pdus: BTreeMap<String, PduEntry>,
    /// Machines by id.
    pub duts: BTreeMap<DutId, DutEntry>,
    /// GitLab instances by name.
    pub gitlab: BTreeMap<String, Gitlab>,
    /// GitHub organisations or repositories by name.
    pub github: BTreeMap<String, Github>,
    /// Defaults of all jobs.
    pub jobs: Jobs,
}

/// A PDU.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PduEntry {
    /// Which driver.
    pub driver: String,
    /// Settings of that driver.
    pub config: serde_json::Value,
    /// Ports that the gateway must not switch.
    pub reserved_port_ids: Vec<PortId>,
    /// It gets its address, `config.hostname`, from our DHCP server.
    pub mac_address: Option<MacAddress>,
    /// Not shown on dashboards.
    pub hidden: bool,
    /// Seconds between two ports that are switched on; the driver's own where absent.
    pub power_on_interval: Option<f64>,
}

/// Who switches a machine on and off.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Power {
    /// The gateway.
    #[default]
    Managed,
    /// A person.
    Manual,
    /// Nobody may switch it off: it has its console and network boot only.
    NeverOff,
}

impl PduEntry {
    /// The address in `config.hostname`, if it is one and not a name; a port may follow it.
    pub fn address(&self) -> Option<Ipv4Addr> {
        let hostname = self.config.get("hostname")?.as_str()?;
        hostname.split(':').next()?.parse().ok()
    }
}

/// A machine.
#[derive(Debug, Clone, PartialEq)]
pub struct DutEntry {
    /// Its kind: `gfx9-renoir`.
    pub base_name: String,
    /// What its hardware is, found by itself.
    pub tags: Vec<String>,
    /// What a person added.
    pub manual_tags: Vec<String>,
    /// Of the interface that it boots from. In old files the machine's key says it.
    pub mac_address: Option<MacAddress>,
    /// Its address on the private network.
    pub ip_address: Option<Ipv4Addr>,
    /// The machine's own name of the serial port that reaches the gateway.
    pub local_tty_device: Option<String>,
    /// Name of its PDU.
    pub pdu: Option<String>,
    /// Its port there.
    pub pdu_port_id: Option<PortId>,
    /// Seconds that it must be off before it is switched on again.
    pub pdu_off_delay: f64,
    /// Who switches it.
    pub power: Power,
    /// Seconds after which it is switched off, whatever it does.
    pub max_on_time: Option<f64>,
    /// It qualified.
    pub ready_for_service: bool,
    /// Out of service by a person's wish.
    pub is_retired: bool,
    /// When it registered first, ISO 8601 in UTC: texts compare as times.
    pub first_seen: Option<String>,
    /// A person's note.
    pub comment: Option<String>,
    /// Seconds from power on to its first network boot request, learned.
    pub firmware_boot_time: Option<f64>,
    /// Power profile of its boot, learned.
    pub boot_sequence_power: Option<serde_json::Value>,
    /// Its runners on GitLab instances, by the instance's name.
    pub gitlab: BTreeMap<String, DutGitlab>,
    /// Its runners on GitHub, by the name under `github`.
    pub github: BTreeMap<String, DutGithub>,
}

/// Seconds that a machine is off where its entry does not say.
pub const DEFAULT_OFF_DELAY: f64 = 30.0;

impl Default for DutEntry {
    fn default() -> Self {
        Self {
            base_name: String::new(),
            tags: Vec::new(),
            manual_tags: Vec::new(),
            mac_address: None,
            ip_address: None,
            local_tty_device: None,
            pdu: None,
            pdu_port_id: None,
            pdu_off_delay: DEFAULT_OFF_DELAY,
            power: Power::default(),
            max_on_time: None,
            ready_for_service: false,
            is_retired: false,
            first_seen: None,
            comment: None,
            firmware_boot_time: None,
            boot_sequence_power: None,
            gitlab: BTreeMap::new(),
            github: BTreeMap::new(),
        }
    }
}

/// Who a rule is for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AclSubjects {
    /// User names.
    pub users: Vec<String>,
    /// Projects by path.
    pub projects: Vec<String>,
    /// Groups by path; all projects below them.
    pub projects_in_groups: Vec<String>,
}

/// Who may use something. `deny` wins; who is in neither is decided by the next level.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Acl {
    /// These may not.
    pub deny: AclSubjects,
    /// These may.
    pub allow: AclSubjects,
}

/// What runners of a GitLab instance are for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RunnerType {
    /// The whole instance.
    #[default]
    Instance,
    /// A group, `group_id`.
    Group,
    /// A project, `project_id`.
    Project,
}

/// A GitLab instance.
#[derive(Debug, Clone, PartialEq)]
pub struct Gitlab {
    /// Its address.
    pub url: String,
    /// For registering runners the old way.
    pub registration_token: Option<Secret>,
    /// For everything else.
    pub access_token: Option<Secret>,
    /// What the runners are for.
    pub runner_type: RunnerType,
    /// The group of group runners.
    pub group_id: Option<u64>,
    /// The project of project runners.
    pub project_id: Option<u64>,
    /// Whether machines are offered at all.
    pub expose_runners: bool,
    /// Whether machines are offered unless their entry says otherwise; `expose_runners` where absent.
    pub expose_all_runners_by_default: Option<bool>,
    /// Longest job, seconds.
    pub maximum_timeout: u64,
    /// The runner of the gateway itself.
    pub gateway_runner: Option<Runner>,
    /// Priorities that are offered, each with its rules.
    pub exposed_priorities: BTreeMap<String, Acl>,
    /// Who may use the machines.
    pub acl: Acl,
}

/// A runner on a GitLab instance.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Runner {
    /// Its token.
    pub token: Option<Secret>,
    /// Its number on the instance.
    pub runner_id: Option<u64>,
    /// Whether it is offered; the instance's default where absent.
    pub exposed: Option<bool>,
    /// Who may use it.
    pub acl: Acl,
}

/// A machine's runners on a GitLab instance.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DutGitlab {
    /// The runner of the default priority.
    pub runner: Runner,
    /// Runners of other priorities.
    pub priority_queues: BTreeMap<String, Runner>,
}

/// A GitHub organisation or repository.
#[derive(Debug, Clone, PartialEq)]
pub struct Github {
    /// Its address.
    pub url: String,
    /// For registering runners.
    pub authorization_token: Option<Secret>,
    /// The group of the runners.
    pub runner_group_id: Option<u64>,
    /// Whether machines are offered at all.
    pub expose_runners: bool,
    /// Priorities that are offered.
    pub exposed_priorities: Vec<String>,
}

/// A runner group on GitHub.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GithubQueue {
    /// The group of the runner.
    pub runner_group_id: Option<u64>,
    /// Whether it is offered.
    pub exposed: Option<bool>,
}

/// A machine on GitHub.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DutGithub {
    /// Whether it is offered.
    pub exposed: Option<bool>,
    /// By priority.
    pub priority_queues: BTreeMap<String, GithubQueue>,
}

/// Defaults of all jobs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Jobs {
    /// Hosts that every job may reach: `host:port`.
    pub allowed_endpoints: Vec<String>,
    /// Names of priorities, the most urgent first.
    pub priorities: Vec<String>,
}
