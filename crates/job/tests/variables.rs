//! The variables of a template: what is there has its value, what this gateway cannot fill is an error at its line.

use farmgate_job::{Source, Variables, render_data, resolve};
use serde_json::json;

fn refused(template: &str, variables: &Variables) -> (bool, Option<usize>, String) {
    let text = format!("version: 1\n# {template}\n");
    let Err(error) = resolve(&Source { name: "job.yml", text: &text }, variables) else {
        panic!("{template} is accepted");
    };
    (error.is_unsupported(), error.line(), error.to_string())
}

#[test]
fn what_the_gateway_cannot_fill_is_refused_wherever_it_is_used() {
    for name in [
        "job_bucket",
        "job_bucket_access_key",
        "job_bucket_secret_key",
        "minio_url",
        "job.bucket.url",
        "job.bucket.secret_key",
        "job.http.url",
        "job.http.path_to('x')",
        "job.tftp.path_to('x')",
        "job.deployment.kernel.cmdline",
        "job.imagestore.public.img.image_id",
        "job.nbd.swap.to_b2c_nbd('/dev/nbd0')",
        "job['bucket']",
        "imagestore.mount('public').nfs.to_b2c_filesystem('x')",
        "registry.to_local_proxy('x')",
        "job",
        "registry",
    ] {
        for template in [
            format!("{{{{ {name} }}}}"),
            format!("{{% if {name} %}}{{% endif %}}"),
            format!("{{% if {name} is defined %}}{{% endif %}}"),
            format!("{{{{ {name} | default('x') }}}}"),
            format!("{{{{ '%s' % {name} }}}}"),
            format!("{{{{ dict(x={name}) }}}}"),
            format!("{{% set x = {name} %}}"),
            format!("{{% for x in {name} %}}{{% endfor %}}"),
        ] {
            let (unsupported, line, text) = refused(&template, &Variables::default());
            assert!(unsupported && line == Some(2), "{template}: {text}");
        }
    }
}

#[test]
fn what_the_caller_fills_is_there_and_its_neighbours_are_still_refused() {
    let variables =
        Variables::default().set("job", json!({"bucket": {"url": "http://b"}})).set("job_bucket", "b");
    let render = |text: &str| render_data("data", text, &variables, "quiet");
    assert_eq!(render("{{ job.bucket.url }} {{ job_bucket }}").unwrap(), "http://b b");
    assert_eq!(render("{{ job.deployment.kernel.cmdline }}").unwrap(), "quiet");
    assert!(render("{{ job.bucket.name }}").unwrap_err().is_unsupported());
    assert!(render("{{ job.http.url }}").unwrap_err().is_unsupported());
}

#[test]
fn the_data_of_an_artifact_keeps_its_last_newline_and_its_lines_in_errors() {
    let render = |text: &str| render_data("config.txt", text, &Variables::default(), "");
    assert_eq!(render("a{{ 1 }}\n\n").unwrap(), "a1\n\n");
    assert_eq!(render("{{ broken").unwrap(), "{{ broken");
    assert_eq!(render("{{ 1 / 0 }}").unwrap(), "{{ 1 / 0 }}");
    assert_eq!(render("#!jinja2\nx").unwrap(), "x");
    let error = render("#!jinja2\none\n{{ nope }}\n").unwrap_err();
    assert_eq!((error.line(), error.column()), (Some(3), Some(4)), "{error}");
}
