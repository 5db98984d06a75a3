//! Derives what an expression needs of single fields to be true; the index skips most rules by it.

use super::fault::Op;
use super::program::{ExprNode, PathStep};
use super::value::Constant;

/// Integers below this are exact as `f64`.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// A predicate on one field. If the field's value fails it, the expression is false, whatever else it says. For a value
/// of a type that [`Predicate`] does not cover, only the expression decides.
#[derive(Debug, Clone)]
pub(crate) struct FieldNeed {
    /// The path of the field.
    pub(crate) path: Box<[PathStep]>,
    pub(crate) predicate: Predicate,
    /// Whether the expression is false if the field is missing. Otherwise another part may fail with a reason.
    pub(crate) false_if_missing: bool,
}

#[derive(Debug, Clone)]
pub(crate) enum Predicate {
    /// It equals one of these; false for all other types.
    Among { texts: Vec<Box<str>>, numbers: Vec<NumberKey> },
    /// A text with this prefix; other types are an error.
    Prefix(Box<str>),
    /// A text that contains it; other types are an error.
    Contains(Box<str>),
    /// A number between the two ends inclusive, as exactly as an `f64` tells; other types are an error.
    Within(f64, f64),
}

/// A number as a hash key: equal numbers have equal keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum NumberKey {
    Int(i64),
    Bits(u64),
}

impl NumberKey {
    pub(crate) fn from_int(it: i64) -> Option<Self> {
        (it.unsigned_abs() < EXACT as u64).then_some(Self::Int(it))
    }

    pub(crate) fn from_double(it: f64) -> Option<Self> {
        if it.abs() >= EXACT {
            return None;
        }
        Some(if it.fract() == 0.0 { Self::Int(it as i64) } else { Self::Bits(it.to_bits()) })
    }
}

/// Derives all needs of an expression.
pub(super) fn field_needs(program: &ExprNode) -> Vec<FieldNeed> {
    let mut parts = Vec::new();
    conjuncts(program, &mut parts);
    // A costly part before the predicate is evaluated whether the predicate holds or not.
    let reached = parts.iter().position(|part| !cheap(part)).map_or(parts.len(), |at| at + 1);
    let mut needs: Vec<FieldNeed> = Vec::new();
    for (at, part) in parts.iter().enumerate().take(reached) {
        let Some((path, predicate)) = predicate(part) else { continue };
        let others = parts.iter().enumerate().filter(|(other, _)| *other != at);
        let false_if_missing = others.into_iter().all(|(_, part)| cannot_fail(part));
        // Both ends of a range become one predicate, which fails if either end does.
        let same = needs.iter_mut().find_map(|need| match (&mut need.predicate, &predicate) {
            (Predicate::Within(from, to), Predicate::Within(more, less)) if *need.path == *path => {
                Some(((from, to), (*more, *less)))
            }
            _ => None,
        });
        if let Some(((from, to), (more, less))) = same {
            (*from, *to) = (from.max(more), to.min(less));
            continue;
        }
        needs.push(FieldNeed { path: path.into(), predicate, false_if_missing });
    }
    needs
}

fn conjuncts<'p>(node: &'p ExprNode, into: &mut Vec<&'p ExprNode>) {
    match node {
        ExprNode::And(pair) => pair.iter().for_each(|part| conjuncts(part, into)),
        other => into.push(other),
    }
}

