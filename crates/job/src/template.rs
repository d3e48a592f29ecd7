//! The first layer of a job: a Jinja2 template.
//!
//! Rendering is bounded (size of the text, steps of the engine, size of the output), reads nothing but the
//! variables it is given, and never escapes: the output is YAML or a file for a machine, not a web page.

use std::io;

use minijinja::{
    AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior, Value,
    value::{Kwargs, ValueKind},
};

use crate::{
    JobError, Source, Variables,
    error::{Place, Problem},
    variables::{NOT_YET_PREFIX, job_for_data},
};

/// The longest job that is read, bytes.
pub const MAX_SOURCE: usize = 1 << 20;

/// The longest text that a template may make, bytes.
pub const MAX_RENDERED: usize = 8 << 20;

/// Steps of the engine. A job of some hundred lines takes some thousand.
const FUEL: u64 = 200_000;

/// Bytes of stack of the thread that renders; only what is used is ever mapped. A template can nest a value one level
/// deeper with each step, and the engine prints, compares and frees values by recursion: this is enough for [`FUEL`]
/// levels, so that no template ends the process.
const STACK: usize = 512 << 20;

/// Levels of a value that is written as JSON.
const MAX_DEPTH: usize = 100;

/// The first line that makes undefined variables an error.
const STRICT_LINE: &str = "#!jinja2";

/// Which of the two renderings of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pass {
    /// The machine is not known: nothing that is missing is an error.
    Lenient,
    /// Against the chosen machine.
    Full,
}

/// What a template made.
#[derive(Debug)]
pub(crate) struct Rendered {
    pub(crate) text: String,
    /// There was nothing to render: lines and columns are those of the source.
    pub(crate) literal: bool,
}

pub(crate) fn render(source: &Source<'_>, variables: &Variables, pass: Pass) -> Result<Rendered, JobError> {
    if source.text.len() > MAX_SOURCE {
        let text = format!("the job has {} bytes: the most is {MAX_SOURCE}", source.text.len());
        return Err(JobError::without_place(source.name, text));
    }
    let text = source.text.strip_prefix('\u{feff}').unwrap_or(source.text);
    let (strict, body) = split_strict_line(text);
    // An empty line stands for the one that was removed, so that line numbers stay.
    let body = if strict { format!("\n{body}") } else { body.to_owned() };
    if !["{{", "{%", "{#"].iter().any(|tag| body.contains(tag)) {
        let text = body.strip_suffix('\n').unwrap_or(&body).to_owned();
        return Ok(Rendered { text, literal: true });
    }
    on_large_stack(source.name, || {
        let mut env = environment(strict && pass == Pass::Full, false);
        if pass == Pass::Lenient {
            env.set_unknown_method_callback(|state, value, method, args| {
                if value.is_undefined() {
                    return Ok(Value::UNDEFINED);
                }
                minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args)
            });
        }
        let text = run(&env, &body, variables.context(None))
            .map_err(|error| JobError::one(explain(source.name, source.text, &body, &error)))?;
        Ok(Rendered { text, literal: false })
    })
}

/// Renders the `data` of an artifact, when it is served.
///
/// It sees what the job saw and `job.deployment.kernel.cmdline`. Its last newline is kept. With a first line
/// `#!jinja2` (which is removed) every error is one; without, a text that fails to render is served as it is.
///
/// # Errors
/// The text is strict and cannot be rendered, or uses what is not supported yet: that is never served half made.
pub fn render_data(name: &str, data: &str, variables: &Variables, cmdline: &str) -> Result<String, JobError> {
    let (strict, body) = split_strict_line(data);
    on_large_stack(name, || {
        let env = environment(strict, true);
        match run(&env, body, variables.context(Some(job_for_data(cmdline)))) {
            Ok(text) => Ok(text),
            Err(error) => {
                let problem = explain(name, body, body, &error);
                if strict || problem.unsupported { Err(JobError::one(problem)) } else { Ok(data.to_owned()) }
            }
        }
    })
}

/// Runs the engine where it cannot run out of stack. A panic of the engine ends only its own thread.
fn on_large_stack<T: Send>(
    file: &str,
    work: impl FnOnce() -> Result<T, JobError> + Send,
) -> Result<T, JobError> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("template".to_owned()).stack_size(STACK);
        match thread.spawn_scoped(scope, work) {
            Ok(handle) => handle.join().unwrap_or_else(|_| {
                Err(JobError::without_place(
                    file,
                    "the template engine failed on this text: a fault of the gateway",
                ))
            }),
            Err(error) => Err(JobError::without_place(
                file,
                format!("there is no memory to render the template: {error}"),
            )),
        }
    })
}

/// Whether the first line asks for strictness, and the text without it.
fn split_strict_line(text: &str) -> (bool, &str) {
    let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
    if first.trim_end() == STRICT_LINE { (true, rest) } else { (false, text) }
}

