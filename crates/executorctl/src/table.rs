//! Machines as lines of text: the table of `duts` and the details of `dut info`. Pure: JSON of any gateway in, text
//! out. Fields that a gateway does not have are blank, never an error: older ones know fewer.

use std::fmt::Write as _;

use farmgate_protocol::Timestamp;
use serde_json::Value;

use crate::terminal::{Colour, printable};

/// Narrower than this no column is made.
const NARROWEST: usize = 12;
/// Between two columns.
const GAP: usize = 2;

/// What the table shows of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Key of the machine.
    pub id: String,
    /// FARM-BASENAME-N.
    pub full_name: String,
    /// The state's word.
    pub state: String,
    /// Since when.
    pub since: Option<Timestamp>,
    /// Why, in words.
    pub reason: String,
    /// On the private network.
    pub ip_address: String,
    /// A person's note.
    pub comment: String,
}

impl Row {
    fn new(id: &str, dut: &Value) -> Self {
        let text = |key: &str| {
            let text = dut.get(key).and_then(Value::as_str).map(printable).unwrap_or_default();
            text.lines().collect::<Vec<_>>().join(" ")
        };
        let since = dut.get("state_since").and_then(|v| serde_json::from_value::<Timestamp>(v.clone()).ok());
        Self {
            id: printable(id),
            full_name: text("full_name"),
            state: text("state"),
            since: since.filter(|t| t.as_micros() > 0),
            reason: text("state_reason"),
            ip_address: text("ip_address"),
            comment: text("comment"),
        }
    }
}

/// The machines in an answer to `duts` (or its old alias), sorted by name. `None`: it is no such answer.
pub fn machines(answer: &Value) -> Option<Vec<(Row, &Value)>> {
    let duts = answer.get("duts").or_else(|| answer.get("machines"))?.as_object()?;
    let mut rows: Vec<_> = duts.iter().map(|(id, dut)| (Row::new(id, dut), dut)).collect();
    rows.sort_by(|(a, _), (b, _)| (&a.full_name, &a.id).cmp(&(&b.full_name, &b.id)));
    Some(rows)
}

/// The table, lines that end in `\n`. With a `width` the longest texts are cut so that lines fit, where possible.
pub fn render(rows: &[Row], now: Timestamp, width: Option<usize>, colour: bool) -> String {
    const HEADS: [&str; 6] = ["Full name", "State", "Since", "IP address", "Why", "Comment"];
    let cells: Vec<[String; 6]> = rows
        .iter()
        .map(|row| {
            let since = row.since.map(|since| age(now.since(since).as_secs())).unwrap_or_default();
            [
                row.full_name.clone(),
                row.state.clone(),
                since,
                row.ip_address.clone(),
                row.reason.clone(),
                row.comment.clone(),
            ]
        })
        .collect();
    let mut widths: Vec<usize> = (0..HEADS.len())
        .map(|column| {
            let longest = cells.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
            // A column that only newer gateways fill is left out where it says nothing.
            if longest == 0 && matches!(column, 2 | 4) { 0 } else { longest.max(HEADS[column].len()) }
        })
        .collect();
    if let Some(width) = width {
        fit(&mut widths, width);
    }
    let mut text = String::new();
    line(&mut text, &HEADS.map(str::to_owned), &widths, |_| colour.then_some(Colour::Dim));
    for row in &cells {
        line(&mut text, row, &widths, |column| (colour && column == 1).then(|| state_colour(&row[1])));
    }
    text
}

/// Makes the texts narrower, the wider first.
fn fit(widths: &mut [usize], width: usize) {
    let total = |widths: &[usize]| widths.iter().filter(|&&w| w > 0).map(|w| w + GAP).sum::<usize>();
    while total(widths).saturating_sub(GAP) > width {
        let column = if widths[4] > widths[5] { 4 } else { 5 };
        if widths[column] <= NARROWEST {
            return;
        }
        widths[column] -= 1;
    }
}

fn line(text: &mut String, cells: &[String; 6], widths: &[usize], colour: impl Fn(usize) -> Option<Colour>) {
    let mut whole = String::new();
    for (column, cell) in cells.iter().enumerate().filter(|(column, _)| widths[*column] > 0) {
        let width = widths[column];
        let cut = if cell.chars().count() > width {
            cell.chars().take(width.saturating_sub(3)).chain("...".chars()).collect()
        } else {
            cell.clone()
        };
        let gap = " ".repeat(width.saturating_sub(cut.chars().count()) + GAP);
        let cut = colour(column).map_or_else(|| cut.clone(), |c| c.paint(true, &cut));
        whole.push_str(&cut);
        whole.push_str(&gap);
    }
    let _ = writeln!(text, "{}", whole.trim_end());
}

