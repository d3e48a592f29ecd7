//! Runs a template: statements, scopes, output.
//!
//! Output of the template itself is kept with the place that each piece comes from; output that a macro or a block
//! captures is a value like any other, and belongs to the tag that prints it.

use std::{
    collections::{BTreeSet, HashMap},
    rc::Rc,
};

use super::{
    MAX_RENDERED,
    ast::{Expr, FilterCall, Macro, Program, Statement, StatementKind, Target},
    failure::{Failure, Outcome},
    value::{ENTRY, ITEM, Store, Value},
};

/// Levels of statements and expressions in each other, those of called macros included. The thread that renders has
/// stack for more than that.
const MAX_LEVELS: usize = 1200;
/// Macros that call each other.
const MAX_CALLS: usize = 100;

/// What an undefined variable means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Undefined {
    /// Nothing that is missing is an error.
    Lenient,
    /// Empty, and so is all that is looked up in it.
    Chain,
    /// An error.
    Strict,
}

/// A piece of the output, up to where the next begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Offset in the output, bytes.
    pub(crate) start: usize,
    /// Offset in the template: of the text itself, or of the tag that made it.
    pub(crate) from: usize,
    /// It is the template's own text, byte by byte.
    pub(crate) literal: bool,
    /// Offset of the innermost loop's tag.
    pub(crate) in_loop: Option<usize>,
}

/// What a statement does to the loop around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    Next,
    Break,
    Continue,
}

#[derive(Debug, Default)]
struct Scope {
    names: HashMap<Rc<str>, Value>,
    parent: Option<usize>,
}

/// A loop that runs or has run.
#[derive(Debug)]
pub(super) struct LoopState {
    pub(super) items: Vec<Value>,
    pub(super) index: usize,
    pub(super) depth: usize,
    pub(super) changed: Option<Vec<Value>>,
    /// For a recursive loop: its index in the program and the scope around it.
    pub(super) recursive: Option<(usize, usize)>,
}

/// Arguments of a call as values.
#[derive(Debug, Default, Clone)]
pub(crate) struct Given {
    pub(crate) positional: Vec<Value>,
    pub(crate) named: Vec<(Rc<str>, Value)>,
}

impl Given {
    /// The arguments in the order of their names.
    ///
    /// # Errors
    /// There are too many, or one that has none of the names.
    pub(crate) fn bind<const N: usize>(self, what: &str, names: [&str; N]) -> Outcome<[Option<Value>; N]> {
        let mut bound = [const { None }; N];
        if self.positional.len() > N {
            return Err(Failure::meaning(format!(
                "`{what}` takes at most {N} arguments, not {}",
                self.positional.len()
            )));
        }
        for (place, value) in bound.iter_mut().zip(self.positional) {
            *place = Some(value);
        }
        for (name, value) in self.named {
            let place = names.iter().position(|known| *known == &*name).and_then(|at| bound.get_mut(at));
            match place {
                Some(place @ None) => *place = Some(value),
                Some(_) => {
                    return Err(Failure::meaning(format!("`{what}` gets its argument `{name}` twice")));
                }
                None => {
                    let failure = Failure::meaning(format!("`{what}` has no argument `{name}`"));
                    return Err(if N == 0 {
                        failure
                    } else {
                        failure.helped(format!("it has {}", names.join(", ")))
                    });
                }
            }
        }
        Ok(bound)
    }
}

/// One rendering.
pub(crate) struct Engine<'p> {
    text: &'p str,
    pub(super) program: &'p Program,
    pub(super) store: Store,
    pub(super) undefined: Undefined,
    scopes: Vec<Scope>,
    pub(super) scope: usize,
    /// Scopes before this one may be remembered by a macro.
    pinned: usize,
    pub(super) loops: Vec<LoopState>,
    pub(super) cyclers: Vec<(Vec<Value>, usize)>,
    pub(super) joiners: Vec<(Rc<str>, bool)>,
    /// Tuples that `groupby` made: they also have names for their two items.
    pub(super) groups: BTreeSet<usize>,
    captures: Vec<String>,
    out: String,
    segments: Vec<Segment>,
    /// Offsets of the loops around what is being written.
    around: Vec<usize>,
    levels: usize,
    calls: usize,
}

