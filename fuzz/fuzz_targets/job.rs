//! The text of a job, through both renderings, its check, and the templates that it carries.
#![no_main]

use farmgate_job::{Artifact, Source, Variables, render_data, resolve, target_of};
use libfuzzer_sys::fuzz_target;

/// Bytes. A longer job finds nothing new, only slower.
const LONGEST: usize = 1024;

fn variables() -> Variables {
    Variables::default()
        .set("machine_id", "52:54:00:11:22:01")
        .set("machine_tags", vec!["farm:lab", "amdgpu:gfxversion::gfx1030"])
        .set("local_tty_device", "ttyS0")
        .set("ready_for_service", true)
}

fuzz_target!(|text: &str| {
    if text.len() > LONGEST {
        return;
    }
    let source = Source { name: "job.yml", text };
    let variables = variables();
    match target_of(&source, &variables) {
        Ok(_) => {}
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    let job = match resolve(&source, &variables) {
        Ok(job) => job,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    for boot in [&job.start, &job.continue_] {
        for artifact in boot.kernel.iter().chain(boot.initramfs.iter().flatten()) {
            if let Artifact::Data(data) = artifact {
                let _ = render_data("data", data, &variables, boot.cmdline.as_deref().unwrap_or_default());
            }
        }
    }
});
