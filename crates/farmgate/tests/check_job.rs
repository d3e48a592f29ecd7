//! `farmgate check-job` and `farmgate schema`, as a person and a pipeline use them: through the program.
#![allow(clippy::unwrap_used)] // all of it is a test

use std::{
    io::Write,
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::Value;

const JOB: &str = "\
version: 1
target: {tags: ['gpu:fast']}
timeouts:
  boot_cycle: {minutes: 5, retries: 1}
console_patterns:
  job_success: {regex: 'tests passed'}
deployment:
  start:
    kernel:
      url: https://example.org/bzImage
      cmdline:
        b: console={{ machine.local_tty_device }} who={{ machine.full_name }}
        a: image={{ environ.IMAGE }} proxy={{ fdo_proxy }}
  continue:
    kernel: {cmdline: {b: again}}
";

const FARM: &str = "\
pdus:
  bench: {driver: dummy, config: {ports: [left, right]}}
duts:
  \"52:54:00:11:22:01\": {base_name: slow, tags: ['gpu:slow'], local_tty_device: ttyS1, pdu: bench, pdu_port_id: '0'}
  \"52:54:00:11:22:02\":
    {base_name: fast, tags: ['gpu:fast'], local_tty_device: ttyAMA0, pdu: bench, pdu_port_id: '1', firmware_boot_time: 4}
";

/// A folder with a job and settings of its own.
struct Desk(tempfile::TempDir);

impl Desk {
    fn new(job: &str) -> Self {
        let desk = Self(tempfile::tempdir().unwrap());
        desk.put("job.yml", job);
        desk
    }

    fn with_farm(job: &str, farm: &str) -> Self {
        let desk = Self::new(job);
        desk.put("mars_db.yaml", farm);
        desk
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn put(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.path().join(name), content).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_farmgate"));
        command.args(arguments).current_dir(self.path()).env_clear();
        command.env("FARM_NAME", "lab").env("MARS_DB_FILE", self.path().join("mars_db.yaml"));
        command
    }

    fn run(&self, arguments: &[&str]) -> Told {
        Told::of(&self.command(arguments).output().unwrap())
    }

    fn json(&self, arguments: &[&str]) -> (i32, Value) {
        let told = self.run(&[arguments, &["--format", "json"]].concat());
        (told.code, serde_json::from_str(&told.out).unwrap_or_else(|e| panic!("{e}: {told:?}")))
    }
}

#[derive(Debug)]
struct Told {
    code: i32,
    out: String,
    err: String,
}

impl Told {
    fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Self { code: output.status.code().unwrap(), out: text(&output.stdout), err: text(&output.stderr) }
    }

    fn first(&self) -> &str {
        self.out.lines().next().unwrap_or_default()
    }

    fn last(&self) -> &str {
        self.out.lines().last().unwrap_or_default()
    }
}

#[test]
fn the_first_line_names_the_place_and_the_mistake() {
    let cases = [
        ("version: 1\ntraget: {tags: []}\n", "job.yml:2:1: the job has no field `traget`"),
        ("target: {tags: []}\n", "job.yml:1:1: the job has no `version`"),
        ("version: 2\n", "job.yml:1:10: this version of the job language is not known"),
        ("version: 1\ntarget: {}\n", "job.yml:2:9: `target` names no machine"),
        (
            "version: 1\ntimeouts:\n  overall: {hours: 1, retries: 2}\n",
            "job.yml:3:12: `timeouts.overall` takes no retries",
        ),
        (
            "version: 1\ntimeouts:\n  boot_cycle: {minutes: '5'}\n",
            "job.yml:3:25: `minutes` of `timeouts.boot_cycle` must be a number of 0 or more, not `5`",
        ),
        (
            "version: 1\ndeployment: {start: {kernel: {url: 'ftp://example.org/k'}}}\n",
            "job.yml:2:36: `deployment.start.kernel.url` is no address that can be fetched",
        ),
        (
            "version: 1\ndeployment:\n  start:\n    kernel: {url: 'http://example.org/k', data: x}\n",
            "job.yml:4:19: `deployment.start.kernel` has two sources",
        ),
        (
            "version: 1\nconsole_patterns:\n  watchdogs:\n    gpu: {stop: {regex: x}}\n",
            "job.yml:4:10: `console_patterns.watchdogs.gpu` has no `start`",
        ),
        ("version: 1\ndeadline: soon\n", "job.yml:2:11: `deadline` is no date and time: `soon`"),
        (
            "version: 1\ndeployment: {start: {dtb: {url: 'http://example.org/dtb'}}}\n",
            "job.yml:2:27: `deployment.start.dtb` is not supported yet",
        ),
        (
            "version: 1\ntarget:\n  tags:\n{% for t in ['a'] %}\n    - {{ t }}\n{% endfor %}\ntimeout: {}\n",
            "job.yml:7:1: the job has no field `timeout`",
        ),
    ];
    for (job, first) in cases {
        let told = Desk::new(job).run(&["check-job", "job.yml"]);
        assert_eq!((told.code, told.first()), (2, first), "{job}\n{told:?}");
    }
}

