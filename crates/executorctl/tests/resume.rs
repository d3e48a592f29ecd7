//! `executorctl run` and `attach` against a gateway whose streams break: what comes out is the whole stream.
#![allow(clippy::unwrap_used, clippy::expect_used)] // in a test a panic is the failure

mod stand_in;

use std::io::Read;

use proptest::prelude::*;
use rustix::process::Signal;
use serde_json::json;
use stand_in::{
    ours::{Fate, Ours, RUN, Stream, TOKEN, passing, running},
    *,
};

const CONSOLE: &[u8] = b"[    0.000000] Linux\r\n\x1b[2J\xff\x00half a line, job_success\r\nlogin: ";

fn path(file: &tempfile::NamedTempFile) -> &str {
    file.path().to_str().unwrap()
}

fn run_at(gateway: &Ours, options: &[&str]) -> Outcome {
    let (url, job) = (gateway.url(), job());
    run(&[&["-e", &url, "run"], options, &[path(&job)]].concat())
}

/// What a client that was never cut off writes.
fn whole(stream: &Stream) -> String {
    let console = String::from_utf8_lossy(&stream.console).into_owned();
    let end = if console.ends_with('\n') || console.is_empty() { "" } else { "\n" };
    format!("{console}{end}PASS\n")
}

/// Every message of [`passing`] was told, and none twice.
fn assert_told_once(error: &str) {
    for note in ["note one", "note two", "note three", "matched\n", "note five"] {
        assert_eq!(error.matches(&format!("[gateway] {note}")).count(), 1, "{note}: {error}");
    }
    assert!(error.contains("job_success (1): all good"), "{error}");
}

/// The length of the head of the first answer.
fn head() -> usize {
    format!("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ci-tron-console\r\nCi_tron_version: 1\r\nFarmgate-Run: {RUN}\r\nFarmgate-Resume: {TOKEN}\r\n\r\n").len()
}

#[test]
fn a_stream_that_breaks_anywhere_comes_out_whole() {
    let stream = passing(CONSOLE, 7);
    let frames = stream.frames(0, 0);
    let ends: Vec<usize> = frames
        .iter()
        .scan(head(), |sum, frame| {
            *sum += frame.len();
            Some(*sum)
        })
        .collect();
    let total = *ends.last().unwrap();
    let last = total - frames.last().unwrap().len();
    for (class, cut, breaks) in [
        ("after the head", head(), true),
        ("in a length", head() + 2, true),
        ("after a length", head() + 4, true),
        ("in a message", ends[0] + 30, true),
        ("between messages", ends[1], true),
        ("in console bytes", ends[2] + 50, true),
        ("between console bytes", ends[3], true),
        ("before the end", last, true),
        ("in the end", last + 20, true),
        ("a byte before all", total - 1, true),
        ("after the end", total, false),
    ] {
        // A reset may take back what was sent and not yet read, also the answer to the submission: so it comes second.
        for plan in [vec![Fate::CutAfter(cut)], vec![Fate::CutAfter(head()), Fate::ResetAfter(cut)]] {
            let gateway = Ours::start(stream.clone(), plan.clone());
            let outcome = run_at(&gateway, &[]);
            assert_eq!(
                (outcome.out.clone(), outcome.code),
                (whole(&stream), 0),
                "{class} {plan:?}: {}",
                outcome.error
            );
            assert_told_once(&outcome.error);
            let attaches = gateway.seen(|seen| seen.attaches.clone());
            if plan.len() == 1 {
                assert_eq!(attaches.len(), usize::from(breaks), "{class}");
                let told = outcome.error.matches("the connection broke").count();
                assert_eq!(told, usize::from(breaks), "{class}: {}", outcome.error);
            }
            assert!(attaches.iter().all(|(_, token)| token.as_deref() == Some(TOKEN)), "{attaches:?}");
            assert_eq!(gateway.seen(|seen| (seen.posts.len(), seen.cancels)), (1, 0));
        }
    }
}

#[test]
fn coming_back_is_tried_until_the_gateway_gives_the_stream() {
    let stream = passing(CONSOLE, 7);
    let plan = [
        Fate::CutAfter(head() + 700),
        Fate::NoAnswer,
        Fate::Status(503),
        Fate::CutAfter(20),
        Fate::CutAfter(300),
        Fate::ResetAfter(500),
    ];
    let gateway = Ours::start(stream.clone(), plan);
    let outcome = run_at(&gateway, &[]);
    assert_eq!((outcome.out.clone(), outcome.code), (whole(&stream), 0), "{}", outcome.error);
    assert_told_once(&outcome.error);
    assert!(outcome.error.contains("connected again"), "{}", outcome.error);
}

