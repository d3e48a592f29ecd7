//! A job explained: every value with where it comes from, and the same values that a run goes by.
#![allow(clippy::unwrap_used)] // all of it is a test

use std::time::Duration;

use farmgate_job::{
    Action, Checked, Event, Explained, Facts, JobRun, Origin, Pattern, Problem, RunSpec, Source, TimerId,
    Variables, check, explain, firmware_boot,
};
use farmgate_protocol::Timestamp;
use proptest::prelude::*;

const NOW: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);

fn facts() -> Facts {
    Facts { now: NOW, ..Facts::default() }
}

fn look(text: &str, facts: &Facts) -> Checked<Explained> {
    let text = format!("version: 1\n{text}");
    explain(&Source { name: "job.yml", text: &text }, &Variables::default(), facts)
}

fn right(text: &str, facts: &Facts) -> Explained {
    let checked = look(text, facts);
    let told: Vec<String> = checked.problems.iter().map(Problem::to_string).collect();
    assert!(told.is_empty(), "{text}\n{}", told.join("\n"));
    checked.value.unwrap()
}

fn origin_of_timeout(job: &Explained, name: &str) -> Origin {
    job.timeouts.iter().find(|t| t.name == name).unwrap().origin
}

#[test]
fn a_timeout_is_given_where_it_is_written_whatever_it_says() {
    for (text, name, origin) in [
        ("", "overall", Origin::Default),
        ("timeouts: {overall: {hours: 6}}", "overall", Origin::Given),
        ("timeouts: {boot_cycle: {}}", "boot_cycle", Origin::Given),
        ("timeouts: {boot_cycle: }", "boot_cycle", Origin::Default),
        ("timeouts: {overall: {hours: 6}}", "infra_setup", Origin::Default),
        ("timeouts: {watchdogs: {gpu: {seconds: 1}}}", "watchdogs.gpu", Origin::Given),
        ("timeouts: {firmware_boot: {seconds: 9}}", "firmware_boot", Origin::Given),
        ("", "firmware_boot", Origin::Default),
    ] {
        assert_eq!(origin_of_timeout(&right(text, &facts()), name), origin, "{text}");
    }
    let known = Facts { firmware_boot_time: Some(Duration::from_secs(4)), ..facts() };
    assert_eq!(origin_of_timeout(&right("", &known), "firmware_boot"), Origin::Learned);
    let given = right("timeouts: {firmware_boot: {seconds: 9}}", &known);
    assert_eq!(origin_of_timeout(&given, "firmware_boot"), Origin::Given);
}

/// What a run arms for its firmware, and how many boots it then makes.
fn firmware_of_a_run(job: &str, learned: Option<Duration>) -> (Option<Duration>, usize) {
    let job = right(job, &facts()).job;
    let (mut run, mut actions) = JobRun::new(RunSpec { job, firmware_boot_time: learned }, NOW);
    for event in [Event::SetupDone, Event::PowerOff, Event::PowerOn] {
        actions.extend(run.on(event, NOW));
    }
    let armed = actions.iter().find_map(|action| match action {
        Action::ArmTimer { timer: TimerId::FirmwareBoot, at } => Some(at.since(NOW)),
        _ => None,
    });
    let (mut boots, mut now) = (1, NOW);
    while let Some(limit) = armed {
        now = now + limit;
        let actions = run.on(Event::Timer { timer: TimerId::FirmwareBoot }, now);
        if !actions.contains(&Action::PowerCycle) {
            break;
        }
        boots += 1;
        run.on(Event::PowerOff, now);
        run.on(Event::PowerOn, now);
    }
    (armed, boots)
}

#[test]
fn the_firmwares_limit_that_is_shown_is_the_one_that_a_run_keeps() {
    for learned in [None, Some(1.0), Some(2.0), Some(2.1), Some(60.5)] {
        let learned = learned.map(Duration::from_secs_f64);
        let shown = firmware_boot(learned);
        let boots = 1 + usize::try_from(shown.retries).unwrap();
        assert_eq!(firmware_of_a_run("", learned), (shown.limit, boots), "{learned:?}");
    }
}

#[test]
fn a_boot_says_what_it_has_of_its_own_and_what_of_the_first() {
    let job = right(
        "deployment:
  start:
    kernel: {url: 'http://h/k', cmdline: {a: one, b: two}}
    initramfs: {base: {url: 'http://h/i'}}
  continue:
    kernel: {cmdline: {b: three}}
    initramfs: {more: {data: x}}",
        &facts(),
    );
    let show = |parts: &[farmgate_job::Part]| -> Vec<(String, Origin)> {
        parts.iter().map(|part| (part.name.clone(), part.origin)).take(3).collect()
    };
    let expect = |kernel, initramfs, cmdline| {
        vec![
            ("kernel".to_owned(), kernel),
            ("initramfs".to_owned(), initramfs),
            ("cmdline".to_owned(), cmdline),
        ]
    };
    assert_eq!(show(&job.start), expect(Origin::Given, Origin::Given, Origin::Given));
    assert_eq!(show(&job.continue_), expect(Origin::Start, Origin::Merged, Origin::Merged));
    assert_eq!(job.continue_[2].value, "one three");

    let job = right("deployment: {continue: {kernel: {url: 'http://h/k'}}}", &facts());
    assert_eq!(show(&job.start), expect(Origin::Default, Origin::Default, Origin::Default));
    assert_eq!(show(&job.continue_), expect(Origin::Given, Origin::Default, Origin::Default));
    // A kernel that is there for its command line alone is none.
    let job = right("deployment: {start: {kernel: {cmdline: quiet}}}", &facts());
    assert_eq!(show(&job.start), expect(Origin::Default, Origin::Default, Origin::Given));
}