impl<'p> Engine<'p> {
    pub(crate) fn new(text: &'p str, program: &'p Program, undefined: Undefined) -> Self {
        Self {
            text,
            program,
            store: Store::new(undefined == Undefined::Lenient),
            undefined,
            scopes: vec![Scope::default()],
            scope: 0,
            pinned: 0,
            loops: Vec::new(),
            cyclers: Vec::new(),
            joiners: Vec::new(),
            groups: BTreeSet::new(),
            captures: Vec::new(),
            out: String::new(),
            segments: Vec::new(),
            around: Vec::new(),
            levels: 0,
            calls: 0,
        }
    }

    /// Gives the template a variable.
    pub(crate) fn define(&mut self, name: &str, value: Value) {
        self.assign(Rc::from(name), value);
    }

    /// For making the values of variables.
    pub(crate) fn store(&mut self) -> &mut Store {
        &mut self.store
    }

    /// Renders the whole template.
    pub(crate) fn run(mut self) -> Outcome<(String, Vec<Segment>)> {
        // What the template itself sets hides a variable, but does not change it.
        let scope = self.push_scope(Some(0));
        self.scope = scope;
        self.statements(&self.program.body)?;
        Ok((self.out, self.segments))
    }

    fn statements(&mut self, body: &'p [Statement]) -> Outcome<Flow> {
        for statement in body {
            self.store.meter.step(1).map_err(|f| f.or_at(statement.at))?;
            let flow = self.deeper(|e| e.statement(statement)).map_err(|f| f.or_at(statement.at))?;
            if flow != Flow::Next {
                return Ok(flow);
            }
        }
        Ok(Flow::Next)
    }

    /// One level deeper while `work` runs.
    pub(super) fn deeper<T>(&mut self, work: impl FnOnce(&mut Self) -> Outcome<T>) -> Outcome<T> {
        self.levels += 1;
        if self.levels > MAX_LEVELS {
            return Err(Failure::limit("macros or loops call themselves too deeply"));
        }
        let done = work(self);
        self.levels -= 1;
        done
    }

    fn statement(&mut self, statement: &'p Statement) -> Outcome<Flow> {
        match &statement.kind {
            StatementKind::Text(range) => {
                let text = self.text.get(range.clone()).unwrap_or_default();
                self.emit(text, range.start, true)?;
            }
            StatementKind::Print(expr) => {
                let value = self.expr(expr)?;
                self.print(&value, statement.at).map_err(|f| f.or_at(expr.at))?;
            }
            StatementKind::If { branches, otherwise } => {
                for (test, body) in branches {
                    let value = self.expr(test)?;
                    if self.truth(&value).map_err(|f| f.or_at(test.at))? {
                        return self.statements(body);
                    }
                }
                return self.statements(otherwise);
            }
            StatementKind::For(index) => self.for_statement(*index)?,
            StatementKind::Set { target, value } => {
                let value = self.expr(value)?;
                self.assign_to(target, value)?;
            }
            StatementKind::SetBlock { target, filters, body } => {
                let value = self.captured(body, filters)?;
                self.assign_to(target, value)?;
            }
            StatementKind::With { bindings, body } => {
                let mut values = Vec::with_capacity(bindings.len());
                for (_, expr) in bindings {
                    values.push(self.expr(expr)?);
                }
                return self.in_scope(self.scope, |e| {
                    for ((target, _), value) in bindings.iter().zip(values) {
                        e.assign_to(target, value)?;
                    }
                    e.statements(body)
                });
            }
            StatementKind::Macro(index) => {
                let value = self.new_macro(*index);
                if let Some(definition) = self.program.macros.get(*index) {
                    self.assign(definition.name.clone(), value);
                }
            }
            StatementKind::Call { call, body } => {
                let caller = self.new_macro(*body);
                let value = self.call_with(call, Some(caller))?;
                self.print(&value, statement.at)?;
            }
            StatementKind::FilterBlock { filters, body } => {
                let value = self.captured(body, filters)?;
                self.print(&value, statement.at)?;
            }
            StatementKind::Do(expr) => {
                self.expr(expr)?;
            }
            StatementKind::Break => return Ok(Flow::Break),
            StatementKind::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::Next)
    }

