//! The texts of a job: lists of them with the template's statements around, and every kind of scalar.

use crate::{
    choices::writes,
    expressions::Kind,
    generator::{Writer, blanks},
};

impl Writer {
    /// A list in brackets.
    pub(crate) fn flow(&mut self) -> String {
        self.e.uses("flow lists");
        let mut items = Vec::new();
        for _ in 0..self.e.rng.below(4) {
            let word = self.e.word(2);
            items.push(match self.e.rng.below(4) {
                0 => format!("'q {{{{ {word} }}}} it''s'"),
                1 => format!("\"d\\t{{{{ {} }}}}\"", word.replace('"', "'")),
                2 => format!("p={{{{ {word} }}}}"),
                _ => self.e.rng.pick(&["a:b", "x", "1.5", "yes", "0x1f", "http://h/x#y", "k=v"]).to_owned(),
            });
        }
        let last = self.e.rng.pick(&["", ","]);
        if items.is_empty() { "[]".to_owned() } else { format!("[{}{last}]", items.join(", ")) }
    }

    /// Items of a list of texts, with the template's statements around them.
    pub(crate) fn items(&mut self, indent: usize, depth: usize) {
        for _ in 0..=self.e.rng.below(2) {
            match self.e.rng.below(if depth == 0 { 1 } else { 8 }) {
                1 | 2 => self.items_in_a_loop(indent, depth),
                3 => self.items_under_a_condition(indent, depth),
                4 => self.items_of_a_macro(indent),
                _ => {
                    let text = self.scalar(indent + 2, depth.min(2));
                    self.line(indent, &format!("- {text}"));
                }
            }
        }
        self.line(indent, "- last");
    }

    /// The two ends of a tag on a line of its own: with or without whitespace control before it.
    fn tag(&mut self, text: &str) {
        let (feature, indent, open, close) = self.e.rng.pick(&[
            ("tags on lines", 0, "{%", "%}"),
            ("{%-", 2, "{%-", "%}"),
            ("{%+ and +%}", 4, "{%+", "+%}"),
            ("indented tags", 6, "{%", "%}"),
        ]);
        self.e.uses(feature);
        self.line(indent, &format!("{open} {text} {close}"));
    }

    fn items_in_a_loop(&mut self, indent: usize, depth: usize) {
        self.e.uses("for around items");
        let before = self.e.scope.len();
        match self.e.rng.below(6) {
            0 => {
                self.e.uses("dictsort");
                let options = if writes().positional_options { "(false, 'key')" } else { "(by='key')" };
                let by = self.e.rng.pick(&["", "(by='value')", "(reverse=true)", options]);
                self.tag(&format!("for name, value in environ | dictsort{by} if name != 'WILD'"));
                self.e.scope.push(("name".into(), Kind::Word));
                self.e.scope.push(("value".into(), Kind::Word));
            }
            1 => {
                self.e.uses(".items()");
                self.tag("for name, value in environ.items() if name not in ['WILD', 'LIST']");
                self.e.scope.push(("name".into(), Kind::Word));
                self.e.scope.push(("value".into(), Kind::Word));
            }
            2 => {
                self.e.uses("range");
                let to = self.e.rng.below(4);
                self.tag(&format!("for n in range({to}, {})", to + 2));
                self.e.scope.push(("n".into(), Kind::Number));
            }
            3 => {
                self.e.uses("groupby");
                self.tag(
                    "for g in [{'k': 'b', 'v': 1}, {'k': 'a', 'v': 2}, {'k': 'b', 'v': 3}] | groupby('k')",
                );
                self.e.scope.push(("g.grouper".into(), Kind::Word));
                self.e.scope.push(("(g.list | length)".into(), Kind::Number));
            }
            _ => {
                let words = self.e.words(2);
                if self.e.rng.one_in(3) {
                    self.e.uses("for ... if");
                    self.tag(&format!("for item in {words} if item != 'quiet' and 'b' not in item"));
                } else {
                    self.tag(&format!("for item in {words}"));
                }
                self.e.scope.push(("item".into(), Kind::Word));
            }
        }
        self.e.loops += 1;
        if self.e.rng.one_in(3) {
            self.e.uses("set in a loop");
            let word = self.e.word(1);
            self.tag(&format!("set here = {word}"));
            self.e.scope.push(("here".into(), Kind::Word));
        }
        self.items(indent, depth - 1);
        self.e.scope.truncate(before);
        self.e.loops -= 1;
        if self.e.rng.one_in(5) {
            self.e.uses("for ... else");
            self.tag("else");
            self.line(indent, "- none-of-them");
        }
        self.tag("endfor");
    }

