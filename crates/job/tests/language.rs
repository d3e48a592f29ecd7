//! The job language as its users see it: what is read, what is refused, and what the refusal says.

use std::time::Duration;

use farmgate_job::{
    Artifact, Job, JobError, Source, Target, Timeout, Variables, render_data, resolve, target_of,
};
use serde_json::json;

fn machine() -> Variables {
    let tags = json!(["cpu:arch:x86_64", "farm:lab", "it's"]);
    let dut = json!({"id": "52:54:00:11:22:01", "full_name": "lab-virtio-1", "tags": tags, "local_tty_device": "ttyS0"});
    Variables::default()
        .set("machine_id", "52:54:00:11:22:01")
        .set("machine", dut.clone())
        .set("dut", dut)
        .set("machine_tags", tags)
        .set("ready_for_service", true)
        .set("environ", json!({"IMAGE": "registry/x:1", "LIST": "a,b"}))
}

fn read(text: &str) -> Result<Job, JobError> {
    resolve(&Source { name: "job.yml", text }, &machine())
}

fn good(text: &str) -> Job {
    read(text).unwrap_or_else(|e| panic!("{e}"))
}

fn target(text: &str) -> Result<Option<Target>, JobError> {
    target_of(&Source { name: "job.yml", text }, &Variables::default())
}

fn seconds(seconds: u64) -> Timeout {
    Timeout::of(Duration::from_secs(seconds))
}

#[test]
fn the_least_job_has_the_defaults() {
    let job = good("version: 1\n");
    assert_eq!(job.timeouts.overall, seconds(6 * 3600));
    assert_eq!(job.timeouts.infra_setup, seconds(6 * 900));
    assert_eq!(job.timeouts.infra_teardown, seconds(6 * 900));
    assert_eq!(job.timeouts.boot_cycle, Timeout::INFINITE);
    assert_eq!(job.timeouts.firmware_boot, None);
    assert_eq!((job.target, job.deadline), (None, None));
    assert_eq!(job.start, Default::default());
    assert_eq!(job.continue_, Default::default());
    assert!(job.warnings.is_empty());
}

#[test]
fn units_of_a_timeout_add_up_and_whole_days_are_not_zero() {
    let job = good(
        "version: 1\ntimeouts:\n  overall: {days: 4}\n  boot_cycle: {minutes: 1.5, seconds: 1, milliseconds: 500, retries: 2}\n  console_activity: {}\n",
    );
    assert_eq!(job.timeouts.overall, seconds(4 * 86_400));
    assert_eq!(job.timeouts.infra_setup, seconds(86_400));
    let boot = Timeout { limit: Some(Duration::from_millis(91_500)), retries: 2 };
    assert_eq!(job.timeouts.boot_cycle, boot);
    assert_eq!(job.timeouts.console_activity, Timeout::INFINITE);
}

#[test]
fn an_infinite_overall_has_infinite_quarters() {
    let job = good("version: 1\ntimeouts: {overall: {retries: 0}}\n");
    assert_eq!(job.timeouts.overall, Timeout::INFINITE);
    assert_eq!(job.timeouts.infra_setup, Timeout::INFINITE);
}

#[test]
fn the_target_is_known_before_the_machine_is() {
    let templated = "version: 1\ntarget: {id: '{{ machine_id }}', tags: ['a:b']}\nx: {{ machine.full_name.split('-')[0] }}\n";
    assert!(target(templated).unwrap_err().to_string().contains("no field `x`"));
    let found =
        target("version: 1\ntarget:\n  tags: [a, 'b:c']\nconsole_patterns: {{ nothing.at.all }}\n").unwrap();
    assert_eq!(found, Some(Target { id: None, tags: vec!["a".into(), "b:c".into()] }));
    let any = target("version: 1\ntarget: {tags: []}\n").unwrap();
    assert_eq!(any, Some(Target::default()));
    assert_eq!(target("version: 1\n").unwrap(), None);
    assert_eq!(target("#!jinja2\nversion: 1\ntarget:\n  tags: {{ machine_tags }}\n").unwrap(), None);
    assert_eq!(
        target("version: 1\ndeployment: {{ dut.tags | join(',') }}{{ dut.id.split('x')[0] }}\n").unwrap(),
        None
    );
}

#[test]
fn a_printed_list_is_read_as_a_list() {
    let job = good("version: 1\ntarget:\n  tags: {{ machine_tags }}\n");
    assert_eq!(job.target.unwrap().tags, ["cpu:arch:x86_64", "farm:lab", "it's"]);
}

