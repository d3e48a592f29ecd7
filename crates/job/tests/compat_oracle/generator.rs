//! Random jobs: whole files as people write them, from a seed.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{
    choices::{WILD, WORDS, writes},
    expressions::{Expressions, Kind},
};

/// A job and what it is rendered with.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) text: String,
    /// What is known at submission.
    pub(crate) submission: Value,
    /// What is known once the machine is chosen.
    pub(crate) variables: Value,
    /// How often each feature is used.
    pub(crate) used: BTreeMap<&'static str, usize>,
}

/// The job of a seed.
pub(crate) fn case(seed: u64) -> Case {
    let mut writer = Writer { e: Expressions::new(seed), out: String::new(), anchors: 0 };
    let (submission, variables) = writer.variables();
    writer.job();
    Case { text: writer.out, submission, variables, used: writer.e.used }
}

/// Writes one job.
pub(crate) struct Writer {
    pub(crate) e: Expressions,
    pub(crate) out: String,
    anchors: usize,
}

/// That many blanks.
pub(crate) fn blanks(indent: usize) -> String {
    " ".repeat(indent)
}

impl Writer {
    fn variables(&mut self) -> (Value, Value) {
        let rng = &mut self.e.rng;
        let mut environ = serde_json::Map::new();
        for (name, value) in [
            ("NAME", rng.pick(&WORDS)),
            ("IMAGE", rng.pick(&["registry.freedesktop.org/a/b:1", "alpine", "10.42.0.1:8002/x@sha256-0a"])),
            ("DIR", rng.pick(&["/builds/mesa", "/", "results/1"])),
            ("COUNT", rng.pick(&["0", "12", "3"])),
            ("EMPTY", ""),
            ("FLAG", rng.pick(&["true", "1", "no"])),
            ("LIST", rng.pick(&["a,b,c", "one", "z,y,x,w"])),
            ("WILD", rng.pick(&WILD)),
        ] {
            if !writes().undefined_operands || !rng.one_in(80) {
                environ.insert(name.to_owned(), json!(value));
            }
        }
        let tags = ["amdgpu:codename:RENOIR", "cpu:arch:x86_64", "mem:size:8GiB", "amdgpu:APU"];
        let kept = rng.below(tags.len() + 1);
        let tags = &tags[..kept];
        let id = rng.pick(&["de:ad:be:ef:ca:fe", "52:54:00:11:22:01"]);
        let machine = json!({
            "id": id,
            "base_name": "gfx9-renoir",
            "full_name": rng.pick(&["lab-gfx9-renoir-1", "x-virtio-2"]),
            "hostname": "lab-gfx9-renoir-1",
            "tags": tags,
            "manual_tags": if rng.one_in(2) { json!([]) } else { json!(["kept", "by-hand"]) },
            "mac_address": id,
            "ip_address": json!("10.42.0.42"),
            "local_tty_device": rng.pick(&["ttyUSB0", "ttyS0"]),
            "firmware_boot_time": if rng.one_in(3) { Value::Null } else { json!(rng.pick(&[7.5, 12.0, 30.25])) },
            "boot_sequence_power": null,
            "ready_for_service": !rng.one_in(3),
            "comment": if rng.one_in(3) { Value::Null } else { json!(rng.pick(&WILD)) },
        });
        let mut all_tags: Vec<&str> = tags.to_vec();
        all_tags.push("farm:lab");
        let farm = json!({
            "environ": environ,
            "fdo_proxy_registry": "10.42.0.1:8002",
            "farm_settings": {"mirror": "mirror.lab", "slots": 3},
        });
        let mut variables = farm.clone();
        for (name, value) in [
            ("machine_id", json!(id)),
            ("machine", machine.clone()),
            ("dut", machine.clone()),
            ("machine_tags", json!(all_tags)),
            ("local_tty_device", machine["local_tty_device"].clone()),
            ("ready_for_service", machine["ready_for_service"].clone()),
        ] {
            variables[name] = value;
        }
        (farm, variables)
    }

    /// A line of the job.
    pub(crate) fn line(&mut self, indent: usize, text: &str) {
        self.out.push_str(&blanks(indent));
        self.out.push_str(text);
        self.out.push('\n');
    }

