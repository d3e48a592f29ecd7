//! A run, step by step: each rule of timeouts, retries, patterns and verdicts as a table or a short story.
#![allow(clippy::unwrap_used)] // all of it is a test

mod rig;

use std::time::Duration;

use farmgate_job::{Action, BootKind, Cause, Event, Phase, TimerId};
use farmgate_protocol::JobStatus;
use serde_json::json;

use rig::{ENDS, Rig, rig, rig_with};

#[test]
fn a_run_that_passes_goes_its_way_in_this_order() {
    let mut rig = rig(&format!(
        "{ENDS}\ntimeouts: {{overall: {{hours: 1}}, boot_cycle: {{seconds: 300}}, firmware_boot: {{seconds: 30}}, first_console_activity: {{seconds: 60}}, console_activity: {{seconds: 10}}}}"
    ));
    assert_eq!(rig.take(), ["tell 100", "arm overall 3600", "arm infra_setup 900", "prepare Start"]);
    rig.on(Event::SetupDone);
    assert_eq!(rig.take(), ["disarm infra_setup", "tell 101", "plan Start", "tell 200", "cycle"]);
    rig.on(Event::PowerOff);
    assert!(rig.take().is_empty());
    rig.on(Event::PowerOn);
    let on = ["tell 201", "arm boot_cycle 300", "arm firmware_boot 30", "arm first_console_activity 60"];
    assert_eq!(rig.take(), on);
    assert_eq!(rig.run.phase(), Phase::Firmware);
    rig.wait(5.0).stage("dhcp").stage("dhcp").stage("script");
    assert_eq!(rig.take(), ["disarm firmware_boot", "tell 301", "tell 302", "tell 302"]);
    rig.say("garbage without end");
    assert!(rig.take().is_empty());
    rig.say(" and its end\r\nmore");
    assert_eq!(rig.take(), ["disarm first_console_activity", "arm console_activity 10"]);
    rig.say("farmgate.stage=userspace\nfarmgate.stage=userspace\n");
    assert_eq!(rig.take(), ["arm console_activity 10", "tell 303"]);
    assert_eq!(rig.run.phase(), Phase::Session);
    rig.say("it is GOOD\r\nthe EN").say("D\r\nignored GOOD\n");
    assert_eq!(
        rig.take(),
        [
            "arm console_activity 10",
            "tell 401",
            "arm console_activity 10",
            "tell 401",
            "disarm overall",
            "disarm boot_cycle",
            "disarm console_activity",
            "tell 105",
            "arm infra_teardown 900",
            "off",
        ]
    );
    rig.on(Event::TeardownDone);
    assert_eq!(rig.take(), ["disarm infra_teardown", "tell 106", "tell 500", "finish PASS test_passed"]);
    assert_eq!(rig.run.phase(), Phase::Done);
    rig.on(Event::PowerOn).on(Event::ClientGone).say("END\n").on(Event::TeardownDone);
    assert!(rig.take().is_empty());
}

#[test]
fn verdicts_follow_what_was_seen() {
    let none = "console_patterns: {session_end: {regex: END}, job_warn: {regex: ODD}}";
    let table = [
        (none, "END\n", JobStatus::Complete, Cause::TestPassed),
        (none, "ODD\nEND\n", JobStatus::Complete, Cause::TestPassed),
        (ENDS, "END\n", JobStatus::Fail, Cause::TestFailed),
        (ENDS, "ODD\nEND\n", JobStatus::Fail, Cause::TestFailed),
        (ENDS, "GOOD\nEND\n", JobStatus::Pass, Cause::TestPassed),
        (ENDS, "GOOD END\n", JobStatus::Pass, Cause::TestPassed),
        (ENDS, "ODD\nGOOD\nEND\n", JobStatus::Warn, Cause::TestPassed),
        (ENDS, "GOOD\nEND\nODD\n", JobStatus::Pass, Cause::TestPassed),
        (ENDS, "GOOD\nUNFIT END\n", JobStatus::Incomplete, Cause::Infrastructure),
        ("", "[   12.345678] reboot: Power Down\r\n", JobStatus::Complete, Cause::TestPassed),
    ];
    for (job, console, status, cause) in table {
        let mut rig = rig(job);
        let outcome = rig.up().say(console).end();
        assert_eq!((outcome.status, outcome.cause), (status, cause), "{console:?}");
    }
}

