//! What a simulated machine does once its kernel runs: named by the kernel command line, so by the job, and the same
//! for the same seed. Pure: a command line and the number of the boot in, steps out.
//!
//! | word | meaning |
//! |---|---|
//! | `sim=pass`, `fail`, `warn` | comes to its end: success; no success; success after a warning |
//! | `sim=hang`, `panic` | some lines, then nothing; the same with a kernel's last words |
//! | `sim=silent` | nothing after the firmware |
//! | `sim=trap` | says that it succeeded, and hangs before its end |
//! | `sim=reboot:N` | asks for N reboots, then passes |
//! | `sim=wrongfirst:N` | says that it succeeded and hangs in its first N boots, then passes |
//! | `sim=trapfail:N` | the same, then fails |
//! | `sim=watchdog` | starts a watchdog and falls silent; `sim=watchdog-ok` stops it, and passes |
//! | `sim=flood:MB`, `slow:SECONDS`, `stream:SECONDS` | passes after so much text; slowly; with the text of 115200 baud |
//! | `sim=binary` | passes among bytes that are no text, and very long lines |
//! | `sim=unfit` | says that the machine is unfit for service |
//! | `sim=brief` | passes with next to no words and no pauses, for measurements |
//! | `sim.console=drop`, `drop-back` | the console's connection breaks half way: for good; or comes back with nothing lost |
//! | `sim.seed=N` | chooses words and pauses |
//! | `sim.job=NAME` | boots with the same name are counted as boots of one job |
//! | `farmgate.action=register`, `check` | what the gateway's own jobs ask for |

use super::seed::Seed;

/// The longest pause between two lines, milliseconds.
const LONGEST_PAUSE: u64 = 25;

/// The most that one machine prints in a boot.
const MOST_FLOOD: u64 = 64;

/// Bytes per second of a console of 115200 baud, 8N1.
const CONSOLE_SPEED: u64 = 11_520;

/// What a job wants of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Play {
    /// `farmgate.action=register`.
    Register,
    /// `farmgate.action=check`.
    Check,
    /// `sim=NAME[:NUMBER]`.
    Named(String, u64),
}

/// What becomes of the console's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsoleFault {
    /// Nothing.
    None,
    /// It breaks half way, and does not come back.
    Drop,
    /// It breaks half way, and comes back; what was said meanwhile is said then.
    DropBack,
}

/// A command line, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// What to do.
    pub play: Play,
    /// Chooses words and pauses.
    pub seed: u64,
    /// Counts boots.
    pub job: String,
    /// See [`ConsoleFault`].
    pub console: ConsoleFault,
}

/// One thing that a machine does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing, for so many milliseconds.
    Wait(u64),
    /// These bytes on its console.
    Print(Vec<u8>),
    /// Its console's connection breaks.
    Drop,
    /// Its console's connection is made again.
    Back,
}

impl Order {
    /// From a kernel command line. None: it names nothing that a simulated machine can do.
    pub fn read(cmdline: &str) -> Option<Self> {
        let (mut play, mut seed, mut job, mut console) = (None, 0, String::new(), ConsoleFault::None);
        for word in cmdline.split_whitespace() {
            match word.split_once('=').unwrap_or((word, "")) {
                ("sim", name) => {
                    let (name, number) = name.split_once(':').unwrap_or((name, "0"));
                    play = Some(Play::Named(name.to_owned(), number.parse().ok()?));
                }
                ("farmgate.action", "register") => play = Some(Play::Register),
                ("farmgate.action", "check") => play = Some(Play::Check),
                ("sim.seed", number) => seed = number.parse().ok()?,
                ("sim.job", name) => job = name.to_owned(),
                ("sim.console", "drop") => console = ConsoleFault::Drop,
                ("sim.console", "drop-back") => console = ConsoleFault::DropBack,
                _ => {}
            }
        }
        let play = play.filter(known)?;
        Some(Self { play, seed, job, console })
    }

    /// What the kernel and its userspace do in this boot of the job, from 0. `id` is the console's name of the machine;
    /// `registered` whether the gateway took, or agreed with, what the machine said of itself.
    pub fn steps(&self, id: &str, boot: u64, registered: bool) -> Vec<Step> {
        let mut talk = Talk::new(self.seed ^ boot.wrapping_mul(0x1000));
        match &self.play {
            Play::Named(name, _) if name == "silent" => return Vec::new(),
            Play::Named(name, _) if name == "brief" => {
                talk.plain(&format!("SALAD.machine_id={id}"));
                talk.end(true);
                return talk.steps;
            }
            _ => {}
        }
        talk.kernel(id);
        match &self.play {
            Play::Register | Play::Check => talk.end(registered),
            Play::Named(name, number) => talk.play(name, *number, boot),
        }
        with_fault(talk.steps, self.console, id)
    }
}

