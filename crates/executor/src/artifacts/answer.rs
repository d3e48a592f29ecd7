//! What an answer of a server means for a download: the rest of the file, all of it, nothing new, a fault, or a no.
//! Pure: it sees the head of the answer alone.

use std::time::Duration;

use farmgate_protocol::Timestamp;
use reqwest::{
    StatusCode,
    header::{CONTENT_LENGTH, CONTENT_RANGE, HeaderMap, LOCATION},
};

use super::{
    freshness::{Validators, retry_after, text},
    source::Sha,
};

/// What was asked for.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Ask {
    /// All of it.
    Whole,
    /// All of it, unless it is still what is in the cache.
    IfChanged {
        /// Where the copy came from.
        place: Sha,
    },
    /// What follows after so many bytes, if it is still the same file.
    Rest {
        /// How much is there.
        from: u64,
        /// What the file was when that was loaded.
        validators: Validators,
        /// How long the whole is, where that is known.
        total: Option<u64>,
        /// Where it came from.
        place: Sha,
    },
}

/// What the answer means.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Answer {
    /// The copy in the cache is what the server has.
    Unchanged,
    /// Its body is the file from this byte on.
    Body {
        /// Its first byte.
        from: u64,
        /// The byte after its last, where that is known.
        until: Option<u64>,
        /// Length of the whole file, where that is known.
        total: Option<u64>,
    },
    /// What is there does not fit to it: ask for the whole file.
    StartOver(&'static str),
    /// The server works, and says no.
    Refused(u16),
    /// It leads where nobody can follow.
    Astray,
    /// It may work later.
    Fault {
        /// What it said.
        reason: String,
        /// When to come back, if it says so.
        wait: Option<Duration>,
    },
}

/// See above. `place`: where the answer came from in the end.
pub(super) fn judge(
    ask: &Ask,
    status: StatusCode,
    headers: &HeaderMap,
    place: Sha,
    now: Timestamp,
) -> Answer {
    match status {
        StatusCode::OK => whole(headers),
        StatusCode::PARTIAL_CONTENT => rest(ask, headers, place),
        StatusCode::RANGE_NOT_SATISFIABLE if matches!(ask, Ask::Rest { .. }) => {
            Answer::StartOver("the server does not have that part of the file")
        }
        StatusCode::NOT_MODIFIED => match ask {
            Ask::IfChanged { place: before } if *before == place => Answer::Unchanged,
            Ask::IfChanged { .. } => Answer::StartOver("the URL leads to another file than before"),
            _ => Answer::Fault { reason: "the server answered 304, unasked".to_owned(), wait: None },
        },
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => fault(status, headers, now),
        // Those that can be followed do not come here.
        status if status.is_redirection() && headers.contains_key(LOCATION) => Answer::Astray,
        status if status.is_client_error() => Answer::Refused(status.as_u16()),
        status => fault(status, headers, now),
    }
}

fn fault(status: StatusCode, headers: &HeaderMap, now: Timestamp) -> Answer {
    Answer::Fault { reason: format!("the server answered {status}"), wait: retry_after(headers, now) }
}

fn whole(headers: &HeaderMap) -> Answer {
    let total = text(headers, &CONTENT_LENGTH).and_then(|length| length.parse().ok());
    Answer::Body { from: 0, until: total, total }
}

fn rest(ask: &Ask, headers: &HeaderMap, place: Sha) -> Answer {
    let Ask::Rest { from, validators, total, place: before } = ask else {
        return Answer::Fault { reason: "the server answered a part, unasked".to_owned(), wait: None };
    };
    let Some((first, last, length)) = text(headers, &CONTENT_RANGE).and_then(content_range) else {
        return Answer::StartOver("the server does not say which part it sends");
    };
    if first != *from || place != *before || !validators.continued_by(&Validators::of(headers)) {
        return Answer::StartOver("the file has changed meanwhile");
    }
    match (*total, length) {
        (Some(before), Some(now)) if before != now => Answer::StartOver("the file has changed its length"),
        (before, now) => {
            let until = last.saturating_add(1);
            match before.or(now) {
                Some(total) if until > total => Answer::StartOver("the server sends more than there is"),
                Some(total) => Answer::Body { from: first, until: Some(until), total: Some(total) },
                None => Answer::StartOver("nobody says how long the whole file is"),
            }
        }
    }
}

/// `bytes FIRST-LAST/LENGTH`; the length may be `*` (RFC 9110 section 14.4).
fn content_range(text: &str) -> Option<(u64, u64, Option<u64>)> {
    let (range, length) = text.strip_prefix("bytes ")?.trim().split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    let length = match length.trim() {
        "*" => None,
        length => Some(length.parse().ok()?),
    };
    (first <= last).then_some((first, last, length))
}

