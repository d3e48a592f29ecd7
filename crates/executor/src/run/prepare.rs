//! Makes ready what a job boots: every file is on disk before the machine is switched on.

use farmgate_boots::{BootPlan, Content};
use farmgate_job::{Artifact, BootSpec, Cause, Job};

use super::RunContext;

/// The plans of both boots and what to warn of; or whose fault it is that there are none, and why.
pub(super) type Prepared = Result<(Plans, Vec<String>), (Cause, String)>;

#[derive(Clone)]
pub(super) struct Plans {
    pub(super) start: BootPlan,
    pub(super) next: BootPlan,
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
) -> Result<BootPlan, (Cause, String)> {
    let defaults = context.boots.defaults().clone();
    let cmdline = boot.cmdline.clone().unwrap_or(defaults.cmdline);
    let kernel = match &boot.kernel {
        Some(artifact) => content(context, artifact, &cmdline, warnings).await?,
        None => Content::File(defaults.kernel.ok_or_else(|| {
            let why = "the job names no kernel and the gateway has no default one: set BOOTS_DEFAULT_KERNEL";
            (Cause::Configuration, why.to_owned())
        })?),
    };
    let initrds = match &boot.initramfs {
        Some(artifacts) => {
            let mut list = Vec::new();
            for artifact in artifacts {
                list.push(content(context, artifact, &cmdline, warnings).await?);
            }
            list
        }
        None => defaults.initrd.into_iter().map(Content::File).collect(),
    };
    for file in std::iter::once(&kernel).chain(&initrds) {
        if let Content::File(path) = file
            && !path.is_file()
        {
            return Err((Cause::Configuration, format!("{} does not exist", path.display())));
        }
    }
    Ok(BootPlan { console_id: context.dut.to_string(), kernel, initrds, cmdline })
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
            let fetched = context.artifacts.fetch(url).await.map_err(|e| (Cause::JobError, e.to_string()))?;
            warnings.extend(fetched.warning);
            Ok(Content::File(fetched.path))
        }
    }
}