#[test]
fn a_gateway_that_is_killed_and_started_again_has_its_client_back() {
    let job = job();
    let gateway = Ours::start(running(&CONSOLE[..20]), []);
    let (port, url) = (gateway.port, gateway.url());
    let mut client = Process::start(&mut client(&["-e", &url, "run", path(&job)]));
    let mut first = [0; 20];
    client.0.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    drop(gateway);
    let stream = passing(CONSOLE, 64);
    let again = Ours::again(port, stream.clone());
    let outcome = client.finish();
    let all = [&first[..], outcome.out.as_bytes()].concat();
    assert_eq!(
        (String::from_utf8_lossy(&all).into_owned(), outcome.code),
        (whole(&stream), 0),
        "{}",
        outcome.error
    );
    let (query, token) = again.seen(|seen| seen.attaches[0].clone());
    assert_eq!((query.as_str(), token.as_deref()), ("console=20&event=1", Some(TOKEN)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 16, ..ProptestConfig::default() })]
    #[test]
    fn whatever_the_cuts_the_output_is_the_stream(
        console in proptest::collection::vec(any::<u8>(), 1..200),
        piece in 1usize..80,
        cuts in proptest::collection::vec((0.0f64..1.0, any::<bool>()), 0..4),
    ) {
        let stream = passing(&console, piece);
        let length = head() + stream.frames(0, 0).concat().len();
        let plan = cuts.iter().enumerate().map(|(index, (place, reset))| {
            // The answer to the submission itself comes to its head: without one there is no run to come back to.
            let least = if index == 0 { head() } else { 0 };
            let cut = least + ((length - least) as f64 * place) as usize;
            if *reset && index > 0 { Fate::ResetAfter(cut) } else { Fate::CutAfter(cut) }
        });
        let gateway = Ours::start(stream.clone(), plan.collect::<Vec<_>>());
        let outcome = run_at(&gateway, &[]);
        prop_assert_eq!(&outcome.out, &whole(&stream), "{}", outcome.error);
        prop_assert_eq!(outcome.code, 0);
        assert_told_once(&outcome.error);
    }
}

#[test]
fn with_wait_a_lost_answer_never_runs_a_job_twice() {
    let stream = passing(CONSOLE, 64);
    let gateway = Ours::start(stream.clone(), [Fate::NoAnswer]);
    let outcome = run_at(&gateway, &["--wait"]);
    assert_eq!((outcome.out.clone(), outcome.code), (whole(&stream), 0), "{}", outcome.error);
    assert_eq!(gateway.seen(|seen| (seen.posts.len(), seen.attaches.len())), (1, 1));
    assert_eq!(gateway.seen(|seen| seen.posts[0]["wait"].clone()), json!(true));
}

#[test]
fn with_wait_a_job_that_never_arrived_is_submitted_again() {
    let stream = passing(CONSOLE, 64);
    // A script and not ours: the gateway forgets the first submission.
    let gateway = StandIn::play(move |listener| {
        drop(Request::next(listener));
        let look = Request::next(listener);
        assert_eq!(look.line, "GET /api/v1/jobs?limit=30");
        look.answer_json("200 OK", &json!({"jobs": []}));
        let mut console = Request::next(listener).upgrade(b"");
        console.send(&stream.frames(0, 0).concat());
        console.expect_close();
    });
    let outcome = run(&["-e", &gateway.url(), "run", "--wait", path(&job())]);
    assert_eq!(outcome.code, 0, "{}", outcome.error);
    gateway.done();
}

#[test]
fn without_wait_a_lost_answer_is_said_to_be_unknown() {
    let gateway = Ours::start(passing(CONSOLE, 64), [Fate::NoAnswer]);
    let outcome = run_at(&gateway, &[]);
    assert_eq!((outcome.last_word(), outcome.code), ("SETUP_FAIL", 6));
    assert!(outcome.error.contains("Whether the gateway took the job is not known"), "{}", outcome.error);
}

#[test]
fn a_stream_that_cannot_be_had_again_is_incomplete_and_said() {
    for (fate, options, words) in [
        (Fate::Status(403), &[][..], "not now"),
        (Fate::Status(404), &[], "not now"),
        (Fate::NoAnswer, &["--reconnect", "1"], "executorctl attach 42"),
        (Fate::Whole, &["--reconnect", "0"], "executorctl attach 42"),
    ] {
        let plan = std::iter::once(Fate::CutAfter(head() + 700)).chain(std::iter::repeat_n(fate, 9));
        let gateway = Ours::start(passing(CONSOLE, 7), plan);
        let outcome = run_at(&gateway, options);
        assert_eq!((outcome.last_word(), outcome.code), ("INCOMPLETE", 4), "{}", outcome.error);
        assert!(outcome.error.contains(words), "{fate:?}: {}", outcome.error);
    }
}