#[test]
fn templates_as_real_jobs_write_them_work() {
    let job = good(
        r#"version: 1
deployment:
  start:
    kernel:
      url: "https://example.org/{{ environ.KERNEL | default('bzImage', true) }}"
      cmdline:
{% for name, value in environ.items() if name != "NOPE" %}
        - {{ name }}={{ value }}
{% endfor %}
{% for name, value in environ | dictsort %}
        - "s.{{ name }}={{ value }}"
{% endfor %}
{% for part in environ.LIST.split(',') %}
        - {{ part | upper }}
{% endfor %}
        - console={{ machine.local_tty_device }},115200 {{ nothing.of.this }}x
        - {{ "ready" if ready_for_service else "not" }} {{ ready_for_service }} {{ none }}
"#,
    );
    let cmdline = "IMAGE=registry/x:1 LIST=a,b s.IMAGE=registry/x:1 s.LIST=a,b A B console=ttyS0,115200 x ready True None";
    assert_eq!(job.start.cmdline.as_deref(), Some(cmdline));
    assert_eq!(job.start.kernel, Some(Artifact::Url("https://example.org/bzImage".into())));
    assert_eq!(job.start, job.continue_);
}

#[test]
fn a_later_boot_inherits_by_category() {
    let job = good(
        r#"version: 1
deployment:
  start:
    kernel:
      url: http://h/k
      cmdline:
        b2c: [one, two]
        a: zero
        ":uncategorised": [rest]
    initramfs:
      main: {url: http://h/i}
      extra: [{url: http://h/e}, {data: "x"}]
  continue:
    kernel:
      cmdline:
        b2c: again
        c: []
    initramfs: {url: http://h/last}
"#,
    );
    assert_eq!(job.start.cmdline.as_deref(), Some("zero one two rest"));
    assert_eq!(job.continue_.cmdline.as_deref(), Some("zero again rest"));
    assert_eq!(job.continue_.kernel, Some(Artifact::Url("http://h/k".into())));
    let url = |u: &str| Artifact::Url(u.into());
    let start = vec![url("http://h/e"), Artifact::Data("x".into()), url("http://h/i")];
    assert_eq!(job.start.initramfs, Some(start.clone()));
    assert_eq!(job.continue_.initramfs, Some([start, vec![url("http://h/last")]].concat()));
}

#[test]
fn uncategorised_things_replace_each_other_and_nothing_replaces_nothing() {
    let with = |later: &str| {
        let text = format!(
            "version: 1\ndeployment:\n  start: {{kernel: {{cmdline: [a, b]}}}}\n  continue: {{kernel: {{cmdline: {later}}}}}\n"
        );
        good(&text).continue_.cmdline.unwrap()
    };
    assert_eq!(with("c"), "c");
    assert_eq!(with("[c, d]"), "c d");
    assert_eq!(with("[]"), "a b");
    assert_eq!(with("~"), "a b");
    assert_eq!(with("{x: c}"), "c a b");
}

#[test]
fn a_kernel_may_be_only_a_command_line() {
    let job = good("version: 1\ndeployment: {start: {kernel: {cmdline: quiet}}}\n");
    assert_eq!((job.start.kernel, job.start.cmdline.as_deref()), (None, Some("quiet")));
    assert_eq!(job.start.initramfs, None);
}

#[test]
fn deadlines_are_read_as_yaml_and_as_iso() {
    for text in
        ["2021-12-22 16:57:08.146275", "2021-12-22T16:57:08.146275Z", "'2021-12-22T17:57:08.146275+01:00'"]
    {
        let job = good(&format!("version: 1\ndeadline: {text}\n"));
        assert_eq!(job.deadline.unwrap().as_micros(), 1_640_192_228_146_275, "{text}");
    }
    assert!(good("version: 1\ndeadline: 2021-12-22\n").deadline.is_some());
    assert!(read("version: 1\ndeadline: soon\n").is_err());
}

#[test]
fn a_folded_pattern_and_one_with_carriage_return_are_read() {
    let job = good(
        "version: 1\nconsole_patterns:\n  session_end:\n    regex: >-\n      ^.*It's now safe to\n      turn off\\r$\n  job_warn: {regex: 'ring .* timeout'}\n",
    );
    assert_eq!(job.console_patterns.session_end.as_str(), "^.*It's now safe to turn off\\r$");
    assert_eq!(job.console_patterns.job_warn.unwrap().as_str(), "ring .* timeout");
}

#[test]
fn what_is_not_supported_yet_is_refused_by_its_name() {
    let table = [
        ("deployment: {start: {storage: {http: {path: /x, data: x}}}}", "deployment.start.storage.http", 2),
        ("deployment:\n  start:\n    dtb: {url: http://h/d}", "deployment.start.dtb", 4),
        ("deployment: {continue: {fastboot: {base: 1}}}", "deployment.continue.fastboot", 2),
        ("deployment: {start: {dhcp: [{options: {}}]}}", "deployment.start.dhcp", 2),
        (
            "deployment: {start: {kernel: {url: http://h/k, format: [{archive: {}}]}}}",
            "deployment.start.kernel.format",
            2,
        ),
        (
            "deployment: {start: {initramfs: [{archive: {extension: cpio}}]}}",
            "deployment.start.initramfs.archive",
            2,
        ),
        ("proxy: {allowed_endpoints: ['h:1']}", "proxy", 2),
        ("deployment: {start: {kernel: {cmdline: '{{ job.bucket.url }}'}}}", "job.bucket", 2),
        ("deployment: {start: {kernel: {cmdline: '{{ minio_url }}'}}}", "minio_url", 2),
        ("deployment: {start: {kernel: {cmdline: '{{ job.http.path_to(1) }}'}}}", "job.http", 2),
        ("# {{ registry.to_local_proxy('x') }}", "registry.to_local_proxy()", 2),
        ("# {{ imagestore.mount('public').nfs }}", "imagestore.mount()", 2),
    ];
    for (text, name, line) in table {
        let error = read(&format!("version: 1\n{text}\n")).unwrap_err();
        assert!(error.is_unsupported(), "{text}: {error}");
        assert!(error.to_string().contains(&format!("`{name}` is not supported yet")), "{text}: {error}");
        assert_eq!(error.line(), Some(line), "{text}: {error}");
    }
}

#[test]
fn a_value_that_the_caller_sets_is_supported() {
    let source = Source {
        name: "j",
        text: "version: 1\ndeployment: {start: {kernel: {cmdline: '{{ job_bucket }}'}}}\n",
    };
    let job = resolve(&source, &machine().set("job_bucket", "b")).unwrap();
    assert_eq!(job.start.cmdline.as_deref(), Some("b"));
}

#[test]
fn what_asks_for_nothing_is_no_error() {
    good("version: 1\nproxy: {}\ndeployment: {start: {dtb: [], storage: ~}, continue: }\ntimeouts: ~\n");
}

/// (the job after its first line, what the message says, line, column)
const REFUSED: [(&str, &str, usize, usize); 30] = [
    ("timeout: {}", "the job has no field `timeout`", 2, 1),
    ("timeout: {}", "did you mean `timeouts`?", 2, 1),
    ("target: {}", "names no machine", 2, 9),
    ("target: {tags: x}", "must be a list", 2, 16),
    ("target: {tag: [x]}", "did you mean `tags`?", 2, 9),
    ("target: []", "must be a mapping", 2, 9),
    ("timeouts: {overall: {hours: 1, retries: 1}}", "takes no retries", 2, 21),
    ("timeouts: {infra_teardown: {retries: 2}}", "takes no retries", 2, 28),
    ("timeouts: {overall: {hours: -1}}", "number of 0 or more", 2, 29),
    ("timeouts: {overall: {hours: .nan}}", "number of 0 or more", 2, 29),
    ("timeouts: {overall: {hours: '1'}}", "number of 0 or more", 2, 29),
    ("timeouts: {overall: {days: 1e9}}", "longer than 100 years", 2, 21),
    ("timeouts: {overall: 5}", "must be a mapping", 2, 21),
    ("timeouts: {boot_cycle: {retries: 1.5}}", "whole number", 2, 34),
    ("timeouts: {watchdogs: [a]}", "must be a mapping", 2, 23),
    ("console_patterns: {job_success: {regex: '('}}", "is not closed", 2, 41),
    ("console_patterns: {job_success: {regex: 'a(?(1)b)'}}", "conditional groups", 2, 41),
    ("console_patterns: {job_success: abc}", "must be a mapping", 2, 33),
    ("console_patterns: {job_success: {}}", "has no `regex`", 2, 33),
    ("console_patterns: {watchdogs: {w: {reset: {regex: x}}}}", "has no `start`", 2, 35),
    ("deployment: {start: {kernel: {url: http://h/k, data: x}}}", "two sources", 2, 36),
    ("deployment: {start: {kernel: {url: boot/k}}}", "no address", 2, 36),
    ("deployment: {start: {initramfs: {ulr: http://h/k}}}", "must be a mapping", 2, 39),
    ("deployment: {start: {initramfs: [http://h/k]}}", "must be a mapping", 2, 34),
    ("deployment: {start: {initramfs: {url: }}}", "has no source", 2, 33),
    ("deployment: {first: {}}", "has no field `first`", 2, 14),
    ("proxy: {}\nproxy: {}", "given twice", 3, 1),
    ("\tx: 1", "not YAML", 2, 1),
    ("{{ x", "the template is wrong", 2, 1),
    (
        "{% for x in range(100000) %}{% for y in range(100000) %}{% endfor %}{% endfor %}",
        "too many steps",
        2,
        1,
    ),
];

#[test]
fn what_is_wrong_is_told_with_its_place_and_what_was_meant() {
    for (text, message, line, column) in REFUSED {
        let error = read(&format!("version: 1\n{text}\n")).unwrap_err();
        assert!(error.to_string().contains(message), "{text}: {error}");
        assert!(!error.is_unsupported(), "{text}");
        assert_eq!(error.line(), Some(line), "{text}: {error}");
        // The template engine's columns are its own affair.
        if !message.contains("template") && !message.contains("steps") && !message.contains("YAML") {
            assert_eq!(error.column(), Some(column), "{text}: {error}");
        }
        assert!(error.to_string().starts_with(&format!("job.yml:{line}:")), "{error}");
    }
}

#[test]
fn a_version_is_needed_and_it_is_one() {
    for text in ["{}", "version: 2", "version: '1'", "target: {tags: []}", "", "~", "- a"] {
        assert!(read(text).is_err(), "{text}");
        assert!(target(text).is_err(), "{text}");
    }
}

#[test]
fn all_that_is_wrong_is_told_at_once_in_order() {
    let error = read("version: 1\ntimeouts:\n  overal: {hours: 1}\nconsole_patterns:\n  job_warn: {regex: '['}\nextra: 1\n").unwrap_err();
    let lines: Vec<_> = error.problems().iter().map(|p| p.place.unwrap().line).collect();
    assert_eq!(lines, [3, 5, 6]);
}

#[test]
fn an_error_shows_the_line_of_the_authors_file_behind_a_loop() {
    let text = "version: 1\n{% for t in machine_tags %}\n# {{ t }}\n{% endfor %}\ntimeout: {hours: 1}\n";
    let error = read(text).unwrap_err();
    assert_eq!((error.line(), error.column()), (Some(5), Some(1)), "{error}");
    let shown = error.to_string();
    assert!(shown.contains("5 | timeout: {hours: 1}\n") && shown.contains("  | ^"), "{shown}");
}

#[test]
fn an_error_in_text_that_a_variable_made_shows_both() {
    let text = "version: 1\ntarget:\n  tags: {{ machine_id }}\n";
    let error = read(text).unwrap_err().to_string();
    assert!(error.starts_with("job.yml:3:9: "), "{error}");
    assert!(
        error.contains("3 |   tags: {{ machine_id }}") && error.contains("rendered as:   tags: 52:54"),
        "{error}"
    );
}

#[test]
fn strict_templates_name_the_undefined_variable_and_keep_their_lines() {
    let text = "#!jinja2\nversion: 1\ndeployment: {start: {kernel: {cmdline: '{{ nope }}'}}}\n";
    let error = read(text).unwrap_err();
    assert_eq!(error.line(), Some(3), "{error}");
    assert!(error.to_string().contains("nope"), "{error}");
    assert!(target_of(&Source { name: "j", text }, &Variables::default()).is_ok());
    let yaml = "#!jinja2\nversion: 1\nnope: 1\n";
    assert_eq!(read(yaml).unwrap_err().line(), Some(3));
}

#[test]
fn what_is_hardly_meant_is_a_warning() {
    let job = good(
        "version: 1\ntimeouts:\n  console_activity: {seconds: 0}\n  watchdogs: {a: {seconds: 1}}\nconsole_patterns:\n  watchdogs: {b: {start: {regex: x}}}\ndeployment: {start: {kernel: {url: {{ environ.NOPE }}}}}\n",
    );
    let all = job.warnings.join("\n");
    for part in
        ["is zero", "watchdog `a` has a timeout", "watchdog `b` has no timeout", "kernel.url` is empty"]
    {
        assert!(all.contains(part), "{part}: {all}");
    }
    assert_eq!(job.warnings.len(), 4, "{all}");
}

#[test]
fn the_data_of_an_artifact_is_a_template_of_its_own() {
    let vars = machine();
    let render = |data: &str| render_data("config.txt", data, &vars, "quiet splash");
    assert_eq!(
        render("c={{ job.deployment.kernel.cmdline }} {{ machine_id }}\n").unwrap(),
        "c=quiet splash 52:54:00:11:22:01\n"
    );
    assert_eq!(
        render("{{ {'b': [{'d': 1, 'c': none}], 'a': true} | tojson }}").unwrap(),
        r#"{"a": true, "b": [{"c": null, "d": 1}]}"#
    );
    assert_eq!(render("{% broken\n").unwrap(), "{% broken\n");
    assert_eq!(render("#!jinja2\n[{{ machine_id }}]\n\n").unwrap(), "[52:54:00:11:22:01]\n\n");
    assert!(render("#!jinja2\n{% broken\n").is_err());
    assert!(render("#!jinja2\n{{ nope }}\n").is_err());
    assert!(render("{{ job.tftp.path_to('kernel') }}").unwrap_err().is_unsupported());
}

#[test]
fn a_job_survives_being_stored() {
    let job = good(
        "version: 1\ndeadline: 2026-01-01\ntarget: {tags: [a]}\ntimeouts: {firmware_boot: {seconds: 3}}\nconsole_patterns: {job_success: {regex: '(?<=a)b'}}\ndeployment: {start: {kernel: {url: http://h/k}, initramfs: {data: x}}}\n",
    );
    let stored = serde_json::to_string(&job).unwrap();
    assert_eq!(serde_json::from_str::<Job>(&stored).unwrap(), job);
}

#[test]
fn a_template_cannot_fill_the_memory() {
    for text in
        ["{% for x in range(9000) %}{{ 'xxxxxxxxxx' * 10000 }}{% endfor %}", "{{ 'x' * 100000000000 }}"]
    {
        assert!(read(text).is_err(), "{text}");
    }
    let long = format!("version: 1\n# {}\n", "x".repeat(farmgate_job::MAX_SOURCE));
    assert!(read(&long).is_err());
}

#[test]
fn a_template_that_nests_a_value_without_end_does_not_end_the_process() {
    let (open, close) = ("[".repeat(40), "]".repeat(40));
    for (step, rounds) in [("[ns.v]".to_owned(), 24_000), (format!("{open}ns.v{close}"), 4_000)] {
        for last in ["", "{{ ns.v }}", "{{ [ns.v] == [ns.v] }}", "{{ ns.v | tojson }}"] {
            let text = format!(
                "{{% set ns = namespace(v=[]) %}}{{% for i in range({rounds}) %}}{{% set ns.v = {step} %}}{{% endfor %}}{last}"
            );
            // Whatever it answers, it answers.
            let _ = render_data("config.txt", &text, &machine(), "");
        }
    }
}

#[test]
fn a_block_at_the_end_of_a_text_has_no_line_end_that_is_not_there() {
    for (block, end, data) in
        [("|", "", "x"), ("|", "\n\n", "x\n"), (">", "", "x"), ("|+", "", "x"), ("|-", "", "x")]
    {
        let text =
            format!("version: 1\ndeployment:\n  start:\n    kernel:\n      data: {block}\n        x{end}");
        let job = read(&text).unwrap();
        assert_eq!(job.start.kernel, Some(Artifact::Data(data.to_owned())), "{block} {end:?}");
    }
}

#[test]
fn a_pattern_that_no_line_or_every_line_matches_is_a_warning_at_its_place() {
    for (pattern, regex, words) in [
        ("job_success", r"done\nand more", "can never match a line"),
        ("session_end", "over$ now", "can never match a line"),
        ("session_end", ".*", "matches every line"),
        ("job_success", "^", "matches every line"),
        ("job_warn", ".*", ""),
        ("session_end", r"done\r?$", ""),
    ] {
        let text = format!(
            "version: 1\nconsole_patterns:\n  job_success: {{regex: ok}}\n  {pattern}: {{regex: '{regex}'}}\n"
        );
        let text = if pattern == "job_success" {
            text.replacen("  job_success: {regex: ok}\n", "", 1)
        } else {
            text
        };
        let job = read(&text).unwrap();
        let told = job.warnings.join("\n");
        if words.is_empty() {
            assert!(job.warnings.is_empty(), "{regex}: {told}");
        } else {
            let line = if pattern == "job_success" { 3 } else { 4 };
            assert!(told.contains(words) && told.starts_with(&format!("job.yml:{line}:")), "{regex}: {told}");
        }
    }
}