    fn new_macro(&mut self, index: usize) -> Value {
        self.pinned = self.pinned.max(self.scopes.len());
        Value::Macro(index, self.scope)
    }

    /// The output of a body as a value, through filters.
    fn captured(&mut self, body: &'p [Statement], filters: &'p [FilterCall]) -> Outcome<Value> {
        let text = self.capture(|e| e.in_scope(e.scope, |e| e.statements(body)))?;
        let mut value = self.store.text(text)?;
        for call in filters {
            value = self.filter(call, value)?;
        }
        Ok(value)
    }

    fn capture<T>(&mut self, work: impl FnOnce(&mut Self) -> Outcome<T>) -> Outcome<String> {
        self.captures.push(String::new());
        let done = work(self);
        let text = self.captures.pop().unwrap_or_default();
        done.map(|_| text)
    }

    fn push_scope(&mut self, parent: Option<usize>) -> usize {
        self.scopes.push(Scope { names: HashMap::new(), parent });
        self.scopes.len() - 1
    }

    /// Runs in a scope of its own below `parent`.
    fn in_scope<T>(&mut self, parent: usize, work: impl FnOnce(&mut Self) -> Outcome<T>) -> Outcome<T> {
        let before = self.scope;
        let scope = self.push_scope(Some(parent));
        self.scope = scope;
        let done = work(self);
        self.scope = before;
        if scope >= self.pinned {
            self.scopes.truncate(scope);
        } else {
            // A macro may remember it: it stays to the end.
            self.store.meter.make(4 * ENTRY)?;
        }
        done
    }

    fn for_statement(&mut self, index: usize) -> Outcome<()> {
        let scope = self.scope;
        let Some(definition) = self.program.loops.get(index) else { return Ok(()) };
        let items = self.expr(&definition.items)?;
        self.run_loop(index, &items, 0, scope)
    }

    /// Runs a loop of the program over `items`; a recursive loop calls itself with this.
    pub(super) fn run_loop(
        &mut self,
        index: usize,
        items: &Value,
        depth: usize,
        parent: usize,
    ) -> Outcome<()> {
        let program = self.program;
        let Some(definition) = program.loops.get(index) else { return Ok(()) };
        let mut items = self.iterate(items).map_err(|f| f.or_at(definition.items.at))?;
        if let Some(filter) = &definition.filter {
            let mut kept = Vec::new();
            for item in items {
                self.store.meter.step(1).map_err(|f| f.or_at(definition.at))?;
                let keep = self.in_scope(parent, |e| {
                    e.assign_to(&definition.target, item.clone())?;
                    let value = e.expr(filter)?;
                    e.truth(&value)
                })?;
                if keep {
                    kept.push(item);
                }
            }
            items = kept;
        }
        if items.is_empty() {
            return self.in_scope(parent, |e| e.statements(&definition.otherwise)).map(|_| ());
        }
        self.store.meter.make(ENTRY)?;
        let recursive = definition.recursive.then_some((index, parent));
        let count = items.len();
        self.loops.push(LoopState { items, index: 0, depth, changed: None, recursive });
        let state = self.loops.len() - 1;
        self.around.push(definition.at);
        for n in 0..count {
            self.store.meter.step(1).map_err(|f| f.or_at(definition.at))?;
            let item = match self.loops.get_mut(state) {
                Some(state) => {
                    state.index = n;
                    state.items.get(n).cloned().unwrap_or(Value::None)
                }
                None => break,
            };
            let flow = self.in_scope(parent, |e| {
                e.assign("loop".into(), Value::Loop(state));
                e.assign_to(&definition.target, item).map_err(|f| f.or_at(definition.at))?;
                e.statements(&definition.body)
            })?;
            if flow == Flow::Break {
                break;
            }
        }
        self.around.pop();
        Ok(())
    }