#[test]
fn a_match_names_its_patterns_and_shows_its_line() {
    let mut rig = rig(ENDS);
    rig.up().on(Event::Console { bytes: b"GOOD \xff ODD\r\n" });
    let told = rig.told(401);
    assert_eq!(told[0].metadata["patterns"], json!(["job_success", "job_warn"]));
    assert_eq!(told[0].metadata["line"], json!("GOOD \u{fffd} ODD\r\n"));
}

#[test]
fn an_unfit_machine_ends_the_session_and_leaves_service() {
    let mut rig = rig(ENDS);
    rig.up().take();
    rig.say("GOOD\nUNFIT: no GPU\r\nUNFIT\nEND\n");
    let all = rig.take();
    assert_eq!(
        all.iter().filter(|a| a.starts_with("unfit")).collect::<Vec<_>>(),
        ["unfit \"UNFIT: no GPU\\r\\n\""]
    );
    assert!(rig.end().summary.contains("UNFIT: no GPU"));
}

#[test]
fn a_reboot_that_the_job_asks_for_keeps_what_was_seen_and_uses_a_retry() {
    let mut rig = rig(&format!("{ENDS}\ntimeouts: {{boot_cycle: {{minutes: 5, retries: 1}}}}"));
    rig.up().say("GOOD\n").take();
    rig.say("REBOOT\nEND\n");
    assert_eq!(rig.take(), ["tell 401", "disarm boot_cycle", "plan Continue", "tell 200", "cycle"]);
    // The rest of the old boot, and what is printed before power is on, belongs to nobody.
    rig.say("END\n").on(Event::PowerOff).say("END\nEN").on(Event::PowerOn).say("D\n");
    assert_eq!(rig.run.phase(), Phase::Firmware);
    let outcome = rig.say("END\n").end();
    assert_eq!(outcome.status, JobStatus::Pass);
    let ends: Vec<_> = outcome.attempts.iter().map(|a| (a.number, a.boot, a.end.as_str())).collect();
    assert_eq!(ends, [(1, BootKind::Start, "session_reboot"), (2, BootKind::Continue, "session_end")]);
}

#[test]
fn half_a_line_of_one_boot_is_not_completed_by_the_next() {
    let mut rig = rig(&format!("{ENDS}\ntimeouts: {{boot_cycle: {{seconds: 20, retries: 1}}}}"));
    rig.up().say("EN").wait(20.0).fire(TimerId::BootCycle).cycled().say("D\n");
    assert_eq!(rig.run.phase(), Phase::Firmware);
}

#[test]
fn more_reboots_than_allowed_end_the_job() {
    let mut rig = rig(&format!("{ENDS}\ntimeouts: {{boot_cycle: {{minutes: 5, retries: 1}}}}"));
    rig.up().say("GOOD\nREBOOT\n").cycled().say("REBOOT\n");
    let outcome = rig.end();
    assert_eq!(
        (outcome.status, outcome.cause),
        (JobStatus::Incomplete, Cause::Timeout { name: "boot_cycle".into() })
    );
}

#[test]
fn a_timeout_with_retries_boots_again_and_forgets_what_the_hung_boot_printed() {
    let mut rig = rig(&format!("{ENDS}\ntimeouts: {{console_activity: {{seconds: 10, retries: 1}}}}"));
    rig.up().say("GOOD\nODD\n").wait(10.0).fire(TimerId::ConsoleActivity);
    let told = rig.told(400)[0].metadata["timeout"].clone();
    let expected =
        json!({"name": "console_activity", "seconds": 10.0, "retries": 1, "retried": 1, "is_retrying": true});
    assert_eq!(told, expected);
    assert_eq!(rig.asked(&Action::SetBootPlan { boot: BootKind::Continue }), 1);
    let outcome = rig.cycled().say("END\n").end();
    assert_eq!(outcome.status, JobStatus::Fail);
    assert_eq!(outcome.attempts[0].end, "timeout console_activity");
}

