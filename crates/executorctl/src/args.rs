//! The command line: what may be written, its defaults and its help. It is the published client's command line and
//! a few additions; what the words mean together is checked by whoever carries the command out.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use farmgate_protocol::run::{Priority, RunState};
use regex::Regex;

/// Where a gateway answers on its private network.
pub const DEFAULT_URL: &str = "http://10.42.0.1/";

/// How long a gateway may be away, seconds: an upgrade of its host takes minutes.
const PATIENCE: u64 = 300;

/// Runs jobs on the machines of a farm and shows the machines.
#[derive(Debug, Parser)]
#[command(name = "executorctl", version, about, after_help = EXIT_CODES)]
pub struct Cli {
    /// URL of the gateway. A token goes into it (http://x:TOKEN@host) or into the environment (FARMGATE_TOKEN)
    #[arg(
        short = 'e',
        long = "executor",
        global = true,
        value_name = "URL",
        env = "EXECUTORCTL_URL",
        hide_env_values = true,
        default_value = DEFAULT_URL
    )]
    pub executor: String,
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
}

const EXIT_CODES: &str = "Exit codes of `run` and `attach`: 0 PASS, 1 WARN, 2 COMPLETE, 3 FAIL, 4 INCOMPLETE, \
5 UNKNOWN (also: you left and the job goes on), 6 SETUP_FAIL (also: bad arguments, gateway not reachable). \
Of all other commands: 0 done, 1 there is no such job or machine or it cannot be done now, 6 as above";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a job and show its console until it ends
    Run(Box<RunArgs>),
    /// Come back to a job: its whole console, and the keyboard
    Attach(AttachArgs),
    /// List jobs, the newest first
    Jobs(JobsArgs),
    /// Show everything about one job: verdict, boots, where its time went
    Job(JobArgs),
    /// Print the console of a job, also of one that is over, byte for byte
    Logs(LogsArgs),
    /// Say what a job waits for
    Why(JobArgs),
    /// End a job
    Cancel(JobArgs),
    /// List the machines of the farm
    Duts(DutsArgs),
    /// Commands about one machine
    Dut {
        /// What to do with it.
        #[command(subcommand)]
        command: Option<DutCommand>,
    },
    /// Print the shell's completions: source them, or put them where your shell looks
    Completions {
        /// For which shell.
        #[arg(value_enum)]
        shell: Shell,
    },
}

/// `executorctl dut ...`.
#[derive(Debug, Subcommand)]
pub enum DutCommand {
    /// Show everything that the gateway knows of a machine
    Info(DutNameArgs),
    /// Take it out of service; a job that runs on it ends first
    Retire {
        /// Do not wait for the job that runs on it: cancel it
        #[arg(long)]
        cancel: bool,
        /// Which, and how to answer.
        #[command(flatten)]
        dut: DutNameArgs,
    },
    /// Bring it back into service, or train one again that failed to qualify
    Activate(DutNameArgs),
    /// Boot it once to see whether it still is what the farm file says
    QuickCheck(DutNameArgs),
    /// Console and keyboard of the job, training or check that it is busy with
    Console(DutConsoleArgs),
}

