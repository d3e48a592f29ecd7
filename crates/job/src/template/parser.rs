//! Statements of a template: from tokens to a tree.
//!
//! Depth and size of the tree are bounded, so that whoever walks it needs no care.

use std::rc::Rc;

use farmgate_protocol::spelling;

use super::{
    ast::{Arguments, Expr, ExprKind, FilterCall, Loop, Macro, Program, Statement, StatementKind, Target},
    failure::{Failure, Kind, Outcome},
    lexer::{Lexer, Token},
};

/// Levels of blocks in each other.
const MAX_BLOCKS: usize = 50;
/// Levels of an expression.
const MAX_HEIGHT: u16 = 100;
/// Expressions and statements of a template.
const MAX_NODES: usize = 200_000;

const TAGS: [&str; 14] = [
    "for", "if", "set", "with", "macro", "call", "filter", "do", "break", "continue", "raw", "elif", "else",
    "endraw",
];

/// What a macro's body named.
#[derive(Default)]
struct Named {
    varargs: bool,
    kwargs: bool,
    caller: bool,
}

pub(crate) struct Parser<'a> {
    lexer: Lexer<'a>,
    pub(super) token: Token,
    pub(super) at: usize,
    ahead: Option<(Token, usize)>,
    program: Program,
    nodes: usize,
    blocks: usize,
    loops: usize,
    pub(super) depth: u16,
    /// One for each open macro.
    named: Vec<Named>,
}

/// The tree of a template.
///
/// # Errors
/// [`Kind::Syntax`] at the place of what is wrong.
pub(crate) fn parse(text: &str) -> Outcome<Program> {
    let mut parser = Parser {
        lexer: Lexer::new(text),
        token: Token::End,
        at: 0,
        ahead: None,
        program: Program::default(),
        nodes: 0,
        blocks: 0,
        loops: 0,
        depth: 0,
        named: Vec::new(),
    };
    parser.advance()?;
    let (body, _) = parser.body(0, "", &[])?;
    parser.program.body = body;
    Ok(parser.program)
}