#[test]
fn a_timeout_without_retries_left_ends_the_job_with_its_cause() {
    let table = [
        ("boot_cycle", TimerId::BootCycle, Cause::Timeout { name: "boot_cycle".into() }),
        (
            "first_console_activity",
            TimerId::FirstConsoleActivity,
            Cause::Timeout { name: "first_console_activity".into() },
        ),
        ("firmware_boot", TimerId::FirmwareBoot, Cause::Infrastructure),
        ("overall", TimerId::Overall, Cause::Timeout { name: "overall".into() }),
    ];
    for (name, timer, cause) in table {
        let mut rig = rig(&format!("timeouts: {{{name}: {{seconds: 20}}}}"));
        rig.up().wait(20.0).fire(timer);
        let outcome = rig.end();
        assert_eq!((outcome.status, &outcome.cause), (JobStatus::Incomplete, &cause), "{name}");
        assert!(outcome.summary.contains("20 s"), "{}", outcome.summary);
    }
}

#[test]
fn retries_count_over_the_whole_job() {
    let mut rig = rig("timeouts: {boot_cycle: {seconds: 20, retries: 2}}");
    rig.up();
    for retried in [1, 2] {
        rig.wait(20.0).fire(TimerId::BootCycle);
        assert_eq!(rig.told(400).last().unwrap().metadata["timeout"]["retried"], json!(retried));
        rig.cycled();
    }
    rig.wait(20.0).fire(TimerId::BootCycle);
    assert_eq!(rig.told(400).last().unwrap().metadata["timeout"]["is_retrying"], json!(false));
    let outcome = rig.end();
    assert_eq!(outcome.attempts.len(), 3);
    assert!(outcome.summary.contains("3 times"), "{}", outcome.summary);
}

#[test]
fn the_firmware_gets_two_and_a_half_times_what_was_learned_but_at_least_five_seconds() {
    for (learned, given) in [(Some(10.0), Some("25")), (Some(1.0), Some("5")), (None, None)] {
        let mut rig = rig_with("", learned.map(Duration::from_secs_f64));
        rig.up();
        let armed =
            rig.take().into_iter().find_map(|a| a.strip_prefix("arm firmware_boot ").map(str::to_owned));
        assert_eq!(armed.as_deref(), given);
        if given.is_some() {
            for _ in 0..4 {
                rig.wait(30.0).fire(TimerId::FirmwareBoot).cycled();
            }
            assert!(rig.end().summary.starts_with("the machine never asked to boot over the network"));
        }
    }
}

const DOG: &str = "timeouts: {watchdogs: {dog: {seconds: 18, retries: 5}}}\nconsole_patterns: {watchdogs: {dog: {start: {regex: BEGIN}, reset: {regex: TICK}, stop: {regex: STOP}}}}";

#[test]
fn a_watchdog_is_armed_reset_and_stopped_by_its_patterns() {
    let mut rig = rig(DOG);
    rig.up().take();
    rig.say("TICK\n");
    assert_eq!(rig.take(), ["tell 401"], "a reset arms nothing");
    rig.say("BEGIN\n");
    assert_eq!(rig.take(), ["tell 401", "arm watchdogs.dog 18"]);
    rig.wait(9.0).say("TICK\n");
    assert_eq!(rig.take(), ["tell 401", "arm watchdogs.dog 18"]);
    rig.wait(9.0).fire(TimerId::Watchdog("dog".into()));
    assert_eq!(rig.take(), ["arm watchdogs.dog 9"], "the time from before the reset does not bite");
    rig.say("STOP\n");
    assert_eq!(rig.take(), ["tell 401", "disarm watchdogs.dog"]);
    assert_eq!(rig.run.phase(), Phase::Firmware);
}

#[test]
fn a_watchdog_that_bites_boots_again_and_is_not_armed_then() {
    let mut rig = rig(DOG);
    rig.up().say("BEGIN\n").wait(18.0).fire(TimerId::Watchdog("dog".into())).cycled();
    assert_eq!(rig.told(400)[0].metadata["timeout"]["name"], json!("watchdogs.dog"));
    assert_eq!(rig.told(401)[0].metadata["patterns"], json!(["dog.start"]));
    rig.take();
    rig.wait(60.0).say("x\n");
    assert!(rig.take().is_empty());
}