/// `executorctl run ...`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Wait in the queue for a machine while all that match are busy
    #[arg(short, long)]
    pub wait: bool,
    /// Let the job run by itself: print its number, and do not wait for its end
    #[arg(long, conflicts_with = "timings_json")]
    pub detach: bool,
    /// How much the job matters beside others that wait
    #[arg(long, value_name = "PRIORITY", value_parser = ["low", "default", "high"])]
    pub priority: Option<String>,
    /// Run it although its deadline has passed
    #[arg(long)]
    pub ignore_deadline: bool,
    /// How long to try to come back when the connection breaks, for example because the gateway restarts
    #[arg(long, value_name = "SECONDS", default_value_t = PATIENCE)]
    pub reconnect: u64,
    /// Host name or address at which the gateway reaches this client, if it has to call back
    #[arg(short, long, value_name = "HOST")]
    pub callback: Option<String>,
    /// Tag that the machine must have (repeatable); replaces the job's own target
    #[arg(short = 't', long = "machine-tag", value_name = "TAG")]
    pub machine_tags: Vec<String>,
    /// Id or full name of the machine; replaces the job's own target
    #[arg(short = 'i', long, value_name = "ID")]
    pub machine_id: Option<String>,
    /// Folder to share with the job (not supported yet)
    #[arg(short, long, value_name = "DIR")]
    pub share_directory: Option<PathBuf>,
    /// Your own name for the job
    #[arg(short, long, value_name = "ID")]
    pub job_id: Option<String>,
    /// S3 credentials that may use the groups of -g
    #[arg(
        short = 'a',
        long,
        value_name = "ACCESS:SECRET",
        env = "VALVE_MINIO_AUTH_CREDENTIALS",
        hide_env_values = true
    )]
    pub minio_auth: Option<String>,
    /// S3 group that the job's own user joins (repeatable)
    #[arg(short = 'g', long = "minio-group", value_name = "GROUP")]
    pub minio_groups: Vec<String>,
    /// Environment variables whose whole name matches go to the job's template as `environ`
    #[arg(short = 'E', long, value_name = "REGEX", default_value = "CI_TRON_.*", value_parser = whole_name)]
    pub forward_env_regex: Regex,
    /// Credential of a forge's runner
    #[arg(long, value_name = "COOKIE")]
    pub job_cookie: Option<String>,
    /// File to attach to the job as an artifact (repeatable)
    #[arg(short = 'f', long = "attach-artifact", value_name = "NAME:PATH")]
    pub artifacts: Vec<String>,
    /// Show only the console, errors and the verdict
    #[arg(short, long)]
    pub quiet: bool,
    /// Write the length of each phase of the run to this file as JSON
    #[arg(long, value_name = "FILE")]
    pub timings_json: Option<PathBuf>,
    /// The job: a file, or a URL that begins with https://
    pub job: String,
}

/// `executorctl duts ...`.
#[derive(Debug, Args)]
pub struct DutsArgs {
    /// Keep showing changes until Ctrl-C
    #[arg(long)]
    pub watch: bool,
    /// For people or for programs
    #[arg(long, value_enum, default_value_t = Format::Human)]
    pub format: Format,
}

/// `executorctl dut info ...` and the like.
#[derive(Debug, Args)]
pub struct DutNameArgs {
    /// For people or for programs
    #[arg(long, value_enum, default_value_t = Format::Human)]
    pub format: Format,
    /// Id or full name of the machine
    pub name: String,
}

/// `executorctl dut console ...`.
#[derive(Debug, Args)]
pub struct DutConsoleArgs {
    /// How long to try to come back when the connection breaks
    #[arg(long, value_name = "SECONDS", default_value_t = PATIENCE)]
    pub reconnect: u64,
    /// Id or full name of the machine
    pub name: String,
}

/// `executorctl attach ...`.
#[derive(Debug, Args)]
pub struct AttachArgs {
    /// From now on the job needs nobody: it goes on when its submitter leaves, too
    #[arg(long)]
    pub detach: bool,
    /// Show only the console, errors and the verdict
    #[arg(short, long)]
    pub quiet: bool,
    /// How long to try to come back when the connection breaks
    #[arg(long, value_name = "SECONDS", default_value_t = PATIENCE)]
    pub reconnect: u64,
    /// Number of the job
    pub job: u64,
}

/// `executorctl jobs ...`.
#[derive(Debug, Args)]
pub struct JobsArgs {
    /// Only those on this machine
    #[arg(long, value_name = "NAME")]
    pub dut: Option<String>,
    /// Only those that wait, run, or are over
    #[arg(long, value_parser = run_state, value_name = "queued|active|finished")]
    pub state: Option<RunState>,
    /// Also the gateway's own boots: registrations, trainings, checks
    #[arg(long)]
    pub all: bool,
    /// How many at most
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
    pub limit: u64,
    /// Only those with a smaller number: the next page
    #[arg(long, value_name = "JOB")]
    pub before: Option<u64>,
    /// For people or for programs
    #[arg(long, value_enum, default_value_t = Format::Human)]
    pub format: Format,
}