#[cfg(test)]
mod tests {
    use super::{super::freshness::tests::headers, *};

    fn judged(ask: &Ask, status: u16, lines: &[&str]) -> Answer {
        let status = StatusCode::from_u16(status).unwrap();
        judge(ask, status, &headers(lines), Sha::of(b"here"), Timestamp::default())
    }

    fn rest() -> Ask {
        let validators = Validators { etag: Some("\"a\"".into()), last_modified: None };
        Ask::Rest { from: 4, validators, total: Some(10), place: Sha::of(b"here") }
    }

    #[test]
    fn a_part_is_taken_only_where_it_fits() {
        let fits = Answer::Body { from: 4, until: Some(10), total: Some(10) };
        assert_eq!(judged(&rest(), 206, &["ETag: \"a\"", "Content-Range: bytes 4-9/10"]), fits);
        let less = Answer::Body { from: 4, until: Some(7), total: Some(10) };
        assert_eq!(judged(&rest(), 206, &["ETag: \"a\"", "Content-Range: bytes 4-6/*"]), less);
        for lines in [
            vec!["ETag: \"a\""],
            vec!["Content-Range: bytes 4-9/10"],
            vec!["ETag: \"b\"", "Content-Range: bytes 4-9/10"],
            vec!["ETag: \"a\"", "Content-Range: bytes 5-9/10"],
            vec!["ETag: \"a\"", "Content-Range: bytes 4-9/11"],
            vec!["ETag: \"a\"", "Content-Range: bytes 4-10/*"],
            vec!["ETag: \"a\"", "Content-Range: bytes 9-4/10"],
            vec!["ETag: \"a\"", "Content-Range: bytes 4-18446744073709551615/10"],
            vec!["ETag: \"a\"", "Content-Range: lines 4-9/10"],
        ] {
            assert!(matches!(judged(&rest(), 206, &lines), Answer::StartOver(_)), "{lines:?}");
        }
        assert!(matches!(judged(&Ask::Whole, 206, &["Content-Range: bytes 0-9/10"]), Answer::Fault { .. }));
    }

    #[test]
    fn the_end_of_a_part_is_not_taken_for_the_end_of_the_file() {
        let validators = Validators { etag: Some("\"a\"".into()), last_modified: None };
        let ask = Ask::Rest { from: 4, validators, total: None, place: Sha::of(b"here") };
        let part = |range| judged(&ask, 206, &["ETag: \"a\"", range]);
        assert!(matches!(part("Content-Range: bytes 4-6/*"), Answer::StartOver(_)));
        let known = Answer::Body { from: 4, until: Some(7), total: Some(9) };
        assert_eq!(part("Content-Range: bytes 4-6/9"), known);
    }

    #[test]
    fn a_whole_answer_to_any_question_starts_over() {
        let whole = Answer::Body { from: 0, until: Some(3), total: Some(3) };
        for ask in [Ask::Whole, rest(), Ask::IfChanged { place: Sha::of(b"x") }] {
            assert_eq!(judged(&ask, 200, &["Content-Length: 3"]), whole);
        }
        assert_eq!(judged(&Ask::Whole, 200, &[]), Answer::Body { from: 0, until: None, total: None });
    }

    #[test]
    fn not_modified_counts_only_for_the_file_that_was_asked_about() {
        assert_eq!(judged(&Ask::IfChanged { place: Sha::of(b"here") }, 304, &[]), Answer::Unchanged);
        let elsewhere = Ask::IfChanged { place: Sha::of(b"elsewhere") };
        assert!(matches!(judged(&elsewhere, 304, &[]), Answer::StartOver(_)));
        assert!(matches!(judged(&Ask::Whole, 304, &[]), Answer::Fault { .. }));
    }

    #[test]
    fn a_no_is_told_from_a_fault() {
        for status in [400, 401, 403, 404, 405, 410, 416, 451] {
            assert_eq!(judged(&Ask::Whole, status, &[]), Answer::Refused(status));
        }
        for status in [204, 300, 408, 429, 500, 501, 502, 503, 504, 599] {
            assert!(matches!(judged(&rest(), status, &[]), Answer::Fault { wait: None, .. }), "{status}");
        }
        assert_eq!(judged(&Ask::Whole, 302, &["Location: file:///x"]), Answer::Astray);
        let Answer::Fault { wait, .. } = judged(&Ask::Whole, 503, &["Retry-After: 3"]) else { panic!() };
        assert_eq!(wait, Some(Duration::from_secs(3)));
    }
}
