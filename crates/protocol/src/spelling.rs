//! What a person may have meant: the known names that are spelt almost as the one that was written.

/// Longer texts are compared by their beginning: nobody misspells a novel, and a stranger may send one.
const COMPARED: usize = 64;

/// How many are offered.
const OFFERED: usize = 3;

/// A part of a name is taken for it from this length on.
const PART: usize = 3;

/// The known names that differ from `wanted` in few letters or only in case, or of which it is a part; the nearest
/// first, at most three.
///
/// ```
/// use farmgate_protocol::spelling::nearest;
/// assert_eq!(nearest("traget", ["timeouts", "target"]), ["target"]);
/// assert!(nearest("toaster", ["dummy", "vpdu"]).is_empty());
/// ```
pub fn nearest<'a>(wanted: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let plain = |text: &str| text.chars().take(COMPARED).collect::<String>().to_lowercase();
    let wanted = plain(wanted);
    let allowed = (wanted.chars().count() / 4).clamp(1, 4);
    let mut near: Vec<(usize, &str)> = known
        .into_iter()
        .map(|name| {
            let known = plain(name);
            let part = wanted.chars().count() >= PART && known.contains(&wanted);
            (if part { 1 } else { strsim::damerau_levenshtein(&wanted, &known) }, name)
        })
        .filter(|(distance, _)| *distance <= allowed)
        .collect();
    near.sort_unstable();
    near.dedup();
    near.into_iter().take(OFFERED).map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_name_finds_its_neighbours_and_a_strange_one_does_not() {
        let known = ["timeouts", "target", "console_patterns", "f-virtio-1", "f-virtio-12", "VPDU"];
        for (wanted, meant) in [
            ("timeout", vec!["timeouts"]),
            ("console_pattern", vec!["console_patterns"]),
            ("traget", vec!["target"]),
            ("vpdu", vec!["VPDU"]),
            ("f-virtio-2", vec!["f-virtio-1", "f-virtio-12"]),
            ("console", vec!["console_patterns"]),
            ("kernel", vec![]),
            ("", vec![]),
        ] {
            assert_eq!(nearest(wanted, known), meant, "{wanted}");
        }
    }
}
