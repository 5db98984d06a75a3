//! Comparisons of fields that need nothing but the record.

use std::cmp::Ordering;

use crate::document::{Data, Node as Place};

use super::fault::{Fault, Kind, Op};
use super::functions::holds;
use super::program::{Node, Step, follow};
use super::value::{Constant, Val};

/// The answer of a part that compares fields of the record with each other or with what is written out: most rules are
/// made of such parts, and they need nothing but the record.
#[inline]
pub(super) fn direct(node: &Node, value: Place<'_>) -> Option<Result<bool, Fault>> {
    Some(match node {
        Node::Equal(pair) => match &**pair {
            [Node::Field(left), Node::Constant(right)] => follow(value, left).map(|left| right.is(left)),
            [Node::Field(left), Node::Field(right)] => fields_equal(value, left, right),
            _ => return None,
        },
        Node::Compare(op, pair) => match &**pair {
            [Node::Field(left), Node::Constant(right)] => follow(value, left).and_then(|left| {
                let wrong = || Fault::Types(*op, Val::of(left).kind(), right.val().kind());
                right.order(left).map(|order| in_order(*op, order)).ok_or_else(wrong)
            }),
            _ => return None,
        },
        Node::In(pair) => match &**pair {
            [Node::Field(item), Node::Constant(Constant::List(list))] => {
                follow(value, item).map(|item| list.iter().any(|it| it.is(item)))
            }
            _ => return None,
        },
        Node::Call(op @ (Op::StartsWith | Op::EndsWith), Some(text), part) => match (&**text, &**part) {
            (Node::Field(text), [Node::Constant(Constant::Text(part))]) => {
                follow(value, text).and_then(|text| match text.data() {
                    Data::Text(text) => Ok(holds(*op, text, part)),
                    _ => Err(Fault::Types(*op, Val::of(text).kind(), Kind::Text)),
                })
            }
            _ => return None,
        },
        Node::Finds(text, part) => match &**text {
            Node::Field(text) => follow(value, text).and_then(|text| match text.data() {
                Data::Text(text) => Ok(part.find(text.as_bytes()).is_some()),
                _ => Err(Fault::Types(Op::Contains, Val::of(text).kind(), Kind::Text)),
            }),
            _ => return None,
        },
        Node::Constant(Constant::Bool(it)) => Ok(*it),
        _ => return None,
    })
}

fn fields_equal(value: Place<'_>, left: &[Step], right: &[Step]) -> Result<bool, Fault> {
    let (left, right) = (follow(value, left)?, follow(value, right)?);
    Ok(match (left.data(), right.data()) {
        (Data::Int(a), Data::Int(b)) => a == b,
        _ => Val::of(left).equals(&Val::of(right)),
    })
}

#[inline]
pub(super) fn in_order(op: Op, order: Ordering) -> bool {
    match op {
        Op::Less => order == Ordering::Less,
        Op::LessOrEqual => order != Ordering::Greater,
        Op::Greater => order == Ordering::Greater,
        _ => order != Ordering::Less,
    }
}
