//! Whatever tree of YAML is read as a job or as boot methods: there is an answer, its places are in the file, and the
//! value of a right job survives being stored.

use farmgate_job::{Checked, Job, Source, Variables, check, check_boot_methods};
use proptest::prelude::*;

/// Words that mean something somewhere, so that random trees come far.
const WORDS: &[&str] = &[
    "version",
    "deployment",
    "start",
    "continue",
    "kernel",
    "cmdline",
    "initramfs",
    "dtb",
    "url",
    "data",
    "archive",
    "format",
    "uboot",
    "extension",
    "compression",
    "add",
    "keep",
    "match",
    "path",
    "artifact",
    "mode",
    "rewrite",
    "storage",
    "http",
    "tftp",
    "imagestore",
    "public",
    "images",
    "name",
    "nbd",
    "size",
    "readonly",
    "fastboot",
    "base",
    "pagesize",
    "boot_image",
    "dhcp",
    "options",
    "architecture",
    "mac_address",
    "hostname",
    "router",
    "43",
    "224",
    "proxy",
    "allowed_endpoints",
    ":uncategorised",
    "timeouts",
    "overall",
    "watchdogs",
    "hours",
    "retries",
    "console_patterns",
    "session_end",
    "regex",
    "target",
    "tags",
    "id",
    "deadline",
    "defaults",
    "usb",
    "variables",
    "idVendor",
    "type",
    "os",
    "a",
    "test",
    "tset",
];
const VALUES: &[&str] = &[
    "1",
    "0",
    "-1",
    "0x10",
    "1.5",
    "true",
    "~",
    "cpio",
    "none",
    "arm64",
    "http://h/k",
    "'http://h/\\1'",
    "/x",
    "'/(.*)'",
    "'('",
    "'\\1'",
    "'\\'",
    "10G",
    "0o644",
    "755",
    "h:1",
    "10.0.0.1",
    "52:54:00:11:22:01",
    "'*'",
    "é",
    "''",
    "2026-11",
    "9223372036854775807",
    "99999999999999999999",
    "[]",
    "{}",
];

/// A tree in YAML's flow style; mappings have no key twice.
fn tree() -> impl Strategy<Value = String> {
    let leaf = proptest::sample::select(VALUES).prop_map(str::to_owned);
    leaf.prop_recursive(6, 60, 5, |inner| {
        let entry = (proptest::sample::select(WORDS), inner.clone());
        let map = proptest::collection::btree_map(entry.0, entry.1, 0..5).prop_map(|entries| {
            let all: Vec<_> = entries.iter().map(|(key, value)| format!("'{key}': {value}")).collect();
            format!("{{{}}}", all.join(", "))
        });
        let list = proptest::collection::vec(inner, 0..4).prop_map(|all| format!("[{}]", all.join(", ")));
        prop_oneof![4 => map, 1 => list]
    })
}

fn sound<T>(checked: &Checked<T>, text: &str) {
    let lines = text.split('\n').count();
    for problem in checked.problems.iter().chain(&checked.unsupported).chain(&checked.warnings) {
        let place = problem.place.unwrap_or_else(|| panic!("no place: {problem}\n{text}"));
        assert!((1..=lines).contains(&place.line) && place.column >= 1, "{problem}\n{text}");
        assert!(!problem.to_string().is_empty());
    }
}

fn job(text: &str) {
    let checked = check(&Source { name: "job.yml", text }, &Variables::default());
    sound(&checked, text);
    if let (Some(job), true) = (checked.value, checked.problems.is_empty()) {
        let stored = serde_json::to_value(&job).and_then(serde_json::from_value::<Job>);
        assert_eq!(stored.ok(), Some(job), "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn any_tree_has_an_answer(tree in tree()) {
        job(&tree);
        job(&format!("version: 1\ndeployment: {tree}\n"));
        let checked = check_boot_methods(&Source { name: "boots_db.yml.j2", text: &tree }, &Variables::default());
        sound(&checked, &tree);
    }

    #[test]
    fn any_boot_has_an_answer(start in tree(), later in tree()) {
        job(&format!("version: 1\ndeployment:\n  start: {start}\n  continue: {later}\n"));
        for field in ["kernel", "initramfs", "storage", "dhcp", "fastboot"] {
            job(&format!("version: 1\ndeployment:\n  start: {{{field}: {start}}}\n  continue: {{{field}: {later}}}\n"));
        }
    }

    #[test]
    fn any_text_has_an_answer(text in "\\PC{0,80}", below in "[a-z:{}\\[\\], '\"&*|>!%#\\\\\n-]{0,80}") {
        sound(&check_boot_methods(&Source { name: "b", text: &format!("#\n{below}") }, &Variables::default()), &format!("#\n{below}\n"));
        let _ = check(&Source { name: "j", text: &text }, &Variables::default());
        let _ = check(&Source { name: "j", text: &format!("version: 1\ndeployment: {below}") }, &Variables::default());
    }
}
