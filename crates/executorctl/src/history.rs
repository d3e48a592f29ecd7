//! Jobs as lines of text: the table of `jobs`, the page of `job`, the sentence of `why`. Pure: what the gateway answered
//! in, text out.

use std::fmt::Write as _;

use farmgate_protocol::{
    Timestamp,
    run::{Run, RunDetail, RunState, Why},
};
use serde_json::Value;

use crate::{
    summary::verdict_colour,
    table::age,
    terminal::{Colour, printable},
};

/// Between two columns.
const GAP: &str = "  ";
/// Width of the left column of a page.
const LABELS: usize = 12;

/// The table of jobs, lines that end in `\n`. With a `width` the last column is cut so that lines fit.
pub fn list(runs: &[Run], now: Timestamp, width: Option<usize>, colour: bool) -> String {
    let mut rows = vec![["Job", "State", "Machine", "Age", "Took", "Name", "Summary"].map(str::to_owned)];
    rows.extend(runs.iter().map(|run| row(run, now)));
    let colours = |index: usize| index.checked_sub(1).and_then(|i| runs[i].status).map(verdict_colour);
    grid(&rows, width, |row, column| {
        if !colour {
            None
        } else if row == 0 {
            Some(Colour::Dim)
        } else {
            (column == 1).then(|| colours(row).unwrap_or(Colour::Yellow))
        }
    })
}

fn row(run: &Run, now: Timestamp) -> [String; 7] {
    let state = match (run.state, run.status, &run.phase) {
        (RunState::Finished, Some(status), _) => status.to_string(),
        (RunState::Active, _, Some(phase)) => phase.replace('_', " "),
        (state, ..) => state.to_string(),
    };
    let took = run.started.map(|from| age(run.ended.unwrap_or(now).since(from).as_secs()));
    let machine = run.dut.as_ref().map(|dut| dut.to_string());
    let name = if run.kind == "job" { one_line(&run.name) } else { format!("({})", one_line(&run.kind)) };
    [
        run.id.to_string(),
        one_line(&state),
        machine.as_deref().map_or_else(|| "-".to_owned(), one_line),
        age(now.since(run.created).as_secs()),
        took.unwrap_or_else(|| "-".to_owned()),
        name,
        run.summary.as_deref().map(one_line).unwrap_or_default(),
    ]
}

fn one_line(text: &str) -> String {
    printable(text).lines().collect::<Vec<_>>().join(" ")
}