    fn job(&mut self) {
        if self.e.rng.one_in(20) {
            self.e.uses("#!jinja2");
            self.line(0, "#!jinja2");
        }
        self.prelude();
        self.line(0, "version: 1");
        if self.e.rng.one_in(4) {
            self.e.uses("comments");
            self.line(0, "# what a machine needs {# and not: #}");
            self.line(0, "{# a note #}");
        }
        self.target();
        if !self.e.rng.one_in(4) {
            self.timeouts();
        }
        if !self.e.rng.one_in(4) {
            self.patterns();
        }
        self.deployment();
        if !writes().block_at_the_end {
            self.line(0, "deadline: 2099-01-01T00:00:00Z");
        }
        match self.e.rng.below(12) {
            0 => {
                self.e.uses("no newline at the end");
                self.out.pop();
            }
            1 => {
                self.e.uses("CR LF");
                self.out = self.out.replace('\n', "\r\n");
            }
            _ => {}
        }
    }

    /// What templates begin with: names and macros.
    fn prelude(&mut self) {
        self.e.before_the_machine = true;
        if self.e.rng.one_in(2) {
            self.e.uses("set");
            let word = self.e.word(2);
            let control = self.e.rng.pick(&["%", "%-"]);
            self.line(
                0,
                &format!("{{{control} set word = {word} {}}}", control.chars().rev().collect::<String>()),
            );
            self.e.scope.push(("word".into(), Kind::Word));
        }
        if self.e.rng.one_in(3) {
            self.e.uses("set");
            let words = self.e.words(2);
            let number = self.e.number(2);
            self.line(0, &format!("{{%- set words, number = ({words}, {number}) %}}"));
            self.e.scope.push(("words".into(), Kind::Words));
            self.e.scope.push(("number".into(), Kind::Number));
        }
        if self.e.rng.one_in(4) {
            self.e.uses("set blocks");
            let text = self.pieces(1);
            self.line(0, &format!("{{% set block %}}{text}{{% endset %}}"));
            self.e.scope.push(("block".into(), Kind::Word));
        }
        if self.e.rng.one_in(4) {
            self.e.uses("namespace");
            let words = self.e.words(1);
            self.line(0, &format!("{{% set ns = namespace(n=0) %}}{{% for t in {words} %}}{{% set ns.n = ns.n + loop.index %}}{{% endfor %}}"));
            self.e.scope.push(("ns.n".into(), Kind::Number));
        }
        if self.e.rng.one_in(3) {
            self.e.uses("macro");
            let tail = self.e.rng.pick(&["", "='end'"]);
            let minus = self.e.rng.pick(&["", "-"]);
            self.line(0, &format!("{{% macro tie(head, tail{tail}) {minus}%}}"));
            self.line(
                0,
                &format!(
                    "{{{{- head | upper }}}}-{{{{ tail }}}}{{%- if tail is undefined %}}+{{% endif {minus}%}}"
                ),
            );
            self.line(0, &format!("{{%- endmacro {minus}%}}"));
            self.e.macros.push("tie".into());
        }
        self.e.before_the_machine = false;
    }

    fn target(&mut self) {
        self.e.before_the_machine = true;
        self.target_of_known_names();
        self.e.before_the_machine = false;
    }

    fn target_of_known_names(&mut self) {
        match self.e.rng.below(6) {
            0 => {}
            1 => {
                self.e.uses("printed lists");
                self.line(0, "target:");
                self.line(2, "tags: {{ machine_tags }}");
            }
            2 => {
                let word = self.e.word(1);
                self.line(0, &format!("target: {{id: 'm-{{{{ {word} }}}}'}}"));
            }
            3 => self.line(0, "target: {tags: []}"),
            _ => {
                self.line(0, "target:");
                self.line(2, "tags:");
                self.items(4, 1);
            }
        }
    }

    fn timeouts(&mut self) {
        self.line(0, "timeouts:");
        let merge = self.e.rng.one_in(3);
        if merge {
            self.e.uses("merges");
            self.line(2, "boot_cycle: &limits {minutes: 2, retries: 1}");
            self.line(2, "console_activity:");
            self.line(4, "<<: *limits");
            let seconds = self.e.number(1);
            self.line(4, &format!("seconds: {{{{ ({seconds}) | abs }}}}"));
        }
        for name in ["overall", "infra_setup", "infra_teardown", "firmware_boot", "first_console_activity"] {
            if self.e.rng.one_in(2) {
                self.e.uses("timeouts");
                let fields = self.timeout(!matches!(name, "overall" | "infra_teardown"));
                self.line(2, &format!("{name}: {fields}"));
            }
        }
        if self.e.rng.one_in(3) {
            self.e.uses("watchdogs");
            let fields = self.timeout(true);
            self.line(2, "watchdogs:");
            self.line(4, &format!("dog: {fields}"));
        }
    }

