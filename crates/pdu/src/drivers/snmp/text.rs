//! Texts that devices tell, made fit to be shown.

/// Longer labels are cut.
const LONGEST: usize = 120;

/// A label from bytes that should be UTF-8, and in old devices are Latin-1.
pub fn label(bytes: &[u8]) -> String {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().copied().map(char::from).collect(),
    };
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    text.trim().chars().take(LONGEST).collect()
}

/// Whether a name ends in just this number: `gigabitEthernet 1/0/5` does in 5, and neither in 15 nor in 0.
pub fn ends_in(name: &str, number: u32) -> bool {
    let digits = name.len() - name.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    name[name.len() - digits..].parse() == Ok(number)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn labels_are_utf_8_or_latin_1_and_hold_no_control_characters() {
        assert_eq!(label("Steckdose ü 机器".as_bytes()), "Steckdose ü 机器");
        assert_eq!(label(b"K\xfchlschrank"), "Kühlschrank");
        assert_eq!(label(b" a\x1b[31mb\0\0"), "a [31mb");
        assert_eq!(label(b""), "");
        assert_eq!(label(&[b'x'; 500]).len(), LONGEST);
    }

    #[test]
    fn only_the_last_number_of_a_name_counts() {
        assert!(ends_in("gigabitEthernet 1/0/5", 5) && ends_in("Port: 05", 5));
        for (name, number) in [("gigabitEthernet 1/0/15", 5), ("Vlan-interface10", 1), ("lo", 0), ("", 1)] {
            assert!(!ends_in(name, number), "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_make_a_label(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let label = label(&bytes);
            prop_assert!(!label.chars().any(char::is_control) && label.chars().count() <= LONGEST);
            let _ = ends_in(&label, 7);
        }
    }
}