    pub(super) fn assign(&mut self, name: Rc<str>, value: Value) {
        if let Some(scope) = self.scopes.get_mut(self.scope) {
            scope.names.insert(name, value);
        }
    }

    fn assign_to(&mut self, target: &'p Target, value: Value) -> Outcome<()> {
        match target {
            Target::Name(name) => {
                self.store.meter.make(ITEM)?;
                self.assign(name.clone(), value);
                Ok(())
            }
            Target::Attribute(name, attribute) => match self.lookup(name) {
                Some(Value::Namespace(dict)) => {
                    let key = Value::Text(attribute.clone());
                    self.store.insert(dict, key, value)
                }
                _ => Err(Failure::meaning(format!("`{name}` is no namespace: its attributes cannot be set"))
                    .helped(format!("make it with {{% set {name} = namespace() %}}"))),
            },
            Target::Tuple(targets) => {
                let items = self.iterate(&value)?;
                if items.len() != targets.len() {
                    let text = format!("{} values for {} names", items.len(), targets.len());
                    return Err(Failure::meaning(text));
                }
                targets.iter().zip(items).try_for_each(|(target, item)| self.assign_to(target, item))
            }
        }
    }

    /// A variable, from the innermost scope outwards.
    pub(super) fn lookup(&self, name: &str) -> Option<Value> {
        let mut scope = Some(self.scope);
        while let Some(here) = scope.and_then(|n| self.scopes.get(n)) {
            if let Some(value) = here.names.get(name) {
                return Some(value.clone());
            }
            scope = here.parent;
        }
        None
    }

    fn print(&mut self, value: &Value, tag: usize) -> Outcome<()> {
        if self.undefined == Undefined::Strict {
            self.store.defined(value)?;
        }
        match value {
            Value::Text(text) => self.emit(&text.clone(), tag, false),
            other => {
                let text = self.store.show(other)?;
                self.emit(&text, tag, false)
            }
        }
    }

    fn emit(&mut self, text: &str, from: usize, literal: bool) -> Outcome<()> {
        if text.is_empty() {
            return Ok(());
        }
        if let Some(capture) = self.captures.last_mut() {
            self.store.meter.make(text.len())?;
            capture.push_str(text);
            return Ok(());
        }
        if self.out.len() + text.len() > MAX_RENDERED {
            return Err(Failure::limit(format!("the template makes more than {} MiB", MAX_RENDERED >> 20)));
        }
        let in_loop = self.around.last().copied();
        self.segments.push(Segment { start: self.out.len(), from, literal, in_loop });
        self.out.push_str(text);
        Ok(())
    }

    /// What a macro makes.
    pub(super) fn call_macro(&mut self, index: usize, scope: usize, given: Given) -> Outcome<Value> {
        let program = self.program;
        let Some(definition) = program.macros.get(index) else { return Ok(Value::None) };
        if self.calls >= MAX_CALLS {
            return Err(Failure::limit(format!("more than {MAX_CALLS} macros call each other"))
                .helped("a macro calls itself without end"));
        }
        self.calls += 1;
        let text = self.capture(|e| {
            e.in_scope(scope, |e| {
                e.bind_macro(definition, given)?;
                e.statements(&definition.body)
            })
        });
        self.calls -= 1;
        self.store.text(text?)
    }

