//! What the crate makes of a job, in the words of the oracle, and how the two differ.

use farmgate_job::{Source, Variables, resolve, target_of};
use serde_json::{Map, Value, json};

use crate::{choices::writes, generator::Case, told::tell};

fn variables(value: &Value) -> Variables {
    let Value::Object(all) = value else { panic!("variables are an object") };
    Variables(all.clone())
}

/// The job as the oracle would tell it; `{"error": ...}` where it is refused.
pub(crate) fn resolved(case: &Case) -> Value {
    let source = Source { name: "job.yml", text: &case.text };
    let early = match target_of(&source, &variables(&case.submission)) {
        Ok(target) => json!({ "target": target.map(|t| json!({"id": t.id, "tags": t.tags})) }),
        Err(error) => json!({ "unknown": error.to_string() }),
    };
    let known = variables(&case.variables);
    let told = resolve(&source, &known).map_err(|e| e.to_string()).and_then(|job| tell(&job, &known));
    match told {
        Ok(mut job) => {
            job["early_target"] = early;
            job
        }
        Err(why) => json!({"error": "refused", "why": why}),
    }
}

/// Both, from a little before where they begin to differ.
fn apart(ours: &Value, theirs: &Value) -> String {
    let (ours, theirs) = (ours.to_string(), theirs.to_string());
    let same = ours.chars().zip(theirs.chars()).take_while(|(a, b)| a == b).count();
    let shown = |text: &str| text.chars().skip(same.saturating_sub(60)).take(160).collect::<String>();
    format!("\n  ours:   {}\n  Python: {}", shown(&ours), shown(&theirs))
}

/// What differs, in words; `None` where both mean the same.
pub(crate) fn difference(ours: &Value, theirs: &Value) -> Option<String> {
    match (ours.get("error"), theirs.get("error")) {
        (Some(_), Some(_)) => None,
        (Some(_), None) => {
            Some(format!("we refuse what Python reads: {}", ours["why"].as_str().unwrap_or_default()))
        }
        (None, Some(stage)) => Some(format!("Python refuses what we read: {stage}: {}", theirs["why"])),
        (None, None) => fields(ours, theirs),
    }
}

fn fields(ours: &Value, theirs: &Value) -> Option<String> {
    for field in ["target", "start", "continue"] {
        if ours[field] != theirs[field] {
            return Some(format!("{field}{}", apart(&ours[field], &theirs[field])));
        }
    }
    // Jinja2 cannot render some texts without their machine that we can.
    let (early, early_theirs) = (&ours["early_target"], &theirs["early_target"]);
    let unknown = |target: &Value| target.get("unknown").is_some();
    let excused = unknown(early_theirs) || (unknown(early) && !writes().undefined_operands);
    if !excused && early != early_theirs {
        return Some(format!("first rendering{}", apart(early, early_theirs)));
    }
    patterns(&ours["patterns"], &theirs["patterns"], "patterns")
        .or_else(|| timeouts(&ours["timeouts"], &theirs["timeouts"], "timeouts"))
}

/// Those that the job gives; `session_end` has a default of our own.
fn patterns(ours: &Value, theirs: &Value, path: &str) -> Option<String> {
    let Value::Object(given) = ours else {
        return (ours != theirs).then(|| format!("{path}{}", apart(ours, theirs)));
    };
    given.iter().find_map(|(name, value)| {
        let other = &theirs[name];
        if name == "session_end" && other.is_null() {
            None
        } else {
            patterns(value, other, &format!("{path}.{name}"))
        }
    })
}

/// Ours in nanoseconds, theirs in microseconds: equal where they round to the same.
fn timeouts(ours: &Value, theirs: &Value, path: &str) -> Option<String> {
    let different = || Some(format!("{path}{}", apart(ours, theirs)));
    match (ours, theirs) {
        (Value::Object(all), _) if all.len() == theirs.as_object().map_or(0, Map::len) => {
            all.iter().find_map(|(name, value)| timeouts(value, &theirs[name], &format!("{path}.{name}")))
        }
        (Value::Array(one), Value::Array(other)) => {
            let number = |value: &Value| value.as_str().and_then(|text| text.parse::<u128>().ok());
            let near = match (number(&one[0]), number(&other[0])) {
                (Some(nanoseconds), Some(microseconds)) => nanoseconds.abs_diff(microseconds * 1000) <= 1000,
                (one, other) => one == other,
            };
            if near && one[1] == other[1] { None } else { different() }
        }
        (Value::Null, Value::Null) => None,
        _ => different(),
    }
}
