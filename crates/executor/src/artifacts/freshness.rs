//! What a server says of how long a file may be used without asking, and how to ask whether it is still the same
//! (RFC 9110 sections 8.8 and 13, RFC 9111 sections 4.2 and 5). Pure.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use farmgate_protocol::Timestamp;
use reqwest::header::{
    AGE, CACHE_CONTROL, DATE, ETAG, EXPIRES, HeaderMap, HeaderName, LAST_MODIFIED, RETRY_AFTER,
};
use serde::{Deserialize, Serialize};

/// Nothing is fresh for longer than that, whatever the server says, s.
const LONGEST: u64 = 365 * 24 * 3600;

/// What tells one version of a file from another.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Validators {
    /// `ETag`, with its quotes.
    pub etag: Option<String>,
    /// `Last-Modified`. Only where the file had not changed within the second of the answer: it may change again within
    /// the same second.
    pub last_modified: Option<String>,
}

impl Validators {
    /// Those of an answer.
    pub fn of(headers: &HeaderMap) -> Self {
        let etag = text(headers, &ETAG).filter(|tag| tag.ends_with('"'));
        let modified = text(headers, &LAST_MODIFIED).filter(|modified| {
            let at = (http_date(modified), text(headers, &DATE).and_then(http_date));
            matches!(at, (Some(modified), Some(now)) if now > modified)
        });
        Self { etag: etag.map(str::to_owned), last_modified: modified.map(str::to_owned) }
    }

    /// Whether the server can be asked if the file is still the same.
    pub fn is_empty(&self) -> bool {
        self.etag.is_none() && self.last_modified.is_none()
    }

    /// What promises the same bytes, for `If-Range`.
    pub fn strong(&self) -> Option<&str> {
        match &self.etag {
            Some(tag) if !tag.starts_with("W/") => Some(tag),
            // Its server knows of changes that the date does not show.
            Some(_) => None,
            None => self.last_modified.as_deref(),
        }
    }

    /// Whether these are certainly those of another version.
    pub fn differ(&self, other: &Self) -> bool {
        match (&self.etag, &other.etag) {
            (Some(a), Some(b)) => a != b,
            _ => matches!((&self.last_modified, &other.last_modified), (Some(a), Some(b)) if a != b),
        }
    }

    /// Whether the rest of a file comes from the version that these are of. An answer in parts repeats the ETag, but
    /// need not repeat the date (RFC 9110 section 15.3.7).
    pub fn continued_by(&self, rest: &Self) -> bool {
        match &self.etag {
            Some(tag) => rest.etag.as_ref() == Some(tag),
            None => self.last_modified.is_some() && !self.differ(rest),
        }
    }
}

/// How long a file may be used without asking.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Lifetime {
    /// It must not be used a second time (`no-store`).
    NotKept,
    /// So many seconds from now.
    Seconds(u64),
    /// The server says nothing.
    Unsaid,
}

impl Lifetime {
    /// What an answer says that came at `now`.
    pub fn of(headers: &HeaderMap, now: Timestamp) -> Self {
        let directives: Vec<String> = headers
            .get_all(CACHE_CONTROL)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .map(|directive| directive.trim().to_ascii_lowercase())
            .collect();
        // What cannot be read counts as stale (RFC 9111 section 4.2.1).
        let seconds = |name: &str| {
            let value = directives.iter().find_map(|d| d.strip_prefix(name)?.strip_prefix('='))?;
            Some(value.trim_matches('"').parse().unwrap_or(0_u64))
        };
        let is = |name: &str| directives.iter().any(|d| d == name || d.starts_with(&format!("{name}=")));
        if is("no-store") {
            return Self::NotKept;
        }
        if is("no-cache") {
            return Self::Seconds(0);
        }
        // The gateway is a cache that many share.
        let lifetime = seconds("s-maxage").or_else(|| seconds("max-age")).or_else(|| {
            let expires = text(headers, &EXPIRES)?;
            let from = text(headers, &DATE).and_then(http_date).unwrap_or_else(|| system(now));
            let length = http_date(expires).and_then(|at| at.duration_since(from).ok());
            Some(length.map_or(0, |length| length.as_secs()))
        });
        let age = text(headers, &AGE).map_or(0, |age| age.parse().unwrap_or(LONGEST));
        lifetime.map_or(Self::Unsaid, |s| Self::Seconds(s.min(LONGEST).saturating_sub(age)))
    }
}

/// How long the server asks to be left alone (RFC 9110 section 10.2.3).
pub(super) fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let value = text(headers, &RETRY_AFTER)?;
    match value.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => Some(http_date(value)?.duration_since(system(now)).unwrap_or_default()),
    }
}

