//! What the console says in a run: activity, lines, patterns, watchdogs.

use std::collections::{BTreeMap, BTreeSet};

use farmgate_protocol::{
    JobStatus, Timestamp,
    console::{Control, Severity, Tag},
};
use serde::{Deserialize, Serialize};

use super::{Action, Cause, JobRun, Phase, TimerId, verdict::Ending};
use crate::matcher::{Hit, Lines, MAX_LINE, PatternName, WatchdogEdge, is_longest_line};

/// Bytes of a line that a message shows.
const SHOWN_LINE: usize = 4096;

/// Messages about matches in one run: a DUT can print matching lines for hours.
const MAX_TOLD: u32 = 10_000;

/// A pattern that took too many steps on so many lines is not searched any more: the lines of one job must not keep
/// the gateway from everything else.
const MAX_EXPENSIVE: u32 = 16;

/// The console's reader: what it keeps between two pieces.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Reader {
    lines: Lines,
    /// Matches told so far.
    told: u32,
    /// That a line was too long was said.
    long_line_told: bool,
    /// On how many lines a pattern was too expensive.
    #[serde(default)]
    expensive: BTreeMap<String, u32>,
    /// Patterns that are not searched any more.
    #[serde(default)]
    given_up: BTreeSet<String>,
}

impl Reader {
    /// The end of a line that the last boot began is not the beginning of one of the next.
    pub(super) fn new_boot(&mut self) {
        self.lines.clear();
    }
}

impl JobRun {
    fn is_on(&self) -> bool {
        matches!(self.state.phase, Phase::Firmware | Phase::Booting | Phase::Session)
    }

    pub(super) fn console(&mut self, bytes: &[u8], now: Timestamp, out: &mut Vec<Action>) {
        if bytes.is_empty() {
            return;
        }
        if !self.state.boot.line_seen && bytes.contains(&b'\n') {
            self.state.boot.line_seen = true;
            self.state.timers.disarm(&TimerId::FirstConsoleActivity, out);
        }
        if self.state.boot.line_seen {
            let timeout = self.timeout(&TimerId::ConsoleActivity);
            self.state.timers.arm(TimerId::ConsoleActivity, timeout, now, out);
        }
        let mut input = bytes;
        // A line may end the session or the boot; what follows it belongs to nobody.
        while self.is_on() {
            let Some(block) = self.state.reader.lines.next_block(&mut input) else { return };
            self.block(&block, now, out);
        }
    }

    /// Whole lines, or a piece of a long one.
    fn block(&mut self, block: &[u8], now: Timestamp, out: &mut Vec<Action>) {
        if !self.state.reader.long_line_told && is_longest_line(block) {
            self.state.reader.long_line_told = true;
            let text = format!("A console line is longer than {MAX_LINE} bytes: patterns see it in pieces");
            out.push(Action::Tell(Control::info(Tag::None, text).severity(Severity::Warn)));
        }
        let mut from = 0;
        while self.is_on()
            && let Some(hit) = self.matcher.find(block, from, &self.state.reader.given_up)
        {
            from = hit.line.end;
            self.hit(&block[hit.line.clone()], hit, now, out);
        }
    }

    fn hit(&mut self, line: &[u8], hit: Hit, now: Timestamp, out: &mut Vec<Action>) {
        if hit.userspace && !self.state.boot.userspace {
            self.state.boot.userspace = true;
            self.state.phase = Phase::Session;
            out.push(Action::Tell(Control::info(Tag::UserspaceStarted, "The machine's userspace runs")));
        }
        // Whoever says what the job waits for has booted.
        self.state.timers.disarm(&TimerId::Restart, out);
        for name in hit.too_expensive {
            self.tell_too_expensive(name.to_string(), out);
        }
        if hit.patterns.is_empty() {
            return;
        }
        let shown = shown(line);
        self.tell_match(&hit.patterns, &shown, out);
        self.act_on(hit.patterns, shown, now, out);
    }

    fn act_on(&mut self, patterns: Vec<PatternName>, line: String, now: Timestamp, out: &mut Vec<Action>) {
        let (mut unfit, mut end, mut reboot) = (false, false, false);
        for pattern in patterns {
            match pattern {
                PatternName::JobSuccess => self.state.seen.success = true,
                PatternName::JobWarn => self.state.seen.warn = true,
                PatternName::MachineUnfitForService => unfit = true,
                PatternName::SessionEnd => end = true,
                PatternName::SessionReboot => reboot = true,
                PatternName::Watchdog { name, edge } => self.watchdog(name, edge, now, out),
            }
        }
        if unfit {
            let summary = format!("the machine says that it is unfit for service: {}", line.trim_end());
            self.state.unfit = Some(line.clone());
            out.push(Action::UnfitForService { line });
            let ending = Ending::new(JobStatus::Incomplete, Cause::Infrastructure, summary);
            self.end(ending, "machine_unfit_for_service".to_owned(), now, out);
        } else if end {
            let ending = Ending::of_session(
                &self.spec.job.console_patterns,
                self.state.seen,
                &self.state.reader.given_up,
            );
            self.end(ending, "session_end".to_owned(), now, out);
        } else if reboot {
            self.reboot(now, out);
        }
    }

    fn watchdog(&mut self, name: String, edge: WatchdogEdge, now: Timestamp, out: &mut Vec<Action>) {
        let timer = TimerId::Watchdog(name);
        let timeout = self.timeout(&timer);
        match edge {
            WatchdogEdge::Start => self.state.timers.arm(timer, timeout, now, out),
            WatchdogEdge::Reset if self.state.timers.get(&timer).is_some() => {
                self.state.timers.arm(timer, timeout, now, out)
            }
            WatchdogEdge::Reset => {}
            WatchdogEdge::Stop => self.state.timers.disarm(&timer, out),
        }
    }

    fn tell_match(&mut self, patterns: &[PatternName], line: &str, out: &mut Vec<Action>) {
        if self.state.reader.told >= MAX_TOLD {
            return;
        }
        self.state.reader.told += 1;
        let names: Vec<String> = patterns.iter().map(ToString::to_string).collect();
        let text = format!("Matched the console patterns {}", names.join(", "));
        out.push(Action::Tell(
            Control::info(Tag::PatternMatched, text).with("patterns", names).with("line", line),
        ));
        if self.state.reader.told == MAX_TOLD {
            let text = format!("{MAX_TOLD} matches were told; further ones count, but are not told");
            out.push(Action::Tell(Control::info(Tag::None, text).severity(Severity::Warn)));
        }
    }

    /// Once for each pattern; a machine may print lines like that for hours.
    fn tell_too_expensive(&mut self, name: String, out: &mut Vec<Action>) {
        let times = self.state.reader.expensive.entry(name.clone()).or_default();
        *times += 1;
        if *times >= MAX_EXPENSIVE {
            self.state.reader.given_up.insert(name.clone());
        }
        if *times > 1 {
            return;
        }
        let text = format!(
            "The console pattern {name} takes too many steps on a line, which counts as not matched; after \
             {MAX_EXPENSIVE} such lines it is not searched any more. Write it without nested repetition, look-around \
             or back references"
        );
        out.push(Action::Tell(
            Control::info(Tag::None, text).severity(Severity::Error).with("pattern", name),
        ));
    }
}

/// The line for a message: text, never empty, with a line end, not too long.
fn shown(line: &[u8]) -> String {
    let mut text = String::from_utf8_lossy(&line[..line.len().min(SHOWN_LINE)]).into_owned();
    if line.len() > SHOWN_LINE {
        text.push('…');
    }
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}
