//! Boot methods as data: which machines boot how, where a job does not say.

use serde::{Deserialize, Serialize};

use crate::{Deployment, DhcpClient, DhcpMatch, TextMatch};

/// The boot methods of a farm, each kind in the order of the file: the first that fits counts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootMethods {
    /// For machines that boot from the network.
    pub dhcp: Vec<DhcpBootMethod>,
    /// For machines that boot over fastboot.
    pub fastboot: Vec<FastbootMethod>,
}

/// How machines boot that ask like this.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DhcpBootMethod {
    /// For messages; unique among those of its kind.
    pub name: String,
    /// What their DHCP requests look like.
    #[serde(rename = "match")]
    pub matches: DhcpMatch,
    /// What their requests for a boot script look like.
    pub script: ScriptMatch,
    /// What they boot where a job does not say.
    pub defaults: Deployment,
}

/// What a boot loader tells when it asks for its script. Each field that is not empty must fit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ScriptMatch {
    /// The boot loader: `ipxe`.
    pub bootloader: Vec<TextMatch>,
    /// What it was built for, as iPXE names it: `i386`, `x86_64`, `arm32`, `arm64`, `riscv64`...
    pub buildarch: Vec<TextMatch>,
    /// What it runs on, as iPXE names it: `pcbios` or `efi`.
    pub platform: Vec<TextMatch>,
}

/// What a boot loader told; absent is what it did not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScriptClient<'a> {
    /// The boot loader.
    pub bootloader: Option<&'a str>,
    /// What it was built for.
    pub buildarch: Option<&'a str>,
    /// What it runs on.
    pub platform: Option<&'a str>,
}

impl ScriptMatch {
    /// Whether a request is meant.
    pub fn fits(&self, client: &ScriptClient<'_>) -> bool {
        TextMatch::any(&self.bootloader, client.bootloader)
            && TextMatch::any(&self.buildarch, client.buildarch)
            && TextMatch::any(&self.platform, client.platform)
    }

    /// Whether it means every request.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// How machines boot that show up like this.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FastbootMethod {
    /// For messages; unique among those of its kind.
    pub name: String,
    /// What they look like.
    #[serde(rename = "match")]
    pub matches: FastbootMatch,
    /// What they boot where a job does not say.
    pub defaults: Deployment,
}

/// What a device that speaks fastboot looks like. Each field that is not empty must fit; it fits if one of its
/// values does.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FastbootMatch {
    /// USB vendor.
    pub id_vendor: Vec<u16>,
    /// USB product.
    pub id_product: Vec<u16>,
    /// Text of the USB descriptor.
    pub manufacturer: Vec<TextMatch>,
    /// Text of the USB descriptor.
    pub product: Vec<TextMatch>,
    /// Text of the USB descriptor.
    pub serial_number: Vec<TextMatch>,
    /// Variables of fastboot (`getvar`).
    pub variables: Vec<(String, Vec<TextMatch>)>,
}

/// A device that speaks fastboot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FastbootClient<'a> {
    /// USB vendor.
    pub id_vendor: u16,
    /// USB product.
    pub id_product: u16,
    /// Text of the USB descriptor.
    pub manufacturer: Option<&'a str>,
    /// Text of the USB descriptor.
    pub product: Option<&'a str>,
    /// Text of the USB descriptor.
    pub serial_number: Option<&'a str>,
    /// What it answered to `getvar`.
    pub variables: Vec<(&'a str, &'a str)>,
}

impl FastbootMatch {
    /// Whether a device is meant.
    pub fn fits(&self, client: &FastbootClient<'_>) -> bool {
        let number = |wanted: &[u16], told: u16| wanted.is_empty() || wanted.contains(&told);
        let variable =
            |name: &str| client.variables.iter().find(|(n, _)| *n == name).map(|(_, value)| *value);
        number(&self.id_vendor, client.id_vendor)
            && number(&self.id_product, client.id_product)
            && TextMatch::any(&self.manufacturer, client.manufacturer)
            && TextMatch::any(&self.product, client.product)
            && TextMatch::any(&self.serial_number, client.serial_number)
            && self.variables.iter().all(|(name, wanted)| TextMatch::any(wanted, variable(name)))
    }
}

impl BootMethods {
    /// The first method for a machine that sent this DHCP request and, where it has come so far, asked like this for
    /// its script. A method that looks at scripts fits no request from before.
    pub fn for_dhcp(
        &self,
        client: &DhcpClient<'_>,
        script: Option<&ScriptClient<'_>>,
    ) -> Option<&DhcpBootMethod> {
        let asks = |method: &DhcpBootMethod| match script {
            Some(script) => method.script.fits(script),
            None => method.script.is_empty(),
        };
        self.dhcp.iter().find(|method| method.matches.fits(client) && asks(method))
    }

    /// The first method for this device.
    pub fn for_fastboot(&self, client: &FastbootClient<'_>) -> Option<&FastbootMethod> {
        self.fastboot.iter().find(|method| method.matches.fits(client))
    }
}