#[test]
fn the_farms_pattern_of_unfit_machines_gives_way_to_the_jobs() {
    let farm = Facts { unfit_pattern: Some(Pattern::new("on fire").unwrap()), ..facts() };
    let unfit = |text: &str, facts: &Facts| {
        let job = right(text, facts);
        let found = job.patterns.iter().find(|p| p.name == "machine_unfit_for_service").unwrap().clone();
        assert_eq!(
            job.job.console_patterns.machine_unfit_for_service.map(|p| p.as_str().to_owned()),
            found.regex,
            "the job that would run has the pattern that is shown"
        );
        (found.regex, found.origin)
    };
    let own = "console_patterns: {machine_unfit_for_service: {regex: dead}}";
    assert_eq!(unfit("", &facts()), (None, Origin::Default));
    assert_eq!(unfit("", &farm), (Some("on fire".to_owned()), Origin::Farm));
    assert_eq!(unfit(own, &farm), (Some("dead".to_owned()), Origin::Given));
}

#[test]
fn a_deadline_is_warned_of_only_when_it_has_passed() {
    for (deadline, warnings) in [("2020-01-01", 1), ("2999-01-01", 0)] {
        let checked = look(&format!("deadline: {deadline}\n"), &facts());
        assert_eq!(checked.warnings.len(), warnings, "{deadline}");
        assert!(checked.problems.is_empty());
    }
}

#[test]
fn texts_of_artifacts_that_cannot_be_rendered_are_told_at_their_place() {
    let data = |text: &str| {
        look(
            &format!(
                "deployment:\n  start:\n    initramfs:\n      - data: \"{{% raw %}}{text}{{% endraw %}}\"\n"
            ),
            &facts(),
        )
    };
    let strict = data("#!jinja2\\n{{ nobody }}");
    assert_eq!(strict.problems.len(), 1);
    assert_eq!(strict.problems[0].place.map(|p| p.line), Some(5));
    assert!(strict.problems[0].message.contains("deployment.start.initramfs.data"), "{}", strict.problems[0]);
    let beyond = data("{{ job.http.url }}");
    assert_eq!((beyond.problems.len(), beyond.unsupported.len()), (0, 1));
    assert!(beyond.unsupported[0].message.contains("job.http"), "{}", beyond.unsupported[0]);
    for fine in ["{{ nobody }}", "#!jinja2\\n{{ job.deployment.kernel.cmdline }}", "{{ broken"] {
        let checked = data(fine);
        assert!(checked.problems.is_empty() && checked.unsupported.is_empty(), "{fine}");
    }
}

proptest! {
    #[test]
    fn whatever_it_is_given_it_says_what_the_check_says(text in any_job()) {
        let source = Source { name: "job.yml", text: &text };
        let checked = check(&source, &Variables::default());
        let explained = explain(&source, &Variables::default(), &Facts::default());
        prop_assert_eq!(checked.value, explained.value.map(|e| e.job));
        for problem in &checked.problems {
            prop_assert!(explained.problems.contains(problem));
        }
        for warning in &checked.warnings {
            prop_assert!(explained.warnings.contains(warning));
        }
    }
}

/// Lines of a job in any order and depth, most of them wrong.
fn any_job() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        "version: 1",
        "target: {tags: []}",
        "deadline: 2020-01-01",
        "timeouts:",
        "overall: {hours: 1}",
        "boot_cycle: {seconds: 0, retries: 2}",
        "watchdogs: {a: {seconds: 1}}",
        "deployment:",
        "start:",
        "continue:",
        "kernel: {cmdline: [a, b], url: 'http://h/k'}",
        "kernel: {data: '{{ x }}'}",
        "initramfs: {a: {data: '#!jinja2'}}",
        "initramfs:",
        "- url: http://h/i",
        "- data: x",
        "data: 1",
        "data: []",
        "console_patterns:",
        "job_success: {regex: x}",
        "{% for x in [1, 2] %}",
        "{% endfor %}",
        "{{ machine }}",
        "a: &a",
        "b: *a",
        "- {",
        "null",
    ]);
    prop::collection::vec((0..4_usize, words), 0..12).prop_map(|lines| {
        lines.into_iter().map(|(depth, word)| format!("{}{word}\n", "  ".repeat(depth))).collect()
    })
}
