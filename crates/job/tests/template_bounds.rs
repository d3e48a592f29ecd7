//! No template runs away: each of these ends soon, in little memory, with an error at its line.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use farmgate_job::{Source, Variables, resolve};

/// Templates that try to take everything, and a part of what they are told. The fault is on line 2.
const GREEDY: &[(&str, &str, &str)] = &[
    (
        "a text that doubles",
        "{% set ns = namespace(x='x') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
        "MiB",
    ),
    (
        "a text that doubles by +",
        "{% set ns = namespace(x='x') %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "MiB",
    ),
    (
        "a list that doubles",
        "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "MiB",
    ),
    (
        "a list that extends itself",
        "{% set l = [1] %}{% for i in range(60) %}{% do l.extend(l) %}{% endfor %}",
        "MiB",
    ),
    ("a repeated text", "{{ 'x' * 100000000000 }}", "MiB"),
    ("a repeated list", "{{ [1] * 100000000000 }}", "MiB"),
    ("repeats of repeats", "{{ ('x' * 60000) * 60000 }}", "MiB"),
    (
        "lists in lists, printed",
        "{% set ns = namespace(x=[1]) %}{% for i in range(50) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
        "looks through",
    ),
    (
        "lists in lists, compared",
        "{% set a = namespace(x=[1]) %}{% set b = namespace(x=[1]) %}{% for i in range(50) %}{% set a.x = [a.x, a.x] %}{% set b.x = [b.x, b.x] %}{% endfor %}{{ a.x == b.x }}",
        "looks through",
    ),
    (
        "lists in lists, as JSON",
        "{% set ns = namespace(x=[1]) %}{% for i in range(50) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x | tojson }}",
        "MiB",
    ),
    (
        "tuples in tuples, as a key",
        "{% set ns = namespace(x=(1,)) %}{% for i in range(50) %}{% set ns.x = (ns.x, ns.x) %}{% endfor %}{{ {ns.x: 1} }}",
        "MiB",
    ),
    ("a list in itself", "{% set l = [] %}{% do l.append(l) %}{{ l }}", "nested too deeply"),
    (
        "a list in itself, compared",
        "{% set l = [] %}{% do l.append(l) %}{% set m = [] %}{% do m.append(m) %}{{ l == m }}",
        "nested too deeply",
    ),
    (
        "a list in itself, as JSON",
        "{% set l = [] %}{% do l.append(l) %}{{ l | tojson }}",
        "nested too deeply",
    ),
    (
        "loops in loops",
        "{% for a in range(1000000) %}{% for b in range(1000000) %}{% endfor %}{% endfor %}",
        "too many steps",
    ),
    (
        "loops in loops, small",
        "{% for a in range(999) %}{% for b in range(999) %}{% for c in range(999) %}{% endfor %}{% endfor %}{% endfor %}",
        "too many steps",
    ),
    ("a loop that writes", "{% for i in range(100000) %}{{ 'xxxxxxxxxx' * 100 }}{% endfor %}", "MiB"),
    (
        "a captured loop",
        "{% set x %}{% for i in range(100000) %}{{ 'xxxxxxxxxx' * 1000 }}{% endfor %}{% endset %}",
        "MiB",
    ),
    (
        "literal text, captured",
        "{% set x %}{% for i in range(400000) %}________________________________________________________________________________________________________________________________________________________________________________________________________________{% endfor %}{% endset %}",
        "",
    ),
    ("a macro that calls itself", "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "call each other"),
    (
        "a macro that calls itself twice",
        "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}x{% endmacro %}{{ m(80) }}",
        "too many steps",
    ),
    (
        "macros that double",
        "{% macro m(n, x) %}{% if n %}{{ m(n - 1, x ~ x) }}{% else %}{{ x }}{% endif %}{% endmacro %}{{ m(90, 'x') }}",
        "MiB",
    ),
    (
        "callers that call",
        "{% macro m() %}{{ caller() }}{% endmacro %}{% macro n() %}{% call m() %}{{ n() }}{% endcall %}{% endmacro %}{{ n() }}",
        "call each other",
    ),
    (
        "a loop that calls itself",
        "{% set l = [] %}{% do l.append(l) %}{% for x in l recursive %}{{ loop(x) }}{% endfor %}",
        "calls itself too deeply",
    ),
    ("a join of much", "{{ range(100000) | join('x' * 100000) }}", "MiB"),
    ("a replacement of much", "{{ ('x' * 100000) | replace('x', 'y' * 100000) }}", "MiB"),
    ("a replacement of nothing", "{{ ('x' * 1000000).replace('', 'y' * 1000000) }}", "MiB"),
    ("an indentation", "{{ ('x\\n' * 100000) | indent(100000) }}", "MiB"),
    ("a wide indentation", "{{ 'x' | indent(100000000000) }}", "MiB"),
    ("a centre", "{{ 'x' | center(100000000000) }}", "MiB"),
    ("a padding", "{{ 'x'.ljust(100000000000) }}", "MiB"),
    ("a zero fill", "{{ 'x'.zfill(100000000000) }}", "MiB"),
    ("tabs", "{{ ('\t' * 1000).expandtabs(100000000000) }}", "MiB"),
    ("a format's width", "{{ '%100000000000d' % 1 }}", "wider"),
    ("a format's star", "{{ '%*d' % (100000000000, 1) }}", "wider"),
    ("a format's precision", "{{ '{:.100000000000f}'.format(1.5) }}", "wider"),
    ("a format with much", "{{ '%s' * 10000 % ((('x' * 1000000),) * 10000) }}", "MiB"),
    ("JSON with much indentation", "{{ [[[[1] * 100] * 100] * 100] * 100 | tojson(100) }}", ""),
    ("JSON of escapes", "{{ ('\\x00' * 20000000) | tojson }}", "MiB"),
    ("escapes", "{{ ['\\x00' * 30000000] }}", "MiB"),
    ("a range as a list", "{{ range(10000000000) | list }}", "too many steps"),
    ("a range's sum", "{{ range(10000000000) | sum }}", "too many steps"),
    ("batches that are filled", "{{ [1] | batch(100000000000, 'x') | list }}", "MiB"),
    ("slices of nothing", "{{ [] | slice(100000000000) | list }}", "MiB"),
    ("a power", "{{ 10 ** 100000000000 }}", "too large"),
    (
        "a product",
        "{% set ns = namespace(x=2) %}{% for i in range(200) %}{% set ns.x = ns.x * ns.x %}{% endfor %}",
        "too large",
    ),
    ("a text split into letters", "{% set x = ('x' * 30000000) | list %}", "MiB"),
    (
        "slices of a long text",
        "{% set x = 'x' * 10000000 %}{% set l = [] %}{% for i in range(10000) %}{% do l.append(x[1:]) %}{% endfor %}",
        "MiB",
    ),
    (
        "searches in a long text",
        "{% set x = 'x' * 10000000 %}{% for i in range(100000) %}{{ 'y' in x }}{% endfor %}",
        "looks through",
    ),
    (
        "upper case of a long text",
        "{% set x = 'x' * 10000000 %}{% for i in range(10000) %}{% set y = x | upper %}{% endfor %}",
        "MiB",
    ),
    (
        "a mapping that grows",
        "{% set d = {} %}{% for i in range(1000000) %}{% do d.update({i: i}) %}{% endfor %}",
        "",
    ),
    (
        "a sort of copies",
        "{% set l = range(5000) | list %}{% for i in range(10000) %}{% set m = l | sort %}{% endfor %}",
        "",
    ),
    ("arguments", "{% macro m() %}{{ varargs }}{% endmacro %}{{ m(*(['x'] * 3000000)) }}", "MiB"),
];

#[test]
fn a_greedy_template_ends_with_an_error_at_its_line() {
    let mut wrong = Vec::new();
    for (what, template, message) in GREEDY {
        let text = format!("version: 1\n{template}\n");
        let result = resolve(&Source { name: "job.yml", text: &text }, &Variables::default());
        match result {
            Ok(_) => wrong.push(format!("{what}: is a job")),
            Err(error) => {
                if error.line() != Some(2) || !error.to_string().contains(message) {
                    wrong.push(format!("{what}: {error}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_template_of_any_shape_is_read_without_running_out_of_stack() {
    for (open, close) in [
        ("(", ")"),
        ("[", "]"),
        ("{1:", "}"),
        ("-", ""),
        ("not ", ""),
        ("x if ", " else 1"),
        ("a(", ")"),
        ("1+", ""),
        ("1~", ""),
        ("1<", ""),
        ("", ".a"),
        ("", "[0]"),
        ("", "()"),
        ("", "|d"),
        ("", " is defined"),
        ("'a' ", ""),
        ("1 if 1 else ", ""),
    ] {
        let text = format!("{{{{ {}1{} }}}}", open.repeat(100_000), close.repeat(100_000));
        let _ = resolve(&Source { name: "job.yml", text: &text }, &Variables::default());
    }
    for (open, close) in [
        ("{% if 1 %}", "{% endif %}"),
        ("{% for i in [1] %}", "{% endfor %}"),
        ("{% set x %}", "{% endset %}"),
        ("{% macro m() %}", "{% endmacro %}"),
        ("{% if 0 %}", ""),
        ("{% elif 0 %}", ""),
        ("{% set ((", ""),
    ] {
        let text = format!("{}{}", open.repeat(30_000), close.repeat(30_000));
        assert!(resolve(&Source { name: "job.yml", text: &text }, &Variables::default()).is_err());
    }
    let elif = format!("{{% if 0 %}}{}{{% endif %}}", "{% elif 0 %}".repeat(30_000));
    let _ = resolve(&Source { name: "job.yml", text: &elif }, &Variables::default());
}

/// Set for the process that the test below starts.
const CHILD: &str = "FARMGATE_TEST_GREEDY";

#[test]
fn a_greedy_template_takes_little_memory_and_time() {
    if let Ok(index) = std::env::var(CHILD) {
        let (_, template, _) = GREEDY[index.parse::<usize>().unwrap()];
        let text = format!("version: 1\n{template}\n");
        let start = Instant::now();
        let _ = resolve(&Source { name: "job.yml", text: &text }, &Variables::default());
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let peak = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap().trim().to_owned();
        println!("peak={} ms={}", peak.trim_end_matches(" kB"), start.elapsed().as_millis());
        return;
    }
    let mut told = Vec::new();
    for (index, (what, ..)) in GREEDY.iter().enumerate() {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_greedy_template_takes_little_memory_and_time", "--nocapture"])
            .env(CHILD, index.to_string())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let number = |name: &str| -> u64 {
            let at = text.find(name).unwrap_or_else(|| panic!("{what}: {text}")) + name.len();
            text[at..].chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap()
        };
        told.push((number("peak=") / 1024, Duration::from_millis(number("ms=")), what));
    }
    told.sort();
    for (peak, time, what) in told.iter().rev().take(5) {
        println!("{peak} MiB, {time:?}: {what}");
    }
    // The limit of time is generous: what counts is that each ends, and the machine may be busy.
    for (peak, time, what) in told {
        assert!(peak < 256, "{what}: {peak} MiB");
        assert!(time < Duration::from_secs(20), "{what}: {time:?}");
    }
}
