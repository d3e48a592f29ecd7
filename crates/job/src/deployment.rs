//! What a boot loads: as the job says it, in categories, and as the machine gets it, in order.
//!
//! A boot is laid over another one in two places by the same rule: `deployment.continue` over `deployment.start`, and
//! a job's boot over the defaults of the machine's boot method. So the categories are kept until the end.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    Artifact, BlockDevice, ComplexList, ContainerImage, DhcpOffer, Fastboot, Format, Storage, StorageFile,
};

/// One boot as it is written: with its categories, and only what is given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    /// Where the kernel comes from; never [`Artifact::Formatted`].
    pub kernel: Option<Artifact>,
    /// What is done to the kernel, whoever named it. Some and empty: nothing, whatever was said before.
    pub kernel_format: Option<Vec<Format>>,
    /// Parts of the kernel command line.
    pub cmdline: ComplexList<String>,
    /// Files of the initramfs.
    pub initramfs: ComplexList<Artifact>,
    /// Device trees.
    pub dtb: ComplexList<Artifact>,
    /// Files served over HTTP.
    pub http: ComplexList<StorageFile>,
    /// Files served over TFTP.
    pub tftp: ComplexList<StorageFile>,
    /// Images of the store `public`, by name.
    pub images: BTreeMap<String, ContainerImage>,
    /// Network block devices, by name.
    pub nbd: BTreeMap<String, BlockDevice>,
    /// For machines that boot over fastboot.
    pub fastboot: Option<Fastboot>,
    /// Options that the DHCP server adds.
    pub dhcp: ComplexList<DhcpOffer>,
}

impl Deployment {
    /// This one with `later` laid over it, field by field: a kernel, a pipeline and each field of `fastboot` replace
    /// the one before, lists follow [`ComplexList::updated_by`], images and block devices are added by name.
    #[must_use]
    pub fn updated_by(&self, later: &Self) -> Self {
        let fastboot = match (&self.fastboot, &later.fastboot) {
            (Some(before), Some(later)) => Some(before.updated_by(later)),
            (before, later) => later.as_ref().or(before.as_ref()).cloned(),
        };
        Self {
            kernel: later.kernel.as_ref().or(self.kernel.as_ref()).cloned(),
            kernel_format: later.kernel_format.as_ref().or(self.kernel_format.as_ref()).cloned(),
            cmdline: self.cmdline.updated_by(&later.cmdline),
            initramfs: self.initramfs.updated_by(&later.initramfs),
            dtb: self.dtb.updated_by(&later.dtb),
            http: self.http.updated_by(&later.http),
            tftp: self.tftp.updated_by(&later.tftp),
            images: by_name(&self.images, &later.images),
            nbd: by_name(&self.nbd, &later.nbd),
            fastboot,
            dhcp: self.dhcp.updated_by(&later.dhcp),
        }
    }
}

fn by_name<T: Clone>(before: &BTreeMap<String, T>, later: &BTreeMap<String, T>) -> BTreeMap<String, T> {
    before.iter().chain(later).map(|(name, one)| (name.clone(), one.clone())).collect()
}

/// What a boot loads. What is absent is the default of the machine's boot method.
///
/// It is a view of a [`Deployment`], and is stored as that one: see [`BootSpec::over`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Deployment", into = "Deployment")]
pub struct BootSpec {
    /// The kernel.
    pub kernel: Option<Artifact>,
    /// What is done to the default kernel, where `kernel` is absent.
    pub kernel_format: Vec<Format>,
    /// Concatenated in this order; never empty.
    pub initramfs: Option<Vec<Artifact>>,
    /// Concatenated in this order; never empty.
    pub dtb: Option<Vec<Artifact>>,
    /// The kernel command line.
    pub cmdline: Option<String>,
    /// What else the machine can fetch.
    pub storage: Storage,
    /// For machines that boot over fastboot.
    pub fastboot: Option<Fastboot>,
    /// Options that the DHCP server adds: of all offers that fit a request, the first that names an option sets it.
    pub dhcp: Vec<DhcpOffer>,
    written: Deployment,
}

impl BootSpec {
    /// The same where the machine's boot method has these defaults.
    #[must_use]
    pub fn over(&self, defaults: &Deployment) -> Self {
        defaults.updated_by(&self.written).into()
    }

    /// As it was written.
    pub fn deployment(&self) -> &Deployment {
        &self.written
    }
}

impl From<Deployment> for BootSpec {
    fn from(written: Deployment) -> Self {
        let some = |list: &ComplexList<Artifact>| Some(list.flatten()).filter(|all| !all.is_empty());
        let cmdline = written.cmdline.flatten();
        let format = written.kernel_format.as_deref().unwrap_or_default();
        Self {
            kernel: written.kernel.clone().map(|kernel| kernel.formatted(format)),
            kernel_format: if written.kernel.is_none() { format.to_vec() } else { Vec::new() },
            initramfs: some(&written.initramfs),
            dtb: some(&written.dtb),
            cmdline: (!cmdline.is_empty()).then(|| cmdline.join(" ")),
            storage: Storage {
                http: written.http.by_precedence(),
                tftp: written.tftp.by_precedence(),
                images: written.images.clone(),
                nbd: written.nbd.clone(),
            },
            fastboot: written.fastboot.clone(),
            dhcp: written.dhcp.by_precedence(),
            written,
        }
    }
}

impl From<BootSpec> for Deployment {
    fn from(spec: BootSpec) -> Self {
        spec.written
    }
}
