//! A run whose owner goes away and comes back: what is asked again, and what the time in between means.
#![allow(clippy::unwrap_used)] // all of it is a test

mod rig;

use std::time::Duration;

use farmgate_job::{Action, Cause, Event, Phase, TimerId};
use farmgate_protocol::JobStatus;

use rig::{ENDS, Rig, rig, rig_with};

#[test]
fn a_restart_repeats_what_was_not_answered() {
    let job = "timeouts: {overall: {hours: 6}, boot_cycle: {seconds: 900, retries: 3}}";
    let mut rig = rig(job);
    assert_eq!(rig.restart(60.0), ["arm overall 21540", "arm infra_setup 5400", "prepare Start"]);
    rig.on(Event::SetupDone).on(Event::PowerOff);
    assert_eq!(rig.restart(60.0), ["arm overall 21480", "prepare Start"]);
    rig.stage("kernel").on(Event::SetupDone);
    assert_eq!(rig.take(), ["plan Start", "cycle"]);
    rig.cycled();
    assert!(rig.told(302).is_empty(), "a stage from before it was switched off again is of the old boot");
    assert_eq!(rig.restart(60.0), ["arm overall 21420", "arm boot_cycle 840", "prepare Start"]);
    rig.on(Event::SetupDone);
    assert_eq!(rig.take(), ["plan Start"]);
    rig.on(Event::ClientGone);
    assert_eq!(
        rig.restart(7200.0),
        ["arm infra_teardown 5400", "off"],
        "it had no time to tidy up while it was away"
    );
    rig.on(Event::TeardownDone);
    assert_eq!(rig.restart(1.0), ["finish INCOMPLETE cancelled"]);
}

#[test]
fn a_boot_asked_for_while_files_are_prepared_again_waits_for_them() {
    let mut rig = rig(&format!("{ENDS}\ntimeouts: {{boot_cycle: {{seconds: 900, retries: 3}}}}"));
    rig.up().say("farmgate.stage=userspace\nGOOD\n").restart(5.0);
    rig.say("REBOOT\n");
    assert_eq!(rig.take(), ["tell 401", "disarm boot_cycle", "tell 200"]);
    rig.on(Event::SetupDone);
    assert_eq!(rig.take(), ["plan Continue", "cycle"]);
    assert_eq!(rig.cycled().say("END\n").end().status, JobStatus::Pass);
}

#[test]
fn files_that_cannot_be_prepared_again_end_the_run_only_where_it_needs_them() {
    let failed = || Event::SetupFailed { cause: Cause::JobError, message: "404".into() };
    let job = format!("{ENDS}\ntimeouts: {{boot_cycle: {{seconds: 900, retries: 3}}}}");
    let mut session = rig(&job);
    session.up().say("GOOD\n").restart(5.0);
    assert_eq!(session.on(failed()).say("END\n").end().status, JobStatus::Pass);
    let mut boots = rig(&job);
    boots.up().say("GOOD\n").restart(5.0);
    boots.on(failed()).say("REBOOT\n");
    let mut powers = rig(&job);
    powers.on(Event::SetupDone).restart(5.0);
    powers.on(failed());
    for rig in [&mut boots, &mut powers] {
        assert_eq!(rig.asked(&Action::PowerCycle), 0);
        let outcome = rig.end();
        assert_eq!((outcome.status, outcome.cause), (JobStatus::Incomplete, Cause::JobError));
        assert!(outcome.summary.contains("404"), "{}", outcome.summary);
        assert_eq!(outcome.attempts.len(), 1);
    }
}

#[test]
fn a_boot_whose_files_nobody_served_is_repeated_once_and_not_counted() {
    let job = "timeouts: {firmware_boot: {seconds: 30}, boot_cycle: {seconds: 900}}";
    // It fetches; or it has its kernel, and its owner knows that there is more.
    for stage in ["script", "kernel-done"] {
        let mut rig = rig_with(job, Some(Duration::from_secs(8)));
        rig.up().stage(stage);
        let asked = rig.restart_that_knows(40.0, stage == "kernel-done");
        assert_eq!(asked[2..], ["arm restart 20", "prepare Start"], "{asked:?}");
        rig.on(Event::SetupDone).wait(20.0).fire(TimerId::Restart);
        let asked = rig.take();
        assert_eq!(asked[asked.len() - 3..], ["plan Start", "tell 200", "cycle"]);
        rig.cycled();
        assert!(rig.told(400).is_empty(), "no timeout of the job was hit");
        assert!(!rig.restart(1.0).iter().any(|a| a.contains("restart")), "only once");
        rig.on(Event::Cancel { by: "ada".into() });
        let outcome = rig.end();
        assert_eq!(outcome.attempts[0].end, "interrupted by a restart of the gateway");
    }
}

