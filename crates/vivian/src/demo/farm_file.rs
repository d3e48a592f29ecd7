//! Edits the farm file as a person does: line by line, leaving everything else as it is.

/// Sets fields of a machine in the text of a farm file. Fields that are there are changed, others are added.
pub fn set(text: &str, machine: &str, fields: &[(&str, &str)]) -> String {
    let mut out = String::with_capacity(text.len() + 64);
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        push(&mut out, line);
        if !is_key_of(line, machine) {
            continue;
        }
        let indent = indent_of(line);
        let inner = lines.peek().map_or(indent + 2, |next| indent_of(next).max(indent + 1));
        for (name, value) in fields {
            push(&mut out, &format!("{}{name}: {value}", " ".repeat(inner)));
        }
        while let Some(next) = lines.next_if(|next| next.trim().is_empty() || indent_of(next) > indent) {
            let replaced = indent_of(next) == inner
                && next
                    .trim_start()
                    .split_once(':')
                    .is_some_and(|(key, _)| fields.iter().any(|(name, _)| *name == key));
            if !replaced {
                push(&mut out, next);
            }
        }
    }
    out
}

fn push(out: &mut String, line: &str) {
    out.push_str(line);
    out.push('\n');
}

fn indent_of(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

fn is_key_of(line: &str, machine: &str) -> bool {
    line.starts_with(' ')
        && line.trim().strip_suffix(':').is_some_and(|key| key.trim_matches(['"', '\'']) == machine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_changed_or_added_and_the_rest_stays() {
        let text = "pdus: {}\nduts:\n  # mine\n  \"52:54:00:11:22:01\":\n    base_name: virtio # kind\n    pdu: null\n    tags:\n      - a\n  other:\n    pdu: X\n";
        let expected = "pdus: {}\nduts:\n  # mine\n  \"52:54:00:11:22:01\":\n    pdu: VPDU\n    pdu_port_id: 1\n    base_name: virtio # kind\n    tags:\n      - a\n  other:\n    pdu: X\n";
        assert_eq!(set(text, "52:54:00:11:22:01", &[("pdu", "VPDU"), ("pdu_port_id", "1")]), expected);
    }
}
