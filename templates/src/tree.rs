//! A template's tree as it is rendered, built from the syntax tree of MiniJinja's parser.
//!
//! Invariant: every filter, test and function in the tree exists, and is called with no more arguments than it takes.

use std::sync::Arc;

use minijinja::machinery::{Span, ast};
use minijinja::value::ValueKind;

use crate::filters::{self, Filter};
use crate::jinja_tests::{self, TemplateTest};
use crate::value::{UNDEFINED, Value};

/// How deep statements and expressions may be nested.
const MAX_DEPTH: usize = 256;

pub(crate) type Name = Arc<str>;

pub(crate) enum Stmt {
    Raw(Box<str>),
    Emit(Expr),
    If(Expr, Vec<Stmt>, Vec<Stmt>),
    For(Box<For>),
}

pub(crate) struct For {
    pub(crate) target: LoopTarget,
    pub(crate) over: Expr,
    pub(crate) filter: Option<Expr>,
    pub(crate) body: Vec<Stmt>,
    pub(crate) otherwise: Vec<Stmt>,
}

pub(crate) enum LoopTarget {
    Name(Name),
    Each(Vec<LoopTarget>),
}

#[derive(Clone, Copy)]
pub(crate) enum Arithmetic {
    Add,
    Sub,
    Div,
    FloorDiv,
    Rem,
}

#[derive(Clone, Copy)]
pub(crate) enum CompareOp {
    Eq,
    Ne,
    Lt,
    Lte,
    Gt,
    Gte,
    In,
    NotIn,
}

pub(crate) enum Expr {
    Const(Value),
    Var(Name),
    Attr(Box<Expr>, Name),
    Item(Box<(Expr, Expr)>),
    Slice(Box<Expr>, Box<[Option<Expr>; 3]>),
    List(Vec<Expr>),
    Not(Box<Expr>),
    Neg(Box<Expr>),
    And(Box<(Expr, Expr)>),
    Or(Box<(Expr, Expr)>),
    Math(Arithmetic, Box<(Expr, Expr)>),
    Concat(Box<(Expr, Expr)>),
    Compare(Box<Expr>, Vec<(CompareOp, Expr)>),
    /// Condition, then, else.
    If(Box<(Expr, Expr, Option<Expr>)>),
    Filter(&'static Filter, Box<Expr>, Args),
    Test(&'static TemplateTest, Box<Expr>, Args),
    Range(Args),
    /// `loop.cycle(...)`, `loop.changed(...)`.
    Cycle(Args),
    Changed(Args),
}

#[derive(Default)]
pub(crate) struct Args {
    pub(crate) positional: Vec<Expr>,
    pub(crate) named: Vec<(Name, Expr)>,
}

/// A construct outside the subset, and its byte.
pub(crate) struct NotInSubset {
    pub(crate) at: usize,
    pub(crate) message: String,
}

type TreeResult<T> = Result<T, NotInSubset>;

fn refused<T>(span: Span, message: impl Into<String>) -> TreeResult<T> {
    Err(NotInSubset { at: span.start_offset as usize, message: message.into() })
}

/// Converts MiniJinja's syntax tree, and adds up the size of the result.
#[derive(Default)]
pub(crate) struct TreeBuilder {
    depth: usize,
    /// The approximate size of the tree, bytes.
    pub(crate) weight: usize,
    /// Which of an alert's messages the text tells from the first one.
    pub(crate) tells: Tells,
}

/// Which of an alert's messages a text itself tells from the first one.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Tells {
    pub(crate) over: bool,
    pub(crate) repeat: bool,
    pub(crate) closed: bool,
}

/// The names by which a text tells a resolved alert from an open one.
const TELLING: [&str; 3] = ["kind", "status", "endsAt"];

/// The name whose value an expression writes, whatever filters it applies.
fn written<'a>(expr: &ast::Expr<'a>) -> Option<&'a str> {
    match expr {
        ast::Expr::Var(var) => Some(var.id),
        ast::Expr::Filter(filter) => written(filter.expr.as_ref()?),
        _ => None,
    }
}

impl TreeBuilder {
    pub(crate) fn template(&mut self, stmt: &ast::Stmt<'_>) -> TreeResult<Vec<Stmt>> {
        match stmt {
            ast::Stmt::Template(template) => self.body(&template.children),
            other => Ok(vec![self.stmt(other)?]),
        }
    }