#[test]
fn a_setup_that_fails_never_switches_the_machine_on() {
    let cause = Cause::JobError;
    let mut rig = rig("");
    rig.on(Event::SetupFailed { cause: cause.clone(), message: "the kernel is not there (404)".into() });
    assert_eq!((rig.asked(&Action::PowerCycle), rig.told(102).len()), (0, 1));
    let outcome = rig.end();
    assert_eq!((outcome.status, outcome.cause), (JobStatus::SetupFail, cause));
    assert!(outcome.attempts.is_empty());
}

#[test]
fn a_setup_that_takes_too_long_is_tried_again_and_then_fails() {
    let mut rig = rig("timeouts: {infra_setup: {seconds: 10, retries: 1}}");
    rig.wait(10.0).fire(TimerId::InfraSetup);
    assert_eq!(rig.asked(&Action::Prepare { boot: BootKind::Start }), 2);
    rig.wait(10.0).fire(TimerId::InfraSetup);
    assert_eq!(rig.end().status, JobStatus::SetupFail);
}

#[test]
fn a_timer_that_is_fired_late_counts_once() {
    let mut rig = rig("timeouts: {infra_setup: {seconds: 10, retries: 1}}");
    // So late that the time of the retry is up in this moment, too; that is for the next event.
    rig.wait(20.0).fire(TimerId::InfraSetup);
    assert_eq!((rig.run.phase(), rig.told(400).len()), (Phase::Setup, 1));
    rig.fire(TimerId::InfraSetup);
    assert_eq!((rig.run.phase(), rig.told(400).len()), (Phase::Teardown, 2));
}

#[test]
fn power_that_fails_is_the_farms_fault() {
    let failed = || Event::PowerFailed { message: "the PDU does not answer".into() };
    let mut first = rig("");
    let outcome = first.on(Event::SetupDone).on(failed()).end();
    assert_eq!((outcome.status, outcome.cause), (JobStatus::SetupFail, Cause::Infrastructure));
    let mut later = rig("timeouts: {boot_cycle: {seconds: 1, retries: 1}}");
    let outcome = later.up().wait(1.0).fire(TimerId::BootCycle).on(failed()).end();
    assert_eq!((outcome.status, outcome.cause), (JobStatus::Incomplete, Cause::Infrastructure));
}

#[test]
fn who_leaves_or_cancels_ends_the_run_wherever_it_stands() {
    for event in [Event::ClientGone, Event::Cancel { by: "ada".into() }] {
        let steps: [fn(&mut Rig); 4] = [
            |_| {},
            |r| _ = r.on(Event::SetupDone),
            |r| _ = r.up(),
            |r| _ = r.up().stage("dhcp").say("farmgate.stage=userspace\n"),
        ];
        for step in steps {
            let mut rig = rig("");
            step(&mut rig);
            let outcome = rig.on(event.clone()).end();
            let by = if event == Event::ClientGone { "the client" } else { "ada" };
            assert_eq!(
                (outcome.status, outcome.cause),
                (JobStatus::Incomplete, Cause::Cancelled { by: by.into() })
            );
        }
    }
}

#[test]
fn trouble_with_tidying_up_is_told_but_does_not_turn_the_verdict() {
    let mut failed = rig(ENDS);
    failed.up().say("GOOD END\n").on(Event::TeardownFailed { message: "the port stays on".into() });
    let mut late = rig(ENDS);
    late.up().say("GOOD END\n").wait(5400.0).fire(TimerId::InfraTeardown);
    for (rig, text) in [(failed, "the port stays on"), (late, "too long")] {
        let outcome = rig.run.outcome().unwrap();
        assert_eq!(outcome.status, JobStatus::Pass);
        assert!(outcome.summary.contains(text), "{}", outcome.summary);
        assert_eq!(rig.actions.last(), Some(&Action::Finish(outcome.clone())));
    }
}

#[test]
fn timers_that_ran_out_before_an_event_fire_before_it() {
    let mut rig = rig(&format!("{ENDS}\ntimeouts: {{console_activity: {{seconds: 10, retries: 1}}}}"));
    rig.up().say("GOOD\n").wait(11.0).say("END\n");
    assert_eq!(rig.run.phase(), Phase::PoweringOn, "the end came after the silence was too long");
    rig.cycled();
    // At the very time both happen, the console wins.
    rig.say("GOOD\n").wait(10.0).say("END\n");
    assert_eq!(rig.end().status, JobStatus::Pass);
}

