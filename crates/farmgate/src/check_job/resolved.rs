//! What a job comes to, as a table for a person and as JSON.

use std::{fmt::Write, time::Duration};

use farmgate_executor::{DefaultSetting, DefaultThing, Defaults};
use farmgate_job::{Explained, Origin, Part, Target};
use serde_json::{Map, Value, json};

use super::output::Machine;

/// Longest piece of an artifact's text that is shown.
const MAX_SHOWN: usize = 60;

/// A job with where everything comes from, and the defaults of the farm beside it.
pub struct Resolved {
    job: Explained,
    kernel: Vec<DefaultSetting>,
    initramfs: Vec<DefaultSetting>,
    cmdline: Vec<DefaultSetting>,
}

impl Resolved {
    /// With the farm's defaults of what a job may leave out.
    pub fn new(job: Explained, defaults: &Defaults) -> Self {
        Self {
            job,
            kernel: defaults.settings(DefaultThing::Kernel),
            initramfs: defaults.settings(DefaultThing::Initramfs),
            cmdline: defaults.settings(DefaultThing::Cmdline),
        }
    }

    /// The settings that stand for a part that the job leaves out.
    fn defaults_of(&self, part: &Part) -> &[DefaultSetting] {
        match part.name.as_str() {
            "kernel" => &self.kernel,
            "initramfs" => &self.initramfs,
            "cmdline" => &self.cmdline,
            _ => &[],
        }
    }

    /// For a program.
    pub fn json(&self) -> Value {
        let boot = |parts: &[Part]| -> Map<String, Value> {
            let show = |part: &Part| {
                let mut shown = json!({"source": part.origin, "value": part.value});
                if part.origin == Origin::Default {
                    let named = |s: &DefaultSetting| json!({"setting": s.setting, "for": s.asks_as, "value": s.value});
                    shown["defaults"] = self.defaults_of(part).iter().map(named).collect();
                }
                (part.name.clone(), shown)
            };
            parts.iter().map(show).collect()
        };
        let timeouts: Map<String, Value> = self.job.timeouts.iter().map(|t| {
            let seconds = t.timeout.limit.map(|l| l.as_secs_f64());
            let shown = json!({"source": t.origin, "seconds": seconds, "retries": t.timeout.retries, "note": t.note});
            (t.name.clone(), shown)
        }).collect();
        let patterns: Map<String, Value> = self
            .job
            .patterns
            .iter()
            .map(|p| (p.name.clone(), json!({"source": p.origin, "regex": p.regex})))
            .collect();
        json!({
            "target": self.job.target,
            "deadline": self.job.job.deadline,
            "start": boot(&self.job.start),
            "continue": boot(&self.job.continue_),
            "timeouts": timeouts,
            "patterns": patterns,
        })
    }

    /// For a person.
    pub fn human(&self, machine: &Machine) -> String {
        let mut rows = Rows::default();
        let kind = if machine.made_up { ", made up" } else { "" };
        rows.heading(&format!("on {} ({}{kind})", machine.full_name, machine.id));
        match &self.job.target {
            Some(target) => rows.row("target", "given", &target_words(target)),
            None => rows.row("target", "default", "none: the submission has to name one"),
        }
        match self.job.job.deadline {
            Some(deadline) => rows.row("deadline", "given", &deadline.to_string()),
            None => rows.row("deadline", "default", "none"),
        }
        rows.heading("first boot (deployment.start)");
        self.boot(&self.job.start, &mut rows);
        rows.heading("later boots (deployment.continue)");
        self.boot(&self.job.continue_, &mut rows);
        rows.heading("timeouts");
        for timeout in &self.job.timeouts {
            let limit = timeout.timeout.limit.map_or_else(|| "infinite".to_owned(), duration);
            let retries = match timeout.timeout.retries {
                0 => String::new(),
                1 => ", 1 retry".to_owned(),
                n => format!(", {n} retries"),
            };
            let note = timeout.note.as_ref().map_or_else(String::new, |n| format!(" ({n})"));
            rows.row(&timeout.name, word(timeout.origin), &format!("{limit}{retries}{note}"));
        }
        rows.heading("console patterns");
        for pattern in &self.job.patterns {
            rows.row(&pattern.name, word(pattern.origin), pattern.regex.as_deref().unwrap_or("none"));
        }
        rows.finish()
    }

    fn boot(&self, parts: &[Part], rows: &mut Rows) {
        for part in parts {
            let values = match part.origin {
                Origin::Default => default_words(self.defaults_of(part)),
                _ => part_words(&part.value),
            };
            for (n, value) in values.iter().enumerate() {
                let (name, origin) = if n == 0 { (part.name.as_str(), word(part.origin)) } else { ("", "") };
                rows.row(name, origin, value);
            }
        }
    }
}

/// Rows of name, source and value, under headings.
#[derive(Default)]
struct Rows(Vec<(Option<String>, [String; 3])>);

impl Rows {
    fn heading(&mut self, text: &str) {
        self.0.push((Some(text.to_owned()), Default::default()));
    }

    fn row(&mut self, name: &str, origin: &str, value: &str) {
        self.0.push((None, [name, origin, value].map(str::to_owned)));
    }

    fn finish(self) -> String {
        let widest =
            |column: usize| self.0.iter().map(|(_, row)| row[column].chars().count()).max().unwrap_or(0);
        let (first, second) = (widest(0), widest(1));
        let mut text = String::new();
        for (heading, [name, origin, value]) in &self.0 {
            // Writing to a String cannot fail.
            let _ = match heading {
                Some(heading) => writeln!(text, "{heading}"),
                None => writeln!(text, "  {name:first$}  {origin:second$}  {value}"),
            };
        }
        text
    }
}

