//! What the real Jinja2 makes of some hundred templates, recorded by `tests/jinja2/check.py`.

use super::{engine::Undefined, run};
use crate::Variables;

const TABLE: &str = include_str!("../../tests/jinja2/table.json");
const CONTEXT: &str = include_str!("../../tests/jinja2/context.json");

/// Where we differ on purpose: the template, and why.
const DIFFERENT: &[(&str, &str)] = &[
    ("{{ -n.real }}", "nobody needs the real part of a number"),
    ("{{ l|batch(0)|list }}", "an error is better than an empty batch that comes from a mistake"),
    ("{{ s.encode('utf-8') }}", "there are no bytes"),
    ("{{ range }}", "a function's name is nothing to print"),
    ("{{ self }}", "there are no blocks"),
    ("{{ l|pprint }}", "refused with a reason"),
];

fn render(template: &str) -> Result<String, String> {
    let context = serde_json::from_str(CONTEXT).unwrap();
    let normal = template.replace("\r\n", "\n").replace('\r', "\n");
    let body = normal.strip_suffix('\n').unwrap_or(&normal);
    run(body, &Variables(context), None, Undefined::Chain).map(|(text, _)| text).map_err(|f| f.message)
}

#[test]
fn templates_make_what_jinja2_makes_of_them() {
    let table: Vec<(String, Option<String>)> = serde_json::from_str(TABLE).unwrap();
    assert!(table.len() > 500);
    let mut wrong = Vec::new();
    for (template, expected) in &table {
        if DIFFERENT.iter().any(|(known, _)| known == template) {
            continue;
        }
        let ours = render(template);
        if ours.as_ref().ok() != expected.as_ref() {
            wrong.push(format!("{template:?}\n  Jinja2: {expected:?}\n  here:   {ours:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {} differ\n{}", wrong.len(), table.len(), wrong.join("\n"));
}

#[test]
fn what_is_different_on_purpose_is_in_the_table_and_different() {
    let table: Vec<(String, Option<String>)> = serde_json::from_str(TABLE).unwrap();
    for (template, why) in DIFFERENT {
        assert!(!why.is_empty());
        let (_, expected) = table.iter().find(|(known, _)| known == template).unwrap();
        assert_ne!(render(template).ok().as_ref(), expected.as_ref(), "{template}");
    }
}

#[test]
fn numbers_at_their_limits_are_errors_not_panics() {
    let most = "170141183460469231731687303715884105727";
    for template in [
        "{{ (-M - 1) in range(0, -5, -1) }}",
        "{{ (-M - 1) // -1 }}",
        "{{ (-M - 1) % -1 }}",
        "{{ -(-M - 1) }}",
        "{{ (-M - 1) | abs }}",
        "{{ M | round(-38) }}",
        "{{ M * M }}{{ M + 1 }}",
        "{{ [1][M:] }}{{ [1][:-M:-M] }}{{ 'abc'[-M:M:M] }}{{ [1][M] }}{{ [1][-M] }}",
        "{{ 'abc'.find('c', M, -M) }}{{ [1].index(1, -M) }}",
        "{{ '%d' % M }}{{ '{:,}'.format(M) }}{{ '%x' % (-M - 1) }}",
        "{{ range(M) }}",
    ] {
        let _ = render(&template.replace('M', most));
    }
}
