//! Where an artifact comes from: its URL, checked, and in a form that may be shown.

use std::fmt;

use reqwest::Url;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::error::{ArtifactError, Problem};

/// A SHA-256, written as 64 hexadecimal digits: the name of a blob, or of a URL.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Sha([u8; 32]);

impl Sha {
    /// Of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self::from_digest(digest(&SHA256, bytes).as_ref())
    }

    /// From a finished hash. One of another length would be of another algorithm, and matches nothing.
    pub fn from_digest(bytes: &[u8]) -> Self {
        Self(bytes.try_into().unwrap_or_default())
    }

    /// Its 32 bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// From a file's name; None: it is something else.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        if digits.len() != 64 || digits.iter().any(|d| !matches!(d, b'0'..=b'9' | b'a'..=b'f')) {
            return None;
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(Self(bytes))
    }
}

impl fmt::Display for Sha {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Sha {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Sha {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Sha {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("not 64 hexadecimal digits"))
    }
}

/// A URL that can be asked for.
#[derive(Debug, Clone)]
pub(super) struct Source {
    /// With its secrets: for the request alone.
    pub url: Url,
    /// Its name in the cache.
    pub key: Sha,
    /// Without its secrets: for messages and files.
    pub shown: String,
}

impl Source {
    /// Checks a URL of a job.
    pub fn parse(text: &str) -> Result<Self, ArtifactError> {
        let wrong = |why: &str, url: &str| ArtifactError {
            url: url.to_owned(),
            problem: Problem::Url(why.to_owned()),
        };
        // Nothing of a text that is no URL is repeated: a secret may be anywhere in it.
        let mut url = Url::parse(text).map_err(|error| wrong(&error.to_string(), "an artifact"))?;
        url.set_fragment(None);
        let shown = shown(&url);
        if !matches!(url.scheme(), "http" | "https") {
            return Err(wrong(&format!("{}: is not supported", url.scheme()), &shown));
        }
        Ok(Self { key: Sha::of(url.as_str().as_bytes()), shown, url })
    }

    /// Says what went wrong with it.
    pub fn error(&self, problem: Problem) -> ArtifactError {
        ArtifactError { url: self.shown.clone(), problem }
    }
}

/// A URL without what may be secret: who asks, and with which parameters.
pub(super) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_fragment(None);
    if !url.username().is_empty() || url.password().is_some() {
        // A URL that cannot have them has none.
        let _ = url.set_password(None);
        let _ = url.set_username("***");
    }
    if url.query().is_some() {
        url.set_query(Some("***"));
    }
    url.into()
}

/// The name of the place that an answer came from in the end, without the parameters: signed URLs differ in them each
/// time.
pub(super) fn place(url: &Url) -> Sha {
    let mut url = url.clone();
    url.set_fragment(None);
    url.set_query(None);
    Sha::of(url.as_str().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_a_url_are_never_shown() {
        for (url, expected) in [
            ("http://h/kernel#x", "http://h/kernel"),
            ("https://me:secret@h:8443/a/b?token=secret&x=1", "https://***@h:8443/a/b?***"),
            ("https://secret@h/", "https://***@h/"),
            ("https://:secret@h/", "https://***@h/"),
        ] {
            assert_eq!(Source::parse(url).unwrap().shown, expected);
        }
        for bad in ["file:///etc/secret", "/secret", "http://", "ftp://me:secret@h/x", "http://secret:x y/"] {
            let error = Source::parse(bad).unwrap_err();
            assert_eq!(error.cause(), farmgate_job::Cause::JobError, "{error}");
            assert!(!error.to_string().contains("me:secret"), "{error}");
        }
    }

    #[test]
    fn a_fragment_makes_no_other_artifact_but_a_query_does() {
        let key = |url| Source::parse(url).unwrap().key;
        assert_eq!(key("http://h/x#a"), key("http://H:80/x"));
        assert_ne!(key("http://h/x?a"), key("http://h/x?b"));
    }

    #[test]
    fn names_are_read_back_and_nothing_else_is_one() {
        let sha = Sha::of(b"abc");
        assert_eq!(Sha::parse(&sha.to_string()), Some(sha));
        for bad in ["", "ab", &"g".repeat(64), &"A".repeat(64), &"é".repeat(32)] {
            assert_eq!(Sha::parse(bad), None);
        }
    }
}
