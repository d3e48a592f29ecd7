//! Changes to files as people write them: what was not meant keeps every byte.

use proptest::prelude::*;

use super::*;

fn id(text: &str) -> DutId {
    DutId::new(text).unwrap()
}

fn farm(text: &str) -> Farm {
    parse("f", text, &CheckContext::default()).unwrap_or_else(|error| panic!("{error}\n{text}")).farm
}

fn changed(text: &str, dut: &str, change: DutChange) -> String {
    let now = farm(text);
    match update("f", text, &now, &now, &CheckContext::default(), &id(dut), change) {
        Ok(Outcome::Changed(changed)) => changed.text,
        Ok(Outcome::NoSuchDut) => panic!("no such machine in\n{text}"),
        Err(error) => panic!("{error} in\n{text}"),
    }
}

fn removed(text: &str, dut: &str) -> String {
    match remove("f", text, &farm(text), &CheckContext::default(), &id(dut)) {
        Ok(Outcome::Changed(changed)) => changed.text,
        Ok(Outcome::NoSuchDut) => panic!("no such machine in\n{text}"),
        Err(error) => panic!("{error} in\n{text}"),
    }
}

fn ready() -> DutChange {
    DutChange { ready_for_service: Some(true), ..DutChange::default() }
}

fn new() -> DutChange {
    DutChange {
        create: true,
        first_seen: Some("2026-11-22T00:00:00.000000+00:00".to_owned()),
        ..DutChange::default()
    }
}

const COMMENTED: &str = "\
# my farm
pdus: {P: {driver: dummy}}   # just one

duts:
    # on the left
    a:   # the old one
        ready_for_service: false   # not yet
        tags:
          - one   # the first
          # between
          - two
          - three # the last
        comment:
    # on the right
    b: {pdu: P, pdu_port_id: 2, ready_for_service: false}

# the end
jobs: {}
";

#[test]
fn a_value_is_replaced_and_the_comment_beside_it_stays() {
    let expected =
        COMMENTED.replace("ready_for_service: false   # not yet", "ready_for_service: true   # not yet");
    assert_eq!(changed(COMMENTED, "a", ready()), expected);
    let expected = COMMENTED.replace("2, ready_for_service: false}", "2, ready_for_service: true}");
    assert_eq!(changed(COMMENTED, "b", ready()), expected);
}

#[test]
fn a_missing_field_is_added_below_the_last_or_into_the_brackets() {
    let time = DutChange { firmware_boot_time: Some(Some(12.5)), ..DutChange::default() };
    let expected =
        COMMENTED.replace("        comment:\n", "        comment:\n        firmware_boot_time: 12.5\n");
    assert_eq!(changed(COMMENTED, "a", time.clone()), expected);
    let expected = COMMENTED.replace("service: false}", "service: false, firmware_boot_time: 12.5}");
    assert_eq!(changed(COMMENTED, "b", time), expected);
}

#[test]
fn an_empty_value_is_filled() {
    let comment = DutChange { comment: Some(Some("fan: loud # really".to_owned())), ..DutChange::default() };
    let expected = COMMENTED.replace("        comment:\n", "        comment: \"fan: loud # really\"\n");
    assert_eq!(changed(COMMENTED, "a", comment), expected);
}

#[test]
fn items_of_a_list_go_and_come_and_the_lines_of_the_others_stay() {
    let tags = |tags: &[&str]| DutChange {
        tags: Some(tags.iter().map(|t| (*t).to_owned()).collect()),
        ..DutChange::default()
    };
    let expected = COMMENTED
        .replace("          - two\n", "")
        .replace("three # the last\n", "three # the last\n          - \"4\"\n          - cpu:arch:x86_64\n");
    assert_eq!(changed(COMMENTED, "a", tags(&["one", "three", "4", "cpu:arch:x86_64"])), expected);
    let expected = COMMENTED.replace("          - two\n          - three # the last\n", "          - new\n");
    let expected =
        expected.replace("          # between\n          - new\n", "          - new\n          # between\n");
    assert_eq!(changed(COMMENTED, "a", tags(&["one", "new"])), expected);
    let cleared = changed(COMMENTED, "a", tags(&[]));
    assert!(cleared.contains("        tags: [] # the last\n        comment:\n"), "{cleared}");
}

#[test]
fn nothing_is_written_where_nothing_changes() {
    let change = DutChange {
        ready_for_service: Some(false),
        tags: Some(["one", "two", "three"].map(str::to_owned).to_vec()),
        comment: Some(None),
        ..DutChange::default()
    };
    assert_eq!(changed(COMMENTED, "a", change), COMMENTED);
}