#[test]
fn a_stream_that_is_always_damaged_at_the_same_place_is_given_up() {
    let gateway = Ours::start(running(CONSOLE), [Fate::Damaged; 20]);
    let outcome = run_at(&gateway, &[]);
    assert_eq!((outcome.last_word(), outcome.code), ("INCOMPLETE", 4), "{}", outcome.error);
    let attaches = gateway.seen(|seen| seen.attaches.len());
    assert!((1..10).contains(&attaches), "{attaches}");
    assert!(outcome.out.starts_with(&*String::from_utf8_lossy(CONSOLE)), "{}", outcome.out);
}

#[test]
fn leaving_deliberately_cancels_the_job() {
    let job = job();
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let gateway = Ours::start(running(CONSOLE), []);
        let mut client = Process::start(&mut client(&["-e", &gateway.url(), "run", path(&job)]));
        let mut seen = vec![0; CONSOLE.len()];
        client.0.stdout.as_mut().unwrap().read_exact(&mut seen).unwrap();
        client.signal(signal);
        let outcome = client.finish();
        assert_eq!((outcome.last_word(), outcome.code), ("INCOMPLETE", 4));
        assert!(outcome.error.contains("the job is cancelled"), "{}", outcome.error);
        assert!(outcome.error.contains("cause     cancelled"), "{}", outcome.error);
        assert_eq!(gateway.seen(|seen| seen.cancels), 1);
    }
}

#[test]
fn a_job_can_be_left_while_its_gateway_is_away() {
    let job = job();
    let gateway = Ours::start(running(CONSOLE), []);
    let mut client = Process::start(&mut client(&["-e", &gateway.url(), "run", path(&job)]));
    let mut seen = vec![0; CONSOLE.len()];
    client.0.stdout.as_mut().unwrap().read_exact(&mut seen).unwrap();
    drop(gateway);
    client.signal(Signal::INT);
    let outcome = client.finish();
    assert_eq!((outcome.last_word(), outcome.code), ("INCOMPLETE", 4));
    assert!(outcome.error.contains("executorctl cancel 42"), "{}", outcome.error);
}

#[test]
fn a_detached_job_is_a_number_and_goes_on() {
    let gateway = Ours::start(running(CONSOLE), []);
    let outcome = run_at(&gateway, &["--detach", "--priority", "low", "--ignore-deadline"]);
    assert_eq!((outcome.out.as_str(), outcome.code), ("42\n", 0), "{}", outcome.error);
    assert!(outcome.error.contains("executorctl attach 42"), "{}", outcome.error);
    gateway.seen(|seen| {
        let post = &seen.posts[0];
        assert_eq!((&post["detach"], &post["priority"]), (&json!(true), &json!("low")));
        assert_eq!((&post["ignore_deadline"], seen.cancels), (&json!(true), 0));
    });
}

#[test]
fn a_gateway_that_cannot_detach_is_an_error() {
    let gateway = StandIn::play(|listener| Request::next(listener).upgrade(b"").expect_close());
    let outcome = run(&["-e", &gateway.url(), "run", "--detach", path(&job())]);
    assert_eq!((outcome.last_word(), outcome.code), ("SETUP_FAIL", 6));
    assert!(outcome.error.contains("without --detach"), "{}", outcome.error);
    gateway.done();
}

#[test]
fn a_visitor_sees_everything_from_the_beginning_and_survives_a_cut_too() {
    let stream = passing(CONSOLE, 7);
    let gateway = Ours::start(stream.clone(), [Fate::CutAfter(900)]);
    let outcome = run(&["-e", &gateway.url(), "attach", "42"]);
    assert_eq!((outcome.out.clone(), outcome.code), (whole(&stream), 0), "{}", outcome.error);
    assert_told_once(&outcome.error);
    let attaches = gateway.seen(|seen| seen.attaches.clone());
    assert_eq!(attaches[0], ("console=0&event=0".to_owned(), None));
    assert!(attaches.len() == 2 && attaches[1].1.is_none(), "{attaches:?}");
}

#[test]
fn a_visitor_that_leaves_ends_nothing() {
    let gateway = Ours::start(running(CONSOLE), []);
    let mut client = Process::start(&mut client(&["-e", &gateway.url(), "attach", "--detach", "42"]));
    let mut seen = vec![0; CONSOLE.len()];
    client.0.stdout.as_mut().unwrap().read_exact(&mut seen).unwrap();
    client.signal(Signal::INT);
    let outcome = client.finish();
    assert_eq!((outcome.last_word(), outcome.code), ("UNKNOWN", 5));
    assert!(outcome.error.contains("job 42 goes on"), "{}", outcome.error);
    assert_eq!(gateway.seen(|seen| seen.cancels), 0);
    assert!(gateway.seen(|seen| seen.attaches[0].0.ends_with("&detach=1")));
}
