//! A compiled expression: the syntax tree with names resolved, macros recognised, and constant parts computed.

use std::sync::Arc;

use memchr::memmem::Finder;

use crate::document::{FieldName, Node, NodeData};
use crate::patterns::MeasuredRegex;

use super::fault::{EvalFault, Op, ValueType};
use super::value::{Constant, Val};

/// A step of a path into the record.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum PathStep {
    Name(FieldName),
    Index(i64),
}

/// A node of a compiled expression.
#[derive(Debug)]
pub(super) enum ExprNode {
    Constant(Constant),
    /// A name that has no value.
    Nothing,
    Record,
    Key,
    Headers,
    Topic,
    Partition,
    Timestamp,
    /// A path into the record whose steps are literals.
    Field(Box<[PathStep]>),
    /// The header of that name.
    Header(Box<str>),
    /// A variable of a macro.
    Slot(usize),
    Select(Box<ExprNode>, FieldName),
    Has(Box<ExprNode>, FieldName),
    /// `.?name`
    OptionalSelect(Box<ExprNode>, FieldName),
    Index(Box<[ExprNode; 2]>),
    /// `[?index]`
    OptionalIndex(Box<[ExprNode; 2]>),
    Not(Box<ExprNode>),
    Negate(Box<ExprNode>),
    And(Box<[ExprNode; 2]>),
    Or(Box<[ExprNode; 2]>),
    Conditional(Box<[ExprNode; 3]>),
    Equal(Box<[ExprNode; 2]>),
    Unequal(Box<[ExprNode; 2]>),
    Compare(Op, Box<[ExprNode; 2]>),
    In(Box<[ExprNode; 2]>),
    Arithmetic(Op, Box<[ExprNode; 2]>),
    /// The elements; true if an element that is an empty optional is left out.
    List(Box<[(ExprNode, bool)]>),
    /// The keys and values; true if an entry whose value is an empty optional is left out.
    Map(Box<[(ExprNode, ExprNode, bool)]>),
    Call(Op, Option<Box<ExprNode>>, Box<[ExprNode]>),
    /// `contains` with a literal text.
    Finds(Box<ExprNode>, Box<Finder<'static>>),
    Matches(Box<ExprNode>, Arc<MeasuredRegex>),
    Macro(Box<Macro>),
    /// `optMap`, or `optFlatMap` if `flat`: the optional, the slot of its variable, and the result.
    OptionalMap {
        of: Box<ExprNode>,
        slot: usize,
        made: Box<ExprNode>,
        flat: bool,
    },
    /// `cel.bind`: the slot of its variable, the variable's value, and the expression that uses it.
    Bind(usize, Box<[ExprNode; 2]>),
    /// `math.greatest` and `math.least` of the arguments, or of the elements of a single list.
    Extreme(Op, Box<[ExprNode]>),
}

/// A macro over a list or over a map.
#[derive(Debug)]
pub(super) struct Macro {
    pub(super) over: ExprNode,
    /// The slot of its first variable: an element or a key.
    pub(super) slot: usize,
    /// Whether it has two variables: an index or key, and, in the next slot, the element or value.
    pub(super) pairs: bool,
    pub(super) kind: MacroKind,
}

#[derive(Debug)]
pub(super) enum MacroKind {
    Exists(ExprNode),
    All(ExprNode),
    ExistsOne(ExprNode),
    /// A list of the elements for which the first expression holds, each mapped by the second.
    Collect(Option<ExprNode>, ExprNode),
    /// A map of them from their indices or keys.
    ToMap(Option<ExprNode>, ExprNode),
}

/// Follows a path from the record's value.
#[inline]
pub(crate) fn follow<'a>(from: Node<'a>, steps: &[PathStep]) -> Result<Node<'a>, EvalFault> {
    steps.iter().try_fold(from, |node, step| match (node.data(), step) {
        (NodeData::Map(map), PathStep::Name(name)) => map.get(name).ok_or(EvalFault::Missing),
        (NodeData::List(list), PathStep::Index(index)) => {
            usize::try_from(*index).ok().and_then(|index| list.get(index)).ok_or(EvalFault::Missing)
        }
        (NodeData::Null, _) | (NodeData::Map(_), PathStep::Index(_)) => Err(EvalFault::Missing),
        (_, step) => {
            let of = Val::from_node(node).kind();
            Err(match step {
                PathStep::Name(_) => EvalFault::Types(Op::Select, of, ValueType::Text),
                PathStep::Index(_) => EvalFault::Types(Op::Index, of, ValueType::Int),
            })
        }
    })
}
