//! `farmgate check-job`: everything that can be told about a job without running it.
//!
//! It asks the same reader that a submission meets, twice as a submission does: for the target, and against one
//! machine. What the job's template needs of the farm comes from the settings and the farm file where they are, and is
//! made up where they are not, which is said.

mod output;
mod resolved;

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
    process::ExitCode,
    time::Duration,
};

use clap::ValueEnum;
use farmgate_executor::preview;
use farmgate_job::{Facts, MAX_SOURCE, Source, Target};
use farmgate_mars::{CheckContext, Farm};
use farmgate_protocol::{Timestamp, dut::Dut};

use self::output::{Machine, Message, Outcome};
use crate::{
    BoxError,
    check::farm_context,
    settings::{Settings, SettingsError},
};

/// Name of a farm whose settings are not there.
const NO_FARM: &str = "farm";

/// What errors call standard input.
const STDIN: &str = "<stdin>";

/// What to check and how to tell.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The job's file; `-` reads standard input.
    #[arg(value_name = "FILE")]
    file: String,
    /// Check against this machine of the farm file (id or full name). Default: one that the job's target selects.
    #[arg(long, value_name = "NAME")]
    dut: Option<String>,
    /// Becomes `environ.VAR` in the job; may be given again.
    #[arg(short = 'E', long = "environ", value_name = "VAR=VALUE", value_parser = assignment)]
    environ: Vec<(String, String)>,
    /// For a person, or for a program.
    #[arg(long, value_enum, default_value = "human")]
    format: Format,
    /// End with 1 where there are warnings.
    #[arg(long)]
    strict: bool,
    /// Show what the job comes to: boots, command lines, timeouts, patterns, each with its source.
    #[arg(long)]
    resolved: bool,
}

/// How the outcome is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Text.
    Human,
    /// One JSON object.
    Json,
}

fn assignment(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write VAR=VALUE".to_owned()),
    }
}

/// Checks the job and prints what is to be said of it; 0 fine, 1 warnings and `--strict`, 2 errors.
///
/// # Errors
/// The settings are wrong, or the output cannot be written.
pub fn run(args: &Args, settings_file: Option<&Path>) -> Result<ExitCode, BoxError> {
    let mut outcome = Outcome::of(if args.file == "-" { STDIN } else { &args.file });
    let settings = settings(settings_file, &mut outcome)?;
    match read(&args.file) {
        Ok(text) => check(args, &text, &settings, &mut outcome),
        Err(Unreadable { place, message, help }) => {
            outcome.errors.push(Message::own(&outcome.file, place, message, Some(help)));
        }
    }
    let code = outcome.exit_code(args.strict);
    outcome.write(args.format, code)?;
    Ok(ExitCode::from(code))
}

/// Those of the gateway. A computer that is no gateway has none, which is no reason not to check a job.
fn settings(file: Option<&Path>, outcome: &mut Outcome) -> Result<Settings, SettingsError> {
    let environment = |name: &str| std::env::var(name).ok();
    match Settings::load(file, &environment) {
        Err(SettingsError::NoFarmName) => {
            outcome.notes.push(format!("FARM_NAME is not set: the farm is called {NO_FARM:?} here"));
            Settings::load(file, &|name| match name {
                "FARM_NAME" => Some(NO_FARM.to_owned()),
                _ => environment(name),
            })
        }
        other => other,
    }
}

/// Why there is no text.
struct Unreadable {
    place: Option<(usize, usize)>,
    message: String,
    help: &'static str,
}

fn read(file: &str) -> Result<String, Unreadable> {
    let wrong = |message: String, help: &'static str| Unreadable { place: None, message, help };
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => wrong("there is no such file".to_owned(), "is the path right?"),
        io::ErrorKind::IsADirectory => wrong("this is a folder".to_owned(), "name the file of the job in it"),
        io::ErrorKind::PermissionDenied => {
            wrong("the file may not be read".to_owned(), "its permissions forbid it to you")
        }
        _ => wrong(format!("the file cannot be read: {error}"), "is the path right?"),
    };
    let most = MAX_SOURCE as u64 + 1;
    let mut bytes = Vec::new();
    if file == "-" {
        io::stdin().lock().take(most).read_to_end(&mut bytes).map_err(failed)?;
    } else {
        File::open(file).and_then(|f| f.take(most).read_to_end(&mut bytes)).map_err(failed)?;
    }
    if bytes.len() > MAX_SOURCE {
        let message =
            format!("the file is larger than {} KiB, the most that a job may have", MAX_SOURCE >> 10);
        return Err(wrong(message, "is this the right file?"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        // What is before the fault is UTF-8: columns are characters.
        let before = String::from_utf8_lossy(before);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        let message = "the file is not UTF-8 text".to_owned();
        Unreadable { place: Some((line, column)), message, help: "save it as UTF-8" }
    })
}

