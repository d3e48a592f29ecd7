//! Which DUTs a job may run on.

use std::collections::BTreeSet;

use farmgate_job::Target;
use farmgate_protocol::{dut::Dut, spelling};

/// Why no DUT can ever run it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoMatch {
    /// No DUT has that id or full name (404).
    UnknownId(String),
    /// No DUT has all of the tags (406).
    Tags(String),
}

/// Everything that selects a DUT: its tags, those of a person, and its farm.
pub fn tags_of(dut: &Dut, farm: &str) -> BTreeSet<String> {
    dut.tags.iter().chain(&dut.manual_tags).cloned().chain([format!("farm:{farm}")]).collect()
}

/// Whether a DUT is what a target asks for, busy or not.
pub fn satisfies(dut: &Dut, target: &Target, farm: &str) -> bool {
    let named = target.id.as_ref().is_none_or(|id| dut.id.as_str() == id || &dut.full_name == id);
    let has = |tag: &String| {
        dut.tags.contains(tag)
            || dut.manual_tags.contains(tag)
            || tag.strip_prefix("farm:").is_some_and(|name| name == farm)
    };
    named && target.tags.iter().all(has)
}

/// The DUTs that satisfy a target, busy or not.
pub fn candidates<'a>(duts: &'a [Dut], target: &Target, farm: &str) -> Result<Vec<&'a Dut>, NoMatch> {
    if let Some(id) = &target.id {
        let named: Vec<&Dut> = duts.iter().filter(|d| d.id.as_str() == id || &d.full_name == id).collect();
        if named.is_empty() {
            let names = duts.iter().flat_map(|d| [d.id.to_string(), d.full_name.clone()]);
            return Err(NoMatch::UnknownId(format!("no DUT is called {id:?}{}", nearest(id, names))));
        }
        let missing: Vec<&str> = target
            .tags
            .iter()
            .filter(|t| !tags_of(named[0], farm).contains(*t))
            .map(String::as_str)
            .collect();
        if !missing.is_empty() {
            let text = format!(
                "{} is named by the job, but lacks the tags {}",
                named[0].full_name,
                missing.join(", ")
            );
            return Err(NoMatch::Tags(text));
        }
        return Ok(named);
    }
    let found: Vec<&Dut> = duts.iter().filter(|d| satisfies(d, target, farm)).collect();
    if found.is_empty() { Err(NoMatch::Tags(no_tags(duts, &target.tags, farm))) } else { Ok(found) }
}

fn no_tags(duts: &[Dut], wanted: &[String], farm: &str) -> String {
    if duts.is_empty() {
        return "this farm has no DUTs yet: power one on and let it register".to_owned();
    }
    let existing: BTreeSet<String> = duts.iter().flat_map(|d| tags_of(d, farm)).collect();
    let unknown: Vec<&String> = wanted.iter().filter(|t| !existing.contains(*t)).collect();
    if unknown.is_empty() {
        return format!("no single DUT has all of the tags {}", wanted.join(", "));
    }
    let mut text = String::from("no DUT has the tag");
    for tag in unknown {
        text.push_str(&format!(" {tag:?}{};", nearest(tag, existing.iter().cloned())));
    }
    text.pop();
    text
}

/// ` (did you mean ...?)`, or nothing.
pub(crate) fn nearest(wanted: &str, names: impl Iterator<Item = String>) -> String {
    let names: Vec<String> = names.collect();
    let near = spelling::nearest(wanted, names.iter().map(String::as_str));
    if near.is_empty() { String::new() } else { format!(" (did you mean {}?)", near.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dut::shown::tests::example_dut;

    fn target(id: Option<&str>, tags: &[&str]) -> Target {
        Target { id: id.map(str::to_owned), tags: tags.iter().map(|t| (*t).to_owned()).collect() }
    }

    #[test]
    fn tags_ids_full_names_and_the_farm_select() {
        let duts =
            [example_dut("52:54:00:11:22:01", "virtio", 1), example_dut("52:54:00:11:22:02", "virtio", 2)];
        let found = |t: &Target| candidates(&duts, t, "f").map(|d| d.len());
        assert_eq!(found(&target(None, &[])), Ok(2));
        assert_eq!(found(&target(None, &["virtio:family:VIRTIO", "farm:f"])), Ok(2));
        assert_eq!(found(&target(Some("f-virtio-2"), &[])), Ok(1));
        assert_eq!(found(&target(Some("52:54:00:11:22:01"), &["virtio:family:VIRTIO"])), Ok(1));
        assert!(matches!(found(&target(Some("52:54:00:11:22:01"), &["x"])), Err(NoMatch::Tags(_))));
    }

    #[test]
    fn what_no_dut_has_is_refused_with_the_nearest_that_exist() {
        let duts = [example_dut("52:54:00:11:22:01", "virtio", 1)];
        let Err(NoMatch::Tags(text)) = candidates(&duts, &target(None, &["virtio:familly:VIRTIO"]), "f")
        else {
            panic!("it matched");
        };
        assert!(text.contains("did you mean virtio:family:VIRTIO"), "{text}");
        let Err(NoMatch::UnknownId(text)) = candidates(&duts, &target(Some("f-virtio-3"), &[]), "f") else {
            panic!("it matched");
        };
        assert!(text.contains("f-virtio-1"), "{text}");
    }
}
