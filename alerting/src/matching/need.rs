//! What must hold of one field for an expression to be anything but false: by it an index passes over most rules.

use super::fault::Op;
use super::program::{Node, Step};
use super::value::Constant;

/// Integers below this are the same number as an `i64` and as an `f64`.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// A condition on the value of one field. Where the field has a value for which it does not hold, the expression is false,
/// whatever else it says. A value of a type that [`Condition`] does not speak of is left to the expression.
#[derive(Debug, Clone)]
pub(crate) struct Need {
    /// The field.
    pub(crate) path: Box<[Step]>,
    pub(crate) condition: Condition,
    /// Where the field is not there, the expression is false; otherwise another part may fail with a reason.
    pub(crate) quiet: bool,
}

#[derive(Debug, Clone)]
pub(crate) enum Condition {
    /// It is one of these; false for all other types.
    Among { texts: Vec<Box<str>>, numbers: Vec<Number> },
    /// A text that begins so; other types are an error.
    Prefix(Box<str>),
    /// A text that contains it; other types are an error.
    Contains(Box<str>),
    /// A number from the first to the last, as near as an `f64` tells; other types are an error.
    Within(f64, f64),
}

/// A number by which equal ones are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Number {
    Int(i64),
    Bits(u64),
}

impl Number {
    pub(crate) fn of_int(it: i64) -> Option<Self> {
        (it.unsigned_abs() < EXACT as u64).then_some(Self::Int(it))
    }

    pub(crate) fn of_double(it: f64) -> Option<Self> {
        if it.abs() >= EXACT {
            return None;
        }
        Some(if it.fract() == 0.0 { Self::Int(it as i64) } else { Self::Bits(it.to_bits()) })
    }
}

/// All such conditions of an expression.
pub(super) fn of(program: &Node) -> Vec<Need> {
    let mut parts = Vec::new();
    conjuncts(program, &mut parts);
    // A part before the condition that may be too costly is so whether the condition holds or not.
    let reached = parts.iter().position(|part| !cheap(part)).map_or(parts.len(), |at| at + 1);
    let mut needs: Vec<Need> = Vec::new();
    for (at, part) in parts.iter().enumerate().take(reached) {
        let Some((path, condition)) = condition(part) else { continue };
        let others = parts.iter().enumerate().filter(|(other, _)| *other != at);
        let quiet = others.into_iter().all(|(_, part)| quiet(part));
        // Both ends of a range are one condition. It fails as either does.
        let same = needs.iter_mut().find_map(|need| match (&mut need.condition, &condition) {
            (Condition::Within(from, to), Condition::Within(more, less)) if *need.path == *path => {
                Some(((from, to), (*more, *less)))
            }
            _ => None,
        });
        if let Some(((from, to), (more, less))) = same {
            (*from, *to) = (from.max(more), to.min(less));
            continue;
        }
        needs.push(Need { path: path.into(), condition, quiet });
    }
    needs
}

fn conjuncts<'p>(node: &'p Node, into: &mut Vec<&'p Node>) {
    match node {
        Node::And(pair) => pair.iter().for_each(|part| conjuncts(part, into)),
        other => into.push(other),
    }
}