#[test]
fn a_machine_is_added_behind_the_others_in_their_indentation() {
    let text = changed(COMMENTED, "52:54:00:11:22:01", new());
    let at = text.find("    \"52:54:00:11:22:01\":\n        base_name: \"\"\n").unwrap();
    assert!(text[..at].ends_with("ready_for_service: false}\n"));
    assert!(text.ends_with("        comment: null\n\n# the end\njobs: {}\n"), "{text}");
    assert!(text.contains("\n        mac_address: \"52:54:00:11:22:01\"\n"), "{text}");
}

#[test]
fn the_first_machine_goes_into_every_kind_of_empty_file() {
    for text in [
        "",
        "# only a comment",
        "# only a comment\n",
        "---\n",
        "duts:\n",
        "duts: {}\n",
        "duts: {}   # none yet\npdus: {}\n",
        "duts: ~ # none\njobs: {}\n",
        "jobs: {}",
        "pdus:\n  P: {driver: dummy}\nduts:\n\n# end\n",
        "jobs: {}\r\nduts:\r\n",
        "{}",
        "{duts: {}}",
        "\u{feff}# from Windows\r\npdus: {}\r\n",
    ] {
        if text == "{}" {
            // A file in brackets is nobody's farm file: it is refused, not harmed.
            let now = farm(text);
            assert!(update("f", text, &now, &now, &CheckContext::default(), &id("a"), new()).is_err());
            continue;
        }
        let once = changed(text, "52:54:00:11:22:01", new());
        let twice = changed(&once, "52:54:00:11:22:02", new());
        assert_eq!(farm(&twice).duts.len(), 2, "{twice}");
        for line in text.lines().filter(|line| !line.starts_with("duts: {}") && !line.starts_with("duts: ~"))
        {
            assert!(text == "{duts: {}}" || twice.lines().any(|l| l == line), "{line:?} is lost in\n{twice}");
        }
        if text.contains("# none yet") {
            assert!(twice.starts_with("duts:    # none yet\n  \"52"), "{twice}");
        }
        assert_eq!(text.contains("\r\n"), twice.contains("\r\n"));
        assert!(!text.contains("\r\n") || !twice.replace("\r\n", "").contains('\n'));
    }
}

#[test]
fn a_machine_is_removed_with_its_own_comments_only() {
    let text = removed(COMMENTED, "a");
    let expected: String = COMMENTED
        .lines()
        .enumerate()
        .filter(|(n, _)| !(5..13).contains(n))
        .map(|(_, l)| format!("{l}\n"))
        .collect();
    assert_eq!(text, expected);
    assert!(farm(&removed(&text, "b")).duts.is_empty());
    for (text, left) in [
        ("duts: {a: {}, b: {}, c: {}}\n", "duts: {b: {}, c: {}}\n"),
        ("duts: {b: {}, a: {}}\n", "duts: {b: {}}\n"),
        ("duts: {a: {}}\n", "duts: {}\n"),
        ("duts:\n  a: {}", "duts:\n"),
    ] {
        assert_eq!(removed(text, "a"), left);
    }
}

#[test]
fn a_number_for_old_readers_is_left_alone_and_found() {
    let text = "duts:\n  52:54:00:11:22:00:\n    pdu_port: 3\n";
    let port = DutChange {
        pdu_port_id: Some(Some(4.into())),
        ready_for_service: Some(true),
        ..DutChange::default()
    };
    let expected = "duts:\n  52:54:00:11:22:00:\n    pdu_port: \"4\"\n    ready_for_service: true\n";
    assert_eq!(changed(text, "52:54:00:11:22:00", port), expected);
}

#[test]
fn a_block_text_at_the_end_does_not_swallow_a_new_field() {
    for text in [
        "duts:\n  a:\n    base_name: x\n    comment: |\n      two\n      lines\n\n\njobs: {}\n",
        "duts:\n  a:\n    comment: |+\n      two\n\n\njobs: {}\n",
    ] {
        let edited = changed(text, "a", ready());
        assert!(edited.lines().any(|line| line == "    ready_for_service: true"), "{edited}");
        assert_eq!(edited.replace("    ready_for_service: true\n", ""), text);
        let comment = DutChange { comment: Some(Some("short".to_owned())), ..DutChange::default() };
        assert!(changed(text, "a", comment).contains("    comment: short\n"));
    }
}

