//! What a job or a boot method says about DHCP: which requests it means, and which options they get.

mod options;

use std::collections::BTreeMap;

use farmgate_protocol::MacAddress;
use serde::{Deserialize, Serialize};

use crate::whole_regex::WholeRegex;

pub use options::{DhcpOption, DhcpValue, OptionKind};

/// Options for the requests that fit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DhcpOffer {
    /// Which requests. Empty: all of the machine.
    #[serde(rename = "match")]
    pub matches: DhcpMatch,
    /// By code.
    pub options: BTreeMap<u8, DhcpValue>,
}

/// Which requests are meant. Each field that is not empty must fit; it fits if one of its values does.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DhcpMatch {
    /// Architecture of the processor.
    pub architecture: Vec<TextMatch>,
    /// Kind of firmware that asks.
    pub firmware: Vec<TextMatch>,
    /// Address of the network card, in lower case with colons.
    pub mac_address: Vec<TextMatch>,
    /// How it wants to load its boot file.
    pub protocol: Vec<TextMatch>,
    /// Option 60.
    pub vendor_class: Vec<TextMatch>,
    /// Option 77.
    pub user_class: Vec<TextMatch>,
    /// Option 97, in lower case with dashes.
    pub uuid: Vec<TextMatch>,
}

/// What a request tells of its sender; absent is what it does not tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DhcpClient<'a> {
    /// One of [`DhcpMatch::ARCHITECTURES`], from option 93.
    pub architecture: Option<&'a str>,
    /// One of [`DhcpMatch::FIRMWARES`], from option 93 and what the client calls itself.
    pub firmware: Option<&'a str>,
    /// The sender.
    pub mac_address: Option<MacAddress>,
    /// One of [`DhcpMatch::PROTOCOLS`], from option 93.
    pub protocol: Option<&'a str>,
    /// Option 60.
    pub vendor_class: Option<&'a str>,
    /// Option 77.
    pub user_class: Option<&'a str>,
    /// Option 97 without its type, in lower case with dashes.
    pub uuid: Option<&'a str>,
}

impl DhcpMatch {
    /// What `architecture` can be.
    pub const ARCHITECTURES: [&'static str; 6] = ["arm32", "arm64", "riscv32", "riscv64", "x86", "x86_64"];
    /// What `firmware` can be.
    pub const FIRMWARES: [&'static str; 5] = ["bios", "ipxe", "raspberrypi", "uboot", "uefi"];
    /// What `protocol` can be.
    pub const PROTOCOLS: [&'static str; 2] = ["http", "tftp"];

    /// Whether a request is meant. What it does not tell fits no field that is given.
    pub fn fits(&self, client: &DhcpClient<'_>) -> bool {
        let mac = client.mac_address.map(|mac| mac.to_string());
        let fields = [
            (&self.architecture, client.architecture),
            (&self.firmware, client.firmware),
            (&self.mac_address, mac.as_deref()),
            (&self.protocol, client.protocol),
            (&self.vendor_class, client.vendor_class),
            (&self.user_class, client.user_class),
            (&self.uuid, client.uuid),
        ];
        fields.into_iter().all(|(wanted, told)| TextMatch::any(wanted, told))
    }

    /// Whether it means every request.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A text that must be equal, or matched by this regex as a whole. A text that is no regex is only compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct TextMatch {
    text: String,
    regex: Option<WholeRegex>,
}

impl TextMatch {
    /// Whether a text fits.
    pub fn fits(&self, text: &str) -> bool {
        text == self.text || self.regex.as_ref().is_some_and(|regex| regex.fits(text))
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it can be read as a regex.
    pub fn is_regex(&self) -> bool {
        self.regex.is_some()
    }

    /// Whether one of these fits what is told; none wanted fits everything.
    pub(crate) fn any(wanted: &[Self], told: Option<&str>) -> bool {
        wanted.is_empty() || told.is_some_and(|text| wanted.iter().any(|one| one.fits(text)))
    }
}

impl From<String> for TextMatch {
    fn from(text: String) -> Self {
        let regex = WholeRegex::new(&text).ok();
        Self { text, regex }
    }
}

impl From<TextMatch> for String {
    fn from(one: TextMatch) -> Self {
        one.text
    }
}