    fn items_under_a_condition(&mut self, indent: usize, depth: usize) {
        self.e.uses("if around items");
        let condition = self.e.boolean(2);
        self.tag(&format!("if {condition}"));
        self.items(indent, depth - 1);
        if self.e.rng.one_in(2) {
            self.e.uses("elif");
            let condition = self.e.boolean(1);
            self.tag(&format!("elif {condition}"));
            self.line(indent, "- otherwise");
        }
        if self.e.rng.one_in(2) {
            self.tag("else");
            self.items(indent, depth - 1);
        }
        self.tag("endif");
    }

    /// A macro that writes a whole item, and its calls.
    fn items_of_a_macro(&mut self, indent: usize) {
        self.e.uses("macro of items");
        self.line(0, "{% macro entry(name, value='x') %}");
        self.line(indent, "- {{ name }}={{ value }}");
        self.line(0, "{% endmacro %}");
        let (one, two) = (self.e.word(1), self.e.word(1));
        self.line(0, &format!("{{{{ entry('n', {one}) }}}}{{{{ entry(name='m') }}}}"));
        self.line(0, &format!("{{{{ entry('o', {two}) }}}}"));
    }

    /// Text and expressions on one line, made of words only.
    pub(crate) fn pieces(&mut self, depth: usize) -> String {
        let mut text = self.e.rng.pick(&["p", "k=", "root=/dev/", "b2c.run="]).to_owned();
        for _ in 0..=self.e.rng.below(2) {
            text.push_str(self.e.rng.pick(&["", "-", "a", ".", "=", ","]));
            let way = self.e.rng.below(9);
            self.e.in_a_call = way == 6;
            let word = self.e.word(depth);
            self.e.in_a_call = false;
            match way {
                0 => {
                    self.e.uses("{{- -}}");
                    text.push_str(&format!(" {{{{- {word} -}}}} ,"));
                }
                1 => {
                    self.e.uses("comments");
                    text.push_str(&format!(
                        "{{# {} #}}{{{{ {word} }}}}",
                        self.e.rng.pick(&["note", "{{ x }}", "it's"])
                    ));
                }
                2 => {
                    self.e.uses("if inside a line");
                    let condition = self.e.boolean(1);
                    text.push_str(&format!(
                        "{{% if {condition} -%}} {{{{ {word} }}}} {{%- else %}}no{{% endif %}}"
                    ));
                }
                3 => {
                    self.e.uses("for inside a line");
                    let words = self.e.words(1);
                    text.push_str(&format!(
                        "{{% for w in {words} %}}{{{{ w }}}}{{% if not loop.last %}},{{% endif %}}{{% else %}}0{{% endfor %}}"
                    ));
                }
                4 => {
                    self.e.uses("filter blocks");
                    let filter = self.e.rng.pick(&["upper", "replace('a', 'o')", "trim"]);
                    text.push_str(&format!("{{% filter {filter} %}}abc{{{{ {word} }}}}{{% endfilter %}}"));
                }
                5 => {
                    self.e.uses("with");
                    text.push_str(&format!("{{% with w = {word} %}}{{{{ w }}}}{{% endwith %}}"));
                }
                6 => {
                    self.e.uses("call blocks");
                    text.push_str(&format!(
                        "{{% macro around(sign) %}}{{{{ sign }}}}{{{{ caller() }}}}{{{{ sign }}}}{{% endmacro %}}{{% call around('+') %}}{{{{ {word} }}}}{{% endcall %}}"
                    ));
                }
                _ => text.push_str(&format!("{{{{ {word} }}}}")),
            }
        }
        text
    }

