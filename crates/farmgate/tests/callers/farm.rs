//! The networks of these tests, and a gateway in them.

#![allow(clippy::unwrap_used)] // a panic is how a test fails, in its helpers too

use std::process::{Command, Stdio};

/// What a script needs besides the shell.
const PROGRAMS: &[&str] = &["unshare", "nsenter", "ip", "curl"];

/// The gateway's side: `private` with 10.42.0.1, `up0` with 198.51.100.1 (strangers) and 203.0.113.1 (trusted). `$dut`
/// and `$neighbour` are processes in the namespaces of the two others. `ask NAME WHO METHOD URL ...` prints the status
/// of an answer, `body` its body, `head` its headers, each line with the name before it.
const PRELUDE: &str = r#"
set -eu
farmgate() { command "$FARMGATE" "$@"; }
ip link set lo up
apart() { unshare -n sleep 600 & made=$!; while [ "$(readlink /proc/$made/ns/net)" = "$(readlink /proc/self/ns/net)" ]; do sleep 0.02; done; }
apart; dut=$made
apart; neighbour=$made
ip link add private type bridge
ip addr add 10.42.0.1/24 dev private
ip link set private up
ip link add tap0 type veth peer name eth0 netns $dut
ip link set tap0 master private up
d="nsenter -t $dut -n"
$d ip link set eth0 address 52:54:00:11:22:01
$d ip link set eth0 up
$d ip addr add 10.42.0.99/24 dev eth0
$d ip addr add 203.0.113.99/32 dev eth0
$d ip route add default via 10.42.0.1 src 10.42.0.99
ip link add up0 type veth peer name eth0 netns $neighbour
ip link set up0 up
ip addr add 198.51.100.1/24 dev up0
ip addr add 203.0.113.1/24 dev up0
# What answers a machine that claims to be of the trusted network must find it, or it would be no test.
ip route add 203.0.113.99/32 dev private
n="nsenter -t $neighbour -n"
$n ip link set eth0 up
$n ip addr add 198.51.100.7/24 dev eth0
$n ip addr add 203.0.113.7/24 dev eth0
$n ip route add default via 198.51.100.1
P=http://10.42.0.1:8000
exec 3>>$dir/out
ask() { name=$1 who=$2 how=$3 url=$4; shift 4; code=$(nsenter -t $who -n curl -s -m 20 -o /dev/null -w '%{http_code}' -X $how "$@" "$url" || true); echo "$name $code" >&3; }
body() { name=$1 who=$2 how=$3 url=$4; shift 4; { nsenter -t $who -n curl -s -m 20 -X $how "$@" "$url"; echo; } | sed "s/^/$name /" >&3; }
head() { name=$1 who=$2 how=$3 url=$4; shift 4; { nsenter -t $who -n curl -s -m 3 -D - -o /dev/null -X $how "$@" "$url" || true; } | tr -d '\r' | sed "s/^/$name /" >&3; }
sleep_until_forgiven() { i=0; while [ $i -lt 600 ]; do i=$((i+1)); c=$(nsenter -t $dut -n curl -s -m 20 -o /dev/null -w '%{http_code}' $P/api/v1/duts); [ $c = 403 ] && return; sleep 0.5; done; }
export FARM_NAME=test PRIVATE_INTERFACE=private EXECUTOR_HOST=0.0.0.0 PERMANENT_MOUNT=$dir TMP_MOUNT=$dir EXECUTOR_PORT=8000 TRUSTED_NETWORKS=203.0.113.0/24
export MARS_DB_FILE=$dir/mars_db.yaml BOOTS_DISABLE_SERVERS=dhcp,tftp SERGENT_HARTMAN_QUICK_CHECK=disabled
cat >$MARS_DB_FILE <<'FARM'
duts:
  "52:54:00:11:22:01":
    base_name: x
    mac_address: "52:54:00:11:22:01"
    ip_address: 10.42.0.99
    ready_for_service: true
FARM
early=$(farmgate token add early --role admin)
farmgate serve 2>$dir/log &
i=0
until curl -s -m 5 -o /dev/null http://127.0.0.1:8000/api/v1/duts; do
    i=$((i+1)); [ $i -lt 600 ] || { echo "the gateway does not start" >&2; tail $dir/log >&2; exit 1; }
    sleep 0.1
done
"#;

/// That tests can have such networks.
pub struct Farm;

/// What a script printed.
pub struct Said {
    lines: Vec<String>,
    rest: String,
}

impl Farm {
    /// None, with a word on why, where a developer's host cannot do it. A failure in CI.
    pub fn find() -> Option<Self> {
        let missing = PROGRAMS.iter().find(|program| {
            !Command::new("sh")
                .args(["-c", "command -v $0 >/dev/null", program])
                .status()
                .is_ok_and(|s| s.success())
        });
        let namespaces = || {
            let mut test = Command::new("unshare");
            test.args(["--user", "--map-root-user", "--net", "--pid", "--fork", "--mount-proc", "true"]);
            test.stderr(Stdio::null()).status().is_ok_and(|s| s.success())
        };
        let why = match missing {
            Some(program) => format!("{program} is missing: apt-get install iproute2 curl util-linux"),
            None if !namespaces() => {
                "no namespaces: run as root, or sysctl kernel.unprivileged_userns_clone=1".to_owned()
            }
            None => return Some(Self),
        };
        assert!(std::env::var_os("CI").is_none(), "{why}");
        eprintln!("skipped: {why}");
        None
    }

    /// Runs a script after the gateway has started.
    pub fn run(&self, script: &str) -> Said {
        let folder = tempfile::tempdir().unwrap();
        let text = format!("{PRELUDE}\n{{\n{script}\n}} >>$dir/out\n");
        // The namespace of processes takes the gateway, its console service and the neighbours with it.
        let output = Command::new("unshare")
            .args(["--user", "--map-root-user", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"])
            .args(["timeout", "-s", "KILL", "300", "bash", "-c", &text])
            .env("FARMGATE", env!("CARGO_BIN_EXE_farmgate"))
            .env("dir", folder.path())
            .env_remove("FARMGATE_SETTINGS")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap_or_default();
        let log = read("log");
        let end = log.len().saturating_sub(6000);
        let log: String = log.chars().skip(end).collect();
        let rest = format!("{}\n{log}", String::from_utf8_lossy(&output.stderr));
        let said = Said { lines: read("out").lines().map(str::to_owned).collect(), rest };
        assert!(output.status.success(), "the script failed: {:?}\n{}", output.status, said.all());
        said
    }
}

impl Said {
    /// What stands behind a name, line by line.
    pub fn lines(&self, name: &str) -> Vec<&str> {
        let behind = |line: &'_ String| -> Option<usize> {
            (line.split(' ').next() == Some(name)).then_some(name.len() + 1)
        };
        self.lines.iter().filter_map(|line| Some(line.get(behind(line)?..).unwrap_or_default())).collect()
    }

    /// The status of an answer.
    pub fn code(&self, name: &str) -> &str {
        self.lines(name).first().copied().unwrap_or("nothing")
    }

    /// All of it, for a test that fails.
    pub fn all(&self) -> String {
        format!("{}\n{}", self.lines.join("\n"), self.rest)
    }
}
