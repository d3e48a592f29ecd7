//! Where the time of a run went, read from what it told.

use farmgate_protocol::{Timestamp, console::Tag, run::PhaseTime};
use farmgate_store::RunRow;

use crate::runs::log::Told;

/// The phases of a run in their order; the last one has no length while the run goes on.
pub(super) fn of(row: &RunRow, told: &[Told]) -> Vec<PhaseTime> {
    let mut phases: Vec<PhaseTime> = Vec::new();
    let mut boot = None;
    let mut begin = |phase: &str, boot: Option<u32>, at: Timestamp| {
        if let Some(last) = phases.last_mut() {
            if last.phase == phase && last.boot == boot {
                return;
            }
            last.seconds = Some(at.since(last.begun).as_secs_f64());
        }
        phases.push(PhaseTime { boot, phase: phase.to_owned(), begun: at, seconds: None });
    };
    begin("queued", None, row.created);
    for message in told {
        let phase = match message.control.tag {
            Tag::InfraSetupStart => "setup",
            Tag::PowerCycleStart => {
                boot = message.control.metadata.get("boot").and_then(serde_json::Value::as_u64);
                "powering_on"
            }
            Tag::PowerCycleComplete => "firmware",
            Tag::FirmwareBootComplete => "booting",
            Tag::UserspaceStarted => "session",
            Tag::InfraTeardownStart => "teardown",
            _ => continue,
        };
        let number = boot.and_then(|n| u32::try_from(n).ok());
        begin(phase, number.filter(|_| phase != "setup"), message.date);
    }
    if let (Some(last), Some(ended)) = (phases.last_mut(), row.ended) {
        last.seconds = Some(ended.since(last.begun).as_secs_f64());
    }
    phases
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use farmgate_protocol::{JobStatus, console::Control};
    use farmgate_salad::ConsoleOffset;
    use farmgate_store::RunState;

    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::default() + Duration::from_secs(seconds)
    }

    fn row(ended: Option<u64>) -> RunRow {
        RunRow {
            number: 1,
            kind: "job".into(),
            state: RunState::Finished,
            dut: None,
            created: at(0),
            started: None,
            ended: ended.map(at),
            name: String::new(),
            priority: "default".into(),
            submitter: String::new(),
            phase: None,
            status: Some(JobStatus::Pass),
            cause: None,
            summary: None,
            console_from: None,
            console_to: None,
            job_id: None,
        }
    }

    #[test]
    fn each_second_of_a_run_belongs_to_one_phase() {
        let tags = [
            (Tag::InfraSetupStart, 1, None),
            (Tag::PowerCycleStart, 2, Some(1)),
            (Tag::PowerCycleComplete, 5, None),
            (Tag::FirmwareBootComplete, 9, None),
            (Tag::PatternMatched, 10, None),
            (Tag::PowerCycleStart, 20, Some(2)),
            (Tag::InfraTeardownStart, 30, None),
        ];
        let told: Vec<Told> = tags
            .iter()
            .zip(1..)
            .map(|((tag, time, boot), seq)| {
                let control = Control::info(*tag, "x");
                let control = boot.map_or(control.clone(), |boot: u32| control.with("boot", boot));
                Told { seq, at: ConsoleOffset(0), date: at(*time), control }
            })
            .collect();
        let shown: Vec<String> = of(&row(Some(33)), &told)
            .iter()
            .map(|p| format!("{} {:?} {}", p.phase, p.boot, p.seconds.unwrap()))
            .collect();
        assert_eq!(
            shown,
            [
                "queued None 1",
                "setup None 1",
                "powering_on Some(1) 3",
                "firmware Some(1) 4",
                "booting Some(1) 11",
                "powering_on Some(2) 10",
                "teardown Some(2) 3",
            ]
        );
        assert_eq!(of(&row(None), &told).last().unwrap().seconds, None);
    }
}
