//! Why a template cannot be rendered, with the place of the text that cannot.

/// What kind of failure; it decides what a person is told to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The text is no template.
    Syntax,
    /// A variable that is not there, where that matters.
    Undefined,
    /// A bound on steps, sizes or depth.
    Limit,
    /// A name of the language that this gateway cannot fill.
    NotYet,
    /// Everything else: a wrong type, an argument that is missing.
    Meaning,
}

/// One failure. It ends the rendering.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) kind: Kind,
    /// One sentence; for [`Kind::NotYet`] the name alone.
    pub(crate) message: String,
    /// What to write instead, where that is known.
    pub(crate) help: Option<String>,
    /// Offset in the text of the template; whoever evaluates the innermost expression fills it in.
    pub(crate) at: Option<usize>,
}

/// The result of every step. Boxed, because failures are rare and values are many.
pub(crate) type Outcome<T> = Result<T, Box<Failure>>;

impl Failure {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Box<Self> {
        Box::new(Self { kind, message: message.into(), help: None, at: None })
    }

    /// A wrong type or argument.
    pub(crate) fn meaning(message: impl Into<String>) -> Box<Self> {
        Self::new(Kind::Meaning, message)
    }

    /// Something is too large or takes too long.
    pub(crate) fn limit(message: impl Into<String>) -> Box<Self> {
        Self::new(Kind::Limit, message)
    }

    /// The text is no template, from this offset on.
    pub(crate) fn syntax(at: usize, message: impl Into<String>) -> Box<Self> {
        Self::new(Kind::Syntax, message).or_at(at)
    }

    /// The same with what to write instead.
    pub(crate) fn helped(mut self: Box<Self>, help: impl Into<String>) -> Box<Self> {
        self.help = Some(help.into());
        self
    }

    /// The same at this place, unless a more exact one is known.
    pub(crate) fn or_at(mut self: Box<Self>, at: usize) -> Box<Self> {
        self.at.get_or_insert(at);
        self
    }
}
