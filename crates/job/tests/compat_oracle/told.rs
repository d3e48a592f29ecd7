//! A resolved job in plain words that can be compared: JSON with the names of the format.

use std::time::Duration;

use farmgate_job::{Artifact, BootSpec, Job, Pattern, Timeout, Variables, render_data};
use serde_json::{Map, Value, json};

/// The whole job, with what is served of each text.
///
/// # Errors
/// A text cannot be served.
pub(crate) fn tell(job: &Job, variables: &Variables) -> Result<Value, String> {
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
    let mut told = json!({
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
    });
    if let Some(rest) = rest(job)? {
        told["rest"] = rest;
    }
    Ok(told)
}

/// What a job holds beside that, as it is stored; `None` where there is nothing.
fn rest(job: &Job) -> Result<Option<Value>, String> {
    let mut all = serde_json::to_value(job).map_err(|e| e.to_string())?;
    let mut without = |path: &str, names: &[&str]| {
        if let Some(Value::Object(fields)) = all.pointer_mut(path) {
            fields.retain(|name, _| !names.contains(&name.as_str()));
        }
    };
    without("", &["target", "deadline", "timeouts", "console_patterns", "warnings"]);
    without("/start", &["kernel", "cmdline", "initramfs"]);
    without("/continue_", &["kernel", "cmdline", "initramfs"]);
    Ok(something(all))
}

/// The same without what is empty.
fn something(value: Value) -> Option<Value> {
    match value {
        Value::Null => None,
        Value::Array(items) if items.is_empty() => None,
        Value::Object(fields) => {
            let kept: Map<String, Value> =
                fields.into_iter().filter_map(|(name, value)| Some((name, something(value)?))).collect();
            (!kept.is_empty()).then_some(Value::Object(kept))
        }
        other => Some(other),
    }
}

fn timeout(timeout: &Timeout) -> Value {
    json!([timeout.limit.map(|limit: Duration| limit.as_nanos().to_string()), timeout.retries])
}

fn boot(boot: &BootSpec, variables: &Variables) -> Result<Value, String> {
    let cmdline = boot.cmdline.as_deref();
    let served = |artifact: &Artifact| {
        if let Artifact::Data(data) = artifact {
            render_data("data", data, variables, cmdline.unwrap_or_default())
                .map(|served| json!({"data": data, "served": served}))
                .map_err(|e| e.to_string())
        } else {
            serde_json::to_value(artifact).map_err(|e| e.to_string())
        }
    };
    let initramfs = match &boot.initramfs {
        Some(all) => Some(all.iter().map(served).collect::<Result<Vec<Value>, String>>()?),
        None => None,
    };
    let kernel = boot.kernel.as_ref().map(served).transpose()?;
    Ok(json!({"kernel": kernel, "cmdline": cmdline, "initramfs": initramfs}))
}