#[test]
fn a_machine_faster_than_its_port_is_not_forgotten() {
    let mut rig = rig_with("", Some(Duration::from_secs(4)));
    rig.on(Event::SetupDone).stage("kernel").on(Event::PowerOff).stage("dhcp").on(Event::PowerOn);
    assert_eq!(rig.run.phase(), Phase::Booting);
    let stages: Vec<_> = rig.told(302).iter().map(|c| c.metadata["stage"].clone()).collect();
    assert_eq!(stages, [json!("dhcp")], "a stage from before the machine was off is of the old boot");
}

#[test]
fn six_hours_take_no_time() {
    let mut rig =
        rig(&format!("{ENDS}\ntimeouts: {{overall: {{hours: 6}}, console_activity: {{seconds: 90}}}}"));
    rig.up();
    for minute in 0..359 {
        rig.wait(60.0).say(&format!("[{minute}] still here\r\n"));
    }
    rig.wait(60.0).fire(TimerId::Overall);
    let outcome = rig.end();
    assert_eq!(outcome.cause, Cause::Timeout { name: "overall".into() });
    assert_eq!(
        outcome.attempts[0].ended_at.since(outcome.attempts[0].powered_at.unwrap()).as_secs(),
        6 * 3600
    );
    assert!(
        serde_json::to_vec(rig.run.state()).unwrap().len() < 1500,
        "what is stored does not grow with the console"
    );
}

#[test]
fn a_line_without_end_and_a_flood_of_matches_are_bounded_and_said() {
    let mut rig = rig(ENDS);
    rig.up();
    rig.on(Event::Console { bytes: &[b'x'; 200_000] });
    assert_eq!(rig.told(0).len(), 1);
    let flood = "ODD\n".repeat(11_000);
    rig.say(&flood);
    assert_eq!((rig.told(401).len(), rig.told(0).len()), (10_000, 2));
    rig.on(Event::Console { bytes: format!("ODD{}\n", "y".repeat(10_000)).as_bytes() });
    assert_eq!(rig.say("GOOD END\n").end().status, JobStatus::Warn);
}

#[test]
fn the_verdict_is_told_before_the_run_finishes() {
    let mut rig = rig("timeouts: {overall: {seconds: 5}}");
    rig.up().stage("script").wait(5.0).fire(TimerId::Overall);
    rig.end();
    let verdict = &rig.told(500)[0].metadata;
    assert_eq!(verdict["status"], json!("INCOMPLETE"));
    assert_eq!((&verdict["cause"], &verdict["timeout"]), (&json!("timeout"), &json!("overall")));
    assert_eq!(verdict["attempts"][0]["last_stage"], json!("script"));
}

#[test]
fn a_pattern_that_costs_too_much_on_many_lines_is_given_up_and_that_is_said_once() {
    let mut rig = rig(r"target: {tags: []}
console_patterns:
  session_end: {regex: the end}
  job_warn: {regex: '(?=(a+)+$)(a|aa)+\1b|CHEAP(?=!)'}");
    rig.up();
    let line = format!("{}bc\n", "a".repeat(60));
    for _ in 0..15 {
        rig.say(&line);
    }
    rig.say("CHEAP!\n");
    assert_eq!(rig.told(401).len(), 1, "it is still searched");
    rig.say(&line).say("CHEAP!\n").say(&line);
    assert_eq!(rig.told(401).len(), 1, "it is not searched any more");
    let said = rig.told(0).iter().filter(|c| c.msg.contains("job_warn takes too many steps")).count();
    assert_eq!(said, 1, "once, not for each line");
    assert_eq!(rig.say("the end\n").end().status, JobStatus::Complete);
}

#[test]
fn a_success_whose_search_was_given_up_is_the_jobs_fault_not_the_tests() {
    let mut rig = rig(r"target: {tags: []}
console_patterns:
  session_end: {regex: the end}
  job_success: {regex: '(?=(a+)+$)(a|aa)+\1b'}");
    rig.up();
    for _ in 0..16 {
        rig.say(&format!("{}b\n", "a".repeat(60)));
    }
    let outcome = rig.say("the end\n").end();
    assert_eq!((outcome.status, outcome.cause), (JobStatus::Fail, Cause::JobError));
    assert!(outcome.summary.contains("given up"), "{}", outcome.summary);
}
