//! The command line: what may be written, its defaults and its help. It is the published client's command line and
//! a few additions; what the words mean together is checked by whoever carries the command out.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use regex::Regex;

/// Where a gateway answers on its private network.
pub const DEFAULT_URL: &str = "http://10.42.0.1/";

/// Runs jobs on the machines of a farm and shows the machines.
#[derive(Debug, Parser)]
#[command(name = "executorctl", version, about, after_help = EXIT_CODES)]
pub struct Cli {
    /// URL of the gateway; a token or password goes into it: http://x:TOKEN@host
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

const EXIT_CODES: &str = "Exit codes of `run`: 0 PASS, 1 WARN, 2 COMPLETE, 3 FAIL, 4 INCOMPLETE, 5 UNKNOWN, \
6 SETUP_FAIL (also: bad arguments, gateway not reachable)";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a job and show its console until it ends
    Run(Box<RunArgs>),
    /// List the machines of the farm
    Duts(DutsArgs),
    /// Commands about one machine
    Dut {
        /// What to do with it.
        #[command(subcommand)]
        command: Option<DutCommand>,
    },
}

/// `executorctl dut ...`.
#[derive(Debug, Subcommand)]
pub enum DutCommand {
    /// Show everything that the gateway knows of a machine
    Info(DutInfoArgs),
}

/// `executorctl run ...`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Wait for a machine while all that match are busy
    #[arg(short, long)]
    pub wait: bool,
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

/// `executorctl dut info ...`.
#[derive(Debug, Args)]
pub struct DutInfoArgs {
    /// For people or for programs
    #[arg(long, value_enum, default_value_t = Format::Human)]
    pub format: Format,
    /// Id or full name of the machine
    pub name: String,
}

/// How lists are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Aligned text.
    Human,
    /// What the gateway answered.
    Json,
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
