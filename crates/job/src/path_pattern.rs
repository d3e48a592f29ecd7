//! The path under which a file of a job is served: a literal path, or a regex for many.

use serde::{Deserialize, Serialize};

use crate::whole_regex::{KnownGroups, RegexError, WholeRegex};

/// Paths that begin so are the gateway's own.
pub(crate) const RESERVED: &str = "/_/";

/// A regex that matches whole paths. A path that equals its text fits too: `/a+b.txt` is often meant literally.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PathPattern(WholeRegex);

impl PathPattern {
    /// Compiles it. Whether it is absolute is its reader's question.
    ///
    /// # Errors
    /// It is no regex.
    pub fn new(text: &str) -> Result<Self, RegexError> {
        WholeRegex::new(text).map(Self)
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Whether a request for this path is meant.
    pub fn fits(&self, path: &str) -> bool {
        path == self.as_str() || self.0.fits(path)
    }

    /// A text (an address, a path in an archive) with its `\1` replaced by what the groups match in `path`. `None`: the
    /// path does not fit. A path that only equals the pattern's text has no groups: the text stays as it is.
    pub fn rewrite(&self, path: &str, template: &str) -> Option<String> {
        match self.0.groups_of(path) {
            Some(groups) => Some(groups.expand(template)),
            None => (path == self.as_str()).then(|| template.to_owned()),
        }
    }

    pub(crate) fn known_groups(&self) -> KnownGroups {
        self.0.known_groups()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_a_regex_and_also_its_own_text() {
        let path = PathPattern::new("/(hello|bye)/world").unwrap();
        assert!(path.fits("/hello/world") && path.fits("/(hello|bye)/world"));
        assert!(!path.fits("/hi/world") && !path.fits("/hello/world/x") && !path.fits("x/hello/world"));
        assert_eq!(path.rewrite("/bye/world", r"http://h/\1").as_deref(), Some("http://h/bye"));
        assert_eq!(path.rewrite("/(hello|bye)/world", r"http://h/\1").as_deref(), Some(r"http://h/\1"));
        assert_eq!(path.rewrite("/hi/world", "x"), None);
    }
}
