//! What the executor is told at its start. The daemon makes it from its settings.

use std::{path::PathBuf, time::Duration};

use farmgate_job::{Job, JobError, Pattern, Source, Variables};
use farmgate_protocol::dut::Dut;
use serde_json::{Map, Value};

use crate::defaults::Defaults;

/// A job template of the gateway's own, or the file that a setting puts in its place.
#[derive(Debug, Clone)]
pub struct BuiltinJob {
    /// Where it came from, for messages.
    pub name: String,
    /// The template.
    pub text: String,
}

/// Settings of the executor.
#[derive(Debug, Clone)]
pub struct ExecutorConfig {
    /// `FARM_NAME`.
    pub farm_name: String,
    /// What boots a machine to register it.
    pub registration_job: BuiltinJob,
    /// What boots a machine in the training and the quick check.
    pub bootloop_job: BuiltinJob,
    /// Boots in a training.
    pub boot_count: u32,
    /// Boots that must pass.
    pub qualifying_boot_count: u32,
    /// Wait before a failed registration is tried again.
    pub registration_retrial_delay: Duration,
    /// Whether a machine in service is booted once when the gateway starts.
    pub quick_check: bool,
    /// What BOOTS serves where nothing else is said.
    pub boot_defaults: Defaults,
    /// Folder of downloaded artifacts.
    pub artifact_cache: PathBuf,
    /// The most that these may take, bytes.
    pub artifact_cache_size: u64,
    /// How often a download is tried.
    pub artifact_attempts: u32,
    /// Without a byte for that long an attempt has failed.
    pub artifact_stall: Duration,
    /// What any machine's console says when it is unfit for service; a job's own pattern goes before it.
    pub unfit_pattern: Option<Pattern>,
    /// Template variables of all jobs (`EXECUTOR_JOB__X`, `minio_url`).
    pub job_variables: Map<String, Value>,
    /// `host:port` of the vPDU; adds a PDU named `VPDU`.
    pub vpdu_endpoint: Option<String>,
    /// Look at PDUs and consoles, say what would be done, and do nothing of it.
    pub observe: bool,
    /// Host name or address that `logs_endpoint` names.
    pub console_host: String,
}

impl ExecutorConfig {
    /// Whether the job templates of the gateway's own can be used, asked before anything is started.
    ///
    /// # Errors
    /// What is wrong with one, with its place.
    pub fn check_templates(&self) -> Result<(), JobError> {
        let mut variables = Variables::default()
            .set("machine_id", "52:54:00:00:00:01")
            .set("local_tty_device", "ttyS0")
            .set("machine_tags", Value::Array(Vec::new()));
        for (name, value) in &self.job_variables {
            variables = variables.set(name, value.clone());
        }
        for template in [&self.registration_job, &self.bootloop_job] {
            self.resolve(&Source { name: &template.name, text: &template.text }, &variables)?;
        }
        Ok(())
    }

    /// What the template of a submitted job can name. `dut`: None while the machine is not known.
    pub fn submission_variables(
        &self,
        dut: Option<&Dut>,
        environ: impl IntoIterator<Item = (String, String)>,
    ) -> Variables {
        let mut variables =
            dut.map_or_else(Variables::default, |dut| Variables::for_dut(dut, &self.farm_name));
        for (name, value) in &self.job_variables {
            variables = variables.set(name, value.clone());
        }
        variables.set("environ", Value::from_iter(environ))
    }

    /// A job against one machine, with what the farm adds to every job.
    ///
    /// # Errors
    /// What is wrong with the job.
    pub(crate) fn resolve(&self, source: &Source<'_>, variables: &Variables) -> Result<Job, JobError> {
        let mut job = farmgate_job::resolve(source, variables)?;
        if job.console_patterns.machine_unfit_for_service.is_none() {
            job.console_patterns.machine_unfit_for_service.clone_from(&self.unfit_pattern);
        }
        Ok(job)
    }
}

/// Name of the PDU that [`ExecutorConfig::vpdu_endpoint`] adds.
pub const VPDU_NAME: &str = "VPDU";