fn check(args: &Args, text: &str, settings: &Settings, outcome: &mut Outcome) {
    let name = outcome.file.clone();
    let source = Source { name: &name, text };
    let config = &settings.executor_config;
    let unplaced = config.submission_variables(None, args.environ.iter().cloned());
    let target = farmgate_job::target_of(&source, &unplaced);
    let wanted = target.as_ref().ok().and_then(Option::as_ref);
    let (dut, made_up) = match machine(args, settings, wanted, &mut outcome.notes) {
        Ok(found) => found,
        Err(message) => {
            outcome.errors.push(Message::own(&name, None, message, None));
            return;
        }
    };
    let variables = config.submission_variables(Some(&dut), args.environ.iter().cloned());
    let facts = Facts {
        firmware_boot_time: dut.firmware_boot_time.and_then(|s| Duration::try_from_secs_f64(s).ok()),
        unfit_pattern: config.unfit_pattern.clone(),
        now: Timestamp::now(),
    };
    let checked = farmgate_job::explain(&source, &variables, &facts);
    let mut problems = checked.problems;
    // What only the first rendering stumbles over refuses a submission just as well.
    let known = |p: &farmgate_job::Problem, all: &[farmgate_job::Problem]| {
        all.iter().any(|other| other.place == p.place && other.message == p.message)
    };
    for problem in target.err().iter().flat_map(farmgate_job::JobError::problems) {
        if !known(problem, &problems) && !known(problem, &checked.unsupported) {
            problems.push(problem.clone());
        }
    }
    let readable = problems.is_empty();
    problems.extend(checked.unsupported);
    problems.sort_by_key(|p| p.place);
    outcome.errors.extend(problems.iter().map(Message::error));
    outcome.warnings.extend(checked.warnings.iter().map(Message::warning));
    outcome.machine = Some(Machine { id: dut.id.to_string(), full_name: dut.full_name.clone(), made_up });
    if args.resolved && readable {
        outcome.resolved =
            checked.value.map(|explained| resolved::Resolved::new(explained, &config.boot_defaults));
    }
}

/// The machine that the job is rendered against, and whether it was made up.
///
/// # Errors
/// The one that was asked for does not exist.
fn machine(
    args: &Args,
    settings: &Settings,
    target: Option<&Target>,
    notes: &mut Vec<String>,
) -> Result<(Dut, bool), String> {
    let farm_name = settings.executor_config.farm_name.as_str();
    let path = settings.farm_file.display();
    let machines = farm(settings).map(|farm| farm.map(|farm| preview::machines(&farm, farm_name)));
    if let Some(name) = &args.dut {
        let machines = machines?.ok_or_else(|| {
            format!(
                "there is no machine {name:?}: the farm file {path} does not exist (setting MARS_DB_FILE)"
            )
        })?;
        let dut = preview::named(&machines, name).map_err(|e| format!("{e} in the farm file {path}"))?;
        if let Some(target) = target
            && let Err(why) = preview::chosen(std::slice::from_ref(dut), target, farm_name)
        {
            notes.push(format!("{name} is not what the job's target asks for: {why}"));
        }
        return Ok((dut.clone(), false));
    }
    let why = match (machines, target) {
        (Ok(Some(machines)), Some(target)) => match preview::chosen(&machines, target, farm_name) {
            Ok(dut) => return Ok((dut.clone(), false)),
            Err(why) => format!("{why} (farm file {path})"),
        },
        (Ok(Some(_)), None) => "the job names no target".to_owned(),
        (Ok(None), _) => format!("the farm file {path} does not exist"),
        (Err(_), _) => format!("the farm file {path} is wrong, see `farmgate check`"),
    };
    let dut =
        preview::sample_machine(target, farm_name).ok_or("no machine can be made up: a fault of ours")?;
    notes.push(format!("{why}: checked against a made-up machine, {}", dut.full_name));
    Ok((dut, true))
}

/// None: there is no farm file.
fn farm(settings: &Settings) -> Result<Option<Farm>, String> {
    let path = settings.farm_file.display().to_string();
    match std::fs::read_to_string(&settings.farm_file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("the farm file {path} cannot be read: {error}")),
        Ok(text) => {
            // How a PDU is reached makes no difference to a job.
            let context =
                CheckContext { pdu_check: CheckContext::default().pdu_check, ..farm_context(settings) };
            farmgate_mars::parse(&path, &text, &context)
                .map(|parsed| Some(parsed.farm))
                .map_err(|error| error.to_string())
        }
    }
}