fn state_colour(state: &str) -> Colour {
    match state {
        "IDLE" => Colour::Green,
        "BORKED" | "UNKNOWN" => Colour::Red,
        "RETIRED" => Colour::Dim,
        _ => Colour::Yellow,
    }
}

/// A length of time in at most six characters.
pub fn age(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// All fields of a machine, one per line.
pub fn details(dut: &Value) -> String {
    let mut text = String::new();
    fields(&mut text, dut, 0);
    text
}

fn fields(text: &mut String, value: &Value, depth: usize) {
    let Some(map) = value.as_object() else { return };
    let indent = " ".repeat(depth * 2);
    let width =
        map.keys().map(|key| key.chars().count()).max().unwrap_or(0).max(20_usize.saturating_sub(depth * 2));
    for (key, value) in map {
        let key = printable(key);
        match value {
            // An answer is parsed with a bounded depth, so this ends.
            Value::Object(inner) if !inner.is_empty() => {
                let _ = writeln!(text, "{indent}{key}");
                fields(text, value, depth + 1);
            }
            Value::Array(list) if list.iter().any(|v| v.is_object() || v.is_array()) => {
                let _ = writeln!(text, "{indent}{key}");
                for item in list {
                    let _ = writeln!(text, "{indent}  - {}", compact(item));
                }
            }
            Value::Array(list) => {
                let list: Vec<String> = list.iter().map(scalar).collect();
                let list = if list.is_empty() { "-".to_owned() } else { list.join(", ") };
                let _ = writeln!(text, "{indent}{key:<width$}  {list}");
            }
            value => {
                let _ = writeln!(text, "{indent}{key:<width$}  {}", scalar(value));
            }
        }
    }
}

fn compact(value: &Value) -> String {
    match value.as_object() {
        Some(map) => {
            map.iter().map(|(k, v)| format!("{}: {}", printable(k), scalar(v))).collect::<Vec<_>>().join(", ")
        }
        None => scalar(value),
    }
}

fn scalar(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => printable(text).lines().collect::<Vec<_>>().join(" "),
        Value::Object(map) if map.is_empty() => "-".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn answer() -> Value {
        json!({"duts": {
            "52:54:00:11:22:02": {"full_name": "farm-virtio-2", "state": "BORKED", "ip_address": null, "comment": null,
                "state_reason": "3 of 20 boots failed, at least 19 must pass before it may serve",
                "state_since": "2024-01-01T00:00:00.000000+00:00"},
            "52:54:00:11:22:01": {"full_name": "farm-virtio-1", "state": "IDLE", "ip_address": "10.42.0.11",
                "comment": "the \x1b[31mquick\none"},
        }})
    }

    fn rows() -> Vec<Row> {
        machines(&answer()).unwrap().into_iter().map(|(row, _)| row).collect()
    }

    fn now() -> Timestamp {
        serde_json::from_str("\"2024-01-01T02:05:00.000000+00:00\"").unwrap()
    }

    #[test]
    fn the_table_is_aligned_and_sorted() {
        let expected = "\
Full name      State   Since  IP address  Why                                                              Comment
farm-virtio-1  IDLE           10.42.0.11                                                                   the quick one
farm-virtio-2  BORKED  2h05m              3 of 20 boots failed, at least 19 must pass before it may serve
";
        assert_eq!(render(&rows(), now(), None, false), expected);
    }

    #[test]
    fn on_a_terminal_it_fits() {
        let text = render(&rows(), now(), Some(80), false);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(text.contains("3 of 20") && text.contains("..."), "{text}");
        // Not at any price: names are never cut.
        assert!(render(&rows(), now(), Some(20), false).contains("farm-virtio-2"));
    }

    #[test]
    fn a_gateway_without_reasons_has_no_empty_columns() {
        let answer = json!({"machines": {"a": {"full_name": "f", "state": "IDLE", "ip_address": "1.2.3.4", "comment": "c"}}});
        let rows: Vec<Row> = machines(&answer).unwrap().into_iter().map(|(row, _)| row).collect();
        let text = render(&rows, now(), None, false);
        assert!(!text.contains("Why") && text.contains("Comment"), "{text}");
        assert!(machines(&json!({"error": "x"})).is_none());
    }

    #[test]
    fn details_show_every_field() {
        let dut = json!({"id": "x", "comment": null, "tags": ["a", "b"], "manual_tags": [],
            "training": {"state": "IDLE", "loops": [{"status": "PASS", "seconds_elapsed": 1.5}]}});
        let expected = "\
id                    x
comment               -
tags                  a, b
manual_tags           -
training
  state               IDLE
  loops
    - status: PASS, seconds_elapsed: 1.5
";
        assert_eq!(details(&dut), expected);
    }
}