#[test]
fn faults_of_the_template_and_of_yaml_end_with_2_at_their_line() {
    for (job, line) in [
        ("version: 1\ntarget: {{ oops\n", "job.yml:2:"),
        ("version: 1\nversion: 1\n", "job.yml:2:1:"),
        ("version: 1\ntarget:\n\ttags: []\n", "job.yml:3:"),
        ("#!jinja2\nversion: 1\ntarget: {id: '{{ nobody }}'}\n", "job.yml:3:"),
    ] {
        let told = Desk::new(job).run(&["check-job", "job.yml"]);
        assert_eq!(told.code, 2);
        assert!(told.first().starts_with(line), "{job}\n{}", told.out);
    }
}

#[test]
fn a_right_job_is_fine_and_warnings_count_only_where_that_is_asked_for() {
    let told = Desk::new(JOB).run(&["check-job", "job.yml"]);
    assert_eq!((told.code, told.out.as_str()), (0, "job.yml: fine\n"), "{told:?}");

    let odd = Desk::new("version: 1\ntimeouts: {boot_cycle: {seconds: 0}}\n");
    let told = odd.run(&["check-job", "job.yml"]);
    assert_eq!(told.code, 0);
    assert!(told.first().starts_with("job.yml:2:24: warning: `timeouts.boot_cycle` is zero"), "{}", told.out);
    assert_eq!(told.last(), "job.yml: 1 warning");
    assert_eq!(odd.run(&["check-job", "--strict", "job.yml"]).code, 1);
    assert_eq!(odd.json(&["check-job", "--strict", "job.yml"]).1["ok"], false);
    assert_eq!(odd.json(&["check-job", "job.yml"]).1["ok"], true);
}

#[test]
fn a_deadline_that_has_passed_is_only_a_warning() {
    let desk = Desk::new("version: 1\ndeadline: 2020-01-01T00:00:00+00:00\n");
    let told = desk.run(&["check-job", "job.yml"]);
    assert_eq!(told.code, 0);
    assert!(told.first().starts_with("job.yml:2:11: warning: the deadline, 2020-01-01"), "{}", told.out);
    assert_eq!(
        Desk::new("version: 1\ndeadline: 2999-01-01\n").run(&["check-job", "job.yml"]).last(),
        "job.yml: fine"
    );
}

#[test]
fn json_has_every_error_with_its_place_and_its_remedy() {
    let (code, all) =
        Desk::new("version: 1\ntraget: {}\ntimeouts: {overall: 5}\n").json(&["check-job", "job.yml"]);
    assert_eq!((code, &all["ok"], all["file"].as_str()), (2, &Value::Bool(false), Some("job.yml")));
    let errors = all["errors"].as_array().unwrap();
    assert_eq!(errors.len(), 2, "{all:#}");
    let first = &errors[0];
    assert_eq!((first["line"].as_u64(), first["column"].as_u64()), (Some(2), Some(1)));
    assert_eq!(first["snippet"], "traget: {}");
    assert!(first["help"].as_str().unwrap().contains("did you mean `target`"));
    assert_eq!(first["unsupported"], false);
    assert_eq!(errors[1]["line"], 3);
    assert_eq!(all["warnings"], Value::Array(Vec::new()));
    assert!(all.get("resolved").is_none());
}