#[test]
fn what_came_by_an_alias_is_overridden_here_and_not_changed_there() {
    let text = "duts:\n  a: &a\n    ready_for_service: false\n  b:\n    <<: *a\n    base_name: x\n  c: *a\n";
    let expected = text.replace("    base_name: x\n", "    base_name: x\n    ready_for_service: true\n");
    assert_eq!(changed(text, "b", ready()), expected);
    let now = farm(text);
    for dut in ["a", "c"] {
        // A change of `a` would change `c` too; `c` has no place of its own.
        let result = update("f", text, &now, &now, &CheckContext::default(), &id(dut), ready());
        assert!(matches!(result, Err(ChangeError::Unfaithful | ChangeError::Edit(_))));
    }
}

#[test]
fn the_field_that_a_person_changed_meanwhile_is_theirs() {
    let before = farm("duts: {a: {base_name: x, comment: old}}\n");
    let text = "duts: {a: {base_name: x, comment: theirs}}\n";
    let change = DutChange {
        comment: Some(Some("ours".to_owned())),
        base_name: Some("z".to_owned()),
        ..DutChange::default()
    };
    let context = CheckContext::default();
    let Ok(Outcome::Changed(changed)) =
        update("f", text, &farm(text), &before, &context, &id("a"), change.clone())
    else {
        panic!("must be possible");
    };
    assert_eq!(changed.text, "duts: {a: {base_name: z, comment: theirs}}\n");
    let Ok(Outcome::Changed(changed)) =
        update("f", text, &farm(text), &Farm::default(), &context, &id("a"), change)
    else {
        panic!("must be possible");
    };
    assert_eq!(changed.text, text, "a machine that was not known is all theirs");
}

#[test]
fn a_change_that_would_break_the_file_is_refused_with_the_place() {
    let text = "duts:\n  a: {pdu: P, pdu_port_id: 1}\n  b: {}\npdus: {P: {driver: x}}\n";
    let change = DutChange {
        pdu: Some(Some("P".to_owned())),
        pdu_port_id: Some(Some(1.into())),
        ..DutChange::default()
    };
    let now = farm(text);
    let result = update("f", text, &now, &now, &CheckContext::default(), &id("b"), change);
    assert!(matches!(result, Err(ChangeError::Wrong(error)) if error.to_string().contains("used twice")));
}

/// One field of a machine as a person may have written it; `X` stands for the indentation.
fn field() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "Xbase_name: gfx9 # kind\n",
        "Xtags: [a, 'b:c', \"d\"]\n",
        "Xtags:\nX  - a # one\nX  # gap\nX  - b\n",
        "Xtags:\nX- a\nX- b # two\n",
        "Xready_for_service:   yes\n",
        "Xcomment: >-\nX  folded\nX  text\n\n",
        "Xcomment: 'it''s'   \n",
        "Xcomment: \"two\\nlines ü\"\n",
        "Xcomment:   # none\n",
        "X# pdu: P\nXpdu_off_delay: 5.0\n",
        "\nXfirmware_boot_time: 1e1\n",
        "Xboot_sequence_power: {a: [1, 2],\nX  b: ~}\n",
        "Xmanual_tags:\nX  []\n",
        "Xis_retired: !!bool false\n",
        "X\"first_seen\" : 2021-12-22 16:57:08.146275\n",
    ])
}

fn machine(n: usize) -> impl Strategy<Value = String> {
    (prop::collection::vec(field(), 0..6), 1..5_usize, any::<bool>(), any::<bool>()).prop_map(
        move |(fields, step, quote, note)| {
            let key = if quote { format!("\"52:54:00:11:22:0{n}\"") } else { format!("52:54:00:11:22:0{n}") };
            let note = if note { "  # a remark\n" } else { "" };
            let mut seen = Vec::new();
            let mut text = format!("{note}  {key}:\n");
            for field in fields {
                let name: String = field
                    .trim_start_matches(['X', '\n', '"', '#', ' '])
                    .chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect();
                let name = if name == "pdu" { "pdu_off_delay".to_owned() } else { name };
                if !seen.contains(&name) {
                    text += &field.replace('X', &" ".repeat(2 + step));
                    seen.push(name);
                }
            }
            text
        },
    )
}

fn file() -> impl Strategy<Value = String> {
    let head = prop::sample::select(vec![
        "",
        "# head\n",
        "pdus: {P: {driver: x}}\n\n",
        "%YAML 1.2\n---\n",
        "---\n# h\n",
    ]);
    let tail = prop::sample::select(vec![
        "",
        "# tail\n",
        "jobs: {}\n",
        "\n\ngitlab: # g\n  a:\n    url: https://x\n",
        "  # inner\njobs:\n",
    ]);
    (head, machine(1), machine(2), machine(3), tail, any::<bool>()).prop_map(|(head, a, b, c, tail, crlf)| {
        let text = format!("{head}duts: # machines\n{a}{b}{c}{tail}");
        if crlf { text.replace('\n', "\r\n") } else { text }
    })
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ -~ü\\n\\t]{0,20}",
        prop::sample::select(vec!["yes", "1:20", "~", "- a", "a: b", "#", "0x1", "null", "1e3", "|"])
            .prop_map(str::to_owned)
    ]
    .prop_filter("a comment of blanks is none", |text| !text.is_empty())
}

