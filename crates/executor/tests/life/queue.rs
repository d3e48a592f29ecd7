//! Jobs that wait, clients that come back, and what can be asked of a run.

use std::{sync::Arc, time::Duration};

use farmgate_executor::{Accepted, AttachError, Since, Submission, SubmitError, serve_client};
use farmgate_protocol::{
    JobStatus, Timestamp,
    console::{FrameReader, Payload, Tag},
    dut::DutState,
    run::{Priority, RunState},
    submit::Metadata,
};
use farmgate_store::RunQuery;
use tokio::io::AsyncReadExt;

use crate::farm::{Farm, PATIENCE, WIRED, attend, good, job, play_machine};

fn submission(text: &str, metadata: Metadata) -> Submission {
    Submission {
        metadata,
        name: "job.yml".to_owned(),
        text: text.to_owned(),
        submitter: "test".to_owned(),
        resumable: true,
    }
}

fn waits() -> Metadata {
    Metadata { wait: Some(true), ..Metadata::default() }
}

async fn farm() -> Farm {
    let farm = Farm::start(WIRED, 1).await;
    farm.wait_for_state(DutState::Idle).await;
    farm
}

async fn submit(farm: &Farm, metadata: Metadata) -> Result<Accepted, SubmitError> {
    farm.executor.submit(submission(&job("hello"), metadata)).await
}