    /// A scalar after `- ` or `key: `; its further lines are indented by `indent`.
    pub(crate) fn scalar(&mut self, indent: usize, depth: usize) -> String {
        match self.e.rng.below(9) {
            0 | 1 => self.pieces(depth),
            2 => {
                self.e.uses("single quotes");
                let text = self.pieces(depth).replace('\'', "\"");
                format!("'it''s: {text} # no comment'")
            }
            3 => {
                self.e.uses("double quotes");
                let text = self.pieces(depth).replace('"', "'");
                format!("\"\\\"{text}\\\" \\\\ \\t\\u017c\"")
            }
            4 => {
                self.e.uses("plain over lines");
                let (one, two) = (self.pieces(1), self.pieces(1));
                format!("{one}\n{0}and {two}\n\n{0}more", blanks(indent))
            }
            5 => {
                self.e.uses("texts like numbers");
                self.e
                    .rng
                    .pick(&[
                        "1_000",
                        "0o7",
                        "010",
                        "1:30",
                        "yes",
                        "off",
                        "2026-01-01",
                        ".inf",
                        "1.50",
                        "0x1F",
                        "+1",
                        "=",
                        "1e3",
                    ])
                    .to_owned()
            }
            6 => {
                self.e.uses("YAML comments");
                format!("{} # a remark: {{{{ 'x' }}}}", self.pieces(depth))
            }
            _ => self.block(indent, depth),
        }
    }

    /// A literal or folded scalar with its lines.
    pub(crate) fn block(&mut self, indent: usize, depth: usize) -> String {
        let (feature, head) = self.e.rng.pick(&[
            ("folded scalars", ">-"),
            ("folded scalars", ">"),
            ("folded scalars", ">+"),
            ("literal scalars", "|"),
            ("literal scalars", "|-"),
            ("literal scalars", "|+"),
        ]);
        self.e.uses(feature);
        let mut text = head.to_owned();
        let mut lines = vec![format!("w{}", self.pieces(1))];
        for _ in 0..self.e.rng.below(4) {
            let any = self.e.any(depth);
            lines.push(match self.e.rng.below(8) {
                0 => String::new(),
                1 => format!("  more {{{{ {any} }}}}"),
                2 => {
                    self.e.uses("statements in a block scalar");
                    let condition = self.e.boolean(1);
                    format!(
                        "{{% if {condition} %}}\n{0}yes: {{{{ {any} }}}}\n{0}{{% endif %}}",
                        blanks(indent)
                    )
                }
                3 => {
                    self.e.uses("statements in a block scalar");
                    let words = self.e.words(1);
                    let minus = self.e.rng.pick(&["", "-"]);
                    format!(
                        "{{% for w in {words} {minus}%}}\n{0}for-{{{{ w }}}} #\n{0}{{% endfor %}}",
                        blanks(indent)
                    )
                }
                4 => {
                    self.e.uses("raw");
                    let minus = self.e.rng.pick(&["", "-"]);
                    format!("{{% raw {minus}%}} {{{{ not {{% this %}} {{% endraw {minus}%}} x")
                }
                _ => format!("{}{{{{ {any} }}}}", self.e.rng.pick(&["", "# ", "- ", "a: ", "\"", "'"])),
            });
        }
        for line in lines {
            text.push('\n');
            if !line.is_empty() {
                text.push_str(&blanks(indent));
                text.push_str(&line);
            }
        }
        text
    }
}