fn any_change() -> impl Strategy<Value = DutChange> {
    prop_oneof![
        any::<bool>().prop_map(|v| DutChange { ready_for_service: Some(v), ..DutChange::default() }),
        any_text().prop_map(|v| DutChange { comment: Some(Some(v)), ..DutChange::default() }),
        Just(DutChange { comment: Some(None), ..DutChange::default() }),
        prop::collection::vec(prop_oneof!["[a-d]", any_text()], 0..4)
            .prop_map(|v| DutChange { tags: Some(v), ..DutChange::default() }),
        prop::collection::vec("[a-d:0-9]{1,5}", 0..3)
            .prop_map(|v| DutChange { manual_tags: Some(v), ..DutChange::default() }),
        (0.0..1000.0_f64)
            .prop_map(|v| DutChange { firmware_boot_time: Some(Some(v)), ..DutChange::default() }),
        (0..100_u32).prop_map(|v| DutChange { pdu_off_delay: Some(v.into()), ..DutChange::default() }),
        Just(DutChange {
            boot_sequence_power: Some(Some(json!([[0, 1.5], {"a b": null, "c": "1:2"}]))),
            ..DutChange::default()
        }),
        Just(DutChange { local_tty_device: Some("ttyUSB0".to_owned()), ..DutChange::default() }),
    ]
}

/// The lines of the old text that are no more, in a new text that keeps the order of the others.
fn lost_lines<'t>(old: &'t str, new: &str) -> Vec<&'t str> {
    let (old, new): (Vec<_>, Vec<_>) =
        (old.split_inclusive('\n').collect(), new.split_inclusive('\n').collect());
    // Longest common subsequence, from the end.
    let mut best = vec![vec![0_usize; new.len() + 1]; old.len() + 1];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            best[i][j] =
                if old[i] == new[j] { best[i + 1][j + 1] + 1 } else { best[i + 1][j].max(best[i][j + 1]) };
        }
    }
    let (mut i, mut j, mut lost) = (0, 0, Vec::new());
    while i < old.len() {
        if j < new.len() && old[i] == new[j] && best[i][j] == best[i + 1][j + 1] + 1 {
            (i, j) = (i + 1, j + 1);
        } else if j < new.len() && best[i][j] == best[i][j + 1] {
            j += 1;
        } else {
            lost.push(old[i]);
            i += 1;
        }
    }
    lost
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn any_change_of_one_field_loses_at_most_the_lines_of_that_field(text in file(), n in 1..4_usize, change in any_change()) {
        let dut = format!("52:54:00:11:22:0{n}");
        let now = farm(&text);
        let name = change.differences(&now.duts[&id(&dut)]).first().map(|(names, _)| names[0]);
        let edited = changed(&text, &dut, change);
        let Some(name) = name else {
            prop_assert_eq!(edited, text);
            return Ok(());
        };
        let lost = lost_lines(&text, &edited);
        let values = ["- a", "- b", "# gap", "folded", "text", "[]", "b: ~}"];
        for line in &lost {
            let own = line.trim_start().trim_start_matches('"').starts_with(name);
            prop_assert!(own || values.iter().any(|v| line.trim_start().starts_with(v)), "{line:?} was lost\n{text}\n{edited}");
        }
        prop_assert!(lost.len() <= 4, "{lost:?}");
    }

    #[test]
    fn adding_a_machine_loses_no_line_and_removing_it_restores_the_text(text in file(), change in any_change()) {
        let text = if text.ends_with('\n') { text } else { format!("{text}\n") };
        let added = changed(&text, "52:54:00:11:22:09", DutChange { create: true, ..change });
        prop_assert!(lost_lines(&text, &added).is_empty(), "{text}\n{added}");
        prop_assert_eq!(removed(&added, "52:54:00:11:22:09"), text);
    }

    #[test]
    fn every_text_comes_back_as_it_was(text in any_text()) {
        let yaml = format!("k: {}", crate::render::text(&text));
        let tree = crate::tree::read(&yaml).unwrap().unwrap();
        let value = &tree.get("k").unwrap().value;
        prop_assert_eq!(value.text(), Some(text.as_str()));
        prop_assert!(!value.is_null());
    }
}
