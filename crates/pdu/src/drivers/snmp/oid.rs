//! Object identifiers, as farm files and MIBs write them.

use std::fmt;

/// Longer ones do not exist (RFC 3416, section 4.1).
const MOST_ARCS: usize = 128;

/// Below it stand the objects of all manufacturers.
const ENTERPRISES: &[u32] = &[1, 3, 6, 1, 4, 1];

/// An object identifier: never empty, ordered as a walk goes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Oid(Vec<u32>);

impl Oid {
    /// One that the program itself knows.
    pub fn of(arcs: &[u32]) -> Self {
        Self(arcs.to_vec())
    }

    /// Its numbers.
    pub fn arcs(&self) -> &[u32] {
        &self.0
    }

    /// `1.3.6.1...` or `.1.3.6.1...`; None for anything else. What does not begin like that is relative to `base`.
    pub fn parse(text: &str, base: Option<&Oid>) -> Option<Self> {
        let (rooted, digits) = match text.strip_prefix('.') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let arcs = parse_arcs(digits)?;
        let absolute = rooted || arcs.starts_with(&[1, 3]);
        let oid = match base {
            Some(base) if !absolute => base.with(&arcs),
            _ => Self(arcs),
        };
        let valid = oid.0.starts_with(&[1, 3]) && oid.0.len() <= MOST_ARCS;
        valid.then_some(oid)
    }

    /// The identifier of a manufacturer's product: `1.3.6.1.4.1.318...`, or only what follows `enterprises`, `318...`.
    pub fn parse_system(text: &str) -> Option<Self> {
        Self::parse(text, Some(&Self::of(ENTERPRISES)))
    }

    /// This one, and these numbers behind it.
    pub fn with(&self, more: &[u32]) -> Self {
        Self([&self.0, more].concat())
    }

    /// What follows `base`, if it stands below it.
    pub fn below(&self, base: &Oid) -> Option<&[u32]> {
        self.0.strip_prefix(base.0.as_slice()).filter(|rest| !rest.is_empty())
    }
}

/// Numbers with dots between them, each in its only spelling (`01` is none).
pub fn parse_arcs(text: &str) -> Option<Vec<u32>> {
    let arc = |part: &str| part.parse::<u32>().ok().filter(|arc| arc.to_string() == part);
    text.split('.')
        .take(MOST_ARCS + 1)
        .map(arc)
        .collect::<Option<Vec<_>>>()
        .filter(|arcs| arcs.len() <= MOST_ARCS)
}

/// The same with dots again.
pub fn join_arcs(arcs: &[u32]) -> String {
    arcs.iter().map(u32::to_string).collect::<Vec<_>>().join(".")
}

impl fmt::Display for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&join_arcs(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_oid_is_absolute_or_relative_to_the_system() {
        let apc = Oid::parse_system("1.3.6.1.4.1.318.1.1.4").unwrap();
        assert_eq!(Oid::parse_system("318.1.1.4").unwrap(), apc);
        assert_eq!(Oid::parse_system(".1.3.6.1.4.1.318.1.1.4").unwrap(), apc);
        for (text, base, oid) in [
            ("1.3.6.1.2.1.105.1.1.1.3", None, Some("1.3.6.1.2.1.105.1.1.1.3")),
            (".1.3.6.1.2.1.105.1.1.1.3", Some(&apc), Some("1.3.6.1.2.1.105.1.1.1.3")),
            ("4.2.1.3", Some(&apc), Some("1.3.6.1.4.1.318.1.1.4.4.2.1.3")),
            ("4.2.1.3", None, None),
            (".4.2.1.3", Some(&apc), None),
            ("", Some(&apc), None),
            ("1.3.6.1.", None, None),
            ("1.3..6", None, None),
            ("1.3.6.x", None, None),
            ("1.3.06", None, None),
            ("1.3.4294967296", None, None),
            ("sysDescr.0", None, None),
        ] {
            assert_eq!(Oid::parse(text, base).map(|oid| oid.to_string()).as_deref(), oid, "{text:?}");
        }
        assert_eq!(Oid::parse(&["1.3"; 65].join("."), None), None, "too long");
    }

    #[test]
    fn what_stands_below_another_is_its_index() {
        let column = Oid::of(&[1, 3, 6]);
        assert_eq!(Oid::of(&[1, 3, 6, 1, 5]).below(&column), Some(&[1, 5][..]));
        assert_eq!(Oid::of(&[1, 3, 6]).below(&column), None);
        assert_eq!(Oid::of(&[1, 3, 60, 1]).below(&column), None);
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".*") {
            let _ = Oid::parse(&text, None);
        }

        #[test]
        fn what_is_written_is_read_back(arcs in proptest::collection::vec(any::<u32>(), 1..40)) {
            prop_assert_eq!(parse_arcs(&join_arcs(&arcs)), Some(arcs));
        }
    }
}
