//! What is wrong with a job, told to the person who wrote it: place, snippet, remedy.
//!
//! A [`Report`] collects problems in terms of the rendered text and translates their places into the author's
//! own file. Whoever reads a part of the job reports and goes on, so that all problems appear at once.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Source, places, template::Rendered};

/// At most this many problems are told; more would help nobody.
const MAX_PROBLEMS: usize = 50;

/// At most this many characters of a line are shown.
const MAX_SNIPPET: usize = 160;

/// A place in a text; both count from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// Line.
    pub line: usize,
    /// Column.
    pub column: usize,
}

/// One thing that is wrong, or hardly meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Name of the job's file.
    pub file: String,
    /// Where in the author's file.
    pub place: Option<Place>,
    /// What is wrong, one sentence.
    pub message: String,
    /// What to write instead.
    pub help: Option<String>,
    /// The job is right, but this gateway cannot do it.
    pub unsupported: bool,
    /// The author's line, made fit to be shown.
    pub snippet: Option<String>,
    /// What the template made of it, where that differs.
    pub rendered: Option<String>,
    /// Line of the loop of the template that made the text, if one did.
    #[serde(default)]
    pub loop_line: Option<usize>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if let Some(place) = self.place {
            write!(f, ":{}:{}", place.line, place.column)?;
        }
        write!(f, ": {}", self.message)?;
        if let (Some(place), Some(snippet)) = (self.place, &self.snippet) {
            let number = place.line.to_string();
            let margin = " ".repeat(number.len());
            write!(f, "\n {number} | {snippet}")?;
            write!(f, "\n {margin} | {}^", " ".repeat(place.column.saturating_sub(1).min(MAX_SNIPPET)))?;
        }
        if let Some(rendered) = &self.rendered {
            write!(f, "\n   rendered as: {rendered}")?;
        }
        if let Some(line) = self.loop_line {
            write!(f, "\n   note: in the loop of line {line}")?;
        }
        if let Some(help) = &self.help {
            write!(f, "\n   help: {help}")?;
        }
        Ok(())
    }
}

/// Why a job was refused. Its display is the whole text for a person: one paragraph for each problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobError {
    problems: Vec<Problem>,
}

impl JobError {
    /// Everything that is wrong, in the order of the file; at least one.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Line of the first problem in the author's file, from 1.
    pub fn line(&self) -> Option<usize> {
        Some(self.problems.first()?.place?.line)
    }

    /// Column of the first problem, in characters from 1.
    pub fn column(&self) -> Option<usize> {
        Some(self.problems.first()?.place?.column)
    }

    /// The job is right, but asks for something that this gateway cannot do.
    pub fn is_unsupported(&self) -> bool {
        self.problems.iter().all(|p| p.unsupported)
    }

    pub(crate) fn one(problem: Problem) -> Self {
        Self { problems: vec![problem] }
    }

    pub(crate) fn without_place(file: &str, message: impl Into<String>) -> Self {
        Self::one(Problem::new(file, None, message.into()))
    }
}

impl fmt::Display for JobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.problems.iter().enumerate() {
            if n > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for JobError {}

impl Problem {
    pub(crate) fn new(file: &str, place: Option<Place>, message: String) -> Self {
        Self {
            file: file.to_owned(),
            place,
            message,
            help: None,
            unsupported: false,
            snippet: None,
            rendered: None,
            loop_line: None,
        }
    }

    /// The same with the line of the author's text.
    pub(crate) fn shown_in(mut self, text: &str) -> Self {
        self.snippet = self
            .place
            .and_then(|p| text.split('\n').nth(p.line.saturating_sub(1)))
            .map(|line| shorten(line, MAX_SNIPPET));
        self
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// A line as it can be shown: no control characters, not too long. Tabs become one blank, so that columns stay.
fn shorten(line: &str, most: usize) -> String {
    let clean = |c: char| {
        if c == '\t' {
            ' '
        } else if c.is_control() {
            '\u{fffd}'
        } else {
            c
        }
    };
    let line = line.trim_start_matches('\u{feff}').trim_end();
    let mut shown: String = line.chars().take(most).map(clean).collect();
    if line.chars().nth(most).is_some() {
        shown.push('…');
    }
    shown
}

/// A job that was read, and all that is to be said of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Checked<T> {
    /// What could be read. It may only be used where there are no `problems`.
    pub value: Option<T>,
    /// What is wrong, in the order of the file.
    pub problems: Vec<Problem>,
    /// What is right, but beyond this gateway: a job with one of these must not run.
    pub unsupported: Vec<Problem>,
    /// What is allowed, but hardly meant.
    pub warnings: Vec<Problem>,
}

impl<T> Checked<T> {
    /// What was read, if it is right and this gateway can do it, and the warnings.
    ///
    /// # Errors
    /// All problems, and everything that is not supported.
    pub fn accept(mut self, file: &str) -> Result<(T, Vec<Problem>), JobError> {
        self.problems.append(&mut self.unsupported);
        self.problems.sort_by_key(|p| p.place);
        match self.value {
            Some(value) if self.problems.is_empty() => Ok((value, self.warnings)),
            // Every reader that answers None has said why; this is for the day when one forgets.
            None if self.problems.is_empty() => Err(JobError::without_place(file, "the job is empty")),
            _ => Err(JobError { problems: self.problems }),
        }
    }