    fn timeout(&mut self, retries: bool) -> String {
        let mut fields = Vec::new();
        for unit in ["days", "hours", "minutes", "seconds", "milliseconds"] {
            if self.e.rng.one_in(3) {
                let number = match self.e.rng.below(5) {
                    0 => self.e.rng.pick(&["0.3", "1.5", "0", "250", "2.25"]).to_owned(),
                    1 => format!("{{{{ environ.MISSING | default({}, true) }}}}", self.e.rng.below(9)),
                    2 => format!("{{{{ ({}) | abs }}}}", self.e.number(2)),
                    3 => self.e.rng.pick(&["1_000", "1.0e+2", "00", "+3", "1."]).to_owned(),
                    _ => self.e.rng.below(50).to_string(),
                };
                fields.push(format!("{unit}: {number}"));
            }
        }
        if retries && self.e.rng.one_in(2) {
            fields.push(format!("retries: {}", self.e.rng.below(5)));
        }
        format!("{{{}}}", fields.join(", "))
    }

    fn patterns(&mut self) {
        self.line(0, "console_patterns:");
        for name in ["session_end", "session_reboot", "job_success", "job_warn", "machine_unfit_for_service"]
        {
            if !self.e.rng.one_in(3) {
                continue;
            }
            self.e.uses("patterns");
            let regex = self.e.rng.pick(&[
                r"^\+ DEQP_EXITCODE=0\r$",
                r"ring .* timeout",
                r"^\[[\d \.]{12}\] reboot: Power Down\r?$",
                r"(?<!not )ok \d+",
                r"It's now safe",
            ]);
            let word = self.e.word(1);
            match self.e.rng.below(3) {
                0 => self.line(2, &format!("{name}: {{regex: '{}'}}", regex.replace('\'', "''"))),
                1 => {
                    self.e.uses("double quotes");
                    let regex = regex.replace('\\', r"\\");
                    self.line(2, &format!("{name}:\n    regex: \"{regex}\""));
                }
                _ => {
                    self.e.uses("folded scalars");
                    self.line(2, &format!("{name}:\n    regex: >-\n      {regex}\n      {{{{ {word} }}}}"));
                }
            }
        }
        if self.e.rng.one_in(3) {
            self.line(2, "watchdogs:");
            self.line(4, "dog: {start: {regex: begin}, reset: {regex: '\\d+ done'}, stop: {regex: end}}");
        }
    }

    fn deployment(&mut self) {
        self.line(0, "deployment:");
        let anchor = self.e.rng.one_in(6);
        self.line(2, if anchor { "start: &start" } else { "start:" });
        self.boot(4, true);
        if self.e.rng.one_in(3) {
            return;
        }
        self.e.uses("continue");
        self.line(2, "continue:");
        if anchor {
            self.e.uses("merges");
            self.line(4, "<<: *start");
        }
        self.boot(4, false);
    }

    fn boot(&mut self, indent: usize, start: bool) {
        self.line(indent, "kernel:");
        let with_source = self.e.rng.one_in(2);
        if with_source {
            self.source(indent + 2, false);
        }
        if start || self.e.rng.one_in(2) {
            self.cmdline(indent + 2);
        } else if !with_source {
            self.e.uses("a kernel of nothing");
        }
        if self.e.rng.one_in(2) {
            self.initramfs(indent);
        }
    }

    /// The field of an artifact's source, as a field of a mapping or as the first of an item.
    fn source(&mut self, indent: usize, item: bool) {
        let dash = if item { "- " } else { "" };
        let below = indent + dash.len();
        if self.e.rng.one_in(2) {
            self.e.uses("url");
            let path = self.pieces(2);
            let scheme = self.e.rng.pick(&["http", "https"]);
            let quote = self.e.rng.pick(&["", "'"]);
            self.line(indent, &format!("{dash}url: {quote}{scheme}://h.example/{path}{quote}"));
            return;
        }
        self.e.uses("data");
        match self.e.rng.below(4) {
            0 => {
                self.e.uses("double quotes");
                let word = self.e.word(1).replace('"', "'");
                self.line(indent, &format!("{dash}data: \"x\\t{{{{ {word} }}}}\\x41\\n\\u2602 \\\"\""));
            }
            1 => {
                self.e.uses("data templates");
                self.line(indent, &format!("{dash}data: |"));
                if self.e.rng.one_in(4) {
                    self.e.uses("#!jinja2 in data");
                    self.line(below + 2, "#!jinja2");
                }
                let scope = std::mem::take(&mut self.e.scope);
                let macros = std::mem::take(&mut self.e.macros);
                let word = self.e.word(1);
                self.e.scope = scope;
                self.e.macros = macros;
                let fails = self.e.rng.pick(&["", " {{ 1 // 0 }}", " {% if %}"]);
                let minus = self.e.rng.pick(&["", "-"]);
                let raw = format!(
                    "{{% raw %}}c={{{{ job.deployment.kernel.cmdline }}}} {{% if ready_for_service {minus}%}} y {{%- endif %}} {{{{ {word} }}}}{fails}{{% endraw %}}"
                );
                self.line(below + 2, &raw);
                self.line(below + 2, "end");
            }
            _ => {
                let block = self.block(below + 2, 2);
                self.line(indent, &format!("{dash}data: {block}"));
            }
        }
    }