/// `executorctl job ...` and the like.
#[derive(Debug, Args)]
pub struct JobArgs {
    /// For people or for programs
    #[arg(long, value_enum, default_value_t = Format::Human)]
    pub format: Format,
    /// Number of the job
    pub job: u64,
}

/// `executorctl logs ...`.
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// Go on until the job is over
    #[arg(short, long)]
    pub follow: bool,
    /// Skip this many bytes
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    pub from: u64,
    /// Number of the job
    pub job: u64,
}

/// The shells that completions are made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    /// GNU's.
    Bash,
    /// Z shell.
    Zsh,
    /// Friendly interactive shell.
    Fish,
}

/// How lists are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Aligned text.
    Human,
    /// What the gateway answered.
    Json,
}

/// The word of a priority, as [`RunArgs::priority`] holds it.
pub fn priority(word: &str) -> Priority {
    [Priority::Low, Priority::High].into_iter().find(|p| p.as_str() == word).unwrap_or_default()
}

fn run_state(word: &str) -> Result<RunState, String> {
    let states = [RunState::Queued, RunState::Active, RunState::Finished];
    states
        .into_iter()
        .find(|s| s.as_str() == word)
        .ok_or_else(|| "write queued, active or finished".to_owned())
}

/// The published client matches the whole name, so the expression is anchored at both ends.
fn whole_name(text: &str) -> Result<Regex, String> {
    // The expression alone first, so that a fault is shown as it was typed and `a)|(b` is no way out of the anchors.
    Regex::new(text).map_err(|e| e.to_string())?;
    Regex::new(&format!(r"\A(?:{text})\z")).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(arguments: &[&str]) -> RunArgs {
        let cli = Cli::try_parse_from([&["executorctl"], arguments].concat()).unwrap();
        match cli.command.unwrap() {
            Command::Run(args) => *args,
            other => panic!("not run: {other:?}"),
        }
    }

    #[test]
    fn the_whole_legacy_command_line_is_understood() {
        let args = run(&[
            "-e",
            "http://host/",
            "run",
            "-w",
            "-c",
            "me",
            "-t",
            "a",
            "-t",
            "b",
            "-i",
            "dut",
            "-s",
            "dir",
            "-j",
            "7",
            "-a",
            "k:s",
            "-g",
            "g1",
            "-g",
            "g2",
            "-E",
            "CI_.*",
            "--job-cookie",
            "c",
            "-f",
            "n:p",
            "job.yml",
        ]);
        assert!(args.wait);
        assert_eq!(args.machine_tags, ["a", "b"]);
        assert_eq!(args.minio_groups, ["g1", "g2"]);
        assert_eq!(args.artifacts, ["n:p"]);
        assert_eq!(args.job, "job.yml");
        let long = run(&[
            "run",
            "--wait",
            "--callback",
            "me",
            "--machine-tag",
            "a",
            "--machine-id",
            "dut",
            "--share-directory",
            "d",
            "--job-id",
            "7",
            "--minio-auth",
            "k:s",
            "--minio-group",
            "g",
            "--forward-env-regex",
            "x",
            "--attach-artifact",
            "n:p",
            "job.yml",
        ]);
        assert_eq!(long.machine_id.as_deref(), Some("dut"));
    }

    #[test]
    fn environment_names_are_matched_whole() {
        let args = run(&["run", "job.yml"]);
        assert!(args.forward_env_regex.is_match("CI_TRON_X"));
        assert!(!args.forward_env_regex.is_match("MY_CI_TRON_X"));
        let either = run(&["run", "-E", "A|B", "job.yml"]);
        assert!(either.forward_env_regex.is_match("A") && !either.forward_env_regex.is_match("AB"));
        assert!(whole_name("a)|(b").is_err());
    }

    #[test]
    fn the_executor_may_stand_before_or_after_the_command() {
        let cli = Cli::try_parse_from(["executorctl", "duts", "-e", "http://x/"]).unwrap();
        assert_eq!(cli.executor, "http://x/");
    }
}