    /// The same without a value: what a fault of the template or of YAML's syntax leaves.
    pub(crate) fn failed(error: JobError) -> Self {
        let (unsupported, problems) = error.problems.into_iter().partition(|p| p.unsupported);
        Self { value: None, problems, unsupported, warnings: Vec::new() }
    }
}

fn push(list: &mut Vec<Problem>, problem: Problem) {
    if list.len() < MAX_PROBLEMS && !list.contains(&problem) {
        list.push(problem);
    }
}

/// Collects what is wrong with one rendering of a job.
pub(crate) struct Report<'a> {
    source: &'a Source<'a>,
    rendered: &'a Rendered,
    /// Places of the rendered text whose mappings and lists are not complete.
    cut_off: Vec<Place>,
    problems: Vec<Problem>,
    unsupported: Vec<Problem>,
    warnings: Vec<Problem>,
}

impl<'a> Report<'a> {
    pub(crate) fn new(source: &'a Source<'a>, rendered: &'a Rendered) -> Self {
        Self {
            source,
            rendered,
            cut_off: Vec::new(),
            problems: Vec::new(),
            unsupported: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// The text could not be read to its end: what is said from now on of these mappings and lists (that a field is
    /// missing) means nothing, and is not told.
    pub(crate) fn cut_off(&mut self, places: Vec<Place>) {
        self.cut_off = places;
    }

    /// Where a place of the rendered text is in the author's file.
    pub(crate) fn origin(&self, at: Place) -> Place {
        self.rendered.map.origin(self.source.text, &self.rendered.text, at).place
    }

    /// Something is wrong at a place of the rendered text.
    pub(crate) fn problem(&mut self, at: Place, message: impl Into<String>) {
        if self.cut_off.contains(&at) {
            return;
        }
        let problem = self.placed(at, message.into());
        self.push(problem);
    }

    /// The same, with what to write instead.
    pub(crate) fn problem_with_help(
        &mut self,
        at: Place,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        if self.cut_off.contains(&at) {
            return;
        }
        let problem = self.placed(at, message.into()).help(help);
        self.push(problem);
    }

    /// The job is right, but this gateway cannot do it.
    pub(crate) fn unsupported(&mut self, at: Place, what: &str) {
        let mut problem = self
            .placed(at, format!("`{what}` is not supported yet"))
            .help("this gateway cannot do it; the job is refused, because without it the job would mean something else");
        problem.unsupported = true;
        push(&mut self.unsupported, problem);
    }

    /// Something that is allowed, but hardly meant.
    pub(crate) fn warning(&mut self, at: Place, message: impl Into<String>) {
        if self.cut_off.contains(&at) {
            return;
        }
        let warning = self.placed(at, message.into());
        push(&mut self.warnings, warning);
    }

    /// How many reasons to refuse the job were found so far.
    pub(crate) fn count(&self) -> usize {
        self.problems.len() + self.unsupported.len()
    }

    /// Everything that was found, in the order of the file, with what could be read.
    pub(crate) fn finish<T>(self, value: Option<T>) -> Checked<T> {
        let sorted = |mut problems: Vec<Problem>| {
            problems.sort_by_key(|p| p.place);
            problems
        };
        Checked {
            value,
            problems: sorted(self.problems),
            unsupported: sorted(self.unsupported),
            warnings: sorted(self.warnings),
        }
    }

    fn push(&mut self, problem: Problem) {
        push(&mut self.problems, problem);
    }

    fn placed(&self, at: Place, message: String) -> Problem {
        let origin = self.rendered.map.origin(self.source.text, &self.rendered.text, at);
        let place = origin.place;
        let mut problem = Problem::new(self.source.name, Some(place), message).shown_in(self.source.text);
        problem.loop_line = origin.loop_line;
        let line = places::line_of(&self.rendered.text, at.line);
        let own = self.source.text.split('\n').nth(place.line.saturating_sub(1)).unwrap_or_default();
        if line.trim_end() != own.trim_start_matches('\u{feff}').trim_end() && !line.trim().is_empty() {
            problem.rendered = Some(shorten(line, MAX_SNIPPET));
        }
        problem
    }
}
