//! Who asks, and whom: the address of an agent and the credentials, in the words of the SNMP library.
//!
//! The only other place that knows the library is [`session`](super::session).

use std::sync::OnceLock;

use async_snmp::{Auth, AuthProtocol, DesSaltState, PrivProtocol, UsmConfig, v3::PersistedDesSaltState};
use farmgate_protocol::Timestamp;
use serde::Deserialize;

/// How messages of version 3 are signed (RFC 3414, RFC 7860).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Authentication {
    #[serde(rename = "MD5", alias = "md5")]
    Md5,
    #[serde(rename = "SHA", alias = "sha", alias = "SHA1", alias = "sha1", alias = "SHA-1")]
    Sha,
    #[serde(rename = "SHA224", alias = "sha224", alias = "SHA-224")]
    Sha224,
    #[serde(rename = "SHA256", alias = "sha256", alias = "SHA-256")]
    Sha256,
    #[serde(rename = "SHA384", alias = "sha384", alias = "SHA-384")]
    Sha384,
    #[serde(rename = "SHA512", alias = "sha512", alias = "SHA-512")]
    Sha512,
}

/// How messages of version 3 are encrypted (RFC 3414, RFC 3826; the longer AES keys as net-snmp makes them, those
/// with a C as Cisco does).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Privacy {
    #[serde(rename = "DES", alias = "des")]
    Des,
    #[serde(rename = "AES", alias = "aes", alias = "AES128", alias = "aes128", alias = "AES-128")]
    Aes,
    #[serde(rename = "AES192", alias = "aes192", alias = "AES-192")]
    Aes192,
    #[serde(rename = "AES256", alias = "aes256", alias = "AES-256")]
    Aes256,
    #[serde(rename = "AES192C", alias = "aes192c", alias = "AES-192-C")]
    Aes192C,
    #[serde(rename = "AES256C", alias = "aes256c", alias = "AES-256-C")]
    Aes256C,
}

/// Community, or user and keys.
pub enum Credentials {
    V1(String),
    V2c(String),
    V3 {
        username: String,
        auth: Option<(Authentication, String)>,
        privacy: Option<(Privacy, String)>,
        context: String,
    },
}

/// An agent, and how it is spoken to.
#[derive(Clone)]
pub struct Access {
    /// `HOST:PORT`.
    pub address: String,
    pub auth: Auth,
    /// Needed by the senders of DES.
    pub salt: Option<DesSaltState>,
    pub version: Version,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    V1,
    V2c,
    V3,
}

impl Access {
    /// # Errors
    /// In words: what the library does not like about the keys.
    pub fn new(address: String, credentials: &Credentials) -> Result<Self, String> {
        let community = |text: &str| text.as_bytes().to_vec();
        let (version, auth, salt) = match credentials {
            Credentials::V1(name) => (Version::V1, Auth::v1(community(name)), None),
            Credentials::V2c(name) => (Version::V2c, Auth::v2c(community(name)), None),
            Credentials::V3 { username, auth, privacy, context } => {
                let user =
                    UsmConfig::new(username.clone().into_bytes()).context_name(context.clone().into_bytes());
                let user = match (auth, privacy) {
                    (None, _) => Ok(user),
                    (Some((auth, password)), None) => user.auth((*auth).into(), password),
                    (Some((auth, password)), Some((privacy, key))) => {
                        user.auth_priv((*auth).into(), password, (*privacy).into(), key)
                    }
                };
                let salt = match privacy {
                    Some((Privacy::Des, _)) => Some(des_salt()?),
                    _ => None,
                };
                (Version::V3, Auth::from(user.map_err(|error| error.to_string())?), salt)
            }
        };
        Ok(Self { address, auth, salt, version })
    }
}

/// Where DES takes its initialisation vectors from. They must not repeat under one key: one counter serves the whole
/// process, and its upper half is the time when the process first needed it, which a later process does not have.
fn des_salt() -> Result<DesSaltState, String> {
    static SALT: OnceLock<Result<DesSaltState, String>> = OnceLock::new();
    let make = || {
        // In steps of two seconds, which fit into its 31 bits until 2106.
        let started = u32::try_from(Timestamp::now().as_micros() / 2_000_000).unwrap_or(1);
        let before = PersistedDesSaltState::new(started.max(1)).map_err(|error| error.to_string())?;
        let keep = |_: &PersistedDesSaltState| Ok::<(), std::convert::Infallible>(());
        DesSaltState::restart(before, keep).map_err(|error| error.to_string())
    };
    SALT.get_or_init(make).clone()
}

impl From<Authentication> for AuthProtocol {
    fn from(protocol: Authentication) -> Self {
        match protocol {
            Authentication::Md5 => Self::Md5,
            Authentication::Sha => Self::Sha1,
            Authentication::Sha224 => Self::Sha224,
            Authentication::Sha256 => Self::Sha256,
            Authentication::Sha384 => Self::Sha384,
            Authentication::Sha512 => Self::Sha512,
        }
    }
}

impl From<Privacy> for PrivProtocol {
    fn from(protocol: Privacy) -> Self {
        match protocol {
            Privacy::Des => Self::Des,
            Privacy::Aes => Self::Aes128,
            Privacy::Aes192 => Self::Aes192Blumenthal,
            Privacy::Aes256 => Self::Aes256Blumenthal,
            Privacy::Aes192C => Self::Aes192Reeder,
            Privacy::Aes256C => Self::Aes256Reeder,
        }
    }
}
