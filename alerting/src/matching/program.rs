//! A compiled expression: the syntax tree with its names resolved, its macros known as such, and what is constant
//! computed.

use std::sync::Arc;

use memchr::memmem::Finder;

use crate::document::{Data, Name, Node as Place};
use crate::patterns::Measured;

use super::fault::{Fault, Kind, Op};
use super::value::{Constant, Val};

/// A step of a path into the record.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Step {
    Name(Name),
    Index(i64),
}

/// Part of an expression.
#[derive(Debug)]
pub(super) enum Node {
    Constant(Constant),
    /// A name that has no value.
    Nothing,
    Record,
    Key,
    Headers,
    Topic,
    Partition,
    Timestamp,
    /// A path into the record whose steps are written out.
    Field(Box<[Step]>),
    /// The header of that name.
    Header(Box<str>),
    /// A variable of a macro.
    Slot(usize),
    Select(Box<Node>, Name),
    Has(Box<Node>, Name),
    /// `.?name`
    OptionalSelect(Box<Node>, Name),
    Index(Box<[Node; 2]>),
    /// `[?index]`
    OptionalIndex(Box<[Node; 2]>),
    Not(Box<Node>),
    Negate(Box<Node>),
    And(Box<[Node; 2]>),
    Or(Box<[Node; 2]>),
    Conditional(Box<[Node; 3]>),
    Equal(Box<[Node; 2]>),
    Unequal(Box<[Node; 2]>),
    Compare(Op, Box<[Node; 2]>),
    In(Box<[Node; 2]>),
    Arithmetic(Op, Box<[Node; 2]>),
    /// Each element, and whether it is left out where it is an empty optional.
    List(Box<[(Node, bool)]>),
    /// Each key and value, and whether they are left out where the value is an empty optional.
    Map(Box<[(Node, Node, bool)]>),
    Call(Op, Option<Box<Node>>, Box<[Node]>),
    /// `contains` of a text that is written out.
    Finds(Box<Node>, Box<Finder<'static>>),
    Matches(Box<Node>, Arc<Measured>),
    Macro(Box<Macro>),
    /// `optMap` and, if its result is the optional itself, `optFlatMap`: of what, where its variable is, the result.
    OptionalMap {
        of: Box<Node>,
        slot: usize,
        made: Box<Node>,
        flat: bool,
    },
    /// `cel.bind`: where its variable is, what it is, and what is said with it.
    Bind(usize, Box<[Node; 2]>),
    /// `math.greatest` and `math.least` of what is given, or of the only one's elements.
    Extreme(Op, Box<[Node]>),
}

/// A macro over a list or over a map.
#[derive(Debug)]
pub(super) struct Macro {
    pub(super) over: Node,
    /// Where its variable is, an element or a key.
    pub(super) slot: usize,
    /// It has two variables: an index or a key is the first, the element or value, in the next slot, the second.
    pub(super) pairs: bool,
    pub(super) kind: MacroKind,
}

#[derive(Debug)]
pub(super) enum MacroKind {
    Exists(Node),
    All(Node),
    ExistsOne(Node),
    /// Those for which the first holds, each made into the second.
    Collect(Option<Node>, Node),
    /// The same, each the value of its index or key.
    ToMap(Option<Node>, Node),
}

/// Follows a path from the record's value.
#[inline]
pub(crate) fn follow<'a>(from: Place<'a>, steps: &[Step]) -> Result<Place<'a>, Fault> {
    steps.iter().try_fold(from, |place, step| match (place.data(), step) {
        (Data::Map(map), Step::Name(name)) => map.get(name).ok_or(Fault::Missing),
        (Data::List(list), Step::Index(index)) => {
            usize::try_from(*index).ok().and_then(|index| list.get(index)).ok_or(Fault::Missing)
        }
        (Data::Null, _) | (Data::Map(_), Step::Index(_)) => Err(Fault::Missing),
        (_, step) => {
            let of = Val::of(place).kind();
            Err(match step {
                Step::Name(_) => Fault::Types(Op::Select, of, Kind::Text),
                Step::Index(_) => Fault::Types(Op::Index, of, Kind::Int),
            })
        }
    })
}
