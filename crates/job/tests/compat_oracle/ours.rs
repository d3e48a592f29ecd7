//! What the crate makes of a job, in the words of the oracle, and how the two differ.

use std::time::Duration;

use farmgate_job::{
    Artifact, BootSpec, Job, Pattern, Source, Timeout, Variables, render_data, resolve, target_of,
};
use serde_json::{Map, Value, json};

use crate::{expressions::WRITES, generator::Case};

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

fn tell(job: &Job, variables: &Variables) -> Result<Value, String> {
    let t = &job.timeouts;
    let watchdogs: Map<String, Value> = t.watchdogs.iter().map(|(n, w)| (n.clone(), timeout(w))).collect();
    let p = &job.console_patterns;
    let text = |pattern: &Option<Pattern>| pattern.as_ref().map(Pattern::as_str).map(str::to_owned);
    let dogs: Map<String, Value> = p
        .watchdogs
        .iter()
        .map(|(n, w)| {
            (n.clone(), json!({"start": w.start.as_str(), "reset": text(&w.reset), "stop": text(&w.stop)}))
        })
        .collect();
    Ok(json!({
        "target": job.target.as_ref().map(|t| json!({"id": t.id, "tags": t.tags})),
        "timeouts": {
            "overall": timeout(&t.overall),
            "infra_setup": timeout(&t.infra_setup),
            "infra_teardown": timeout(&t.infra_teardown),
            "boot_cycle": timeout(&t.boot_cycle),
            "firmware_boot": t.firmware_boot.as_ref().map(timeout),
            "first_console_activity": timeout(&t.first_console_activity),
            "console_activity": timeout(&t.console_activity),
            "watchdogs": watchdogs,
        },
        "patterns": {
            "session_end": p.session_end.as_str(),
            "session_reboot": text(&p.session_reboot),
            "job_success": text(&p.job_success),
            "job_warn": text(&p.job_warn),
            "machine_unfit_for_service": text(&p.machine_unfit_for_service),
            "watchdogs": dogs,
        },
        "start": boot(&job.start, variables)?,
        "continue": boot(&job.continue_, variables)?,
    }))
}

fn timeout(timeout: &Timeout) -> Value {
    json!([timeout.limit.map(|limit: Duration| limit.as_nanos().to_string()), timeout.retries])
}

fn boot(boot: &BootSpec, variables: &Variables) -> Result<Value, String> {
    let cmdline = boot.cmdline.as_deref();
    let served = |artifact: &Artifact| match artifact {
        Artifact::Url(url) => Ok(json!({ "url": url })),
        Artifact::Data(data) => render_data("data", data, variables, cmdline.unwrap_or_default())
            .map(|served| json!({"data": data, "served": served}))
            .map_err(|e| e.to_string()),
    };
    let initramfs = match &boot.initramfs {
        Some(all) => Some(all.iter().map(served).collect::<Result<Vec<Value>, String>>()?),
        None => None,
    };
    let kernel = boot.kernel.as_ref().map(served).transpose()?;
    Ok(json!({"kernel": kernel, "cmdline": cmdline, "initramfs": initramfs}))
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
    let excused = unknown(early_theirs) || (unknown(early) && !WRITES.undefined_operands);
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