#[test]
fn a_firmware_that_had_not_asked_yet_gets_its_whole_time_again() {
    let job = "timeouts: {firmware_boot: {seconds: 30, retries: 1}}";
    let mut rig = rig_with(job, Some(Duration::from_secs(8)));
    rig.up();
    let asked = rig.restart(40.0);
    assert!(asked.contains(&"arm firmware_boot 30".to_owned()), "{asked:?}");
    assert!(!asked.iter().any(|a| a.contains("arm restart")), "{asked:?}");
}

#[test]
fn a_boot_that_goes_on_after_a_restart_is_left_alone() {
    let job = "timeouts: {watchdogs: {dog: {seconds: 18}}}\nconsole_patterns: {watchdogs: {dog: {start: {regex: BEGIN}}}}";
    let goes_on: [fn(&mut Rig); 3] =
        [|r| _ = r.stage("kernel"), |r| _ = r.say("farmgate.stage=userspace\n"), |r| _ = r.say("BEGIN\n")];
    for goes_on in goes_on {
        let mut rig = rig_with(job, Some(Duration::from_secs(8)));
        rig.up().stage("script").restart(1.0);
        goes_on(&mut rig);
        assert!(rig.take().contains(&"disarm restart".to_owned()));
    }
    // Has its files; boots from a medium that nobody sees; is long past it.
    let done = |r: &mut Rig| _ = r.up().stage("kernel").stage("initrd-done");
    let no_network = |r: &mut Rig| _ = r.up();
    let session = |r: &mut Rig| _ = r.up().stage("script").say("farmgate.stage=userspace\n");
    for (reach, learned) in [(done as fn(&mut Rig), Some(8)), (no_network, None), (session, Some(8))] {
        let mut rig = rig_with(job, learned.map(Duration::from_secs));
        reach(&mut rig);
        assert!(!rig.restart(1.0).iter().any(|a| a.contains("restart")));
    }
}

#[test]
fn what_the_console_said_while_the_gateway_was_away_counts_at_its_own_time() {
    let job = format!("{ENDS}\ntimeouts: {{overall: {{minutes: 10}}, console_activity: {{seconds: 10}}}}");
    for (silence, status) in [(9.0, JobStatus::Pass), (11.0, JobStatus::Incomplete)] {
        let mut rig = rig(&job);
        rig.up().say("GOOD\n");
        let said_at = rig.now;
        rig.restart(3600.0);
        let back = rig.now;
        rig.now = said_at;
        rig.wait(silence).say("END\n");
        assert_eq!(rig.run.phase(), Phase::Teardown);
        rig.now = back;
        rig.wait(5.0);
        let outcome = rig.end();
        assert_eq!(outcome.status, status);
        assert!(
            !outcome.summary.contains("afterwards"),
            "tidying up begins when somebody is there: {}",
            outcome.summary
        );
        let lasted = outcome.attempts[0].ended_at.since(said_at).as_secs_f64();
        assert_eq!(lasted, if silence < 10.0 { 9.0 } else { 10.0 }, "the boot ended when its time was up");
    }
}

#[test]
fn an_unfit_machine_is_reported_again_after_a_restart() {
    let mut rig = rig(ENDS);
    rig.up().say("UNFIT\n");
    assert_eq!(rig.restart(1.0)[0], "unfit \"UNFIT\\n\"");
}

#[test]
fn a_clock_that_goes_back_moves_nothing() {
    let mut rig = rig(&format!("{ENDS}\ntimeouts: {{console_activity: {{seconds: 10, retries: 1}}}}"));
    rig.up().say("GOOD\n").wait(5.0).say("x\n").take();
    rig.wait(-100.0).say("y\n");
    assert_eq!(rig.take(), ["arm console_activity 110"], "ten seconds after the latest time known");
}
