//! Every defence that the threat model claims names a test; here those tests are looked for.

use std::path::Path;

/// The file that a name of a test stands for, and the function.
fn place(name: &str) -> Option<(String, String)> {
    let (path, function) = name.rsplit_once("::")?;
    let file = match path {
        "callers" => "crates/farmgate/tests/callers/main.rs".to_owned(),
        "api" => "crates/farmgate/src/api.rs".to_owned(),
        _ => match path.split_once([':', ' '])? {
            ("api", module) => format!("crates/farmgate/src/api/{}.rs", module.trim_start_matches(':')),
            ("e2e", file) => format!("e2e/tests/{file}.rs"),
            ("store", file) => format!("crates/store/tests/state/{file}.rs"),
            _ => return None,
        },
    };
    Some((file, function.to_owned()))
}

#[test]
fn every_line_of_the_threat_model_names_a_test_that_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let text = std::fs::read_to_string(root.join("docs/threat-model.md")).unwrap();
    let mut lines = 0;
    for line in text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| tries")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').collect();
        assert_eq!(cells.len(), 3, "{line}");
        let names: Vec<&str> = cells[2].split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "no test stops this: {line}");
        for name in names {
            let (file, function) = place(name).unwrap_or_else(|| panic!("{name:?} is no name of a test"));
            let source = std::fs::read_to_string(root.join(&file)).unwrap_or_else(|e| panic!("{file}: {e}"));
            assert!(source.contains(&format!("fn {function}(")), "{file} has no test {function}");
        }
        lines += 1;
    }
    assert!(lines > 20, "{lines}");
}
