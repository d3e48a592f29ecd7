//! Values as YAML text that every reader, of YAML 1.1 and 1.2, takes for the same.

use farmgate_protocol::MacAddress;
use serde_json::Value;

/// Words that some reader takes for something else than a text.
const WORDS: [&str; 14] =
    ["true", "false", "yes", "no", "on", "off", "y", "n", "null", "none", "nan", "inf", "infinity", "merge"];

/// A text, quoted unless every reader takes it for a text anyway.
pub fn text(text: &str) -> String {
    let mut letters = text.chars();
    let plain = letters.next().is_some_and(|c| c.is_ascii_alphabetic())
        && letters.all(|c| c.is_ascii_alphanumeric() || "_./:-".contains(c))
        && !text.ends_with(':')
        && !WORDS.contains(&text.to_ascii_lowercase().as_str())
        && text.parse::<MacAddress>().is_err();
    if plain { text.to_owned() } else { quoted(text) }
}

/// JSON's quotes and escapes are YAML's too, but for some characters that YAML does not print.
fn quoted(text: &str) -> String {
    let json = Value::from(text).to_string();
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out
}

/// Any value, on one line.
pub fn value(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(b) => b.to_string(),
        Value::Number(n) => number(n),
        Value::String(s) => text(s),
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(self::value).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(fields) => {
            let fields: Vec<_> =
                fields.iter().map(|(k, v)| format!("{}: {}", text(k), self::value(v))).collect();
            format!("{{{}}}", fields.join(", "))
        }
    }
}

fn number(n: &serde_json::Number) -> String {
    // 30.0 is written as 30; what is large is left as it is.
    match n.as_f64() {
        Some(f) if f.fract() == 0.0 && f.abs() < 1e15 => format!("{f:.0}"),
        Some(f) if n.is_f64() => format!("{f}"),
        _ => n.to_string(),
    }
}
