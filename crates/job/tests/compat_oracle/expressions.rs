//! Random expressions of a template, by the kind of value that they have.
//!
//! A *word* is text that can stand anywhere in a YAML value: letters, digits and a few signs. Everything else goes
//! only where any text may stand (see `any`). What is used is counted under the name of its feature.

use std::collections::BTreeMap;

use crate::choices::{Rng, WORDS, writes};

/// What a name of the template's own stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Word,
    Number,
    Words,
    Bool,
}

const TRUNCATE: &str = "truncate(length=5, killwords=true, end='', leeway=0)";

/// Writes expressions and remembers what they use.
pub(crate) struct Expressions {
    pub(crate) rng: Rng,
    pub(crate) used: BTreeMap<&'static str, usize>,
    /// Names that can be used here.
    pub(crate) scope: Vec<(String, Kind)>,
    /// Loops around this place.
    pub(crate) loops: usize,
    /// The machine is not known here.
    pub(crate) before_the_machine: bool,
    /// Inside of a macro or a call block.
    pub(crate) in_a_call: bool,
    /// Macros of one to three arguments that make a word.
    pub(crate) macros: Vec<String>,
}

impl Expressions {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            rng: Rng::new(seed),
            used: BTreeMap::new(),
            scope: Vec::new(),
            loops: 0,
            before_the_machine: false,
            in_a_call: false,
            macros: Vec::new(),
        }
    }

    /// Notes that a feature is used.
    pub(crate) fn uses(&mut self, feature: &'static str) {
        *self.used.entry(feature).or_default() += 1;
    }

    fn local(&mut self, kind: Kind) -> Option<String> {
        let names: Vec<&String> = self.scope.iter().filter(|(_, k)| *k == kind).map(|(n, _)| n).collect();
        if names.is_empty() { None } else { Some(names[self.rng.below(names.len())].clone()) }
    }

    fn literal(&mut self) -> String {
        let word = self.rng.pick(&WORDS);
        if self.rng.one_in(3) { format!("\"{word}\"") } else { format!("'{word}'") }
    }

    /// An expression that is a word. `depth`: how deep it may still nest.
    pub(crate) fn word(&mut self, depth: usize) -> String {
        if depth == 0 {
            return self.plain_word();
        }
        match self.rng.below(11) {
            0 | 1 => self.plain_word(),
            2 => self.undefined_word(),
            3 | 4 => self.filtered_word(depth - 1),
            5 | 6 => self.word_by_method(depth - 1),
            7 => {
                self.uses("join");
                let sep = self.rng.pick(&["-", ",", "", "+"]);
                let words = self.words(depth - 1);
                let inner = if self.rng.one_in(2) { words } else { format!("({words})") };
                format!("{inner} | join('{sep}')")
            }
            8 => {
                self.uses("inline if");
                let (yes, no) = (self.word(depth - 1), self.word(depth - 1));
                let condition = self.boolean(depth - 1);
                if writes().undefined_operands && self.rng.one_in(4) {
                    format!("(({yes} if {condition}) | string)")
                } else {
                    format!("({yes} if {condition} else {no})")
                }
            }
            9 => {
                self.uses("~");
                let (left, right) = (self.word(depth - 1), self.number(depth - 1));
                format!("(({left}) ~ '_' ~ ({right}))")
            }
            _ => self.called_word(depth - 1),
        }
    }

    fn plain_word(&mut self) -> String {
        match self.rng.below(if self.before_the_machine { 5 } else { 8 }) {
            0 => self.literal(),
            1 | 2 => {
                self.uses("environ");
                let name = self.rng.pick(&["NAME", "IMAGE", "DIR", "COUNT", "EMPTY", "FLAG"]);
                match self.rng.below(3) {
                    0 => format!("environ['{name}']"),
                    _ => format!("environ.{name}"),
                }
            }
            5 | 6 => {
                self.uses("machine variables");
                let of = self.rng.pick(&["machine", "dut"]);
                let field =
                    self.rng.pick(&["id", "base_name", "full_name", "hostname", "mac_address", "ip_address"]);
                format!("{of}.{field}")
            }
            7 => {
                self.uses("machine variables");
                self.rng.pick(&["machine_id", "local_tty_device", "machine.local_tty_device"]).to_owned()
            }
            3 => {
                self.uses("farm variables");
                self.rng.pick(&["fdo_proxy_registry", "farm_settings.mirror"]).to_owned()
            }
            _ => self.local(Kind::Word).unwrap_or_else(|| "environ.NAME".to_owned()),
        }
    }

    fn undefined_word(&mut self) -> String {
        let fallback = self.plain_word();
        match self.rng.below(4) {
            0 => {
                self.uses("undefined chains");
                let name = self.rng.pick(&["here", "there"]);
                let as_text = if writes().undefined_operands { "" } else { " | string" };
                format!("nothing.at.all.{name}{as_text}")
            }
            1 => {
                self.uses("default");
                format!("nothing.of['this'] | default({fallback})")
            }
            2 => {
                self.uses("default(x, true)");
                format!("environ.EMPTY | default({fallback}, true)")
            }
            _ => {
                self.uses("default");
                format!("environ.MISSING | d({fallback})")
            }
        }
    }

    fn filtered_word(&mut self, depth: usize) -> String {
        let word = self.word(depth);
        let (feature, filter) = self.rng.pick(&[
            ("upper", "upper"),
            ("lower", "lower"),
            ("title", "title"),
            ("capitalize", "capitalize"),
            ("trim", "trim"),
            ("trim", "trim('a')"),
            ("replace", "replace('a', 'b')"),
            ("replace", "replace('.', '_')"),
            ("string", "string"),
            ("reverse", "reverse | string"),
            ("truncate", if writes().positional_options { "truncate(5, true, '', 0)" } else { TRUNCATE }),
            ("first", if writes().undefined_operands { "first" } else { "first | string" }),
            ("last", if writes().undefined_operands { "last" } else { "last | string" }),
            ("length", "length | string"),
            ("list of a text", "list | join('.')"),
            ("format", "format"),
        ]);
        self.uses(feature);
        if feature == "format" {
            let number = self.number(0);
            return format!("'%s.%s' | format({word}, {number})");
        }
        format!("({word}) | {filter}")
    }

    fn word_by_method(&mut self, depth: usize) -> String {
        let word = self.word(depth);
        let title = if writes().title { ".lower().title()" } else { ".lower().upper()" };
        let (feature, method) = self.rng.pick(&[
            (".upper()", ".upper()"),
            (".lower()", ".lower()"),
            (".strip()", ".strip()"),
            (".strip()", ".lstrip('a')"),
            (".strip()", ".rstrip('0123456789')"),
            (".replace()", ".replace('-', '+')"),
            (".replace()", ".replace('a', 'A', 1)"),
            ("methods in a row", title),
            (".capitalize()", ".capitalize()"),
            (".split()", ".split('-')[0]"),
            (".split()", ".split('.')[-1]"),
            (".split()", ".split('/', 1) | last | string"),
            ("slices", "[1:]"),
            ("slices", "[:3]"),
            ("slices", "[-2:]"),
            ("slices", "[::2]"),
            ("slices", "[0:9]"),
        ]);
        let (feature, method) = match feature {
            "slices" if self.in_a_call && !writes().slices_in_calls => (".strip()", ".strip('a')"),
            _ => (feature, method),
        };
        self.uses(feature);
        format!("({word}){method}")
    }

    fn called_word(&mut self, depth: usize) -> String {
        match self.rng.below(4) {
            0 | 1 if !self.macros.is_empty() => {
                self.uses("macro");
                let which = self.rng.below(self.macros.len());
                let name = self.macros[which].clone();
                let (one, two) = (self.word(depth), self.word(depth));
                match self.rng.below(4) {
                    0 => format!("{name}({one})"),
                    1 => format!("{name}({one}, {two})"),
                    2 => format!("{name}({one}, tail={two})"),
                    _ => format!("{name}(head={one})"),
                }
            }
            2 => {
                self.uses(".get()");
                let word = self.word(depth);
                let name = self.rng.pick(&["NAME", "MISSING"]);
                format!("environ.get('{name}', {word})")
            }
            3 if self.loops > 0 => {
                self.uses("loop.cycle");
                let (one, two) = (self.word(0), self.word(0));
                format!("loop.cycle({one}, {two})")
            }
            _ => {
                self.uses("dictionaries");
                let (one, two) = (self.word(depth), self.literal());
                let key = self.rng.pick(if writes().undefined_operands {
                    &["one", "two", "none"]
                } else {
                    &["one", "two", "one"]
                });
                match self.rng.below(3) {
                    0 => format!("{{'one': {one}, 'two': {two}}}['{key}']"),
                    1 => format!("{{'one': {one}, 'two': {two}}}.{key}"),
                    _ => format!("{{'one': {one}, 'two': {two}}}.get('{key}', 'other')"),
                }
            }
        }
    }

    /// An expression that is a list of words.
    pub(crate) fn words(&mut self, depth: usize) -> String {
        if depth == 0 || self.rng.one_in(4) {
            return self.plain_words();
        }
        let words = self.words(depth - 1);
        match self.rng.below(12) {
            0 => self.count("sort", format!("{words} | sort")),
            1 => self.count("sort", format!("{words} | sort(reverse=true)")),
            2 => self.count("unique", format!("{words} | unique | list")),
            3 => {
                let filter = self.rng.pick(&["'upper'", "'replace', 'a', 'e'", "'string'", "'trim'"]);
                self.count("map", format!("{words} | map({filter}) | list"))
            }
            4 => {
                let test = self.rng.pick(&["'ne', 'quiet'", "'in', ['quiet', 'v1']", "'string'"]);
                self.count("select", format!("{words} | select({test}) | list"))
            }
            5 => {
                let test = self.rng.pick(&["'eq', 'quiet'", "'none'", "'defined'"]);
                self.count("reject", format!("{words} | reject({test}) | list"))
            }
            6 => {
                if self.in_a_call && !writes().slices_in_calls {
                    return words;
                }
                let back = if writes().reversed_slices { "[::-1]" } else { "[::1]" };
                let slice = self.rng.pick(&["[1:]", "[:2]", back, "[-1:]"]);
                self.count("slices", format!("({words}){slice}"))
            }
            7 => {
                let more = self.plain_words();
                self.count("list + list", format!("({words}) + ({more})"))
            }
            8 => self.count("reverse", format!("{words} | reverse | list")),
            9 => {
                let to = self.rng.below(4);
                self.count("range", format!("range({to}) | map('string') | list"))
            }
            10 => {
                let list = "[{'n': 'a', 'on': true}, {'n': 'b', 'on': false}, {'n': 'c', 'on': none}]";
                let pick =
                    self.rng.pick(&["selectattr('on')", "rejectattr('on')", "selectattr('n', 'ne', 'b')"]);
                self.count("selectattr", format!("{list} | {pick} | map(attribute='n') | list"))
            }
            _ => self.count("map", "environ | dictsort | map('first') | list".to_owned()),
        }
    }

    fn plain_words(&mut self) -> String {
        let known = if self.before_the_machine { 2 } else { 0 };
        match known + self.rng.below(7 - known) {
            0 => self.count("machine variables", "machine.tags".to_owned()),
            1 => self.count("machine variables", "machine_tags".to_owned()),
            2 => self.count(".split()", "environ.LIST.split(',')".to_owned()),
            3 => self.count(".keys()", "environ.keys() | list".to_owned()),
            4 => self.local(Kind::Words).unwrap_or_else(|| "environ.LIST.split(',')".to_owned()),
            _ => {
                let mut items = Vec::new();
                for _ in 0..self.rng.below(4) {
                    items.push(self.literal());
                }
                self.count("lists", format!("[{}]", items.join(", ")))
            }
        }
    }

    fn count(&mut self, feature: &'static str, text: String) -> String {
        self.uses(feature);
        text
    }

    /// An expression that is a number; whole unless it divides.
    pub(crate) fn number(&mut self, depth: usize) -> String {
        if depth == 0 {
            return match self.rng.below(4) {
                0 if self.loops > 0 => {
                    self.uses("loop variables");
                    self.rng
                        .pick(&["loop.index", "loop.index0", "loop.revindex", "loop.length", "loop.depth"])
                        .to_owned()
                }
                1 => self.local(Kind::Number).unwrap_or_else(|| "7".to_owned()),
                _ => self.rng.below(40).to_string(),
            };
        }
        let number = self.number(depth - 1);
        match self.rng.below(12) {
            0 | 1 => {
                let other = self.number(depth - 1);
                let sign = self.rng.pick(&["+", "-", "*"]);
                self.count("arithmetic", format!("({number} {sign} {other})"))
            }
            2 => {
                let by = self.rng.pick(&["2", "3", "7"]);
                let sign = self.rng.pick(&["//", "%"]);
                self.count("// and %", format!("({number} {sign} {by})"))
            }
            3 => {
                let by = self.rng.pick(&["2", "4", "8"]);
                self.count("division", format!("({number} / {by})"))
            }
            4 => {
                let words = self.words(depth - 1);
                self.count("length", format!("({words}) | length"))
            }
            5 => self.count("int", "environ.COUNT | int".to_owned()),
            6 => {
                let word = self.literal();
                self.count("int", format!("({word}) | int(3)"))
            }
            7 => {
                let which = self.rng.pick(&["sum", "max", "min", "first", "last"]);
                let other = self.number(0);
                self.count("sum, min, max", format!("[{number}, {other}, 3] | {which}"))
            }
            8 => self.count("abs", format!("(0 - {number}) | abs")),
            9 => {
                let digits = self.rng.pick(&["", "(1)", "(2)"]);
                self.count("round", format!("({number} / 8) | round{digits}"))
            }
            10 => self.count("float", format!("({number}) | float")),
            _ => self.count("**", "(2 ** 5)".to_owned()),
        }
    }

    /// An expression that is true or false.
    pub(crate) fn boolean(&mut self, depth: usize) -> String {
        if depth == 0 {
            return match self.rng.below(4) {
                0 if !self.before_the_machine => "machine.ready_for_service".to_owned(),
                1 if self.loops > 0 => {
                    self.uses("loop variables");
                    self.rng.pick(&["loop.first", "loop.last"]).to_owned()
                }
                2 => self.local(Kind::Bool).unwrap_or_else(|| "false".to_owned()),
                _ => self.rng.pick(&["true", "True", "false", "none is none"]).to_owned(),
            };
        }
        match self.rng.below(8) {
            0 => {
                let (a, b) = (self.number(depth - 1), self.number(depth - 1));
                let sign = self.rng.pick(&["<", ">", "<=", ">=", "==", "!="]);
                self.count("comparisons", format!("({a}) {sign} ({b})"))
            }
            1 => {
                let (a, b) = (self.word(depth - 1), self.word(depth - 1));
                let sign = self.rng.pick(&["==", "!="]);
                self.count("comparisons", format!("({a}) {sign} ({b})"))
            }
            2 => {
                let (word, words) = (self.word(depth - 1), self.words(depth - 1));
                let sign = self.rng.pick(&["in", "not in"]);
                self.count("in", format!("({word}) {sign} ({words})"))
            }
            3 => {
                let word = self.word(depth - 1);
                self.count("in", format!("'a' in ({word})"))
            }
            4 => {
                let (a, b) = (self.boolean(depth - 1), self.boolean(depth - 1));
                let sign = self.rng.pick(&["and", "or"]);
                let not = self.rng.pick(&["", "not "]);
                self.count("and, or, not", format!("({not}({a}) {sign} ({b}))"))
            }
            5 => {
                let name = self.rng.pick(&["environ.NAME", "environ.MISSING", "nothing", "machine.comment"]);
                let test =
                    self.rng.pick(&["defined", "undefined", "not defined", "none", "not none", "string"]);
                self.count("is defined", format!("{name} is {test}"))
            }
            6 => {
                let number = self.rng.below(30);
                let test = self.rng.pick(&["odd", "even", "divisibleby(3)", "divisibleby 5", "number"]);
                self.count("tests of numbers", format!("{number} is {test}"))
            }
            _ => {
                let word = self.word(depth - 1);
                let method =
                    self.rng.pick(&["startswith('a')", "endswith('1')", "startswith('')", "isdigit()"]);
                self.count(".startswith()", format!("({word}).{method}"))
            }
        }
    }

    /// An expression of any kind: what it prints may hold quotes, blanks and signs, but no line end.
    pub(crate) fn any(&mut self, depth: usize) -> String {
        // Wild texts are the machine's, and Jinja2 prints what is JSON inside of a list as `Markup(...)`.
        let most = if self.before_the_machine {
            5
        } else if depth == 0 {
            7
        } else {
            10
        };
        match self.rng.below(most) {
            0 => self.word(depth),
            1 => self.number(depth),
            2 => {
                let yes = self.boolean(depth);
                self.count("printed booleans", format!("({yes})"))
            }
            3 => {
                let words = self.words(depth);
                self.count("printed lists", words)
            }
            4 => {
                let (one, two) = (self.any(0), self.number(0));
                self.count("printed dictionaries", format!("{{'one': {one}, 'two': [{two}, none, true]}}"))
            }
            5 => {
                let of = self.rng.pick(&["machine.comment", "environ.WILD"]);
                self.count("wild texts", of.to_owned())
            }
            6 => {
                let of = self.rng.pick(&["machine.comment", "environ.WILD"]);
                let other = self.literal();
                self.count("printed lists", format!("[{of}, {other}]"))
            }
            7 => {
                let wild = if writes().tojson_of_unicode { "environ" } else { "environ.LIST" };
                let of = self.rng.pick(&[wild, "machine_tags", "machine.tags", "[1, 2.5, none, true]"]);
                self.count("tojson", format!("{of} | tojson"))
            }
            8 => {
                let (one, two) = (self.boolean(depth), self.any(0));
                self.count("and, or, not", format!("({one} and {two})"))
            }
            _ => {
                let of = self.rng.pick(&[
                    "none",
                    "machine.boot_sequence_power",
                    "machine.firmware_boot_time",
                    "dut.comment",
                ]);
                self.count("printed none and floats", of.to_owned())
            }
        }
    }
}
