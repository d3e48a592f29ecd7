//! A template, rendered as the data of an artifact: whatever it tries, it ends within its bounds.
#![no_main]

use farmgate_job::{MAX_RENDERED, Variables, render_data};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let variables = Variables::default()
        .set("machine_id", "52:54:00:11:22:01")
        .set("machine_tags", vec!["farm:lab", "amdgpu:gfxversion::gfx1030"])
        .set("number", 7)
        .set("ready_for_service", true);
    // With the strict first line every failure is told.
    match render_data("data", &format!("#!jinja2\n{text}"), &variables, "quiet") {
        Ok(rendered) => assert!(rendered.len() <= MAX_RENDERED.max(text.len())),
        Err(error) => assert!(!error.to_string().contains("a fault of the gateway"), "{error}"),
    }
    let _ = render_data("data", text, &variables, "quiet");
});