impl Parser<'_> {
    /// Goes to the next token and answers the one that was here.
    pub(super) fn advance(&mut self) -> Outcome<Token> {
        let (token, at) = match self.ahead.take() {
            Some(next) => next,
            None => self.lexer.next()?,
        };
        self.at = at;
        Ok(std::mem::replace(&mut self.token, token))
    }

    /// The token after this one.
    pub(super) fn look_ahead(&mut self) -> Outcome<&Token> {
        if self.ahead.is_none() {
            self.ahead = Some(self.lexer.next()?);
        }
        Ok(self.ahead.as_ref().map_or(&Token::End, |(token, _)| token))
    }

    pub(super) fn is_sign(&self, sign: &str) -> bool {
        matches!(&self.token, Token::Sign(s) if *s == sign)
    }

    pub(super) fn is_name(&self, name: &str) -> bool {
        matches!(&self.token, Token::Name(n) if &**n == name)
    }

    pub(super) fn skip_sign(&mut self, sign: &str) -> Outcome<bool> {
        let here = self.is_sign(sign);
        if here {
            self.advance()?;
        }
        Ok(here)
    }

    pub(super) fn skip_name(&mut self, name: &str) -> Outcome<bool> {
        let here = self.is_name(name);
        if here {
            self.advance()?;
        }
        Ok(here)
    }

    pub(super) fn expect_sign(&mut self, sign: &str) -> Outcome<()> {
        if self.skip_sign(sign)? { Ok(()) } else { Err(self.unexpected(&format!("`{sign}`"))) }
    }

    pub(super) fn expect_name(&mut self) -> Outcome<Rc<str>> {
        match &self.token {
            Token::Name(name) => {
                let name = name.clone();
                self.advance()?;
                Ok(name)
            }
            _ => Err(self.unexpected("a name")),
        }
    }

    pub(super) fn unexpected(&self, expected: &str) -> Box<Failure> {
        Failure::syntax(self.at, format!("{} where {expected} is expected", self.token))
    }

    /// Counts one node of the tree.
    pub(super) fn count(&mut self) -> Outcome<()> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(Failure::limit("the template has too many tags").or_at(self.at));
        }
        Ok(())
    }

    /// A node of an expression above others whose highest has `below` levels.
    pub(super) fn expr(&mut self, at: usize, below: u16, kind: ExprKind) -> Outcome<Expr> {
        self.count()?;
        if below >= MAX_HEIGHT {
            return Err(Failure::syntax(at, format!("this expression has more than {MAX_HEIGHT} levels"))
                .helped("split it with {% set %}"));
        }
        Ok(Expr { at, height: below + 1, kind: Box::new(kind) })
    }

    /// One level deeper into an expression while `work` runs.
    pub(super) fn deeper<T>(&mut self, work: impl FnOnce(&mut Self) -> Outcome<T>) -> Outcome<T> {
        self.depth += 1;
        if self.depth > MAX_HEIGHT {
            return Err(Failure::syntax(
                self.at,
                format!("this expression has more than {MAX_HEIGHT} levels"),
            )
            .helped("split it with {% set %}"));
        }
        let done = work(self);
        self.depth -= 1;
        done
    }

    pub(super) fn saw_name(&mut self, name: &str) {
        for named in &mut self.named {
            match name {
                "varargs" => named.varargs = true,
                "kwargs" => named.kwargs = true,
                "caller" => named.caller = true,
                _ => {}
            }
        }
    }

    /// Statements up to a tag that is named in `ends`; answers which. Its name is skipped, its end is not.
    /// `open`: offset and name of the tag that these statements belong to.
    fn body(
        &mut self,
        open: usize,
        tag: &str,
        ends: &[&'static str],
    ) -> Outcome<(Vec<Statement>, &'static str)> {
        self.blocks += 1;
        if self.blocks > MAX_BLOCKS {
            return Err(Failure::syntax(open, format!("more than {MAX_BLOCKS} blocks in each other")));
        }
        let mut body = Vec::new();
        loop {
            let at = self.at;
            match &self.token {
                Token::End if ends.is_empty() => break,
                Token::End => {
                    let end = ends.last().copied().unwrap_or_default();
                    return Err(Failure::syntax(open, format!("this `{tag}` has no end"))
                        .helped(format!("close it with {{% {end} %}}")));
                }
                Token::Text(range) => {
                    let range = range.clone();
                    self.count()?;
                    self.advance()?;
                    body.push(Statement { at, kind: StatementKind::Text(range) });
                }
                Token::PrintStart => {
                    self.count()?;
                    self.advance()?;
                    let value = self.tuple(true, false)?;
                    if self.token != Token::PrintEnd {
                        return Err(self.unexpected("`}}`"));
                    }
                    self.advance()?;
                    body.push(Statement { at, kind: StatementKind::Print(value) });
                }
                Token::BlockStart => {
                    self.count()?;
                    self.advance()?;
                    if let Some(end) = ends.iter().find(|end| self.is_name(end)) {
                        self.advance()?;
                        self.blocks -= 1;
                        return Ok((body, end));
                    }
                    if let Some(kind) = self.statement(at, tag, ends)? {
                        body.push(Statement { at, kind });
                    }
                    self.block_end()?;
                }
                _ => return Err(self.unexpected("text or a tag")),
            }
        }
        self.blocks -= 1;
        Ok((body, ""))
    }

    fn block_end(&mut self) -> Outcome<()> {
        if self.token != Token::BlockEnd {
            return Err(self.unexpected("`%}`"));
        }
        self.advance().map(|_| ())
    }

    /// The body of a tag from its `%}` to the tag that ends it, whose `%}` is left.
    fn block(&mut self, at: usize, tag: &str, end: &'static str) -> Outcome<Vec<Statement>> {
        self.block_end()?;
        Ok(self.body(at, tag, &[end])?.0)
    }

    fn statement(&mut self, at: usize, open: &str, ends: &[&'static str]) -> Outcome<Option<StatementKind>> {
        let Token::Name(name) = self.token.clone() else { return Err(self.unexpected("the name of a tag")) };
        let kind = match &*name {
            "if" => self.if_()?,
            "for" => self.for_(at)?,
            "set" => self.set(at)?,
            "with" => self.with(at)?,
            "macro" => {
                self.advance()?;
                let name = self.expect_name()?;
                let index = self.macro_(at, name, "macro", "endmacro")?;
                StatementKind::Macro(index)
            }
            "call" => self.call(at)?,
            "filter" => {
                self.advance()?;
                let filters = self.filter_chain()?;
                StatementKind::FilterBlock { filters, body: self.block(at, "filter", "endfilter")? }
            }
            "do" => {
                self.advance()?;
                StatementKind::Do(self.tuple(true, false)?)
            }
            "break" | "continue" if self.loops > 0 => {
                self.advance()?;
                if &*name == "break" { StatementKind::Break } else { StatementKind::Continue }
            }
            "include" | "import" | "from" | "extends" | "block" => {
                return Err(Failure::syntax(at, format!("`{name}` is not available: a job is one file"))
                    .helped("write its content here; macros can be defined in the job itself"));
            }
            _ => return Err(self.unknown_tag(at, &name, open, ends)),
        };
        Ok(Some(kind))
    }

    fn unknown_tag(&self, at: usize, name: &str, open: &str, ends: &[&'static str]) -> Box<Failure> {
        let failure = Failure::syntax(at, format!("`{}` is no tag that may stand here", name));
        if !ends.is_empty() && (name.starts_with("end") || matches!(name, "else" | "elif")) {
            return failure.helped(format!(
                "the innermost open tag is `{open}`: it wants {{% {} %}}",
                ends.join(" or ")
            ));
        }
        match spelling::nearest(name, TAGS).first() {
            Some(meant) => failure.helped(format!("did you mean `{meant}`?")),
            None => failure.helped(format!("tags: {}", TAGS.join(", "))),
        }
    }

    fn if_(&mut self) -> Outcome<StatementKind> {
        let mut branches = Vec::new();
        loop {
            let at = self.at;
            self.advance()?;
            if self.token == Token::BlockEnd {
                return Err(Failure::syntax(at, "this `if` has no condition"));
            }
            let test = self.tuple(false, false)?;
            self.block_end()?;
            let (body, end) = self.body(at, "if", &["elif", "else", "endif"])?;
            branches.push((test, body));
            match end {
                // The body skipped the name: go on as if it stood here, which the next turn skips.
                "elif" => {
                    self.ahead =
                        Some((std::mem::replace(&mut self.token, Token::Name("elif".into())), self.at));
                }
                "else" => {
                    let otherwise = self.block(at, "if", "endif")?;
                    return Ok(StatementKind::If { branches, otherwise });
                }
                _ => return Ok(StatementKind::If { branches, otherwise: Vec::new() }),
            }
        }
    }

    fn for_(&mut self, at: usize) -> Outcome<StatementKind> {
        self.advance()?;
        let target = self.target(false)?;
        if !self.skip_name("in")? {
            return Err(self.unexpected("`in`"));
        }
        let items = self.tuple(false, true)?;
        let filter = if self.skip_name("if")? { Some(self.expression()?) } else { None };
        let recursive = self.skip_name("recursive")?;
        self.block_end()?;
        self.loops += 1;
        let (body, end) = self.body(at, "for", &["else", "endfor"])?;
        self.loops -= 1;
        let otherwise = if end == "else" { self.block(at, "for", "endfor")? } else { Vec::new() };
        self.program.loops.push(Loop { at, target, items, filter, recursive, body, otherwise });
        Ok(StatementKind::For(self.program.loops.len() - 1))
    }

    fn set(&mut self, at: usize) -> Outcome<StatementKind> {
        self.advance()?;
        let target = self.target(true)?;
        if self.skip_sign("=")? {
            let value = self.tuple(true, false)?;
            return Ok(StatementKind::Set { target, value });
        }
        let filters = if self.skip_sign("|")? { self.filter_chain()? } else { Vec::new() };
        Ok(StatementKind::SetBlock { target, filters, body: self.block(at, "set", "endset")? })
    }

    fn with(&mut self, at: usize) -> Outcome<StatementKind> {
        self.advance()?;
        let mut bindings = Vec::new();
        while self.token != Token::BlockEnd {
            if !bindings.is_empty() {
                self.expect_sign(",")?;
            }
            let target = self.target_without_tuple(false)?;
            self.expect_sign("=")?;
            bindings.push((target, self.expression()?));
        }
        Ok(StatementKind::With { bindings, body: self.block(at, "with", "endwith")? })
    }

    fn call(&mut self, at: usize) -> Outcome<StatementKind> {
        self.advance()?;
        let parameters = if self.is_sign("(") { self.signature()? } else { Vec::new() };
        let call = self.expression()?;
        if !matches!(*call.kind, ExprKind::Call(..)) {
            return Err(Failure::syntax(call.at, "`call` wants a call of a macro: {% call name() %}"));
        }
        let body = self.macro_body(at, "caller".into(), parameters, "call", "endcall")?;
        Ok(StatementKind::Call { call, body })
    }

    fn macro_(&mut self, at: usize, name: Rc<str>, tag: &str, end: &'static str) -> Outcome<usize> {
        let parameters = self.signature()?;
        self.macro_body(at, name, parameters, tag, end)
    }

    fn macro_body(
        &mut self,
        at: usize,
        name: Rc<str>,
        parameters: Vec<(Rc<str>, Option<Expr>)>,
        tag: &str,
        end: &'static str,
    ) -> Outcome<usize> {
        let loops = std::mem::take(&mut self.loops);
        self.named.push(Named::default());
        let body = self.block(at, tag, end)?;
        let named = self.named.pop().unwrap_or_default();
        self.loops = loops;
        self.program.macros.push(Macro {
            name,
            parameters,
            body,
            takes_varargs: named.varargs,
            takes_kwargs: named.kwargs,
            takes_caller: named.caller,
        });
        Ok(self.program.macros.len() - 1)
    }

    fn signature(&mut self) -> Outcome<Vec<(Rc<str>, Option<Expr>)>> {
        self.expect_sign("(")?;
        let mut parameters: Vec<(Rc<str>, Option<Expr>)> = Vec::new();
        while !self.is_sign(")") {
            if !parameters.is_empty() {
                self.expect_sign(",")?;
            }
            let at = self.at;
            let name = self.expect_name()?;
            let default = if self.skip_sign("=")? { Some(self.expression()?) } else { None };
            if default.is_none() && parameters.last().is_some_and(|(_, d)| d.is_some()) {
                return Err(Failure::syntax(at, "a parameter without default follows one with a default"));
            }
            parameters.push((name, default));
        }
        self.advance()?;
        Ok(parameters)
    }

    /// What a `for` or `set` assigns to: a name, or several with commas.
    fn target(&mut self, attributes: bool) -> Outcome<Target> {
        let first = self.target_without_tuple(attributes)?;
        if !self.is_sign(",") {
            return Ok(first);
        }
        let mut all = vec![first];
        while self.skip_sign(",")? {
            if self.is_name("in") || self.is_sign("=") || self.is_sign(")") || self.token == Token::BlockEnd {
                break;
            }
            all.push(self.target_without_tuple(attributes)?);
        }
        Ok(Target::Tuple(all))
    }

    fn target_without_tuple(&mut self, attributes: bool) -> Outcome<Target> {
        if self.skip_sign("(")? {
            let inner = self.deeper(|p| p.target(attributes))?;
            self.expect_sign(")")?;
            return Ok(inner);
        }
        let at = self.at;
        let name = self.expect_name()?;
        if matches!(&*name, "true" | "false" | "none" | "True" | "False" | "None") {
            return Err(Failure::syntax(at, format!("`{name}` cannot be assigned to")));
        }
        if attributes && self.skip_sign(".")? {
            return Ok(Target::Attribute(name, self.expect_name()?));
        }
        self.saw_name(&name);
        Ok(Target::Name(name))
    }

    /// `name(arguments) | name ...`, the first without its bar.
    fn filter_chain(&mut self) -> Outcome<Vec<FilterCall>> {
        let mut all = vec![self.filter_call()?];
        while self.skip_sign("|")? {
            all.push(self.filter_call()?);
        }
        Ok(all)
    }

    pub(super) fn filter_call(&mut self) -> Outcome<FilterCall> {
        let at = self.at;
        let name = self.expect_name()?;
        if let Err(failure) = super::filters::known(&name) {
            return Err(failure.or_at(at));
        }
        let arguments = if self.is_sign("(") { self.arguments()? } else { Arguments::default() };
        Ok(FilterCall { at, name, arguments })
    }
}

/// A name that is not in a list, with the one that was perhaps meant.
pub(super) fn unknown(what: &str, name: &str, known: &[&'static str]) -> Box<Failure> {
    let failure = Failure::new(Kind::Syntax, format!("there is no {what} `{name}`"));
    match spelling::nearest(name, known.iter().copied()).first() {
        Some(meant) => failure.helped(format!("did you mean `{meant}`?")),
        None => failure,
    }
}
