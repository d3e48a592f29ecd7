//! What can be told of a job's machine without a gateway that runs: which one of the farm file it would be, or, where
//! there is none, a made-up one that stands for it. Pure: for checking jobs.

use farmgate_job::Target;
use farmgate_mars::{DutEntry, Farm};
use farmgate_protocol::{
    DutId,
    dut::{Dut, DutState, Training},
};

use crate::{dut::shown::describe, executor::full_names, life::Standing, matching};

/// Id of the machine that [`sample_machine`] makes up; the block is one for virtual machines.
const SAMPLE_ID: &str = "52:54:00:00:00:01";

/// The machines of a farm file, as the gateway shows them before anything is known of their state.
pub fn machines(farm: &Farm, farm_name: &str) -> Vec<Dut> {
    let names = full_names(farm_name, farm);
    let show = |(id, entry): (&DutId, &DutEntry)| shown(id, entry, names.get(id).map_or("", String::as_str));
    farm.duts.iter().map(show).collect()
}

/// A machine that no farm has, with everything that a job may name. It has what `target` asks for.
///
/// None: [`SAMPLE_ID`] is no id, which a test rules out.
pub fn sample_machine(target: Option<&Target>, farm_name: &str) -> Option<Dut> {
    let id = DutId::new(SAMPLE_ID).ok()?;
    let mut tags: Vec<String> = ["virtio:family:VIRTIO", "cpu:arch:x86_64"].map(str::to_owned).to_vec();
    let wanted = target.into_iter().flat_map(|t| &t.tags);
    let own = format!("farm:{farm_name}");
    tags.extend(wanted.filter(|tag| **tag != own).cloned());
    let entry = DutEntry {
        base_name: "sample".to_owned(),
        tags,
        mac_address: SAMPLE_ID.parse().ok(),
        ip_address: Some([10, 42, 0, 99].into()),
        local_tty_device: Some("ttyS0".to_owned()),
        ready_for_service: true,
        ..DutEntry::default()
    };
    let usual = format!("{farm_name}-sample-1");
    let full_name = target.and_then(|t| t.id.as_deref()).unwrap_or(&usual);
    Some(shown(&id, &entry, full_name))
}

fn shown(id: &DutId, entry: &DutEntry, full_name: &str) -> Dut {
    let standing = Standing { state: DutState::Unknown, reason: "as the farm file has it".to_owned() };
    describe(id, entry, full_name, &standing, Default::default(), Training::default(), String::new())
}

/// The machine of that id or full name.
///
/// # Errors
/// There is none; with the nearest names.
pub fn named<'a>(machines: &'a [Dut], name: &str) -> Result<&'a Dut, String> {
    machines.iter().find(|d| d.id.as_str() == name || d.full_name == name).ok_or_else(|| {
        let names = machines.iter().flat_map(|d| [d.id.to_string(), d.full_name.clone()]);
        format!("there is no machine {name:?}{}", matching::nearest(name, names))
    })
}

/// A machine that the target selects: one that is not retired, if there is such.
///
/// # Errors
/// Why there is none: what a submission would be told.
pub fn chosen<'a>(machines: &'a [Dut], target: &Target, farm_name: &str) -> Result<&'a Dut, String> {
    let found = matching::candidates(machines, target, farm_name).map_err(|no| match no {
        matching::NoMatch::UnknownId(text) | matching::NoMatch::Tags(text) => text,
    })?;
    let serving = found.iter().find(|d| !d.is_retired).or(found.first());
    serving.copied().ok_or_else(|| "no machine matches".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn farm() -> Farm {
        let entry = |tag: &str, is_retired| DutEntry {
            base_name: "gfx9".to_owned(),
            tags: vec![tag.to_owned()],
            is_retired,
            ..DutEntry::default()
        };
        let mut farm = Farm::default();
        for (id, tag, retired) in [("a", "old", true), ("b", "old", false), ("c", "new", true)] {
            farm.duts.insert(DutId::new(id).unwrap(), entry(tag, retired));
        }
        farm
    }

    #[test]
    fn a_machine_is_known_by_its_id_and_by_its_full_name() {
        let machines = machines(&farm(), "lab");
        assert_eq!(named(&machines, "b").unwrap().full_name, "lab-gfx9-2");
        assert_eq!(named(&machines, "lab-gfx9-2").unwrap().id.as_str(), "b");
        let error = named(&machines, "lab-gfx9-4").unwrap_err();
        assert!(error.contains("did you mean lab-gfx9-"), "{error}");
    }

    #[test]
    fn a_retired_machine_is_chosen_only_where_there_is_no_other() {
        let machines = machines(&farm(), "lab");
        let id = |tag: &str| {
            let target = Target { id: None, tags: vec![tag.to_owned()] };
            chosen(&machines, &target, "lab").map(|d| d.id.to_string())
        };
        assert_eq!(id("old").unwrap(), "b");
        assert_eq!(id("new").unwrap(), "c");
        assert!(id("nwe").unwrap_err().contains("new"));
    }

    #[test]
    fn the_sample_is_a_machine_that_the_target_selects() {
        let targets = [
            Target { id: None, tags: vec!["x:y".to_owned(), "farm:lab".to_owned()] },
            Target { id: Some("lab-box-7".to_owned()), tags: Vec::new() },
            Target { id: None, tags: Vec::new() },
        ];
        for target in targets {
            let sample = sample_machine(Some(&target), "lab").unwrap();
            assert!(chosen(&[sample], &target, "lab").is_ok(), "{target:?}");
        }
        assert_eq!(sample_machine(None, "lab").unwrap().full_name, "lab-sample-1");
    }
}
