//! Every error is told at its place in the author's own file, whatever the template did to the text.

use farmgate_job::{Problem, Source, Variables, check};
use proptest::prelude::*;
use serde_json::json;

fn problems(text: &str) -> Vec<Problem> {
    let variables = Variables::default()
        .set("tags", json!(["one", "two", "three"]))
        .set("bad", "]")
        .set("lines", "wrong: 1\nworse: 2")
        .set("none", json!(null))
        .set("returns", "x: 1\r\ny: 2\rz: 3");
    check(&Source { name: "job.yml", text }, &variables).problems
}

/// (the job, what is wrong: part of the message, line, column, line of the loop)
type Case = (&'static str, &'static str, usize, usize, Option<usize>);

const CASES: &[Case] = &[
    // Literal text, to the character.
    ("version: 1\nwrong: 1\n", "no field `wrong`", 2, 1, None),
    ("version: 1\ntarget: {wrong: 1}\n", "no field `wrong`", 2, 10, None),
    ("{# c #}version: 1\n{{ '' }}target: {tags: [], wrong: 1}\n", "no field `wrong`", 2, 28, None),
    ("version: 1\ntarget: {tags: [{{ tags[0] }}, two], wrong: 1}\n", "no field `wrong`", 2, 38, None),
    // What a tag made is at the tag.
    ("version: 1\n{{ 'wrong' }}: 1\n", "no field `wrong`", 2, 1, None),
    ("version: 1\ntarget: {tags: [], {{- ' wrong' }}: 1}\n", "no field `wrong`", 2, 20, None),
    ("version: 1\n{{ lines }}\n", "no field `wrong`", 2, 1, None),
    ("version: 1\n{{ lines }}\n", "no field `worse`", 2, 1, None),
    ("version: 1\n{{ returns }}\n", "no field `z`", 2, 1, None),
    ("{{ returns }}\nversion: 1\nwrong: 2\n", "no field `wrong`", 3, 1, None),
    ("version: 1\n{{ 'a' -}}\n\n  wrong: 1\n", "no field `awrong`", 2, 1, None),
    // Comments and tags over several lines.
    ("{# one\ntwo\nthree #}\nversion: 1\nwrong: {{ 7 }}\n", "no field `wrong`", 5, 1, None),
    ("{% set x = [1,\n  2] %}\nversion: 1\n  {#- c\n -#}\nwrong: 1\n", "`version`", 3, 10, None),
    ("{% set x = [1,\n  2] %}\nversion: 1\nwrong: 1\n", "no field `wrong`", 4, 1, None),
    // Loops.
    (
        "version: 1\n{% for t in tags %}\nwrong{{ t }}: 1\n{% endfor %}\n",
        "no field `wrongtwo`",
        3,
        1,
        Some(2),
    ),
    ("version: 1\n{% for t in tags %}\n{{ t }}: 1\n{% endfor %}\nlast: 1\n", "no field `two`", 3, 1, Some(2)),
    ("version: 1\n{% for t in tags %}\n{{ t }}: 1\n{% endfor %}\nlast: 1\n", "no field `last`", 5, 1, None),
    (
        "version: 1\n{% for t in tags -%}\n  {% for u in [1] %}\n{{ t }}{{ u }}: 1\n{% endfor %}\n{%- endfor %}\n",
        "no field `two1`",
        4,
        1,
        Some(3),
    ),
    (
        "version: 1\n{%- for t in tags %}\n  {%- if t == 'two' %}\nwrong: {{ t }}\n  {%- endif %}\n{%- endfor %}\n",
        "no field `wrong`",
        4,
        1,
        Some(2),
    ),
    // Captured text is a value: it is at the tag that prints it.
    ("version: 1\n{% set x %}\nwrong: 1\n{% endset %}\n{{ x }}\n", "no field `wrong`", 5, 1, None),
    ("version: 1\n{% macro m() %}\nwrong: 1\n{% endmacro %}\n{{ m() }}\n", "no field `wrong`", 5, 1, None),
    ("version: 1\n{% filter lower %}\nWRONG: 1\n{% endfilter %}\n", "no field `wrong`", 2, 1, None),
    (
        "version: 1\n{% macro m() %}{{ caller() }}{% endmacro %}\n{% call m() %}\nwrong: 1\n{% endcall %}\n",
        "no field `wrong`",
        3,
        1,
        None,
    ),
    // Raw blocks, strict first line, byte order mark, tabs, CRLF, characters of several bytes.
    ("version: 1\n{% raw %}\n{ wrong: '{{' }{% endraw %}\n", "not YAML", 3, 1, None),
    ("#!jinja2\nversion: 1\nwrong: {{ 1 }}\n", "no field `wrong`", 3, 1, None),
    ("#!jinja2\r\nversion: 1\r\nwrong: {{ 1 }}\r\n", "no field `wrong`", 3, 1, None),
    ("\u{feff}wrong: 1\nversion: 1\n", "no field `wrong`", 1, 1, None),
    ("\u{feff}#!jinja2\nversion: {{ 1 }}\nwrong: 1\n", "no field `wrong`", 3, 1, None),
    (
        "version: 1\r\n{% for t in tags %}\r\n# {{ t }}\r\n{% endfor %}\r\nwrong: 1\r\n",
        "no field `wrong`",
        5,
        1,
        None,
    ),
    ("version: 1\r\ntarget: {tags: ['é☃𝄞'], wrong: {{ 1 }}}\r\n", "no field `wrong`", 2, 25, None),
    ("version: 1\n# {{ 1 }}\n\twrong: 1\n", "not YAML", 3, 2, None),
    ("version: 1\ntarget: {tags: [\"a\tb\"],\twrong: {{ 1 }}}\n", "no field `wrong`", 2, 25, None),
    // Flow collections and folded texts over several lines.
    ("version: {{ 1 }}\ntarget: {\n  tags: [\n    a],\n  wrong: 1}\n", "no field `wrong`", 5, 3, None),
    (
        "version: {{ 1 }}\nconsole_patterns:\n  job_success:\n    regex: >-\n      (a\n      b\n",
        "is not closed",
        5,
        7,
        None,
    ),
    // Errors of the syntax, and what stands before them.
    ("version: {{ 1 }}\ntarget: {tags: [a\n", "not YAML", 2, 16, None),
    ("version: 1\ntarget: [{{ bad }}]\n", "not YAML", 2, 19, None),
    ("version: 1\nwrong: 1\ntarget: {tags: ]\n", "no field `wrong`", 2, 1, None),
    ("version: 1\na: 1\n{% if true %}a: 2{% endif %}\n", "`a` is given twice: first on line 2", 3, 14, None),
];

