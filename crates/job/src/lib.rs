//! The job description language and the run of a job, as pure code.
//!
//! A job is a template, then YAML, then meaning. [`target_of`] renders it without knowing the machine and tells
//! which machine it wants; [`resolve`] renders it against the chosen one and checks all of it. [`JobRun`] then
//! decides, event by event, what the gateway does for it and which verdict it ends with. Nothing here reads a
//! file, a clock or a socket: whoever calls brings text, variables and times, and carries out the actions.

mod artifact;
mod boot_methods;
mod check;
mod complex_list;
mod deployment;
mod dhcp;
mod document;
mod error;
mod fastboot;
mod matcher;
mod model;
mod path_pattern;
mod pattern;
mod places;
mod proxy;
mod python_class;
mod python_regex;
mod resolved;
mod run;
mod schema;
mod storage;
mod template;
mod timeouts;
mod variables;
mod whole_regex;
mod words;
mod yaml;

pub use artifact::{
    Archive, ArchiveCompression, ArchiveExtension, ArchiveFormat, ArchiveMember, Artifact, Format, Keep,
    UbootArchitecture, UbootCompression, UbootFormat, UbootOs, UbootType,
};
pub use boot_methods::{
    BootMethods, DhcpBootMethod, FastbootClient, FastbootMatch, FastbootMethod, ScriptClient, ScriptMatch,
};
pub use complex_list::ComplexList;
pub use deployment::{BootSpec, Deployment};
pub use dhcp::{DhcpClient, DhcpMatch, DhcpOffer, DhcpOption, DhcpValue, OptionKind, TextMatch};
pub use error::{Checked, JobError, Place, Problem};
pub use fastboot::Fastboot;
pub use matcher::{MAX_LINE, PatternName, WatchdogEdge};
pub use model::{ConsolePatterns, Job, Target, Timeout, Timeouts, WatchdogPatterns};
pub use path_pattern::PathPattern;
pub use pattern::{Pattern, PatternError};
pub use proxy::{Endpoint, EndpointError, Proxy};
pub use resolved::{
    Explained, ExplainedPattern, ExplainedTimeout, Facts, Origin, Part, explain, firmware_boot,
};
pub use run::{Action, Attempt, BootKind, Cause, Event, JobRun, Outcome, Phase, RunSpec, RunState, TimerId};
pub use schema::schema;
pub use storage::{Backing, BlockDevice, ContainerImage, PullPolicy, Storage, StorageFile};
pub use template::{MAX_RENDERED, MAX_SOURCE, render_data};
pub use variables::Variables;
pub use whole_regex::{Groups, RegexError, WholeRegex};

/// The text of a job and the name under which errors speak of it.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// File name for messages.
    pub name: &'a str,
    /// The job as its author wrote it, before the template.
    pub text: &'a str,
}

/// What machine does the job ask for?
///
/// The template is rendered leniently: variables that are not known yet are empty, whatever is looked up in them,
/// and a first line `#!jinja2` has no effect. Only the names of the fields of the top level and `target` are
/// checked. `None`: the job names no target, or one that only the second rendering can tell.
///
/// # Errors
/// The text is no template, no YAML, or its target is wrong.
pub fn target_of(source: &Source<'_>, variables: &Variables) -> Result<Option<Target>, JobError> {
    let rendered = template::render(source, variables, template::Pass::Lenient)?;
    let mut report = error::Report::new(source, &rendered);
    let target = yaml::parse(&rendered.text, &mut report)
        .and_then(|tree| document::read_target_only(&tree, &mut report));
    Ok(report.finish(target).accept(source.name)?.0)
}

/// The job, rendered against the machine that `variables` describe, with all that is to be said of it.
///
/// Whether a [`Job::deadline`] has passed is the caller's question: this crate knows no clock. After a fault of the
/// template or of the YAML syntax there is only that.
pub fn check(source: &Source<'_>, variables: &Variables) -> Checked<Job> {
    let rendered = match template::render(source, variables, template::Pass::Full) {
        Ok(rendered) => rendered,
        Err(error) => return Checked::failed(error),
    };
    let mut report = error::Report::new(source, &rendered);
    let job = yaml::parse(&rendered.text, &mut report).and_then(|tree| document::read(&tree, &mut report));
    report.finish(job)
}

/// The job, rendered against the machine that `variables` describe, if it is right and this gateway can run it.
///
/// # Errors
/// Everything that is wrong with the job, or not supported yet.
pub fn resolve(source: &Source<'_>, variables: &Variables) -> Result<Job, JobError> {
    let (mut job, warnings) = check(source, variables).accept(source.name)?;
    job.warnings = warnings.iter().map(ToString::to_string).collect();
    Ok(job)
}

/// The file of boot methods, with all that is to be said of it. `variables` are those of the farm: no machine is
/// known. It is a template and then YAML, as a job is.
pub fn check_boot_methods(source: &Source<'_>, variables: &Variables) -> Checked<BootMethods> {
    let rendered = match template::render(source, variables, template::Pass::Full) {
        Ok(rendered) => rendered,
        Err(error) => return Checked::failed(error),
    };
    let mut report = error::Report::new(source, &rendered);
    let says_nothing =
        rendered.text.lines().all(|line| matches!(line.trim_start().chars().next(), None | Some('#')));
    let methods = if says_nothing {
        Some(BootMethods::default())
    } else {
        yaml::parse(&rendered.text, &mut report)
            .and_then(|tree| document::boot_methods::read(&tree, &mut report))
    };
    report.finish(methods)
}
