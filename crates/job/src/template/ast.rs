//! A template as a tree. Offsets are bytes of the template's text.

use std::{ops::Range, rc::Rc};

/// A whole template. Macros and loops stand in tables, so that values can name them.
#[derive(Debug, Default)]
pub(crate) struct Program {
    pub(crate) body: Vec<Statement>,
    pub(crate) macros: Vec<Macro>,
    pub(crate) loops: Vec<Loop>,
}

/// A piece of text or a tag.
#[derive(Debug)]
pub(crate) struct Statement {
    /// Of the text's first byte, or of the tag's `{`.
    pub(crate) at: usize,
    pub(crate) kind: StatementKind,
}

#[derive(Debug)]
pub(crate) enum StatementKind {
    Text(Range<usize>),
    Print(Expr),
    If {
        branches: Vec<(Expr, Vec<Statement>)>,
        otherwise: Vec<Statement>,
    },
    /// Index of the loop.
    For(usize),
    Set {
        target: Target,
        value: Expr,
    },
    SetBlock {
        target: Target,
        filters: Vec<FilterCall>,
        body: Vec<Statement>,
    },
    With {
        bindings: Vec<(Target, Expr)>,
        body: Vec<Statement>,
    },
    /// Index of the macro, which gets its name here.
    Macro(usize),
    /// A call with a body, which is a macro without a name.
    Call {
        call: Expr,
        body: usize,
    },
    FilterBlock {
        filters: Vec<FilterCall>,
        body: Vec<Statement>,
    },
    Do(Expr),
    Break,
    Continue,
}

#[derive(Debug)]
pub(crate) struct Loop {
    pub(crate) at: usize,
    pub(crate) target: Target,
    pub(crate) items: Expr,
    pub(crate) filter: Option<Expr>,
    pub(crate) recursive: bool,
    pub(crate) body: Vec<Statement>,
    pub(crate) otherwise: Vec<Statement>,
}

#[derive(Debug, Default)]
pub(crate) struct Macro {
    pub(crate) name: Rc<str>,
    /// Parameters, with their defaults.
    pub(crate) parameters: Vec<(Rc<str>, Option<Expr>)>,
    pub(crate) body: Vec<Statement>,
    /// The body names `varargs`, `kwargs`, `caller`: only then it takes what they stand for.
    pub(crate) takes_varargs: bool,
    pub(crate) takes_kwargs: bool,
    pub(crate) takes_caller: bool,
}

/// What can be assigned to.
#[derive(Debug)]
pub(crate) enum Target {
    Name(Rc<str>),
    /// An attribute of a namespace.
    Attribute(Rc<str>, Rc<str>),
    Tuple(Vec<Target>),
}

#[derive(Debug)]
pub(crate) struct FilterCall {
    pub(crate) at: usize,
    pub(crate) name: Rc<str>,
    pub(crate) arguments: Arguments,
}

/// Arguments of a call as they are written.
#[derive(Debug, Default)]
pub(crate) struct Arguments {
    pub(crate) positional: Vec<Expr>,
    pub(crate) named: Vec<(Rc<str>, Expr)>,
    /// `*list` and `**mapping`.
    pub(crate) rest: Option<Box<(Option<Expr>, Option<Expr>)>>,
}

#[derive(Debug)]
pub(crate) struct Expr {
    pub(crate) at: usize,
    /// Levels of expressions below and including this one.
    pub(crate) height: u16,
    pub(crate) kind: Box<ExprKind>,
}

#[derive(Debug)]
pub(crate) enum ExprKind {
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(Rc<str>),
    Name(Rc<str>),
    List(Vec<Expr>),
    Tuple(Vec<Expr>),
    Dict(Vec<(Expr, Expr)>),
    Negative(Expr),
    Positive(Expr),
    Not(Expr),
    And(Vec<Expr>),
    Or(Vec<Expr>),
    Binary(Operator, Expr, Expr),
    Concat(Vec<Expr>),
    Compare(Expr, Vec<(Comparison, Expr)>),
    Conditional { test: Expr, then: Expr, otherwise: Option<Expr> },
    Filter(Expr, FilterCall),
    Test { value: Expr, name: Rc<str>, arguments: Arguments, negated: bool },
    Attribute(Expr, Rc<str>),
    Item(Expr, Expr),
    Slice(Expr, [Option<Expr>; 3]),
    Call(Expr, Arguments),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    FloorDivide,
    Modulo,
    Power,
}

impl Operator {
    pub(crate) fn symbol(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::FloorDivide => "//",
            Self::Modulo => "%",
            Self::Power => "**",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
    NotIn,
}

impl Comparison {
    pub(crate) fn symbol(self) -> &'static str {
        match self {
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::In => "in",
            Self::NotIn => "not in",
        }
    }
}