#[test]
fn what_is_not_supported_yet_is_an_error_of_its_own_kind() {
    let job = "version: 1\nproxy: {allowed_endpoints: 'a.example:443'}\ntraget: {}\n";
    let desk = Desk::new(job);
    let told = desk.run(&["check-job", "job.yml"]);
    assert_eq!((told.code, told.last()), (2, "job.yml: 2 errors (1 not supported yet)"));
    let (_, all) = desk.json(&["check-job", "job.yml"]);
    let kinds: Vec<_> =
        all["errors"].as_array().unwrap().iter().map(|e| e["unsupported"].as_bool()).collect();
    assert_eq!(kinds, [Some(true), Some(false)]);
}

#[test]
fn the_text_of_an_artifact_is_rendered_on_trial() {
    let job = "version: 1\ndeployment:\n  start:\n    initramfs:\n      data: |\n        #!jinja2\n        {% raw %}{{ nobody.there }}{% endraw %}\n";
    let told = Desk::new(job).run(&["check-job", "job.yml"]);
    assert_eq!(told.code, 2);
    assert!(told.first().contains("`deployment.start.initramfs.data`"), "{}", told.out);
    let lenient = job.replace("        #!jinja2\n", "");
    assert_eq!(Desk::new(&lenient).run(&["check-job", "job.yml"]).code, 0);
}

