//! What a job puts at a machine's disposal beside what it boots: files, images of containers, block devices.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Artifact, PathPattern, words::words};

/// A file served over HTTP or TFTP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageFile {
    /// What a machine asks for to get it.
    pub path: PathPattern,
    /// What it gets. `\1` in its address, and in the paths of its archives, stands for what a group of `path` matched.
    pub artifact: Artifact,
}

/// What a boot can use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Storage {
    /// Served over HTTP. Of several that fit a request the first is served.
    pub http: Vec<StorageFile>,
    /// Served over TFTP, with the same rule.
    pub tftp: Vec<StorageFile>,
    /// Images of the store `public`, by name.
    pub images: BTreeMap<String, ContainerImage>,
    /// Network block devices, by name.
    pub nbd: BTreeMap<String, BlockDevice>,
}

/// An image of a container that the gateway keeps and exports to machines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerImage {
    /// As a registry client takes it, for example `registry.example.org/group/image:tag`.
    pub name: String,
    /// Whether the registry must show a valid certificate.
    pub tls_verify: bool,
    /// `os/architecture` or `os/architecture/variant`.
    pub platform: String,
    /// When it is pulled.
    pub pull: PullPolicy,
}

words! {
    /// When an image is pulled although the gateway has it.
    PullPolicy {
        /// Always.
        Always = "always",
        /// When the last pull is more than five minutes old.
        RelaxedAlways = "relaxed_always",
        /// Never.
        Missing = "missing",
    }
}

/// A network block device. It lives as long as the job, so that its content survives reboots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockDevice {
    /// What is on it.
    pub backing: Backing,
    /// The machine cannot write to it.
    pub readonly: bool,
    /// How many connections it takes at once, at least 1. Absent: the server's own limit.
    pub max_connections: Option<u32>,
}

/// What is on a block device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backing {
    /// A copy of what this address has.
    Url(String),
    /// This many bytes, all zero; at least 1.
    Size(u64),
}
