//! Makes ready what a job boots: every file is on disk before the machine is switched on.

use std::{
    collections::HashMap,
    path::PathBuf,
    time::{Duration, Instant},
};

use farmgate_boots::Content;
use farmgate_job::{Artifact, BootSpec, Cause, Job};
use serde_json::{Map, Value};

use super::RunContext;
use crate::{
    artifacts::{ArtifactCache, Fetched, Pin, Progress},
    boot_table::RunPlan,
};

/// How often it is told how far a download is. One that is done before is not told of.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// The plans of both boots and what to warn of; or whose fault it is that there are none, and why.
pub(super) type Prepared = Result<(Plans, Vec<String>), (Cause, String)>;

#[derive(Clone)]
pub(super) struct Plans {
    pub(super) start: RunPlan,
    pub(super) next: RunPlan,
    /// Their files stay in the cache as long as these live.
    pub(super) pins: Vec<Pin>,
}

impl Plans {
    /// Pins the files of a run that a gateway before had prepared.
    pub(super) fn pin_again(&mut self, cache: &ArtifactCache) {
        let files: Vec<PathBuf> = [&self.start, &self.next]
            .into_iter()
            .flat_map(|plan| plan.kernel.iter().chain(plan.initrds.iter().flatten()))
            .filter_map(|content| match content {
                Content::File(path) => Some(path.clone()),
                Content::Bytes(_) => None,
            })
            .collect();
        self.pins.push(cache.pin_again(&files));
    }
}

/// What is being made ready.
struct Preparing<'a> {
    context: &'a RunContext,
    /// By URL: both boots of a run get the same bytes, whatever the server has by then.
    fetched: HashMap<String, Fetched>,
    warnings: Vec<String>,
}

/// Makes both boots ready to be served: every file of them is on disk before the machine is switched on.
pub(super) async fn prepare(context: &RunContext, job: &Job) -> Prepared {
    let mut preparing = Preparing { context, fetched: HashMap::new(), warnings: Vec::new() };
    let start = preparing.plan(&job.start).await?;
    let next =
        if job.continue_ == job.start { start.clone() } else { preparing.plan(&job.continue_).await? };
    let pins = preparing.fetched.into_values().map(|fetched| fetched.pin).collect();
    Ok((Plans { start, next, pins }, preparing.warnings))
}

impl Preparing<'_> {
    async fn plan(&mut self, boot: &BootSpec) -> Result<RunPlan, (Cause, String)> {
        let defaults = self.context.boots.defaults();
        if let Some(path) = defaults.missing_file() {
            return Err((
                Cause::Configuration,
                format!("{} does not exist: see BOOTS_DEFAULT_KERNEL", path.display()),
            ));
        }
        let cmdline = boot.cmdline.clone().or_else(|| defaults.general.cmdline.clone()).unwrap_or_default();
        let kernel = match &boot.kernel {
            Some(artifact) => Some(self.content(artifact, &cmdline).await?),
            None if defaults.has_kernel() => None,
            None => {
                let why =
                    "the job names no kernel and the gateway has no default one: set BOOTS_DEFAULT_KERNEL";
                return Err((Cause::Configuration, why.to_owned()));
            }
        };
        let initrds = match &boot.initramfs {
            Some(artifacts) => {
                let mut list = Vec::new();
                for artifact in artifacts {
                    list.push(self.content(artifact, &cmdline).await?);
                }
                Some(list)
            }
            None => None,
        };
        Ok(RunPlan { kernel, initrds, cmdline: boot.cmdline.clone() })
    }

    async fn content(&mut self, artifact: &Artifact, cmdline: &str) -> Result<Content, (Cause, String)> {
        match artifact {
            Artifact::Data(text) => farmgate_job::render_data("data", text, &self.context.variables, cmdline)
                .map(|text| Content::Bytes(text.into_bytes().into()))
                .map_err(|error| (Cause::JobError, error.to_string())),
            Artifact::Url(url) => self.fetch(url).await.map(Content::File),
            // `farmgate_job::resolve` refuses jobs with these.
            Artifact::Archive(_) | Artifact::Formatted(..) => Err((
                Cause::Bug,
                "an artifact with `archive` or `format` came through the check of the job".into(),
            )),
        }
    }

    async fn fetch(&mut self, url: &str) -> Result<PathBuf, (Cause, String)> {
        if let Some(known) = self.fetched.get(url) {
            return Ok(known.path.clone());
        }
        let mut told = Instant::now();
        let tell = |name: &str, progress: &Progress| {
            if told.elapsed() < TELL_EVERY {
                return;
            }
            told = Instant::now();
            let details = Map::from_iter([
                ("run".to_owned(), Value::from(self.context.run)),
                ("got".to_owned(), Value::from(progress.got)),
                ("total".to_owned(), Value::from(progress.total)),
            ]);
            let text = format!("downloading {name}: {progress}");
            self.context.events.emit(Some(&self.context.dut), "artifact", text, details);
        };
        let fetched = self.context.artifacts.fetch(url, tell).await;
        let mut fetched = fetched.map_err(|error| (error.cause(), error.to_string()))?;
        self.warnings.extend(fetched.warning.take());
        let path = fetched.path.clone();
        self.fetched.insert(url.to_owned(), fetched);
        Ok(path)
    }
}