fn predicate(node: &ExprNode) -> Option<(&[PathStep], Predicate)> {
    match node {
        ExprNode::Equal(pair) => match &**pair {
            [ExprNode::Field(path), ExprNode::Constant(constant)]
            | [ExprNode::Constant(constant), ExprNode::Field(path)] => Some((path, among([constant])?)),
            _ => None,
        },
        ExprNode::In(pair) => match &**pair {
            [ExprNode::Field(path), ExprNode::Constant(Constant::List(list))] => Some((path, among(list)?)),
            _ => None,
        },
        // Alternatives that compare one field with constants.
        ExprNode::Or(pair) => match (predicate(&pair[0])?, predicate(&pair[1])?) {
            (
                (path, Predicate::Among { mut texts, mut numbers }),
                (other, Predicate::Among { texts: more_texts, numbers: more_numbers }),
            ) if path == other => {
                texts.extend(more_texts);
                numbers.extend(more_numbers);
                Some((path, Predicate::Among { texts, numbers }))
            }
            _ => None,
        },
        ExprNode::Compare(op, pair) => {
            let (path, number, at_least) = match &**pair {
                [ExprNode::Field(path), ExprNode::Constant(constant)] => {
                    (path, number(constant)?, is_greater(*op))
                }
                [ExprNode::Constant(constant), ExprNode::Field(path)] => {
                    (path, number(constant)?, !is_greater(*op))
                }
                _ => return None,
            };
            let (from, to) = if at_least { (number, f64::INFINITY) } else { (f64::NEG_INFINITY, number) };
            Some((path, Predicate::Within(from, to)))
        }
        ExprNode::Call(op @ (Op::StartsWith | Op::EndsWith), Some(text), part) => match (&**text, &**part) {
            (ExprNode::Field(path), [ExprNode::Constant(Constant::Text(part))]) if *op == Op::StartsWith => {
                Some((path, Predicate::Prefix(part.clone())))
            }
            (ExprNode::Field(path), [ExprNode::Constant(Constant::Text(part))]) => {
                Some((path, Predicate::Contains(part.clone())))
            }
            _ => None,
        },
        ExprNode::Finds(text, part) => match &**text {
            ExprNode::Field(path) => {
                Some((path, Predicate::Contains(std::str::from_utf8(part.needle()).ok()?.into())))
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

fn among<'p>(constants: impl IntoIterator<Item = &'p Constant>) -> Option<Predicate> {
    let (mut texts, mut numbers) = (Vec::new(), Vec::new());
    for constant in constants {
        match constant {
            Constant::Text(it) => texts.push(it.clone()),
            Constant::Int(it) => numbers.push(NumberKey::from_int(*it)?),
            Constant::Uint(it) => numbers.push(NumberKey::from_int(i64::try_from(*it).ok()?)?),
            Constant::Double(it) => numbers.push(NumberKey::from_double(*it)?),
            _ => return None,
        }
    }
    Some(Predicate::Among { texts, numbers })
}

/// Whether evaluating the part takes no steps (patterns do) and allocates nothing.
fn cheap(node: &ExprNode) -> bool {
    match node {
        ExprNode::Constant(_)
        | ExprNode::Nothing
        | ExprNode::Record
        | ExprNode::Key
        | ExprNode::Topic
        | ExprNode::Partition
        | ExprNode::Timestamp
        | ExprNode::Field(_)
        | ExprNode::Header(_) => true,
        ExprNode::Has(it, _) | ExprNode::Not(it) | ExprNode::Negate(it) | ExprNode::Finds(it, _) => cheap(it),
        ExprNode::And(pair)
        | ExprNode::Or(pair)
        | ExprNode::Equal(pair)
        | ExprNode::Unequal(pair)
        | ExprNode::Compare(_, pair)
        | ExprNode::In(pair) => pair.iter().all(cheap),
        ExprNode::Call(Op::Contains | Op::StartsWith | Op::EndsWith | Op::Size, target, arguments) => {
            target.as_deref().is_none_or(cheap) && arguments.iter().all(cheap)
        }
        _ => false,
    }
}

/// Whether the part, for any record that is a map or null, is true, false, or fails only because something is missing.
fn cannot_fail(node: &ExprNode) -> bool {
    match node {
        ExprNode::Constant(Constant::Bool(_)) => true,
        ExprNode::Has(of, _) => matches!(&**of, ExprNode::Record),
        ExprNode::Not(it) => cannot_fail(it),
        ExprNode::And(pair) | ExprNode::Or(pair) => pair.iter().all(cannot_fail),
        ExprNode::Equal(pair) | ExprNode::Unequal(pair) => pair.iter().all(always_has_value),
        ExprNode::In(pair) => {
            always_has_value(&pair[0]) && matches!(&pair[1], ExprNode::Constant(Constant::List(_)))
        }
        _ => false,
    }
}

/// Like [`cannot_fail`], for a part that may have a value of any type.
fn always_has_value(node: &ExprNode) -> bool {
    match node {
        ExprNode::Constant(_)
        | ExprNode::Key
        | ExprNode::Topic
        | ExprNode::Partition
        | ExprNode::Timestamp
        | ExprNode::Header(_) => true,
        ExprNode::Field(path) => matches!(&**path, [PathStep::Name(_)]),
        _ => false,
    }
}