    fn initramfs(&mut self, indent: usize) {
        self.e.uses("initramfs");
        self.line(indent, "initramfs:");
        match self.e.rng.below(4) {
            0 => self.source(indent + 2, false),
            1 => self.artifacts(indent + 2),
            2 => {
                self.e.uses("categories of artifacts");
                for category in self.categories() {
                    self.line(indent + 2, &format!("{category}:"));
                    match self.e.rng.below(3) {
                        0 => self.source(indent + 4, false),
                        1 => self.artifacts(indent + 4),
                        _ => {}
                    }
                }
                self.line(indent + 2, "last: {url: 'http://h.example/last'}");
            }
            _ => {
                self.e.uses("for around items");
                let words = self.e.words(2);
                self.line(0, &format!("{{% for part in {words} %}}"));
                self.line(indent + 2, "- {url: 'http://h.example/{{ part }}.cpio'}");
                self.line(0, "{% endfor %}");
                self.source(indent + 2, true);
            }
        }
    }

    fn artifacts(&mut self, indent: usize) {
        for _ in 0..=self.e.rng.below(2) {
            self.source(indent, true);
        }
    }

    /// Names of categories, in an order of their own.
    fn categories(&mut self) -> Vec<String> {
        let all = ["b2c", "a", "'10'", "9", "Z", "zz", "żaba", "net-work", "\":uncategorised\""];
        let mut chosen: Vec<String> = Vec::new();
        for _ in 0..=self.e.rng.below(3) {
            let name = self.e.rng.pick(&all).to_owned();
            if !chosen.contains(&name) {
                chosen.push(name);
            }
        }
        if chosen.iter().any(|name| name.contains("uncategorised")) {
            self.e.uses(":uncategorised");
        }
        chosen
    }

    fn cmdline(&mut self, indent: usize) {
        match self.e.rng.below(8) {
            0 => {
                self.e.uses("a single text");
                let text = self.scalar(indent + 2, 3);
                self.line(indent, &format!("cmdline: {text}"));
            }
            1 => {
                let items = self.flow();
                self.line(indent, &format!("cmdline: {items}"));
            }
            2 => {
                self.e.uses("printed lists");
                let words = self.e.words(3);
                let filter = self.e.rng.pick(&["", " | tojson"]);
                self.line(indent, &format!("cmdline: {{{{ ({words}){filter} }}}}"));
            }
            3 | 4 => self.cmdline_by_category(indent),
            _ => {
                self.line(indent, "cmdline:");
                self.items(indent + 2, 2);
            }
        }
    }

    fn cmdline_by_category(&mut self, indent: usize) {
        self.e.uses("categories");
        self.line(indent, "cmdline:");
        let anchor = format!("c{}", self.anchors);
        self.anchors += 1;
        self.line(indent + 2, &format!("first: &{anchor} [one, \"two\", 'th''ree']"));
        for category in self.categories() {
            match self.e.rng.below(5) {
                0 => {
                    let text = self.scalar(indent + 4, 2);
                    self.line(indent + 2, &format!("{category}: {text}"));
                }
                1 => {
                    let items = self.flow();
                    self.line(indent + 2, &format!("{category}: {items}"));
                }
                2 => {
                    self.e.uses("aliases");
                    self.line(indent + 2, &format!("{category}: *{anchor}"));
                }
                3 => {
                    self.e.uses("empty categories");
                    let nothing = self.e.rng.pick(&["[]", "", "~", "null"]);
                    self.line(indent + 2, &format!("{category}: {nothing}"));
                }
                _ => {
                    self.line(indent + 2, &format!("{category}:"));
                    self.items(indent + 4, 1);
                }
            }
        }
    }
}