fn condition(node: &Node) -> Option<(&[Step], Condition)> {
    match node {
        Node::Equal(pair) => match &**pair {
            [Node::Field(path), Node::Constant(constant)] | [Node::Constant(constant), Node::Field(path)] => {
                Some((path, among([constant])?))
            }
            _ => None,
        },
        Node::In(pair) => match &**pair {
            [Node::Field(path), Node::Constant(Constant::List(list))] => Some((path, among(list)?)),
            _ => None,
        },
        // One of several values of one field, written out.
        Node::Or(pair) => match (condition(&pair[0])?, condition(&pair[1])?) {
            (
                (path, Condition::Among { mut texts, mut numbers }),
                (other, Condition::Among { texts: more_texts, numbers: more_numbers }),
            ) if path == other => {
                texts.extend(more_texts);
                numbers.extend(more_numbers);
                Some((path, Condition::Among { texts, numbers }))
            }
            _ => None,
        },
        Node::Compare(op, pair) => {
            let (path, number, at_least) = match &**pair {
                [Node::Field(path), Node::Constant(constant)] => (path, number(constant)?, is_greater(*op)),
                [Node::Constant(constant), Node::Field(path)] => (path, number(constant)?, !is_greater(*op)),
                _ => return None,
            };
            let (from, to) = if at_least { (number, f64::INFINITY) } else { (f64::NEG_INFINITY, number) };
            Some((path, Condition::Within(from, to)))
        }
        Node::Call(op @ (Op::StartsWith | Op::EndsWith), Some(text), part) => match (&**text, &**part) {
            (Node::Field(path), [Node::Constant(Constant::Text(part))]) if *op == Op::StartsWith => {
                Some((path, Condition::Prefix(part.clone())))
            }
            (Node::Field(path), [Node::Constant(Constant::Text(part))]) => {
                Some((path, Condition::Contains(part.clone())))
            }
            _ => None,
        },
        Node::Finds(text, part) => match &**text {
            Node::Field(path) => {
                Some((path, Condition::Contains(std::str::from_utf8(part.needle()).ok()?.into())))
            }
            _ => None,
        },
        _ => None,
    }
}

fn is_greater(op: Op) -> bool {
    matches!(op, Op::Greater | Op::GreaterOrEqual)
}

fn number(constant: &Constant) -> Option<f64> {
    match constant {
        Constant::Int(it) => Some(*it as f64),
        Constant::Uint(it) => Some(*it as f64),
        Constant::Double(it) if !it.is_nan() => Some(*it),
        _ => None,
    }
}

fn among<'p>(constants: impl IntoIterator<Item = &'p Constant>) -> Option<Condition> {
    let (mut texts, mut numbers) = (Vec::new(), Vec::new());
    for constant in constants {
        match constant {
            Constant::Text(it) => texts.push(it.clone()),
            Constant::Int(it) => numbers.push(Number::of_int(*it)?),
            Constant::Uint(it) => numbers.push(Number::of_int(i64::try_from(*it).ok()?)?),
            Constant::Double(it) => numbers.push(Number::of_double(*it)?),
            _ => return None,
        }
    }
    Some(Condition::Among { texts, numbers })
}

/// Whether it takes no steps, which patterns do, and puts nothing together.
fn cheap(node: &Node) -> bool {
    match node {
        Node::Constant(_)
        | Node::Nothing
        | Node::Record
        | Node::Key
        | Node::Topic
        | Node::Partition
        | Node::Timestamp
        | Node::Field(_)
        | Node::Header(_) => true,
        Node::Has(it, _) | Node::Not(it) | Node::Negate(it) | Node::Finds(it, _) => cheap(it),
        Node::And(pair)
        | Node::Or(pair)
        | Node::Equal(pair)
        | Node::Unequal(pair)
        | Node::Compare(_, pair)
        | Node::In(pair) => pair.iter().all(cheap),
        Node::Call(Op::Contains | Op::StartsWith | Op::EndsWith | Op::Size, target, arguments) => {
            target.as_deref().is_none_or(cheap) && arguments.iter().all(cheap)
        }
        _ => false,
    }
}

/// Whether it is true, false, or fails because something is not there, for any record that is a map or null.
fn quiet(node: &Node) -> bool {
    match node {
        Node::Constant(Constant::Bool(_)) => true,
        Node::Has(of, _) => matches!(&**of, Node::Record),
        Node::Not(it) => quiet(it),
        Node::And(pair) | Node::Or(pair) => pair.iter().all(quiet),
        Node::Equal(pair) | Node::Unequal(pair) => pair.iter().all(plain),
        Node::In(pair) => plain(&pair[0]) && matches!(&pair[1], Node::Constant(Constant::List(_))),
        _ => false,
    }
}

/// The same of a value of any type.
fn plain(node: &Node) -> bool {
    match node {
        Node::Constant(_) | Node::Key | Node::Topic | Node::Partition | Node::Timestamp | Node::Header(_) => {
            true
        }
        Node::Field(path) => matches!(&**path, [Step::Name(_)]),
        _ => false,
    }
}
