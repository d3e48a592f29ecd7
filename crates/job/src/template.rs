//! The first layer of a job: a Jinja2 template.
//!
//! Rendering is bounded (size of the text, steps, memory, size of the output), reads nothing but the variables it is
//! given, and never escapes: the output is YAML or a file for a machine, not a web page. The engine is our own,
//! because three things are wanted that no other gives together: every byte of the output knows where it comes from,
//! what a template makes is counted before it is made, and values print and compare as Python's do.

mod ast;
mod engine;
mod evaluate;
mod expressions;
mod failure;
mod filters;
#[cfg(test)]
mod jinja2_table;
mod lexer;
mod meter;
mod methods;
mod operators;
mod parser;
mod percent;
mod show;
mod tests;
mod value;

use crate::{
    JobError, Source, Variables,
    error::{Place, Problem},
    places::{Body, LineMap},
};

use self::{
    engine::Undefined,
    failure::{Failure, Kind},
};
pub(crate) use self::{
    engine::{Engine, Segment},
    failure::Outcome,
    value::{Dict, Value},
};

/// The longest job that is read, bytes.
pub const MAX_SOURCE: usize = 1 << 20;

/// The longest text that a template may make, bytes.
pub const MAX_RENDERED: usize = 8 << 20;

/// Bytes of stack of the thread that renders; only what is used is ever mapped. The levels of a template, its blocks
/// and its macros are bounded; this is several times what they need in a build without optimisation.
const STACK: usize = 256 << 20;

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

/// What a template made, and where each piece of it comes from.
#[derive(Debug)]
pub(crate) struct Rendered {
    pub(crate) text: String,
    pub(crate) map: LineMap,
}

impl Rendered {
    /// A text that is no template.
    #[cfg(test)]
    pub(crate) fn literal(text: &str) -> Self {
        Self { text: text.to_owned(), map: LineMap::literal(&Body::new(text, 0)) }
    }
}

pub(crate) fn render(source: &Source<'_>, variables: &Variables, pass: Pass) -> Result<Rendered, JobError> {
    if source.text.len() > MAX_SOURCE {
        let text = format!("the job has {} bytes: the most is {MAX_SOURCE}", source.text.len());
        return Err(JobError::without_place(source.name, text));
    }
    let mark = if source.text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    let (strict, start) = strict_line(&source.text[mark..]);
    let mut body = Body::new(source.text, mark + start);
    // As in Jinja2 one newline at the very end is not part of the template.
    if body.text.ends_with('\n') {
        body.text.pop();
    }
    if !is_template(&body.text) {
        return Ok(Rendered { map: LineMap::literal(&body), text: body.text });
    }
    let undefined = match (pass, strict) {
        (Pass::Lenient, _) => Undefined::Lenient,
        (Pass::Full, false) => Undefined::Chain,
        (Pass::Full, true) => Undefined::Strict,
    };
    on_large_stack(source.name, || {
        let (text, segments) = run(&body.text, variables, None, undefined)
            .map_err(|failure| JobError::one(explain(source.name, source.text, &body, *failure)))?;
        Ok(Rendered { text, map: LineMap::new(&body, segments) })
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
    let (strict, start) = strict_line(data);
    let body = Body::new(data, start);
    if !is_template(&body.text) {
        return Ok(body.text);
    }
    if data.len() > MAX_SOURCE {
        let text = format!("the template has {} bytes: the most is {MAX_SOURCE}", data.len());
        return if strict { Err(JobError::without_place(name, text)) } else { Ok(data.to_owned()) };
    }
    let undefined = if strict { Undefined::Strict } else { Undefined::Chain };
    on_large_stack(name, || match run(&body.text, variables, Some(cmdline), undefined) {
        Ok((text, _)) => Ok(text),
        Err(failure) if strict || failure.kind == Kind::NotYet => {
            Err(JobError::one(explain(name, data, &body, *failure)))
        }
        Err(_) => Ok(data.to_owned()),
    })
}

/// Whether there is anything to render.
fn is_template(text: &str) -> bool {
    ["{{", "{%", "{#"].iter().any(|tag| text.contains(tag))
}

/// Whether the first line asks for strictness, and the offset of the text behind it.
fn strict_line(text: &str) -> (bool, usize) {
    let first = text.split_inclusive('\n').next().unwrap_or_default();
    if first.trim_end() == STRICT_LINE { (true, first.len()) } else { (false, 0) }
}

fn run(
    text: &str,
    variables: &Variables,
    cmdline: Option<&str>,
    undefined: Undefined,
) -> Result<(String, Vec<Segment>), Box<Failure>> {
    let program = parser::parse(text)?;
    let mut engine = Engine::new(text, &program, undefined);
    variables.define_in(&mut engine, cmdline)?;
    engine.run()
}

/// Renders where no template can run out of stack. A panic of the engine ends only its own thread.
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

/// A failure of the engine for the person who wrote the template.
fn explain(file: &str, source: &str, body: &Body, failure: Failure) -> Problem {
    let place: Option<Place> = failure.at.map(|at| body.place(source, at));
    if failure.kind == Kind::NotYet {
        let mut problem = Problem::new(file, place, format!("`{}` is not supported yet", failure.message))
            .shown_in(source)
            .help("this gateway cannot fill it; the job is refused rather than given an empty text");
        problem.unsupported = true;
        return problem;
    }
    let (message, help) = match failure.kind {
        Kind::Undefined => (
            failure.message,
            "give it a value, or use `| default(...)`; a first line `#!jinja2` makes every such variable an error",
        ),
        Kind::Syntax => (
            format!("the template is wrong: {}", failure.message),
            "the file is a Jinja2 template first: write {% raw %} ... {% endraw %} around literal `{{`, `{%` and `{#`",
        ),
        Kind::Limit => (failure.message, "a job's template should be small"),
        _ => (format!("the template fails: {}", failure.message), "see the line shown"),
    };
    let help = failure.help.unwrap_or_else(|| help.to_owned());
    Problem::new(file, place, message).shown_in(source).help(help)
}
