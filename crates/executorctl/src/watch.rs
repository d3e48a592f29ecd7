//! `executorctl duts --watch`: on a terminal the table, drawn again when something changes; elsewhere a line for each
//! change. It follows the gateway's events where there are any and asks once a second where there are none; a gateway
//! that goes away for a while is waited for.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt::Write as _,
    io::{self, IsTerminal, Write as _},
    time::Duration,
};

use farmgate_protocol::{Timestamp, event::Event};
use serde_json::{Value, json};
use tokio::{
    io::AsyncWriteExt,
    time::{Instant, sleep_until},
};

use crate::{
    args::Format,
    duts,
    events::EventStream,
    failure::Failure,
    gateway::Gateway,
    signals::Signals,
    table::{self, Row},
    terminal::{self, printable},
};

/// Between two questions where there are no events.
const POLL: Duration = Duration::from_secs(1);
/// The same where there are: the ages shown move, and an event may be missed.
const SLOW_POLL: Duration = Duration::from_secs(5);
/// Events come in bursts; one question answers a burst.
const SETTLE: Duration = Duration::from_millis(100);
/// How often a gateway without events is asked for them again: it may have been replaced.
const RETRY_EVENTS: Duration = Duration::from_secs(30);
/// Events shown below the table.
const SHOWN_EVENTS: usize = 5;

/// Carries the command out, until a signal.
///
/// # Errors
/// The gateway is not there at the start, or the output is closed.
pub async fn watch(url: &str, format: Format) -> Result<(), Failure> {
    let gateway = Gateway::new(url)?;
    let answer = duts::fetch(&gateway).await.map_err(Failure::Gateway)?;
    let mut signals = Signals::listen()?;
    let in_place = format == Format::Human && io::stdout().is_terminal();
    let mut view = View { in_place, format, answer, ..View::default() };
    let result = {
        let _canvas = in_place.then(Canvas::open);
        tokio::select! {
            result = follow(&gateway, &mut view) => result,
            _ = signals.next() => Ok(()),
        }
    };
    if in_place {
        // What was seen last stays on the terminal.
        io::stdout().write_all(view.table(None).as_bytes())?;
    }
    Ok(result?)
}

async fn follow(gateway: &Gateway, view: &mut View) -> io::Result<()> {
    let mut events = EventStream::open(gateway).await;
    let mut retry_events = Instant::now() + RETRY_EVENTS;
    loop {
        write(&view.output()).await?;
        let mut due = Instant::now() + if events.is_some() { SLOW_POLL } else { POLL };
        loop {
            tokio::select! {
                () = sleep_until(due) => break,
                received = next_events(&mut events) => match received {
                    Some(received) if received.is_empty() => {}
                    Some(received) => {
                        view.remember(received);
                        due = due.min(Instant::now() + SETTLE);
                    }
                    None => {
                        events = None;
                        retry_events = Instant::now() + POLL;
                        due = due.min(Instant::now() + POLL);
                    }
                },
            }
        }
        match duts::fetch(gateway).await {
            Ok(answer) => {
                view.answer = answer;
                view.trouble = None;
            }
            Err(error) => view.trouble = Some(error.to_string()),
        }
        if events.is_none() && Instant::now() >= retry_events {
            events = EventStream::open(gateway).await;
            retry_events = Instant::now() + RETRY_EVENTS;
        }
    }
}

async fn next_events(events: &mut Option<EventStream>) -> Option<Vec<Event>> {
    match events {
        Some(events) => events.next().await,
        None => std::future::pending().await,
    }
}

async fn write(text: &str) -> io::Result<()> {
    if text.is_empty() {
        return Ok(());
    }
    // Through the runtime: a pipe that nobody reads must not keep Ctrl-C from working.
    let mut stdout = tokio::io::stdout();
    stdout.write_all(text.as_bytes()).await?;
    stdout.flush().await
}

/// The terminal's other screen, without a cursor; what was there before comes back with the drop.
struct Canvas;

impl Canvas {
    fn open() -> Self {
        let _ = io::stdout().write_all(b"\x1b[?1049h\x1b[?25l");
        let _ = io::stdout().flush();
        Self
    }
}

impl Drop for Canvas {
    fn drop(&mut self) {
        let _ = io::stdout().write_all(b"\x1b[?25h\x1b[?1049l");
        let _ = io::stdout().flush();
    }
}

/// What is known and what of it was shown.
struct View {
    in_place: bool,
    format: Format,
    answer: Value,
    trouble: Option<String>,
    told_trouble: bool,
    events: VecDeque<Event>,
    shown: BTreeMap<String, Row>,
}

impl Default for View {
    fn default() -> Self {
        Self {
            in_place: false,
            format: Format::Human,
            answer: Value::Null,
            trouble: None,
            told_trouble: false,
            events: VecDeque::new(),
            shown: BTreeMap::new(),
        }
    }
}