fn environment<'a>(strict: bool, keep_last_newline: bool) -> Environment<'a> {
    let mut env = Environment::new();
    minijinja_contrib::add_to_environment(&mut env);
    env.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    env.set_auto_escape_callback(|_| AutoEscape::None);
    env.add_filter("tojson", |value: &Value, indent: Option<Value>, named: Kwargs| {
        minijinja::filters::tojson(&with_sorted_keys(value, MAX_DEPTH)?, indent, named)
    });
    env.set_undefined_behavior(if strict { UndefinedBehavior::Strict } else { UndefinedBehavior::Chainable });
    env.set_fuel(Some(FUEL));
    env.set_recursion_limit(100);
    if keep_last_newline
        && let Ok(syntax) = minijinja::syntax::SyntaxConfig::builder().keep_trailing_newline(true).build()
    {
        env.set_syntax(syntax);
    }
    env
}

/// Jinja2 writes JSON with its keys in order. `depth`: how many levels there may still be.
fn with_sorted_keys(value: &Value, depth: usize) -> Result<Value, Error> {
    let kind = value.kind();
    if !matches!(kind, ValueKind::Map | ValueKind::Seq | ValueKind::Iterable) {
        return Ok(value.clone());
    }
    let Some(depth) = depth.checked_sub(1) else {
        return Err(Error::new(ErrorKind::InvalidOperation, "a value for JSON is nested too deeply"));
    };
    let items = value.try_iter()?;
    if kind != ValueKind::Map {
        let items: Result<Vec<Value>, Error> = items.map(|item| with_sorted_keys(&item, depth)).collect();
        return items.map(Value::from);
    }
    let mut keys: Vec<Value> = items.collect();
    keys.sort_by_key(ToString::to_string);
    let mut entries = Vec::with_capacity(keys.len());
    for key in keys {
        let inner = with_sorted_keys(&value.get_item(&key)?, depth)?;
        entries.push((key, inner));
    }
    Ok(Value::from_pairs(entries))
}

fn run(env: &Environment<'_>, body: &str, context: Value) -> Result<String, Error> {
    let template = env.template_from_str(body)?;
    let mut output = Bounded(Vec::new());
    template.render_captured_to(context, &mut output)?;
    String::from_utf8(output.0)
        .map_err(|_| Error::new(ErrorKind::WriteFailure, "the template made text that is not UTF-8"))
}

/// Takes output up to [`MAX_RENDERED`].
struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        if self.0.len() + piece.len() > MAX_RENDERED {
            return Err(io::Error::other("the template makes more than 8 MiB"));
        }
        self.0.extend_from_slice(piece);
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An error of the engine in our words, with its place.
fn explain(file: &str, source: &str, body: &str, error: &Error) -> Problem {
    let mut cause = error;
    // An error inside of a filter or a macro wraps the one that tells more.
    while let Some(inner) = std::error::Error::source(cause).and_then(|e| e.downcast_ref::<Error>()) {
        cause = inner;
    }
    let place = [error, cause].into_iter().find_map(|e| {
        let line = e.line()?;
        let column = e.range().and_then(|r| column_of(body, r.start)).unwrap_or(1);
        Some(Place { line, column })
    });
    let detail = cause.detail().unwrap_or_default();
    if let Some(name) = detail.strip_prefix(NOT_YET_PREFIX) {
        let mut problem = Problem::new(file, place, format!("`{name}` is not supported yet"))
            .shown_in(source)
            .help("this gateway cannot fill it; the job is refused rather than given an empty text");
        problem.unsupported = true;
        return problem;
    }
    let (message, help) = match cause.kind() {
        ErrorKind::OutOfFuel => (
            "the template takes too many steps".to_owned(),
            "a loop runs over too much; a job's template should take some thousand steps",
        ),
        ErrorKind::UndefinedError => (
            format!("a variable is not defined{}", after(detail)),
            "remove the first line `#!jinja2` to make such variables empty, or use `| default(...)`",
        ),
        ErrorKind::SyntaxError => (
            format!("the template is wrong{}", after(detail)),
            "the file is a Jinja2 template first: write {% raw %} ... {% endraw %} around literal `{{`, `{%` and `{#`",
        ),
        kind => (format!("the template fails: {kind}{}", after(detail)), "see the line shown"),
    };
    Problem::new(file, place, message).shown_in(source).help(help)
}

fn after(detail: &str) -> String {
    if detail.is_empty() { String::new() } else { format!(": {detail}") }
}

/// Column of a byte offset in its line, in characters from 1.
fn column_of(text: &str, offset: usize) -> Option<usize> {
    let before = text.get(..offset)?;
    Some(before.rsplit('\n').next()?.chars().count() + 1)
}