fn known(play: &Play) -> bool {
    const NAMES: [&str; 19] = [
        "pass",
        "fail",
        "warn",
        "hang",
        "panic",
        "silent",
        "trap",
        "reboot",
        "wrongfirst",
        "trapfail",
        "watchdog",
        "watchdog-ok",
        "flood",
        "slow",
        "stream",
        "binary",
        "unfit",
        "brief",
        "end",
    ];
    match play {
        Play::Named(name, _) => NAMES.contains(&name.as_str()),
        Play::Register | Play::Check => true,
    }
}

/// Breaks the console at half of the steps.
fn with_fault(mut steps: Vec<Step>, fault: ConsoleFault, id: &str) -> Vec<Step> {
    let half = steps.len() / 2;
    match fault {
        ConsoleFault::None => {}
        ConsoleFault::Drop => steps.insert(half, Step::Drop),
        ConsoleFault::DropBack => {
            let back = format!("SALAD.machine_id={id}\r\n").into_bytes();
            steps.splice(half..half, [Step::Drop, Step::Wait(500), Step::Back, Step::Print(back)]);
        }
    }
    steps
}

struct Talk {
    steps: Vec<Step>,
    /// Milliseconds since the kernel began.
    clock: u64,
    seed: Seed,
}

impl Talk {
    fn new(seed: u64) -> Self {
        Self { steps: Vec::new(), clock: 0, seed: Seed::new(seed) }
    }

    fn wait(&mut self, milliseconds: u64) {
        self.clock += milliseconds;
        self.steps.push(Step::Wait(milliseconds));
    }

    fn plain(&mut self, text: &str) {
        self.steps.push(Step::Print(format!("{text}\r\n").into_bytes()));
    }

    /// A line as a kernel writes it.
    fn say(&mut self, text: &str) {
        let line = format!("[{:5}.{:03}000] {text}", self.clock / 1000, self.clock % 1000);
        self.plain(&line);
    }

    fn chatter(&mut self, lines: u64) {
        const WORDS: [&str; 12] = [
            "pci",
            "usb 1-1",
            "ata1",
            "clocksource",
            "random",
            "virtio_net",
            "amdgpu",
            "EXT4-fs",
            "ring gfx",
            "fbcon",
            "thermal",
            "input",
        ];
        for _ in 0..lines {
            let pause = self.seed.between(1, LONGEST_PAUSE);
            self.wait(pause);
            let word = self.seed.one_of(&WORDS).copied().unwrap_or_default();
            let number = self.seed.number();
            self.say(&format!("{word}: state {number:016x}"));
        }
    }

    /// From the kernel's first line to the first of the userspace.
    fn kernel(&mut self, id: &str) {
        self.say("Linux version 6.1.0-sim (simulated)");
        let lines = self.seed.between(5, 15);
        self.chatter(lines);
        self.plain(&format!("SALAD.machine_id={id}"));
        self.plain("farmgate.stage=userspace");
    }

    fn success(&mut self, status: u8) {
        self.plain(&format!("Execution is over, pipeline status: {status}"));
    }

    /// The end of the session, after which the machine says nothing.
    fn end(&mut self, success: bool) {
        self.success(u8::from(!success));
        self.plain("It's now safe to turn off your computer");
    }

    fn play(&mut self, name: &str, number: u64, boot: u64) {
        let lines = self.seed.between(5, 20);
        self.chatter(lines);
        match name {
            "pass" => self.end(true),
            "fail" => self.end(false),
            "warn" => {
                self.say("ring sdma0 timeout, signaled seq=7, emitted seq=9");
                self.end(true);
            }
            "trap" => self.success(0),
            "panic" => self.say("Kernel panic - not syncing: Attempted to kill init! exitcode=0x0000000b"),
            "reboot" if boot < number => self.plain("sim: please reboot"),
            "wrongfirst" | "trapfail" if boot < number => self.success(0),
            "trapfail" => self.end(false),
            "reboot" | "wrongfirst" => self.end(true),
            "watchdog" => {
                self.plain("sim: watchdog start");
                self.chatter(3);
                self.plain("sim: watchdog reset");
            }
            "watchdog-ok" => {
                self.plain("sim: watchdog start");
                self.chatter(5);
                self.plain("sim: watchdog stop");
                self.end(true);
            }
            "flood" => {
                self.flood(number.min(MOST_FLOOD) << 20, 64 << 10, 0);
                self.end(true);
            }
            "slow" => {
                for _ in 0..number.saturating_mul(2) {
                    self.wait(500);
                    self.say("still there");
                }
                self.end(true);
            }
            "stream" => {
                self.flood(number.min(3600) * CONSOLE_SPEED, CONSOLE_SPEED / 20, 50);
                self.end(true);
            }
            "binary" => {
                self.binary();
                self.end(true);
            }
            "unfit" => self.plain("sim: unfit for service"),
            // `hang`, and `end` without a word on success.
            "end" => self.plain("It's now safe to turn off your computer"),
            _ => {}
        }
    }

