//! What a run waits for while its machine says nothing yet: a line that is written over on a terminal, and a line for
//! each change elsewhere. While the job is in the queue, the gateway is asked now and then for its place.

use std::{
    future::Future,
    pin::Pin,
    time::{Duration, Instant},
};

use farmgate_protocol::run::Why;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::{gateway::Gateway, phases::QUEUE, table::age};

/// How often the line is drawn.
const DRAW: Duration = Duration::from_secs(1);
/// How often the place in the queue is asked for.
const ASK: Duration = Duration::from_secs(5);

type Question = Pin<Box<dyn Future<Output = Option<Why>> + Send>>;

/// What to show.
#[derive(Debug, PartialEq, Eq)]
pub enum Shown {
    /// In place of the last one.
    Live(String),
    /// Once.
    Line(String),
    /// Nothing new.
    Nothing,
}

/// Where the job stands in the queue.
struct Place {
    /// Its number, and what it waits for.
    text: String,
    /// How long it may still take: it changes all the time.
    estimate: String,
}

/// The state of what is shown.
pub struct Progress {
    live: bool,
    stage: Option<&'static str>,
    since: Instant,
    /// The machine's own words have begun: they tell more.
    silent: bool,
    place: Option<Place>,
    said: Option<String>,
    draw: Interval,
    asked: Option<Instant>,
    question: Option<Question>,
}

impl Progress {
    /// `live`: a line can be written over.
    pub fn new(live: bool) -> Self {
        let mut draw = interval(DRAW);
        draw.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            live,
            stage: None,
            since: Instant::now(),
            silent: false,
            place: None,
            said: None,
            draw,
            asked: None,
            question: None,
        }
    }

    /// Where the run stands now. `speaks`: its machine has said something.
    pub fn observe(&mut self, stage: Option<&'static str>, speaks: bool, now: Instant) {
        self.silent = speaks;
        if self.stage != stage {
            self.stage = stage;
            self.since = now;
            self.question = None;
            self.place = None;
        }
    }

    /// Waits for the next moment at which something may have to be shown. Cancel safe.
    pub async fn next(&mut self, gateway: &Gateway, run: Option<u64>) -> Shown {
        if self.silent {
            return std::future::pending().await;
        }
        match &mut self.question {
            Some(question) => tokio::select! {
                why = question => {
                    self.question = None;
                    if let Some(why) = why {
                        self.place = Some(in_words(&why));
                    }
                }
                _ = self.draw.tick() => {}
            },
            None => {
                self.draw.tick().await;
            }
        }
        let now = Instant::now();
        let due = self.asked.is_none_or(|asked| now.duration_since(asked) >= ASK);
        if let (Some(QUEUE), Some(run), true, true) = (self.stage, run, due, self.question.is_none()) {
            self.asked = Some(now);
            self.question = Some(Box::pin(ask(gateway.clone(), run)));
        }
        self.shown(now)
    }

    fn shown(&mut self, now: Instant) -> Shown {
        let Some(stage) = self.stage else { return Shown::Nothing };
        if self.live {
            let place = self.place.as_ref().map(|place| format!(": {}{}", place.text, place.estimate));
            let place = place.unwrap_or_default();
            let since = age(now.duration_since(self.since).as_secs());
            return Shown::Live(format!("{} {since}{place}", what(stage)));
        }
        // The stages are told by the gateway's own lines; the queue moves without any.
        match &self.place {
            Some(place) if self.said.as_ref() != Some(&place.text) => {
                self.said = Some(place.text.clone());
                Shown::Line(format!("{}: {}{}", what(stage), place.text, place.estimate))
            }
            _ => Shown::Nothing,
        }
    }
}

fn what(stage: &str) -> &str {
    match stage {
        QUEUE => "waits for a machine",
        "setup" => "fetches the files of the job",
        "power" => "switches the machine off and on",
        "firmware" => "waits for the firmware",
        "network boot" => "boots over the network",
        other => other,
    }
}

async fn ask(gateway: Gateway, run: u64) -> Option<Why> {
    let body = gateway.get(&["job", &run.to_string(), "why"]).await.ok()?;
    // A run that has left the queue meanwhile has no place: the stream says what it does.
    gateway.read::<Why>(&body).ok().filter(|why| why.place.is_some())
}

fn in_words(why: &Why) -> Place {
    let place = why.place.map(|place| format!("place {place}, ")).unwrap_or_default();
    let estimate = why.estimate_seconds.filter(|s| s.is_finite() && *s >= 0.0);
    let estimate = estimate.map(|s| format!(" (about {} more)", age(s as u64))).unwrap_or_default();
    Place { text: format!("{place}{}", why.reason), estimate }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(place: u32, seconds: f64) -> Why {
        let reason = "the machine is busy".to_owned();
        Why { reason, place: Some(place), estimate_seconds: Some(seconds), machines: Vec::new() }
    }

    #[tokio::test]
    async fn on_a_terminal_the_line_says_what_goes_on_and_since_when() {
        let mut progress = Progress::new(true);
        let now = Instant::now();
        assert_eq!(progress.shown(now), Shown::Nothing);
        progress.observe(Some("queue"), false, now);
        progress.place = Some(in_words(&why(2, 130.0)));
        let expected = "waits for a machine 5s: place 2, the machine is busy (about 2m10s more)";
        assert_eq!(progress.shown(now + Duration::from_secs(5)), Shown::Live(expected.to_owned()));
        progress.observe(Some("setup"), false, now + Duration::from_secs(6));
        let expected = Shown::Live("fetches the files of the job 1s".to_owned());
        assert_eq!(progress.shown(now + Duration::from_secs(7)), expected);
    }

    #[tokio::test]
    async fn elsewhere_a_place_is_told_when_it_changes() {
        let mut progress = Progress::new(false);
        let now = Instant::now();
        progress.observe(Some("queue"), false, now);
        assert_eq!(progress.shown(now), Shown::Nothing);
        for place in [2, 1] {
            progress.place = Some(in_words(&why(place, 130.0)));
            assert!(
                matches!(progress.shown(now), Shown::Line(text) if text.contains(&format!("place {place}")))
            );
            progress.place = Some(in_words(&why(place, 125.0)));
            assert_eq!(progress.shown(now), Shown::Nothing);
        }
    }
}
