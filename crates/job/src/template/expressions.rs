//! Expressions of a template: from tokens to a tree, with Jinja2's precedence.

use std::rc::Rc;

use super::{
    ast::{Arguments, Comparison, Expr, ExprKind, Operator},
    failure::{Failure, Outcome},
    lexer::Token,
    parser::Parser,
};

fn highest<'a>(all: impl IntoIterator<Item = &'a Expr>) -> u16 {
    all.into_iter().map(|e| e.height).max().unwrap_or(0)
}

impl Arguments {
    fn height(&self) -> u16 {
        let rest = self.rest.iter().flat_map(|r| [&r.0, &r.1]).flatten();
        highest(self.positional.iter().chain(self.named.iter().map(|(_, e)| e)).chain(rest))
    }
}

impl Parser<'_> {
    /// An expression, or several with commas: a tuple. `before_recursive`: the word `recursive` ends it.
    pub(super) fn tuple(&mut self, conditional: bool, before_recursive: bool) -> Outcome<Expr> {
        let at = self.at;
        let one = |p: &mut Self| if conditional { p.expression() } else { p.deeper(Self::or) };
        let first = one(self)?;
        if !self.is_sign(",") {
            return Ok(first);
        }
        let mut all = vec![first];
        while self.skip_sign(",")? {
            let ends = matches!(self.token, Token::PrintEnd | Token::BlockEnd) || self.is_sign(")");
            if ends || (before_recursive && self.is_name("recursive")) {
                break;
            }
            all.push(one(self)?);
        }
        self.expr(at, highest(&all), ExprKind::Tuple(all))
    }

    pub(super) fn expression(&mut self) -> Outcome<Expr> {
        self.deeper(Self::conditional)
    }

    fn conditional(&mut self) -> Outcome<Expr> {
        let at = self.at;
        let mut then = self.or()?;
        while self.skip_name("if")? {
            let test = self.or()?;
            let otherwise = if self.skip_name("else")? { Some(self.expression()?) } else { None };
            let below = highest([&then, &test].into_iter().chain(&otherwise));
            then = self.expr(at, below, ExprKind::Conditional { test, then, otherwise })?;
        }
        Ok(then)
    }

    fn or(&mut self) -> Outcome<Expr> {
        let at = self.at;
        let mut all = vec![self.and()?];
        while self.skip_name("or")? {
            all.push(self.and()?);
        }
        self.single_or(at, all, ExprKind::Or)
    }

    fn and(&mut self) -> Outcome<Expr> {
        let at = self.at;
        let mut all = vec![self.not()?];
        while self.skip_name("and")? {
            all.push(self.not()?);
        }
        self.single_or(at, all, ExprKind::And)
    }

    fn single_or(&mut self, at: usize, mut all: Vec<Expr>, kind: fn(Vec<Expr>) -> ExprKind) -> Outcome<Expr> {
        match all.pop() {
            Some(only) if all.is_empty() => Ok(only),
            last => {
                all.extend(last);
                self.expr(at, highest(&all), kind(all))
            }
        }
    }

    fn not(&mut self) -> Outcome<Expr> {
        let at = self.at;
        if !self.skip_name("not")? {
            return self.compare();
        }
        let inner = self.deeper(Self::not)?;
        self.expr(at, inner.height, ExprKind::Not(inner))
    }

    fn compare(&mut self) -> Outcome<Expr> {
        let at = self.at;
        let first = self.sum()?;
        let mut rest = Vec::new();
        while let Some(comparison) = self.comparison()? {
            rest.push((comparison, self.sum()?));
        }
        if rest.is_empty() {
            return Ok(first);
        }
        let below = highest([&first].into_iter().chain(rest.iter().map(|(_, e)| e)));
        self.expr(at, below, ExprKind::Compare(first, rest))
    }

    /// A comparison, if one stands here; it is skipped.
    fn comparison(&mut self) -> Outcome<Option<Comparison>> {
        let found = match &self.token {
            Token::Sign("==") => Comparison::Equal,
            Token::Sign("!=") => Comparison::NotEqual,
            Token::Sign("<") => Comparison::Less,
            Token::Sign("<=") => Comparison::LessOrEqual,
            Token::Sign(">") => Comparison::Greater,
            Token::Sign(">=") => Comparison::GreaterOrEqual,
            Token::Name(name) if &**name == "in" => Comparison::In,
            Token::Name(name) if &**name == "not" => {
                if !matches!(self.look_ahead()?, Token::Name(next) if &**next == "in") {
                    return Ok(None);
                }
                self.advance()?;
                Comparison::NotIn
            }
            _ => return Ok(None),
        };
        self.advance()?;
        Ok(Some(found))
    }

    /// Operators of one precedence, from left to right.
    fn binary(
        &mut self,
        operators: &[(&str, Operator)],
        operand: fn(&mut Self) -> Outcome<Expr>,
    ) -> Outcome<Expr> {
        let at = self.at;
        let mut left = operand(self)?;
        while let Some((_, operator)) = operators.iter().find(|(sign, _)| self.is_sign(sign)) {
            self.advance()?;
            let right = operand(self)?;
            left = self.expr(at, left.height.max(right.height), ExprKind::Binary(*operator, left, right))?;
        }
        Ok(left)
    }

    fn sum(&mut self) -> Outcome<Expr> {
        self.binary(&[("+", Operator::Add), ("-", Operator::Subtract)], Self::concat)
    }

    fn concat(&mut self) -> Outcome<Expr> {
        let at = self.at;
        let mut all = vec![self.product()?];
        while self.skip_sign("~")? {
            all.push(self.product()?);
        }
        self.single_or(at, all, ExprKind::Concat)
    }

    fn product(&mut self) -> Outcome<Expr> {
        let operators = [
            ("*", Operator::Multiply),
            ("/", Operator::Divide),
            ("//", Operator::FloorDivide),
            ("%", Operator::Modulo),
        ];
        self.binary(&operators, Self::power)
    }

    fn power(&mut self) -> Outcome<Expr> {
        self.binary(&[("**", Operator::Power)], Self::unary)
    }

    fn unary(&mut self) -> Outcome<Expr> {
        let expr = self.unary_without_filters()?;
        self.filters(expr)
    }

    fn unary_without_filters(&mut self) -> Outcome<Expr> {
        let at = self.at;
        let kind: fn(Expr) -> ExprKind = match &self.token {
            Token::Sign("-") => ExprKind::Negative,
            Token::Sign("+") => ExprKind::Positive,
            _ => {
                let primary = self.primary()?;
                return self.postfix(primary);
            }
        };
        self.advance()?;
        let inner = self.deeper(Self::unary_without_filters)?;
        let expr = self.expr(at, inner.height, kind(inner))?;
        self.postfix(expr)
    }

    fn primary(&mut self) -> Outcome<Expr> {
        let at = self.at;
        let kind = match self.token.clone() {
            Token::Name(name) => {
                self.advance()?;
                match &*name {
                    "true" | "True" => ExprKind::Bool(true),
                    "false" | "False" => ExprKind::Bool(false),
                    "none" | "None" => ExprKind::None,
                    _ => {
                        self.saw_name(&name);
                        ExprKind::Name(name)
                    }
                }
            }
            Token::Str(first) => {
                self.advance()?;
                if !matches!(self.token, Token::Str(_)) {
                    return self.expr(at, 0, ExprKind::Text(first));
                }
                // Texts that follow each other are one, as in Python.
                let mut text = first.to_string();
                while let Token::Str(more) = self.token.clone() {
                    text.push_str(&more);
                    self.count()?;
                    self.advance()?;
                }
                ExprKind::Text(Rc::from(text))
            }
            Token::Int(number) => {
                self.advance()?;
                ExprKind::Int(number)
            }
            Token::Float(number) => {
                self.advance()?;
                ExprKind::Float(number)
            }
            Token::Sign("(") => return self.parentheses(),
            Token::Sign("[") => {
                self.advance()?;
                let items = self.items("]")?;
                return self.expr(at, highest(&items), ExprKind::List(items));
            }
            Token::Sign("{") => return self.dict(),
            Token::End | Token::PrintEnd | Token::BlockEnd => return Err(self.unexpected("an expression")),
            _ => return Err(self.unexpected("an expression")),
        };
        self.expr(at, 0, kind)
    }

    fn parentheses(&mut self) -> Outcome<Expr> {
        let at = self.at;
        self.advance()?;
        if self.skip_sign(")")? {
            return self.expr(at, 0, ExprKind::Tuple(Vec::new()));
        }
        let inner = self.deeper(|p| p.tuple(true, false))?;
        self.expect_sign(")")?;
        Ok(inner)
    }

    /// Expressions with commas up to a closing sign, which is skipped.
    fn items(&mut self, close: &str) -> Outcome<Vec<Expr>> {
        let mut items = Vec::new();
        while !self.skip_sign(close)? {
            if !items.is_empty() {
                self.expect_sign(",")?;
                if self.skip_sign(close)? {
                    break;
                }
            }
            items.push(self.expression()?);
        }
        Ok(items)
    }

    fn dict(&mut self) -> Outcome<Expr> {
        let at = self.at;
        self.advance()?;
        let mut entries: Vec<(Expr, Expr)> = Vec::new();
        while !self.skip_sign("}")? {
            if !entries.is_empty() {
                self.expect_sign(",")?;
                if self.skip_sign("}")? {
                    break;
                }
            }
            let key = self.expression()?;
            self.expect_sign(":")?;
            entries.push((key, self.expression()?));
        }
        let below = highest(entries.iter().flat_map(|(key, value)| [key, value]));
        self.expr(at, below, ExprKind::Dict(entries))
    }

    /// Attributes, items and calls.
    fn postfix(&mut self, mut expr: Expr) -> Outcome<Expr> {
        loop {
            let at = expr.at;
            let below = expr.height;
            expr = if self.skip_sign(".")? {
                match self.token.clone() {
                    Token::Name(name) => {
                        self.advance()?;
                        self.expr(at, below, ExprKind::Attribute(expr, name))?
                    }
                    Token::Int(index) => {
                        let index_at = self.at;
                        self.advance()?;
                        let index = self.expr(index_at, 0, ExprKind::Int(index))?;
                        self.expr(at, below, ExprKind::Item(expr, index))?
                    }
                    _ => return Err(self.unexpected("a name")),
                }
            } else if self.skip_sign("[")? {
                self.subscript(expr)?
            } else if self.is_sign("(") {
                let arguments = self.arguments()?;
                self.expr(at, below.max(arguments.height()), ExprKind::Call(expr, arguments))?
            } else {
                return Ok(expr);
            };
        }
    }

    fn subscript(&mut self, base: Expr) -> Outcome<Expr> {
        let at = base.at;
        let mut parts: [Option<Expr>; 3] = [None, None, None];
        let mut part = 0;
        let mut slice = false;
        loop {
            if self.is_sign(":") && part < 2 {
                self.advance()?;
                slice = true;
                part += 1;
            } else if self.is_sign("]") && (slice || parts[0].is_some()) {
                self.advance()?;
                break;
            } else if parts[part].is_none() {
                parts[part] =
                    Some(if slice { self.expression()? } else { self.deeper(|p| p.subscript_item())? });
            } else {
                return Err(self.unexpected("`]`"));
            }
        }
        let below = base.height.max(highest(parts.iter().flatten()));
        match parts {
            [Some(index), None, None] if !slice => self.expr(at, below, ExprKind::Item(base, index)),
            parts => self.expr(at, below, ExprKind::Slice(base, parts)),
        }
    }

    /// `x[1, 2]` looks up a tuple.
    fn subscript_item(&mut self) -> Outcome<Expr> {
        let at = self.at;
        let first = self.expression()?;
        if !self.is_sign(",") {
            return Ok(first);
        }
        let mut all = vec![first];
        while self.skip_sign(",")? && !self.is_sign("]") {
            all.push(self.expression()?);
        }
        self.expr(at, highest(&all), ExprKind::Tuple(all))
    }

    /// Filters, tests and calls of their results.
    fn filters(&mut self, mut expr: Expr) -> Outcome<Expr> {
        loop {
            let at = expr.at;
            expr = if self.skip_sign("|")? {
                let call = self.filter_call()?;
                let below = expr.height.max(call.arguments.height());
                self.expr(at, below, ExprKind::Filter(expr, call))?
            } else if self.skip_name("is")? {
                self.test(expr)?
            } else if self.is_sign("(") {
                let arguments = self.arguments()?;
                self.expr(at, expr.height.max(arguments.height()), ExprKind::Call(expr, arguments))?
            } else {
                return Ok(expr);
            };
        }
    }

    fn test(&mut self, value: Expr) -> Outcome<Expr> {
        let negated = self.skip_name("not")?;
        let at = self.at;
        let name = self.expect_name()?;
        super::tests::known(&name).map_err(|failure| failure.or_at(at))?;
        let takes_one = match &self.token {
            Token::Name(next) => {
                !matches!(&**next, "else" | "or" | "and" | "is" | "if" | "in" | "not" | "recursive")
            }
            Token::Str(_) | Token::Int(_) | Token::Float(_) => true,
            Token::Sign(sign) => matches!(*sign, "[" | "{"),
            _ => false,
        };
        let arguments = if self.is_sign("(") {
            self.arguments()?
        } else if self.is_name("is") {
            return Err(Failure::syntax(self.at, "tests cannot follow each other: join them with `and`"));
        } else if takes_one {
            let primary = self.primary()?;
            Arguments { positional: vec![self.postfix(primary)?], ..Arguments::default() }
        } else {
            Arguments::default()
        };
        let below = value.height.max(arguments.height());
        self.expr(value.at, below, ExprKind::Test { value, name, arguments, negated })
    }

    /// Arguments in their parentheses.
    pub(super) fn arguments(&mut self) -> Outcome<Arguments> {
        self.expect_sign("(")?;
        let mut arguments = Arguments::default();
        let mut first = true;
        while !self.skip_sign(")")? {
            if !std::mem::take(&mut first) {
                self.expect_sign(",")?;
                if self.skip_sign(")")? {
                    break;
                }
            }
            let at = self.at;
            if self.is_sign("*") || self.is_sign("**") {
                let mapping = self.is_sign("**");
                self.advance()?;
                let value = self.expression()?;
                let rest = arguments.rest.get_or_insert_default();
                let place = if mapping { &mut rest.1 } else { &mut rest.0 };
                if place.replace(value).is_some() {
                    return Err(Failure::syntax(at, "this stands twice in one call"));
                }
            } else if let (Token::Name(name), Token::Sign("=")) = (self.token.clone(), self.look_ahead()?) {
                self.advance()?;
                self.advance()?;
                if arguments.named.iter().any(|(known, _)| *known == name) {
                    return Err(Failure::syntax(at, format!("the argument `{name}` is given twice")));
                }
                arguments.named.push((name, self.expression()?));
            } else {
                let value = self.expression()?;
                if !arguments.named.is_empty() || arguments.rest.is_some() {
                    return Err(Failure::syntax(at, "an argument without name follows one with a name"));
                }
                arguments.positional.push(value);
            }
        }
        Ok(arguments)
    }
}