    /// Text in pieces that cut lines anywhere, with pauses in milliseconds.
    fn flood(&mut self, bytes: u64, piece: u64, pause: u64) {
        let mut text = Vec::new();
        let mut left = bytes;
        let mut line: u64 = 0;
        while left > 0 {
            let size = usize::try_from(piece.min(left)).unwrap_or(usize::MAX);
            while text.len() < size {
                let number = self.seed.number();
                text.extend_from_slice(format!("flood {line:08} {number:016x} {number:064b}\r\n").as_bytes());
                line += 1;
            }
            if pause > 0 {
                self.wait(pause);
            }
            self.steps.push(Step::Print(text.drain(..size).collect()));
            left -= size as u64;
        }
        // The line that was cut last ends here.
        self.plain("");
    }

    fn binary(&mut self) {
        let bytes: Vec<u8> = (0..4096).map(|_| self.seed.number() as u8).collect();
        self.steps.push(Step::Print(bytes));
        self.steps.push(Step::Print(vec![b'x'; 200_000]));
        self.plain("");
        self.chatter(2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(cmdline: &str, boot: u64) -> String {
        let steps = Order::read(cmdline).unwrap().steps("box", boot, true);
        let bytes: Vec<u8> = steps
            .into_iter()
            .filter_map(|step| match step {
                Step::Print(bytes) => Some(bytes),
                _ => None,
            })
            .flatten()
            .collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    const SUCCESS: &str = "pipeline status: 0";
    const END: &str = "safe to turn off";

    #[test]
    fn each_behaviour_says_what_its_verdict_needs_and_no_more() {
        for (cmdline, boot, success, end) in [
            ("sim=pass", 0, true, true),
            ("sim=fail", 0, false, true),
            ("sim=warn", 0, true, true),
            ("sim=hang", 0, false, false),
            ("sim=panic", 0, false, false),
            ("sim=trap", 0, true, false),
            ("sim=reboot:2", 1, false, false),
            ("sim=reboot:2", 2, true, true),
            ("sim=wrongfirst:1", 0, true, false),
            ("sim=wrongfirst:1", 1, true, true),
            ("sim=trapfail:1", 0, true, false),
            ("sim=trapfail:1", 1, false, true),
            ("sim=watchdog", 0, false, false),
            ("sim=watchdog-ok", 0, true, true),
            ("sim=flood:1", 0, true, true),
            ("sim=binary", 0, true, true),
            ("sim=unfit", 0, false, false),
            ("sim=brief", 0, true, true),
            ("farmgate.action=check", 0, true, true),
        ] {
            let text = printed(cmdline, boot);
            assert_eq!(
                (text.contains(SUCCESS), text.contains(END)),
                (success, end),
                "{cmdline} {boot}: {text}"
            );
            if end {
                assert!(text.trim_end().ends_with("your computer"), "{cmdline}: nothing follows the end");
            }
        }
        assert_eq!(printed("sim=silent", 0), "");
    }

    #[test]
    fn the_same_seed_says_the_same_and_another_one_something_else() {
        assert_eq!(printed("sim=pass sim.seed=4", 0), printed("sim.seed=4 sim=pass", 0));
        assert_ne!(printed("sim=pass sim.seed=4", 0), printed("sim=pass sim.seed=5", 0));
    }

    #[test]
    fn a_flood_has_the_size_that_was_asked_for() {
        let text = printed("sim=flood:2", 0);
        assert!((2 << 20..(2 << 20) + 20_000).contains(&text.len()), "{}", text.len());
    }

    #[test]
    fn a_command_line_that_names_nothing_known_is_none() {
        for wrong in ["", "quiet=1", "sim=dance", "sim=reboot:many", "sim=pass sim.seed=x"] {
            assert_eq!(Order::read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_console_that_comes_back_loses_nothing() {
        let whole = printed("sim=pass sim.seed=9", 0);
        let broken = printed("sim=pass sim.seed=9 sim.console=drop-back", 0);
        assert_eq!(
            broken.replacen("SALAD.machine_id=box\r\n", "", 2),
            whole.replacen("SALAD.machine_id=box\r\n", "", 1)
        );
    }
}
