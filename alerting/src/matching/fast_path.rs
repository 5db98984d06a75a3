//! A fast path for comparisons that need nothing but the record.

use std::cmp::Ordering;

use crate::document::{Node, NodeData};

use super::fault::{EvalFault, Op, ValueType};
use super::functions::holds;
use super::program::{ExprNode, PathStep, follow};
use super::value::{Constant, Val};

/// The answer of a part that compares fields of the record with each other or with literals; `None` for any other part.
/// Most rules consist of such parts.
#[inline]
pub(super) fn direct(node: &ExprNode, value: Node<'_>) -> Option<Result<bool, EvalFault>> {
    Some(match node {
        ExprNode::Equal(pair) => match &**pair {
            [ExprNode::Field(left), ExprNode::Constant(right)] => {
                follow(value, left).map(|left| right.is(left))
            }
            [ExprNode::Field(left), ExprNode::Field(right)] => fields_equal(value, left, right),
            _ => return None,
        },
        ExprNode::Compare(op, pair) => match &**pair {
            [ExprNode::Field(left), ExprNode::Constant(right)] => follow(value, left).and_then(|left| {
                let wrong = || EvalFault::Types(*op, Val::from_node(left).kind(), right.val().kind());
                right.order(left).map(|order| in_order(*op, order)).ok_or_else(wrong)
            }),
            _ => return None,
        },
        ExprNode::In(pair) => match &**pair {
            [ExprNode::Field(item), ExprNode::Constant(Constant::List(list))] => {
                follow(value, item).map(|item| list.iter().any(|it| it.is(item)))
            }
            _ => return None,
        },
        ExprNode::Call(op @ (Op::StartsWith | Op::EndsWith), Some(text), part) => match (&**text, &**part) {
            (ExprNode::Field(text), [ExprNode::Constant(Constant::Text(part))]) => follow(value, text)
                .and_then(|text| match text.data() {
                    NodeData::Text(text) => Ok(holds(*op, text, part)),
                    _ => Err(EvalFault::Types(*op, Val::from_node(text).kind(), ValueType::Text)),
                }),
            _ => return None,
        },
        ExprNode::Finds(text, part) => match &**text {
            ExprNode::Field(text) => follow(value, text).and_then(|text| match text.data() {
                NodeData::Text(text) => Ok(part.find(text.as_bytes()).is_some()),
                _ => Err(EvalFault::Types(Op::Contains, Val::from_node(text).kind(), ValueType::Text)),
            }),
            _ => return None,
        },
        ExprNode::Constant(Constant::Bool(it)) => Ok(*it),
        _ => return None,
    })
}

fn fields_equal(value: Node<'_>, left: &[PathStep], right: &[PathStep]) -> Result<bool, EvalFault> {
    let (left, right) = (follow(value, left)?, follow(value, right)?);
    Ok(match (left.data(), right.data()) {
        (NodeData::Int(a), NodeData::Int(b)) => a == b,
        _ => Val::from_node(left).equals(&Val::from_node(right)),
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