/// Rows with aligned columns; only the last column is ever cut.
fn grid<const N: usize>(
    rows: &[[String; N]],
    width: Option<usize>,
    colour: impl Fn(usize, usize) -> Option<Colour>,
) -> String {
    let longest = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(longest);
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        let mut line = String::new();
        let mut used = 0;
        for (column, cell) in row.iter().enumerate() {
            let is_last = column + 1 == N;
            let room =
                width.filter(|_| is_last).map_or(usize::MAX, |width| width.saturating_sub(used).max(8));
            let cell = if cell.chars().count() > room {
                cell.chars().take(room.saturating_sub(3)).chain("...".chars()).collect()
            } else {
                cell.clone()
            };
            let padding = " ".repeat(widths[column].saturating_sub(cell.chars().count()));
            let cell = colour(number, column).map_or_else(|| cell.clone(), |c| c.paint(true, &cell));
            used += widths[column] + GAP.len();
            let _ = write!(line, "{cell}{padding}{GAP}");
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

/// The page of a job.
pub fn detail(detail: &RunDetail, now: Timestamp, colour: bool) -> String {
    let run = &detail.run;
    let mut text = String::new();
    let mut line = |label: &str, value: &str| {
        for (index, part) in value.lines().enumerate() {
            let label = if index == 0 { label } else { "" };
            let _ = writeln!(text, "{label:<LABELS$}{part}");
        }
    };
    line("job", &format!("{} ({}, {})", run.id, one_line(&run.kind), one_line(&run.name)));
    line("state", &state_of(detail, colour));
    if let Some(cause) = &run.cause {
        line("cause", &one_line(cause));
    }
    if let Some(summary) = &run.summary {
        line("summary", &printable(summary));
    }
    if let Some(why) = &detail.why {
        line("waits", &self::why(why));
    }
    if let Some(dut) = &run.dut {
        line("machine", &one_line(dut.as_str()));
    }
    if let Some(id) = &run.job_id {
        line("job id", &one_line(id));
    }
    line(
        "submitted",
        &format!("{} ({} ago) by {}", run.created, ago(run.created, now), one_line(&run.submitter)),
    );
    line("priority", run.priority.as_str());
    if let Some(started) = run.started {
        line("started", &format!("{started}, waited {}", age(started.since(run.created).as_secs())));
    }
    if let Some(ended) = run.ended {
        line("ended", &ended.to_string());
    }
    line("console", &format!("{} bytes: executorctl logs {}", detail.console_bytes, run.id));
    if run.state != RunState::Finished {
        line("clients", &detail.clients.to_string());
    }
    attempts(&mut text, &detail.attempts);
    phases(&mut text, detail, now);
    text
}

fn ago(then: Timestamp, now: Timestamp) -> String {
    age(now.since(then).as_secs())
}

fn state_of(detail: &RunDetail, colour: bool) -> String {
    let run = &detail.run;
    match (run.status, &run.phase) {
        (Some(status), _) => {
            let word = format!("{status} (exit code {})", status.exit_code());
            verdict_colour(status).paint(colour, &word)
        }
        (None, Some(phase)) => format!("{}: {}", run.state, one_line(&phase.replace('_', " "))),
        (None, None) => run.state.to_string(),
    }
}

/// A line for each boot; fields that a newer gateway does not have are blank.
fn attempts(text: &mut String, attempts: &[Value]) {
    if attempts.is_empty() {
        return;
    }
    let mut rows = vec![["Boot", "What", "Took", "Got to", "Ended by"].map(str::to_owned)];
    for attempt in attempts {
        let word = |key: &str| attempt.get(key).and_then(Value::as_str).map(one_line).unwrap_or_default();
        let time =
            |key: &str| attempt.get(key).and_then(|v| serde_json::from_value::<Timestamp>(v.clone()).ok());
        let took = match (time("powered_at"), time("ended_at")) {
            (Some(from), Some(to)) => age(to.since(from).as_secs()),
            _ => "-".to_owned(),
        };
        let userspace = attempt.get("userspace").and_then(Value::as_bool).unwrap_or(false);
        let stage = if userspace { "userspace".to_owned() } else { word("last_stage") };
        let number = attempt.get("number").map(Value::to_string).unwrap_or_default();
        let stage = if stage.is_empty() { "-".to_owned() } else { stage };
        rows.push([number, word("boot"), took, stage, word("end")]);
    }
    let _ = write!(text, "\n{}", grid(&rows, None, |_, _| None));
}

fn phases(text: &mut String, detail: &RunDetail, now: Timestamp) {
    if detail.phases.is_empty() {
        return;
    }
    let mut rows = vec![["Phase", "Boot", "Seconds", "Begun"].map(str::to_owned)];
    for phase in &detail.phases {
        let seconds = match phase.seconds {
            Some(seconds) => format!("{seconds:>7.1}"),
            None => format!("{:>7.1} so far", now.since(phase.begun).as_secs_f64()),
        };
        let boot = phase.boot.map_or_else(|| "-".to_owned(), |boot| boot.to_string());
        rows.push([one_line(&phase.phase.replace('_', " ")), boot, seconds, phase.begun.to_string()]);
    }
    let _ = write!(text, "\n{}", grid(&rows, None, |_, _| None));
}

/// What a job waits for, lines that end in `\n`.
pub fn why(why: &Why) -> String {
    let mut text = one_line(&why.reason);
    if let Some(place) = why.place {
        let _ = write!(text, " (place {place} in the queue");
        if let Some(seconds) = why.estimate_seconds.filter(|s| s.is_finite() && *s >= 0.0) {
            let _ = write!(text, ", about {} more", age(seconds as u64));
        }
        text.push(')');
    }
    text.push('\n');
    if !why.machines.is_empty() {
        let mut rows = vec![["Machine", "State", "Job", "Why"].map(str::to_owned)];
        for machine in &why.machines {
            let run = machine.run.map_or_else(|| "-".to_owned(), |run| run.to_string());
            rows.push([
                one_line(&machine.full_name),
                machine.state.to_string(),
                run,
                one_line(&machine.reason),
            ]);
        }
        text.push_str(&grid(&rows, None, |_, _| None));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros((1_700_000_000 + seconds) * 1_000_000)
    }

    fn run(id: u64, changes: Value) -> Value {
        let mut run = json!({"id": id, "kind": "job", "state": "finished", "phase": null, "name": "hello.yml",
            "job_id": null, "dut": "52:54:00:11:22:01", "priority": "default", "submitter": "local",
            "created": at(0), "started": at(5), "ended": at(70), "status": "PASS", "cause": "test_passed",
            "summary": "the session ended"});
        for (key, value) in changes.as_object().unwrap() {
            run[key] = value.clone();
        }
        run
    }

    #[test]
    fn the_list_shows_where_each_job_stands() {
        let running = json!({"state": "active", "phase": "powering_on", "ended": null, "status": null, "summary": null});
        let waiting = json!({"state": "queued", "dut": null, "started": null, "ended": null, "status": null, "summary": null});
        let check = json!({"kind": "quick_check", "status": "FAIL", "summary": "two\nlines \u{1b}[31mred"});
        let runs = [run(9, waiting), run(8, running), run(7, check), run(6, json!({}))];
        let runs: Vec<Run> = runs.into_iter().map(|r| serde_json::from_value(r).unwrap()).collect();
        let expected = "\
Job  State        Machine            Age    Took   Name           Summary
9    queued       -                  1m40s  -      hello.yml
8    powering on  52:54:00:11:22:01  1m40s  1m35s  hello.yml
7    FAIL         52:54:00:11:22:01  1m40s  1m05s  (quick_check)  two lines red
6    PASS         52:54:00:11:22:01  1m40s  1m05s  hello.yml      the session ended
";
        assert_eq!(list(&runs, at(100), None, false), expected);
        let narrow = list(&runs, at(100), Some(75), false);
        assert!(narrow.lines().all(|l| l.chars().count() <= 75) && narrow.contains("..."), "{narrow}");
        assert!(list(&runs, at(100), None, true).contains("\x1b[31mFAIL\x1b[0m"));
    }

    #[test]
    fn the_page_has_the_boots_and_the_phases() {
        let mut one = run(6, json!({"job_id": "mine"}));
        let attempt = json!({"number": 1, "boot": "start", "powered_at": at(10), "ended_at": at(60),
            "last_stage": "initrd", "userspace": true, "end": "session_end"});
        for (key, value) in [
            ("attempts", json!([attempt, {"unknown": true}])),
            (
                "phases",
                json!([{"boot": null, "phase": "queued", "begun": at(0), "seconds": 5.0},
                              {"boot": 1, "phase": "powering_on", "begun": at(5), "seconds": null}]),
            ),
            ("console_bytes", json!(1234)),
            ("clients", json!(0)),
            ("why", Value::Null),
        ] {
            one[key] = value;
        }
        let one: RunDetail = serde_json::from_value(one).unwrap();
        let expected = "\
job         6 (job, hello.yml)
state       PASS (exit code 0)
cause       test_passed
summary     the session ended
machine     52:54:00:11:22:01
job id      mine
submitted   2023-11-14T22:13:20.000000+00:00 (1m40s ago) by local
priority    default
started     2023-11-14T22:13:25.000000+00:00, waited 5s
ended       2023-11-14T22:14:30.000000+00:00
console     1234 bytes: executorctl logs 6

Boot  What   Took  Got to     Ended by
1     start  50s   userspace  session_end
             -     -

Phase        Boot  Seconds         Begun
queued       -         5.0         2023-11-14T22:13:20.000000+00:00
powering on  1        95.0 so far  2023-11-14T22:13:25.000000+00:00
";
        assert_eq!(detail(&one, at(100), false), expected);
    }

    #[test]
    fn why_names_the_place_and_the_machines() {
        let waits: Why = serde_json::from_value(json!({"reason": "it is next", "place": 1, "estimate_seconds": 90.0,
            "machines": [{"dut": "d", "full_name": "farm-a-1", "state": "RUNNING", "reason": "job 5", "run": 5}]}))
        .unwrap();
        let expected = "\
it is next (place 1 in the queue, about 1m30s more)
Machine   State    Job  Why
farm-a-1  RUNNING  5    job 5
";
        assert_eq!(why(&waits), expected);
    }
}