fn word(origin: Origin) -> &'static str {
    match origin {
        Origin::Given => "given",
        Origin::Default => "default",
        Origin::Learned => "learned",
        Origin::Farm => "farm",
        Origin::Start => "start",
        Origin::Merged => "merged",
    }
}

fn target_words(target: &Target) -> String {
    let id = target.id.iter().map(|id| format!("id {id}"));
    let tags = match (target.tags.as_slice(), &target.id) {
        ([], Some(_)) => None,
        ([], None) => Some("any machine".to_owned()),
        (tags, _) => Some(format!("tags {}", tags.join(", "))),
    };
    id.chain(tags).collect::<Vec<_>>().join(", ")
}

/// The default of the boot method: each setting, and which machines it is for.
fn default_words(settings: &[DefaultSetting]) -> Vec<String> {
    if settings.is_empty() {
        return vec!["default of the boot method: the settings name none".to_owned()];
    }
    let one = |s: &DefaultSetting| {
        let whom =
            s.asks_as.as_ref().map_or_else(String::new, |key| format!(", where the machine boots as {key}"));
        format!("default of the boot method, {}{whom}: {}", s.setting, s.value)
    };
    settings.iter().map(one).collect()
}

/// What a boot has in a field, a line for each thing.
fn part_words(value: &Value) -> Vec<String> {
    match value {
        Value::Array(things) => things.iter().map(words).collect(),
        // A list with categories, in the order in which it is used.
        Value::Object(fields) if fields.contains_key("uncategorised") => {
            let categories = fields.get("categories").and_then(Value::as_object);
            let groups = categories.into_iter().flat_map(|all| all.values());
            groups.chain(fields.get("uncategorised")).flat_map(part_words).collect()
        }
        // Things by a name of the author's.
        Value::Object(fields) if fields.values().all(Value::is_object) => {
            fields.iter().map(|(name, thing)| format!("{name}: {}", words(thing))).collect()
        }
        thing => vec![words(thing)],
    }
}

/// A thing in a line; fields that say nothing are left out.
fn words(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(words).collect::<Vec<_>>().join(" "),
        Value::Object(fields) => {
            // An artifact, and the steps that it goes through.
            if let Some([source, Value::Array(steps)]) =
                fields.get("formatted").and_then(Value::as_array).map(Vec::as_slice)
            {
                let all: Vec<String> = std::iter::once(source).chain(steps).map(words).collect();
                return all.join(", then ");
            }
            let told = fields.iter().filter(|(_, value)| !is_nothing(value));
            told.map(|(name, value)| field_words(name, value)).collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

fn field_words(name: &str, value: &Value) -> String {
    match value {
        Value::String(text) if name == "data" => data_words(text),
        Value::Object(_) | Value::Array(_) => format!("{name} ({})", words(value)),
        _ => format!("{name} {}", words(value)),
    }
}

fn data_words(text: &str) -> String {
    let first: String = text.lines().next().unwrap_or_default().chars().take(MAX_SHOWN).collect();
    let more = if first.len() < text.trim_end().len() { "…" } else { "" };
    let unit = if text.len() == 1 { "byte" } else { "bytes" };
    format!("data of {} {unit}: {first}{more}", text.len())
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.values().all(is_nothing),
        _ => false,
    }
}

/// `1 h 30 min`: units that are nothing are left out.
fn duration(length: Duration) -> String {
    let millis = length.as_millis();
    if millis == 0 {
        return if length.is_zero() { "0 s, hit at once".to_owned() } else { "less than 1 ms".to_owned() };
    }
    let mut rest = millis;
    let mut words = Vec::new();
    for (unit, size) in [("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000), ("ms", 1)] {
        if rest >= size {
            words.push(format!("{} {unit}", rest / size));
            rest %= size;
        }
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_told_in_units_of_people() {
        for (millis, text) in [
            (0, "0 s, hit at once"),
            (18_000, "18 s"),
            (5_400_000, "1 h 30 min"),
            (86_400_000, "1 d"),
            (1_500, "1 s 500 ms"),
        ] {
            assert_eq!(duration(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn things_are_told_in_a_line_each_without_what_says_nothing() {
        for (value, lines) in [
            (json!({"url": "https://x/y"}), &["url https://x/y"][..]),
            (json!([{"url": "a"}, {"data": "one\ntwo\n"}]), &["url a", "data of 8 bytes: one…"]),
            (json!({"data": "one\n"}), &["data of 4 bytes: one"]),
            (json!("quiet splash"), &["quiet splash"]),
            (
                json!({"categories": {"b": [{"url": "b"}]}, "uncategorised": [{"path": "/c", "artifact": {"url": "c"}}]}),
                &["url b", "path /c, artifact (url c)"],
            ),
            (
                json!({"formatted": [{"url": "k"}, [{"archive": {"keep": [], "add": null, "as": "cpio"}}]]}),
                &["url k, then archive (as cpio)"],
            ),
            (
                json!({"swap": {"size": 3, "readonly": false, "max": null}, "x": {"url": "d"}}),
                &["swap: size 3, readonly false", "x: url d"],
            ),
            (json!({"version": 2, "base": null}), &["version 2"]),
        ] {
            assert_eq!(part_words(&value), lines, "{value}");
        }
    }

    #[test]
    fn targets_are_told_in_words() {
        let words = |id: Option<&str>, tags: &[&str]| {
            let tags = tags.iter().map(|t| (*t).to_owned()).collect();
            target_words(&Target { id: id.map(str::to_owned), tags })
        };
        assert_eq!(words(None, &[]), "any machine");
        assert_eq!(words(Some("x"), &[]), "id x");
        assert_eq!(words(Some("x"), &["a", "b"]), "id x, tags a, b");
    }
}