#[test]
fn a_dash_reads_standard_input() {
    let desk = Desk::new("");
    let mut child = desk
        .command(&["check-job", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"version: 1\nfoo: 1\n").unwrap();
    let told = Told::of(&child.wait_with_output().unwrap());
    assert_eq!((told.code, told.first()), (2, "<stdin>:2:1: the job has no field `foo`"));
}

#[test]
fn a_file_that_is_no_text_is_told_as_what_it_is() {
    let desk = Desk::new(JOB);
    desk.put("latin.yml", b"version: 1\n# gr\xfc\xdfe\n");
    desk.put("large.yml", vec![b'#'; (1 << 20) + 1]);
    std::fs::create_dir(desk.path().join("folder")).unwrap();
    for (name, first) in [
        ("nowhere.yml", "nowhere.yml: there is no such file"),
        ("folder", "folder: this is a folder"),
        ("latin.yml", "latin.yml:2:5: the file is not UTF-8 text"),
        ("large.yml", "large.yml: the file is larger than 1024 KiB, the most that a job may have"),
    ] {
        let told = desk.run(&["check-job", name]);
        assert_eq!((told.code, told.first()), (2, first));
        let (code, all) = desk.json(&["check-job", name]);
        assert_eq!((code, all["errors"].as_array().unwrap().len()), (2, 1), "{all}");
        assert!(all["errors"][0]["help"].is_string());
    }
}

#[test]
fn the_machine_is_one_that_the_target_selects_or_the_one_that_is_named() {
    let desk = Desk::with_farm(JOB, FARM);
    let (code, all) = desk.json(&["check-job", "job.yml", "--resolved", "-E", "IMAGE=alpine"]);
    assert_eq!(code, 0, "{all:#}");
    assert_eq!(all["machine"]["full_name"], "lab-fast-1");
    assert_eq!(all["machine"]["made_up"], false);
    assert_eq!(all["notes"], Value::Array(Vec::new()));
    assert_eq!(
        all["resolved"]["start"]["cmdline"]["value"],
        "image=alpine proxy= console=ttyAMA0 who=lab-fast-1"
    );

    for name in ["lab-slow-1", "52:54:00:11:22:01"] {
        let (code, all) = desk.json(&["check-job", "job.yml", "--dut", name, "--resolved"]);
        assert_eq!((code, all["machine"]["full_name"].as_str()), (0, Some("lab-slow-1")));
        let cmdline = all["resolved"]["start"]["cmdline"]["value"].as_str().unwrap();
        assert!(cmdline.contains("console=ttyS1"), "{cmdline}");
        assert!(all["notes"][0].as_str().unwrap().contains("not what the job's target asks for"), "{all:#}");
    }
}

#[test]
fn a_machine_that_does_not_exist_is_an_error_with_the_nearest_names() {
    let told = Desk::with_farm(JOB, FARM).run(&["check-job", "job.yml", "--dut", "lab-fats-1"]);
    assert_eq!(told.code, 2);
    assert!(
        told.first().contains("there is no machine \"lab-fats-1\" (did you mean lab-fast-1"),
        "{}",
        told.out
    );
    let told = Desk::new(JOB).run(&["check-job", "job.yml", "--dut", "lab-fast-1"]);
    assert_eq!(told.code, 2);
    assert!(told.first().contains("mars_db.yaml does not exist (setting MARS_DB_FILE)"), "{}", told.out);
}

#[test]
fn without_a_farm_the_machine_is_made_up_and_that_is_said() {
    let desk = Desk::new(JOB);
    let (code, all) = desk.json(&["check-job", "job.yml"]);
    assert_eq!((code, &all["machine"]["made_up"]), (0, &Value::Bool(true)));
    assert!(all["notes"][0].as_str().unwrap().contains("made-up machine"), "{all:#}");
    let told = desk.run(&["check-job", "job.yml"]);
    assert!(told.err.starts_with("note: the farm file "), "{}", told.err);

    let told = Told::of(&desk.command(&["check-job", "job.yml"]).env_remove("FARM_NAME").output().unwrap());
    assert_eq!(told.code, 0);
    assert!(told.err.starts_with("note: FARM_NAME is not set"), "{}", told.err);

    let no_such = Desk::with_farm(&JOB.replace("gpu:fast", "gpu:fats"), FARM).run(&["check-job", "job.yml"]);
    assert!(no_such.err.contains("did you mean gpu:fast"), "{}", no_such.err);

    let broken = Desk::with_farm(JOB, "duts: [").run(&["check-job", "job.yml"]);
    assert_eq!(broken.code, 0);
    assert!(broken.err.contains("is wrong, see `farmgate check`"), "{}", broken.err);
}

#[test]
fn resolved_shows_each_value_with_its_source() {
    let desk = Desk::with_farm(JOB, FARM);
    let mut command = desk.command(&["check-job", "job.yml", "--resolved", "--format", "json"]);
    command
        .env("EXECUTOR_JOB__FDO_PROXY", "10.42.0.1:8002")
        .env("BOOTS_DEFAULT_INITRD", "/srv/initrd")
        .env("BOOTS_DEFAULT_IPXE_ARM64_INITRD", "/srv/initrd-arm64")
        .env("CONSOLE_PATTERN_DEFAULT_MACHINE_UNFIT_FOR_SERVICE_REGEX", "is on fire");
    let told = Told::of(&command.output().unwrap());
    let all: Value = serde_json::from_str(&told.out).unwrap();
    let get = |path: &str| all["resolved"].pointer(path).unwrap_or(&Value::Null).clone();
    for (path, expected) in [
        ("/start/kernel/source", "\"given\""),
        ("/start/kernel/value/url", "\"https://example.org/bzImage\""),
        ("/start/cmdline/value", "\"image= proxy=10.42.0.1:8002 console=ttyAMA0 who=lab-fast-1\""),
        ("/continue/kernel/source", "\"start\""),
        ("/continue/cmdline/source", "\"merged\""),
        ("/continue/cmdline/value", "\"image= proxy=10.42.0.1:8002 again\""),
        ("/start/initramfs/source", "\"default\""),
        ("/start/initramfs/value", "null"),
        ("/start/initramfs/defaults/0/setting", "\"BOOTS_DEFAULT_INITRD\""),
        ("/start/initramfs/defaults/0/value", "\"/srv/initrd\""),
        ("/start/initramfs/defaults/1/for", "\"IPXE_ARM64\""),
        ("/timeouts/boot_cycle/source", "\"given\""),
        ("/timeouts/boot_cycle/seconds", "300.0"),
        ("/timeouts/boot_cycle/retries", "1"),
        ("/timeouts/overall/source", "\"default\""),
        ("/timeouts/overall/seconds", "21600.0"),
        ("/timeouts/infra_setup/seconds", "5400.0"),
        ("/timeouts/firmware_boot/source", "\"learned\""),
        ("/timeouts/firmware_boot/seconds", "10.0"),
        ("/timeouts/firmware_boot/retries", "3"),
        ("/timeouts/console_activity/seconds", "null"),
        ("/patterns/job_success/source", "\"given\""),
        ("/patterns/session_end/source", "\"default\""),
        ("/patterns/job_warn/regex", "null"),
        ("/patterns/machine_unfit_for_service/source", "\"farm\""),
        ("/patterns/machine_unfit_for_service/regex", "\"is on fire\""),
        ("/target/tags/0", "\"gpu:fast\""),
        ("/deadline", "null"),
    ] {
        assert_eq!(get(path).to_string(), expected, "{path}\n{all:#}");
    }
}

#[test]
fn resolved_is_a_table_for_a_person() {
    let told = Desk::with_farm(JOB, FARM).run(&["check-job", "job.yml", "--resolved"]);
    assert_eq!(told.code, 0);
    let row = |name: &str| {
        let found = told.out.lines().find(|line| line.trim_start().starts_with(&format!("{name} ")));
        found
            .unwrap_or_else(|| panic!("no {name}:\n{}", told.out))
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(row("target"), "target given tags gpu:fast");
    assert_eq!(row("kernel"), "kernel given url https://example.org/bzImage");
    assert_eq!(row("initramfs"), "initramfs default default of the boot method: the settings name none");
    assert_eq!(row("boot_cycle"), "boot_cycle given 5 min, 1 retry");
    assert_eq!(row("overall"), "overall default 6 h");
    assert_eq!(
        row("firmware_boot"),
        "firmware_boot learned 10 s, 3 retries (2.5 times the learned 4 s, at least 5 s)"
    );
    assert_eq!(row("job_success"), "job_success given tests passed");
    assert_eq!(told.last(), "job.yml: fine");
    assert!(!told.out.contains('\x1b'), "colours in a pipe");

    // Not of a job that is wrong; but of one that is only beyond this gateway.
    let wrong = Desk::new("version: 1\nfoo: 1\n").run(&["check-job", "job.yml", "--resolved"]);
    assert!(!wrong.out.contains("overall"), "{}", wrong.out);
    let beyond = Desk::new("version: 1\nproxy: {allowed_endpoints: 'a.example:443'}\n");
    let beyond = beyond.run(&["check-job", "job.yml", "--resolved"]);
    assert_eq!(beyond.code, 2);
    assert!(beyond.out.contains("overall"), "{}", beyond.out);
}

#[test]
fn arguments_and_settings_that_are_wrong_end_with_2() {
    let desk = Desk::new(JOB);
    for arguments in
        [&["check-job"][..], &["check-job", "job.yml", "-E", "IMAGE"], &["check-job", "job.yml", "--dut"]]
    {
        assert_eq!(desk.run(arguments).code, 2, "{arguments:?}");
    }
    let told =
        Told::of(&desk.command(&["check-job", "job.yml"]).env("EXECUTOR_PORT", "many").output().unwrap());
    assert_eq!(told.code, 2);
    assert!(told.err.contains("EXECUTOR_PORT"), "{}", told.err);
}

#[test]
fn the_schema_of_jobs_is_json_and_says_which_draft_it_is() {
    let told = Desk::new("").run(&["schema", "job"]);
    assert_eq!(told.code, 0);
    let schema: Value = serde_json::from_str(&told.out).unwrap();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert_eq!(schema["required"][0], "version");
    assert_eq!(Desk::new("").run(&["schema", "nonsense"]).code, 2);
}

/// Every example of the manual's page, run as it stands there.
#[test]
fn the_manuals_examples_are_what_the_program_prints() {
    let page = include_str!("../../../docs/check-job.md");
    let block = |info: &str| {
        let mut lines = page.lines().skip_while(|line| *line != format!("```{info}"));
        lines.next().unwrap_or_else(|| panic!("no block {info}"));
        lines.take_while(|line| *line != "```").map(|line| format!("{line}\n")).collect::<String>()
    };
    let desk = Desk::new(&block("yaml wrong"));
    assert_eq!(desk.run(&["check-job", "job.yml"]).out, block("text wrong"));
    desk.put("job.yml", block("yaml right"));
    desk.put("mars_db.yaml", FARM);
    assert_eq!(desk.run(&["check-job", "--resolved", "job.yml"]).out, block("text right"));
    desk.put("job.yml", "version: 2\n");
    let (_, shown) = desk.json(&["check-job", "job.yml"]);
    let example: Value = serde_json::from_str(&block("json wrong")).unwrap();
    assert_eq!(shown, example, "{shown:#}");
}