impl View {
    fn remember(&mut self, events: Vec<Event>) {
        self.events.extend(events);
        while self.events.len() > SHOWN_EVENTS {
            self.events.pop_front();
        }
    }

    /// What to write now.
    fn output(&mut self) -> String {
        if self.in_place { self.picture(terminal::size()) } else { self.changes() }
    }

    fn table(&self, width: Option<usize>) -> String {
        let colour = self.in_place && terminal::wants_colour(&io::stdout());
        table::render(&duts::rows(&self.answer), Timestamp::now(), width, colour)
    }

    /// The whole screen, cut to its size.
    fn picture(&self, size: Option<(usize, usize)>) -> String {
        let (columns, rows) = size.unwrap_or((80, 24));
        let mut text = String::new();
        if let Some(trouble) = &self.trouble {
            let _ = writeln!(text, "{} (shown: what was known last)", printable(trouble));
        }
        text.push_str(&self.table(Some(columns)));
        if !self.events.is_empty() {
            text.push('\n');
        }
        for event in &self.events {
            let dut = event.dut.as_ref().map(|dut| format!("{dut} ")).unwrap_or_default();
            let line = format!("{} {dut}{}", clock(event.time), printable(&event.text));
            let _ = writeln!(
                text,
                "{}",
                line.lines().next().unwrap_or_default().chars().take(columns).collect::<String>()
            );
        }
        let mut picture = "\x1b[H".to_owned();
        // The last row stays free: a line end there would scroll.
        for line in text.lines().take(rows.saturating_sub(1)) {
            let _ = write!(picture, "{line}\x1b[K\r\n");
        }
        picture.push_str("\x1b[J");
        picture
    }

    /// A line for each machine that is not as it was.
    fn changes(&mut self) -> String {
        let mut text = String::new();
        if let Some(trouble) = self.trouble.as_deref().filter(|_| !self.told_trouble) {
            eprintln!("executorctl: {trouble}");
        }
        self.told_trouble = self.trouble.is_some();
        let machines = table::machines(&self.answer).unwrap_or_default();
        let mut now = BTreeMap::new();
        for (row, dut) in machines {
            if self.shown.get(&row.id) != Some(&row) {
                let _ = match self.format {
                    Format::Json => writeln!(text, "{dut}"),
                    Format::Human => writeln!(text, "{}", change(&row)),
                };
            }
            now.insert(row.id.clone(), row);
        }
        for (id, row) in self.shown.iter().filter(|(id, _)| !now.contains_key(*id)) {
            let _ = match self.format {
                Format::Json => writeln!(text, "{}", json!({"id": id, "gone": true})),
                Format::Human => writeln!(text, "{} {} GONE", Timestamp::now(), row.full_name),
            };
        }
        self.shown = now;
        text
    }
}

fn change(row: &Row) -> String {
    let when = row.since.unwrap_or_else(Timestamp::now);
    let line = format!("{when} {} {} {}", row.full_name, row.state, row.reason);
    line.trim_end().to_owned()
}

/// The time of day where the person is.
fn clock(time: Timestamp) -> String {
    let time = jiff::Timestamp::from_microsecond(time.as_micros()).unwrap_or_default();
    time.to_zoned(jiff::tz::TimeZone::system()).strftime("%H:%M:%S").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(state: &str) -> Value {
        json!({"duts": {"a": {"full_name": "farm-a-1", "state": state, "state_reason": "why",
            "state_since": "2024-01-01T00:00:00.000000+00:00"}}})
    }

    #[test]
    fn only_changes_are_told() {
        let mut view = View { answer: answer("IDLE"), ..View::default() };
        assert_eq!(view.changes(), "2024-01-01T00:00:00.000000+00:00 farm-a-1 IDLE why\n");
        assert_eq!(view.changes(), "");
        view.answer = answer("RUNNING");
        assert!(view.changes().contains("RUNNING"));
        view.answer = json!({"duts": {}});
        assert!(view.changes().contains("farm-a-1 GONE"));
    }

    #[test]
    fn programs_get_one_object_per_line() {
        let mut view = View { answer: answer("IDLE"), format: Format::Json, ..View::default() };
        let text = view.changes();
        assert_eq!(text.lines().count(), 1);
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["state"], "IDLE");
        view.answer = json!({"duts": {}});
        assert_eq!(view.changes(), "{\"id\":\"a\",\"gone\":true}\n");
    }

    #[test]
    fn the_picture_fits_the_screen() {
        let view = View { answer: answer("IDLE"), trouble: Some("gone".into()), ..View::default() };
        let picture = view.picture(Some((80, 3)));
        assert!(picture.contains("gone (shown") && picture.ends_with("\x1b[J"), "{picture:?}");
        assert_eq!(picture.matches("\r\n").count(), 2);
    }
}