/// Plays the machine from now on.
fn machine(farm: &Farm, talk: fn(&str) -> Vec<String>) -> tokio::task::JoinHandle<()> {
    tokio::spawn(play_machine(Arc::clone(&farm.boots), farm.executor.clone(), farm.console, talk))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_waits_runs_when_the_machine_is_free_and_is_told_its_place() {
    let farm = farm().await;
    let first = submit(&farm, Metadata::default()).await.unwrap();
    farm.wait_for("busy", |f| f.executor.duts()[0].state == DutState::Running).await;
    let waiting = submit(&farm, waits()).await.unwrap();
    assert_eq!(waiting.dut, None);
    let why = farm.executor.why(waiting.run).await.unwrap();
    assert_eq!(why.place, Some(1));
    assert_eq!(why.machines[0].run, Some(first.run));
    assert!(why.reason.contains("next"), "{}", why.reason);
    assert!(matches!(submit(&farm, Metadata::default()).await, Err(SubmitError::Busy(_))));

    let machine = machine(&farm, good);
    let salad = farm.executor.salad().clone();
    let (one, two) =
        tokio::join!(attend(first.client, salad.clone(), b""), attend(waiting.client, salad, b""));
    assert_eq!((one.2, two.2), (JobStatus::Pass, JobStatus::Pass));
    let told = two.1.iter().find(|(tag, _)| *tag == Tag::Queued).unwrap();
    assert!(told.1.contains("next"), "{}", told.1);
    let shown = farm.executor.run(waiting.run).await.unwrap();
    assert_eq!(shown.run.state, RunState::Finished);
    assert_eq!(shown.phases[0].phase, "queued");
    assert!(shown.phases[0].seconds.unwrap() > 0.0);
    machine.abort();
    farm.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn important_jobs_run_first_and_equal_ones_in_the_order_in_which_they_came() {
    let farm = farm().await;
    let first = submit(&farm, Metadata::default()).await.unwrap();
    let with = |priority| Metadata { priority: Some(priority), detach: Some(true), ..waits() };
    let mut runs = Vec::new();
    for priority in [Priority::Low, Priority::Default, Priority::Default, Priority::High] {
        runs.push(submit(&farm, with(priority)).await.unwrap().run);
    }
    let machine = machine(&farm, good);
    attend(first.client, farm.executor.salad().clone(), b"").await;
    farm.wait_for("the end", |f| f.executor.duts()[0].state == DutState::Idle).await;
    let query = RunQuery { kind: Some("job".to_owned()), ..RunQuery::default() };
    let begun = tokio::time::Instant::now();
    let rows = loop {
        let rows = farm.executor.runs(query.clone()).await.unwrap();
        if rows.iter().all(|row| row.state == RunState::Finished) {
            break rows;
        }
        assert!(begun.elapsed() < PATIENCE, "{rows:#?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    let mut order: Vec<(Option<Timestamp>, u64)> = rows.iter().map(|r| (r.started, r.id)).collect();
    order.sort();
    let order: Vec<u64> = order.into_iter().map(|(_, run)| run).skip(1).collect();
    assert_eq!(order, [runs[3], runs[1], runs[2], runs[0]]);
    machine.abort();
    farm.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_job_can_be_ended_by_cancelling_it_or_by_a_client_that_is_gone() {
    let farm = farm().await;
    let _first = submit(&farm, Metadata::default()).await.unwrap();
    let cancelled = submit(&farm, waits()).await.unwrap();
    farm.executor.cancel_run(cancelled.run, "a person").await.unwrap();
    let (_, told, status) = attend(cancelled.client, farm.executor.salad().clone(), b"").await;
    assert_eq!(status, JobStatus::SetupFail);
    assert!(told.iter().any(|(tag, text)| *tag == Tag::Verdict && text.contains("a person")), "{told:?}");
    assert!(matches!(
        farm.executor.cancel_run(cancelled.run, "x").await,
        Err(AttachError::Over { status: JobStatus::SetupFail, .. })
    ));
    // The published client: it cannot come back.
    let mut bound = submission(&job("hello"), waits());
    bound.resumable = false;
    let gone = farm.executor.submit(bound).await.unwrap();
    let run = gone.run;
    drop(gone);
    let begun = tokio::time::Instant::now();
    while farm.executor.run(run).await.unwrap().run.state != RunState::Finished {
        assert!(begun.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(farm.executor.run(run).await.unwrap().run.cause.as_deref(), Some("cancelled"));
    farm.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_asks_again_keeps_its_place_before_those_that_came_later() {
    let farm = farm().await;
    let first = submit(&farm, Metadata::default()).await.unwrap();
    let asks = || Metadata { job_id: Some("poller".to_owned()), ..Metadata::default() };
    assert!(matches!(submit(&farm, asks()).await, Err(SubmitError::Busy(_))));
    let later = submit(&farm, waits()).await.unwrap();
    assert_eq!(farm.executor.why(later.run).await.unwrap().place, Some(2));
    let machine = machine(&farm, good);
    attend(first.client, farm.executor.salad().clone(), b"").await;
    // The machine is held for the one that asks.
    let begun = tokio::time::Instant::now();
    let polled = loop {
        match submit(&farm, asks()).await {
            Ok(accepted) => break accepted,
            Err(SubmitError::Busy(_)) => tokio::time::sleep(Duration::from_millis(50)).await,
            Err(error) => panic!("{error}"),
        }
        assert!(begun.elapsed() < PATIENCE);
    };
    let salad = farm.executor.salad().clone();
    let (_, later) =
        tokio::join!(attend(polled.client, salad.clone(), b""), attend(later.client, salad, b""));
    assert_eq!(later.2, JobStatus::Pass);
    let rows = farm.executor.runs(RunQuery::default()).await.unwrap();
    let started = |run| rows.iter().find(|r| r.id == run).unwrap().started.unwrap();
    assert!(
        started(polled.run)
            < started(rows.iter().map(|r| r.id).filter(|id| *id != polled.run).max().unwrap())
    );
    machine.abort();
    farm.stop().await;
}

/// All frames of a stream: console bytes, and the numbers of the messages.
async fn read_all(farm: &Farm, run: u64, token: &str, since: Since) -> (Vec<u8>, Vec<u64>) {
    let link = farm.executor.attach(run, Some(token), since, false).await.unwrap();
    let (mut ours, theirs) = tokio::io::duplex(1 << 16);
    let (reader, writer) = tokio::io::split(theirs);
    let server = tokio::spawn(serve_client(link, farm.executor.salad().clone(), reader, writer));
    let (mut frames, mut console, mut seqs) = (FrameReader::default(), Vec::new(), Vec::new());
    let mut buffer = [0; 4096];
    loop {
        let n = tokio::time::timeout(PATIENCE, ours.read(&mut buffer)).await.unwrap().unwrap();
        assert!(n > 0, "no verdict");
        frames.push(&buffer[..n]);
        while let Some(message) = frames.next_message().unwrap() {
            match message.payload {
                Payload::JobIo(bytes) => console.extend(bytes),
                Payload::Control(control) => seqs.push(control.metadata["seq"].as_u64().unwrap()),
                Payload::SessionEnd { .. } => {
                    drop(ours);
                    server.await.unwrap();
                    return (console, seqs);
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_comes_back_to_any_place_of_its_stream_and_misses_and_doubles_nothing() {
    let farm = farm().await;
    let machine = machine(&farm, good);
    let Accepted { run, client, token, .. } = submit(&farm, Metadata::default()).await.unwrap();
    let token = token.unwrap();
    // Its connection breaks at once.
    drop(client);
    let (console, seqs) = read_all(&farm, run, &token, Since::default()).await;
    let text = String::from_utf8_lossy(&console).into_owned();
    assert!(text.contains("booted with") && text.contains("safe to turn off"), "{text}");
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
    // Again, when it is over, from several places.
    for (bytes, event) in [(0, 0), (10, 3), (console.len() as u64, seqs.len() as u64)] {
        let (rest, later) = read_all(&farm, run, &token, Since { console: bytes, event }).await;
        assert_eq!(rest, &console[bytes as usize..], "from {bytes}");
        assert_eq!(later, &seqs[event as usize..], "from event {event}");
    }
    let wrong = farm.executor.attach(run, Some("0000"), Since::default(), false).await;
    assert!(matches!(wrong, Err(AttachError::Token(_))));
    assert!(matches!(farm.executor.run(999).await, Err(AttachError::Unknown(999))));
    machine.abort();
    farm.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_detached_job_goes_on_when_its_client_leaves() {
    let farm = farm().await;
    let metadata = Metadata { detach: Some(true), ..Metadata::default() };
    let accepted = submit(&farm, metadata).await.unwrap();
    let run = accepted.run;
    drop(accepted);
    let machine = machine(&farm, good);
    let begun = tokio::time::Instant::now();
    while farm.executor.run(run).await.unwrap().run.state != RunState::Finished {
        assert!(begun.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let shown = farm.executor.run(run).await.unwrap();
    assert_eq!(shown.run.status, Some(JobStatus::Pass));
    assert_eq!(shown.attempts.len(), 1);
    assert!(shown.console_bytes > 0);
    let phases: Vec<&str> = shown.phases.iter().map(|p| p.phase.as_str()).collect();
    assert!(phases.contains(&"powering_on") && phases.contains(&"teardown"), "{phases:?}");
    machine.abort();
    farm.stop().await;
}