    fn body(&mut self, stmts: &[ast::Stmt<'_>]) -> TreeResult<Vec<Stmt>> {
        stmts.iter().map(|stmt| self.stmt(stmt)).collect()
    }

    fn deeper<T>(&mut self, span: Span, read: impl FnOnce(&mut Self) -> TreeResult<T>) -> TreeResult<T> {
        if self.depth >= MAX_DEPTH {
            return refused(span, format!("nested deeper than {MAX_DEPTH}, which is not allowed"));
        }
        self.depth += 1;
        let done = read(self);
        self.depth -= 1;
        done
    }

    fn name(&mut self, name: &str) -> Name {
        self.weight += 16 + name.len();
        name.into()
    }

    fn stmt(&mut self, stmt: &ast::Stmt<'_>) -> TreeResult<Stmt> {
        self.weight += size_of::<Stmt>();
        match stmt {
            ast::Stmt::EmitRaw(raw) => {
                self.weight += raw.raw.len();
                Ok(Stmt::Raw(raw.raw.into()))
            }
            ast::Stmt::EmitExpr(emit) => {
                let name = written(&emit.expr);
                self.tells.repeat |= name == Some("kind");
                self.tells.closed |= name == Some("kind") || name == Some("status");
                Ok(Stmt::Emit(self.expr(&emit.expr)?))
            }
            ast::Stmt::IfCond(cond) => self.deeper(cond.span(), |it| {
                Ok(Stmt::If(it.expr(&cond.expr)?, it.body(&cond.true_body)?, it.body(&cond.false_body)?))
            }),
            ast::Stmt::ForLoop(looped) => self.deeper(looped.span(), |it| {
                if looped.recursive {
                    return refused(looped.span(), "`recursive` is not allowed");
                }
                it.weight += size_of::<For>();
                Ok(Stmt::For(Box::new(For {
                    target: it.target(&looped.target)?,
                    over: it.expr(&looped.iter)?,
                    filter: looped.filter_expr.as_ref().map(|filter| it.expr(filter)).transpose()?,
                    body: it.body(&looped.body)?,
                    otherwise: it.body(&looped.else_body)?,
                })))
            }),
            // `subset::check` has refused all others, with their places.
            _ => Err(NotInSubset { at: 0, message: "a statement that is not allowed".to_owned() }),
        }
    }

    fn target(&mut self, target: &ast::Expr<'_>) -> TreeResult<LoopTarget> {
        self.weight += size_of::<LoopTarget>();
        let each = match target {
            ast::Expr::Var(var) => return Ok(LoopTarget::Name(self.name(var.id))),
            ast::Expr::List(list) => &list.items,
            ast::Expr::Tuple(tuple) => &tuple.items,
            other => return refused(other.span(), "what `for` sets is not a name"),
        };
        self.deeper(target.span(), |it| {
            Ok(LoopTarget::Each(each.iter().map(|part| it.target(part)).collect::<TreeResult<_>>()?))
        })
    }

    fn expr(&mut self, expr: &ast::Expr<'_>) -> TreeResult<Expr> {
        self.weight += size_of::<Expr>();
        self.deeper(expr.span(), |it| it.expr_here(expr))
    }

    fn boxed(&mut self, expr: &ast::Expr<'_>) -> TreeResult<Box<Expr>> {
        Ok(Box::new(self.expr(expr)?))
    }

    fn two(&mut self, left: &ast::Expr<'_>, right: &ast::Expr<'_>) -> TreeResult<Box<(Expr, Expr)>> {
        Ok(Box::new((self.expr(left)?, self.expr(right)?)))
    }

    fn expr_here(&mut self, expr: &ast::Expr<'_>) -> TreeResult<Expr> {
        Ok(match expr {
            ast::Expr::Var(var) => {
                self.tells.over |= TELLING.contains(&var.id);
                Expr::Var(self.name(var.id))
            }
            ast::Expr::Const(it) => self.constant(&it.value, it.span())?,
            ast::Expr::GetAttr(it) => Expr::Attr(self.boxed(&it.expr)?, self.name(it.name)),
            ast::Expr::GetItem(it) => Expr::Item(self.two(&it.expr, &it.subscript_expr)?),
            ast::Expr::Slice(it) => {
                let mut bound =
                    |bound: &Option<ast::Expr<'_>>| bound.as_ref().map(|bound| self.expr(bound)).transpose();
                let bounds = [bound(&it.start)?, bound(&it.stop)?, bound(&it.step)?];
                Expr::Slice(self.boxed(&it.expr)?, Box::new(bounds))
            }
            ast::Expr::List(it) => {
                Expr::List(it.items.iter().map(|item| self.expr(item)).collect::<TreeResult<_>>()?)
            }
            ast::Expr::Tuple(it) => {
                Expr::List(it.items.iter().map(|item| self.expr(item)).collect::<TreeResult<_>>()?)
            }
            ast::Expr::UnaryOp(it) => match it.op {
                ast::UnaryOpKind::Not => Expr::Not(self.boxed(&it.expr)?),
                ast::UnaryOpKind::Neg => Expr::Neg(self.boxed(&it.expr)?),
            },
            ast::Expr::BinOp(it) => self.operator(it, it.span())?,
            ast::Expr::Compare(it) => {
                let first = self.boxed(&it.expr)?;
                let mut ops = Vec::new();
                for op in &it.ops {
                    let how = match op.op {
                        ast::CompareOpKind::Eq => CompareOp::Eq,
                        ast::CompareOpKind::Ne => CompareOp::Ne,
                        ast::CompareOpKind::Lt => CompareOp::Lt,
                        ast::CompareOpKind::Lte => CompareOp::Lte,
                        ast::CompareOpKind::Gt => CompareOp::Gt,
                        ast::CompareOpKind::Gte => CompareOp::Gte,
                        ast::CompareOpKind::In => CompareOp::In,
                        ast::CompareOpKind::NotIn => CompareOp::NotIn,
                    };
                    ops.push((how, self.expr(&op.expr)?));
                }
                Expr::Compare(first, ops)
            }
            ast::Expr::IfExpr(it) => Expr::If(Box::new((
                self.expr(&it.test_expr)?,
                self.expr(&it.true_expr)?,
                it.false_expr.as_ref().map(|it| self.expr(it)).transpose()?,
            ))),
            ast::Expr::Filter(it) => {
                let filter = filters::find(it.name);
                let (Some(filter), Some(on)) = (filter, &it.expr) else {
                    return refused(it.span(), format!("there is no filter `{}`", it.name));
                };
                let on = self.boxed(on)?;
                let args = self.args(it.name, &it.args, filter.most, filter.named, it.span())?;
                Expr::Filter(filter, on, args)
            }
            ast::Expr::Test(it) => {
                let Some(test) = jinja_tests::find(it.name) else {
                    return refused(it.span(), format!("there is no test `{}`", it.name));
                };
                let on = self.boxed(&it.expr)?;
                Expr::Test(test, on, self.args(it.name, &it.args, test.most, &[], it.span())?)
            }
            ast::Expr::Call(it) => self.call(it, it.span())?,
            ast::Expr::Map(it) => return refused(it.span(), "braces inside of a tag are not allowed"),
        })
    }

    fn operator(&mut self, it: &ast::BinOp<'_>, span: Span) -> TreeResult<Expr> {
        use ast::BinOpKind as Kind;
        let compared = |how, (left, right): (Expr, Expr)| Expr::Compare(Box::new(left), vec![(how, right)]);
        let two = self.two(&it.left, &it.right)?;
        Ok(match it.op {
            Kind::ScAnd => Expr::And(two),
            Kind::ScOr => Expr::Or(two),
            Kind::Add => Expr::Math(Arithmetic::Add, two),
            Kind::Sub => Expr::Math(Arithmetic::Sub, two),
            Kind::Div => Expr::Math(Arithmetic::Div, two),
            Kind::FloorDiv => Expr::Math(Arithmetic::FloorDiv, two),
            Kind::Rem => Expr::Math(Arithmetic::Rem, two),
            Kind::Concat => Expr::Concat(two),
            Kind::Eq => compared(CompareOp::Eq, *two),
            Kind::Ne => compared(CompareOp::Ne, *two),
            Kind::Lt => compared(CompareOp::Lt, *two),
            Kind::Lte => compared(CompareOp::Lte, *two),
            Kind::Gt => compared(CompareOp::Gt, *two),
            Kind::Gte => compared(CompareOp::Gte, *two),
            Kind::In => compared(CompareOp::In, *two),
            Kind::Mul | Kind::Pow => return refused(span, "`*` is not allowed"),
        })
    }

    fn call(&mut self, it: &ast::Call<'_>, span: Span) -> TreeResult<Expr> {
        match &it.expr {
            ast::Expr::Var(name) if name.id == "range" => {
                Ok(Expr::Range(self.args("range", &it.args, 3, &[], span)?))
            }
            ast::Expr::Var(name) => refused(span, format!("there is no function `{}`", name.id)),
            ast::Expr::GetAttr(of) => match (&of.expr, of.name) {
                (ast::Expr::Var(of), "cycle") if of.id == "loop" => {
                    Ok(Expr::Cycle(self.args("cycle", &it.args, usize::MAX, &[], span)?))
                }
                (ast::Expr::Var(of), "changed") if of.id == "loop" => {
                    Ok(Expr::Changed(self.args("changed", &it.args, usize::MAX, &[], span)?))
                }
                _ => refused(span, format!("there is no method `{}`; filters do what methods do", of.name)),
            },
            _ => refused(
                span,
                "only `range`, `loop.cycle` and `loop.changed` can be called; the rest is not allowed",
            ),
        }
    }

    fn args(
        &mut self,
        of: &str,
        args: &[ast::CallArg<'_>],
        most: usize,
        known: &[&str],
        span: Span,
    ) -> TreeResult<Args> {
        let mut read = Args::default();
        for arg in args {
            match arg {
                ast::CallArg::Pos(expr) => read.positional.push(self.expr(expr)?),
                ast::CallArg::Kwarg(name, expr) if known.contains(name) => {
                    let name = self.name(name);
                    read.named.push((name, self.expr(expr)?));
                }
                ast::CallArg::Kwarg(name, _) => {
                    return refused(span, format!("`{of}` has no argument `{name}`; it is not allowed"));
                }
                ast::CallArg::PosSplat(_) | ast::CallArg::KwargSplat(_) => {
                    return refused(span, "`*` is not allowed");
                }
            }
        }
        if read.positional.len() > most {
            return refused(
                span,
                format!("`{of}` has at most {most} arguments, not {}", read.positional.len()),
            );
        }
        Ok(read)
    }

    fn constant(&mut self, value: &minijinja::Value, span: Span) -> TreeResult<Expr> {
        let read = match value.kind() {
            ValueKind::Undefined => UNDEFINED,
            ValueKind::None => Value::None,
            ValueKind::Bool => Value::Bool(value.is_true()),
            ValueKind::Number if value.is_integer() => match i128::try_from(value.clone()) {
                Ok(it) => Value::Int(it),
                Err(_) => return refused(span, "a number that is too large is not allowed"),
            },
            ValueKind::Number => Value::Float(f64::try_from(value.clone()).unwrap_or(f64::NAN)),
            ValueKind::String => {
                let text = value.as_str().unwrap_or_default();
                self.tells.repeat |= text == "repeat";
                self.tells.closed |= text == "closed";
                self.weight += 16 + text.len();
                Value::from(text)
            }
            _ => return refused(span, "a literal of this kind is not allowed"),
        };
        Ok(Expr::Const(read))
    }
}

impl Expr {
    /// An approximation of the expression's source, for error messages.
    pub(crate) fn source_excerpt(&self) -> String {
        let mut said = String::new();
        self.say(&mut said);
        said.chars().take(80).collect()
    }

    fn say(&self, said: &mut String) {
        if said.len() > 200 {
            return;
        }
        match self {
            Self::Var(name) => said.push_str(name),
            Self::Attr(of, name) => {
                of.say(said);
                said.push('.');
                said.push_str(name);
            }
            Self::Item(two) => {
                two.0.say(said);
                said.push_str("[...]");
            }
            Self::Filter(filter, on, _) => {
                on.say(said);
                said.push('|');
                said.push_str(filter.name);
            }
            Self::Slice(of, _) => {
                of.say(said);
                said.push_str("[:]");
            }
            _ => said.push_str("..."),
        }
    }
}