/// The first value of a header, if it is text.
pub(super) fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

fn http_date(text: &str) -> Option<SystemTime> {
    httpdate::parse_http_date(text).ok()
}

fn system(at: Timestamp) -> SystemTime {
    UNIX_EPOCH + at.since(Timestamp::default())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn headers(lines: &[&str]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for line in lines {
            let (name, value) = line.split_once(':').unwrap();
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            map.append(name, value.trim().parse().unwrap());
        }
        map
    }

    /// 2026-11-22 10:00:00 UTC.
    const NOW: Timestamp = Timestamp::from_micros(1_795_341_600_000_000);
    const DATED: &str = "Date: Sun, 22 Nov 2026 10:00:00 GMT";

    #[test]
    fn lifetimes_are_those_of_the_rfc() {
        for (lines, expected) in [
            (vec![], Lifetime::Unsaid),
            (vec!["Cache-Control: public"], Lifetime::Unsaid),
            (vec!["Cache-Control: max-age=60"], Lifetime::Seconds(60)),
            (vec!["Cache-Control: Max-Age=\"60\", private"], Lifetime::Seconds(60)),
            (vec!["Cache-Control: max-age=60, s-maxage=5"], Lifetime::Seconds(5)),
            (vec!["Cache-Control: max-age=60", "Age: 50"], Lifetime::Seconds(10)),
            (vec!["Cache-Control: max-age=60", "Age: 70"], Lifetime::Seconds(0)),
            (vec!["Cache-Control: max-age=x"], Lifetime::Seconds(0)),
            (vec!["Cache-Control: max-age=99999999999"], Lifetime::Seconds(LONGEST)),
            (vec!["Cache-Control: max-age=60", "Cache-Control: no-cache"], Lifetime::Seconds(0)),
            (vec!["Cache-Control: max-age=60, no-store"], Lifetime::NotKept),
            (vec![DATED, "Expires: Sun, 22 Nov 2026 10:01:00 GMT"], Lifetime::Seconds(60)),
            (vec!["Expires: Sun, 22 Nov 2026 10:01:00 GMT"], Lifetime::Seconds(60)),
            (vec![DATED, "Expires: Sun, 22 Nov 2026 09:01:00 GMT"], Lifetime::Seconds(0)),
            (vec!["Expires: 0"], Lifetime::Seconds(0)),
            (vec!["Expires: 0", "Cache-Control: max-age=7"], Lifetime::Seconds(7)),
        ] {
            assert_eq!(Lifetime::of(&headers(&lines), NOW), expected, "{lines:?}");
        }
    }

    #[test]
    fn only_what_promises_the_same_bytes_continues_a_download() {
        let strong = |lines: &[&str]| Validators::of(&headers(lines)).strong().map(str::to_owned);
        let old = "Last-Modified: Sun, 22 Nov 2026 09:59:59 GMT";
        let young = "Last-Modified: Sun, 22 Nov 2026 10:00:00 GMT";
        assert_eq!(strong(&["ETag: \"a\""]).as_deref(), Some("\"a\""));
        assert_eq!(strong(&["ETag: W/\"a\"", DATED, old]), None);
        assert_eq!(strong(&["ETag: broken", DATED, young]), None);
        assert_eq!(strong(&[old]), None);
        assert_eq!(strong(&[DATED, old]).as_deref(), Some("Sun, 22 Nov 2026 09:59:59 GMT"));

        let v = |lines: &[&str]| Validators::of(&headers(lines));
        assert!(v(&["ETag: \"a\""]).continued_by(&v(&["ETag: \"a\""])));
        assert!(!v(&["ETag: \"a\""]).continued_by(&v(&["ETag: \"b\""])));
        assert!(!v(&["ETag: \"a\""]).continued_by(&v(&[])));
        assert!(v(&[DATED, old]).continued_by(&v(&[])));
        assert!(!v(&[]).continued_by(&v(&[])));
    }

    #[test]
    fn a_server_may_say_when_to_come_back_in_two_ways() {
        let wait = |line: &str| retry_after(&headers(&[line]), NOW);
        assert_eq!(wait("Retry-After: 7"), Some(Duration::from_secs(7)));
        assert_eq!(wait("Retry-After: Sun, 22 Nov 2026 10:00:09 GMT"), Some(Duration::from_secs(9)));
        assert_eq!(wait("Retry-After: Sun, 22 Nov 2026 09:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(wait("Retry-After: soon"), None);
    }
}