    fn bind_macro(&mut self, definition: &'p Macro, given: Given) -> Outcome<()> {
        let name = &definition.name;
        let Given { positional, mut named } = given;
        let mut positional = positional.into_iter();
        for (parameter, default) in &definition.parameters {
            let by_name = named.iter().position(|(n, _)| n == parameter).map(|at| named.remove(at).1);
            let value = match (positional.next(), by_name, default) {
                (Some(_), Some(_), _) => {
                    return Err(Failure::meaning(format!("macro `{name}` gets `{parameter}` twice")));
                }
                (Some(value), None, _) | (None, Some(value), _) => value,
                (None, None, Some(default)) => self.expr(default)?,
                (None, None, None) => Value::Undefined(parameter.clone()),
            };
            self.assign(parameter.clone(), value);
        }
        let caller = named.iter().position(|(n, _)| &**n == "caller").map(|at| named.remove(at).1);
        match caller {
            Some(value) if definition.takes_caller => self.assign("caller".into(), value),
            Some(_) => {
                return Err(Failure::meaning(format!("macro `{name}` cannot be used with `call`"))
                    .helped("its body must print {{ caller() }}"));
            }
            None if definition.takes_caller => self.assign("caller".into(), Value::undefined("caller")),
            None => {}
        }
        let rest: Vec<Value> = positional.collect();
        if definition.takes_varargs {
            let rest = self.store.tuple(rest)?;
            self.assign("varargs".into(), rest);
        } else if !rest.is_empty() {
            let most = definition.parameters.len();
            return Err(Failure::meaning(format!("macro `{name}` takes at most {most} arguments")));
        }
        if definition.takes_kwargs {
            let value = self.named_dict(named)?;
            self.assign("kwargs".into(), value);
        } else if let Some((unknown, _)) = named.first() {
            return Err(Failure::meaning(format!("macro `{name}` has no parameter `{unknown}`")));
        }
        Ok(())
    }

    /// A mapping of named arguments.
    pub(super) fn named_dict(&mut self, named: Vec<(Rc<str>, Value)>) -> Outcome<Value> {
        let dict = self.store.new_dict(Default::default())?;
        for (name, value) in named {
            self.store.insert(dict, Value::Text(name), value)?;
        }
        Ok(Value::Dict(dict))
    }

    /// What a recursive loop makes of other items.
    pub(super) fn call_loop(&mut self, state: usize, items: &Value) -> Outcome<Value> {
        let found = self.loops.get(state).and_then(|l| Some((l.recursive?, l.depth)));
        let Some(((index, parent), depth)) = found else {
            return Err(Failure::meaning("this loop cannot be called")
                .helped("add `recursive` to it: {% for x in tree recursive %}"));
        };
        if self.calls >= MAX_CALLS {
            return Err(Failure::limit("a recursive loop calls itself too deeply"));
        }
        self.calls += 1;
        let text = self.capture(|e| e.run_loop(index, items, depth + 1, parent));
        self.calls -= 1;
        self.store.text(text?)
    }

    /// Whether a value counts as true.
    pub(super) fn truth(&self, value: &Value) -> Outcome<bool> {
        if self.undefined == Undefined::Strict {
            self.store.defined(value)?;
        }
        Ok(self.store.truth(value))
    }

    /// All items of a value.
    pub(super) fn iterate(&mut self, value: &Value) -> Outcome<Vec<Value>> {
        if self.undefined == Undefined::Strict {
            self.store.defined(value)?;
        }
        self.store.iterate(value)
    }

    /// The value of an expression of the program.
    pub(super) fn expr(&mut self, expr: &'p Expr) -> Outcome<Value> {
        self.store.meter.step(1).map_err(|f| f.or_at(expr.at))?;
        self.deeper(|e| e.evaluate(expr)).map_err(|f| f.or_at(expr.at))
    }
}