#[test]
fn an_error_is_told_at_its_place_in_the_authors_file() {
    let mut wrong = Vec::new();
    for (text, message, line, column, loop_line) in CASES {
        let all = problems(text);
        let found = all.iter().find(|p| p.message.contains(message));
        let place = found.and_then(|p| p.place).map(|p| (p.line, p.column));
        if place != Some((*line, *column)) || found.is_some_and(|p| p.loop_line != *loop_line) {
            wrong.push(format!(
                "{text:?}: wanted `{message}` at {line}:{column}, loop {loop_line:?}\n{all:#?}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn what_a_loop_made_is_shown_with_the_line_of_the_loop() {
    let all = problems("version: 1\n{% for t in tags %}\n{{ t }}: 1\n{% endfor %}\n");
    let shown = all.first().unwrap().to_string();
    assert!(shown.contains("3 | {{ t }}: 1") && shown.contains("rendered as: one: 1"), "{shown}");
    assert!(shown.contains("in the loop of line 2"), "{shown}");
}

#[test]
fn an_error_of_the_syntax_hides_nothing_before_it_and_invents_nothing() {
    let text = "version: 1\nwrong: 1\ntimeouts:\n  overal: {hours: 1}\n  boot_cycle: {minutes: x}\ntarget: {tags: [a\nx: }\n";
    let lines: Vec<usize> = problems(text).iter().filter_map(|p| Some(p.place?.line)).collect();
    assert_eq!(lines.iter().filter(|l| **l < 6).collect::<Vec<_>>(), [&2, &4, &5], "{lines:?}");
    // `version` may stand below: its absence is not told, nor that of a pattern's regex.
    for text in ["target: {tags: [a]\n", "version: 1\nconsole_patterns:\n  job_success: {\n  - }\n"] {
        let all = problems(text);
        assert!(all.iter().all(|p| p.message.contains("not YAML")), "{all:#?}");
    }
}

#[test]
fn a_job_with_faults_of_meaning_in_its_yaml_tells_all_of_them() {
    let all = problems("version: 1\nwrong: 1\nversion: 1\ntarget: {tags: !secret [a], tags: [b]}\n[1]: 2\n");
    let lines: Vec<usize> = all.iter().filter_map(|p| Some(p.place?.line)).collect();
    assert_eq!(lines, [2, 3, 4, 4, 5], "{all:#?}");
}

/// Pieces of templates that keep YAML's lines whole, with the lines that they take in the file.
fn piece() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("# plain\n".to_owned()),
        Just("# é☃ {{ tags[1] }} {# c #} text\n".to_owned()),
        Just("{# a\ncomment #}# rest\n".to_owned()),
        Just("{% set x %}# captured\n{% endset %}{{ x }}".to_owned()),
        Just("# {{ nothing }}{{ 1 }}\r\n".to_owned()),
        Just("{% raw %}# {{ raw }}\n{% endraw %}\n".to_owned()),
        Just("{% set y = 1 -%}\n   # stripped\n".to_owned()),
        Just("# {% filter upper %}a\n# b{% endfilter %}\n".to_owned()),
    ];
    leaf.prop_recursive(4, 20, 4, |inner| {
        let body = prop::collection::vec(inner, 1..4).prop_map(|all| all.concat());
        prop_oneof![
            body.clone().prop_map(|b| format!("{{% for i in tags %}}\n{b}{{% endfor %}}\n")),
            body.clone().prop_map(|b| format!("{{% if tags %}}{b}{{% else %}}\n# never\n{{% endif %}}\n")),
            body.clone().prop_map(|b| format!("{{%- if nothing %}}\n# never\n{{% endif %}}\n{b}")),
            body.prop_map(|b| format!("{{% with i = 1 %}}\n{b}{{% endwith %}}\n")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever stands around it, a wrong field is found at its line and column.
    #[test]
    fn literal_text_is_found_to_the_character(
        before in prop::collection::vec(piece(), 0..6),
        after in prop::collection::vec(piece(), 0..4),
    ) {
        let before = before.concat();
        let text = format!("version: 1\n{before}\nwrong: {{tags: [], worse: 1}}\n{}", after.concat());
        let line = text[..text.find("\nwrong:").unwrap()].matches('\n').count() + 2;
        let all = problems(&text);
        prop_assert_eq!(all.len(), 1, "{}\n{:#?}", text, all);
        prop_assert_eq!(all[0].place.map(|p| (p.line, p.column)), Some((line, 1)), "{}", text);
    }
}
