//! Makes ready what a job boots: every file is on disk before the machine is switched on.

use farmgate_boots::Content;
use farmgate_job::{Artifact, BootSpec, Cause, Job};

use super::RunContext;
use crate::boot_table::RunPlan;

/// The plans of both boots and what to warn of; or whose fault it is that there are none, and why.
pub(super) type Prepared = Result<(Plans, Vec<String>), (Cause, String)>;

#[derive(Clone)]
pub(super) struct Plans {
    pub(super) start: RunPlan,
    pub(super) next: RunPlan,
}

/// Makes both boots ready to be served: every file of them is on disk before the machine is switched on.
pub(super) async fn prepare(context: &RunContext, job: &Job) -> Prepared {
    let mut warnings = Vec::new();
    let start = plan(context, &job.start, &mut warnings).await?;
    let next = if job.continue_ == job.start {
        start.clone()
    } else {
        plan(context, &job.continue_, &mut warnings).await?
    };
    Ok((Plans { start, next }, warnings))
}

async fn plan(
    context: &RunContext,
    boot: &BootSpec,
    warnings: &mut Vec<String>,
) -> Result<RunPlan, (Cause, String)> {
    let defaults = context.boots.defaults();
    if let Some(path) = defaults.missing_file() {
        return Err((
            Cause::Configuration,
            format!("{} does not exist: see BOOTS_DEFAULT_KERNEL", path.display()),
        ));
    }
    let cmdline = boot.cmdline.clone().or_else(|| defaults.general.cmdline.clone()).unwrap_or_default();
    let kernel = match &boot.kernel {
        Some(artifact) => Some(content(context, artifact, &cmdline, warnings).await?),
        None if defaults.has_kernel() => None,
        None => {
            let why = "the job names no kernel and the gateway has no default one: set BOOTS_DEFAULT_KERNEL";
            return Err((Cause::Configuration, why.to_owned()));
        }
    };
    let initrds = match &boot.initramfs {
        Some(artifacts) => {
            let mut list = Vec::new();
            for artifact in artifacts {
                list.push(content(context, artifact, &cmdline, warnings).await?);
            }
            Some(list)
        }
        None => None,
    };
    Ok(RunPlan { kernel, initrds, cmdline: boot.cmdline.clone() })
}

async fn content(
    context: &RunContext,
    artifact: &Artifact,
    cmdline: &str,
    warnings: &mut Vec<String>,
) -> Result<Content, (Cause, String)> {
    match artifact {
        Artifact::Data(text) => farmgate_job::render_data("data", text, &context.variables, cmdline)
            .map(|text| Content::Bytes(text.into_bytes().into()))
            .map_err(|error| (Cause::JobError, error.to_string())),
        Artifact::Url(url) => {
            let fetched = context.artifacts.fetch(url).await.map_err(|error| {
                let cause = if error.is_the_jobs_fault() { Cause::JobError } else { Cause::Infrastructure };
                (cause, error.to_string())
            })?;
            warnings.extend(fetched.warning);
            Ok(Content::File(fetched.path))
        }
        // `farmgate_job::resolve` refuses jobs with these.
        Artifact::Archive(_) | Artifact::Formatted(..) => Err((
            Cause::Bug,
            "an artifact with `archive` or `format` came through the check of the job".into(),
        )),
    }
}
