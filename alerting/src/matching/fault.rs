//! Why an expression has no value for a record: four bytes, put into words only when somebody reads them.

use std::fmt;

use domain::DropReason;

/// The type of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ValueType {
    Null,
    Bool,
    Int,
    Uint,
    Double,
    Text,
    Bytes,
    List,
    Map,
    Time,
    Span,
    Type,
    Optional,
}

impl ValueType {
    /// The type's name in CEL.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Null => "null_type",
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Uint => "uint",
            Self::Double => "double",
            Self::Text => "string",
            Self::Bytes => "bytes",
            Self::List => "list",
            Self::Map => "map",
            Self::Time => "google.protobuf.Timestamp",
            Self::Span => "google.protobuf.Duration",
            Self::Type => "type",
            Self::Optional => "optional_type",
        }
    }

    /// The type with this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "bool" => Self::Bool,
            "bytes" => Self::Bytes,
            "double" => Self::Double,
            "int" => Self::Int,
            "list" => Self::List,
            "map" => Self::Map,
            "null_type" => Self::Null,
            "optional_type" => Self::Optional,
            "string" => Self::Text,
            "type" => Self::Type,
            "uint" => Self::Uint,
            _ => return None,
        })
    }
}

macro_rules! operations {
    ($($variant:ident $name:literal),* $(,)?) => {
        /// An operator or function.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Op {
            $(#[doc = $name] $variant,)*
        }

        impl Op {
            /// Its name in CEL.
            fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

operations! {
    Or "||", And "&&", Not "!", Negate "-", Conditional "?:", Less "<", LessOrEqual "<=", Greater ">",
    GreaterOrEqual ">=", In "in", Add "+", Subtract "-", Multiply "*", Divide "/", Remainder "%", Select ".",
    Index "[]", Macro "a macro over it", MapKey "a map with it as a key",
    Size "size", Contains "contains", StartsWith "startsWith", EndsWith "endsWith", Matches "matches",
    ToString "string", ToInt "int", ToUint "uint", ToDouble "double", ToBool "bool", ToBytes "bytes", TypeOf "type",
    Dyn "dyn", Timestamp "timestamp", Duration "duration", FullYear "getFullYear", Month "getMonth",
    DayOfYear "getDayOfYear", DayOfMonth "getDayOfMonth", Date "getDate", DayOfWeek "getDayOfWeek", Hours "getHours",
    Minutes "getMinutes", Seconds "getSeconds", Milliseconds "getMilliseconds", Value "value", HasValue "hasValue", OrOptional "or",
    OrValue "orValue", OptionalOf "optional.of", OfNonZero "optional.ofNonZeroValue", OptionalNone "optional.none",
    OptMap "optMap", CharAt "charAt", IndexOf "indexOf", LastIndexOf "lastIndexOf", Join "join", LowerAscii "lowerAscii",
    UpperAscii "upperAscii", Trim "trim", Replace "replace", Split "split", Substring "substring", Reverse "reverse",
    Quote "strings.quote", Greatest "math.greatest", Least "math.least", Ceil "math.ceil", Floor "math.floor",
    Round "math.round", Trunc "math.trunc", Abs "math.abs", Sign "math.sign", Sqrt "math.sqrt", IsInf "math.isInf",
    IsNan "math.isNaN", IsFinite "math.isFinite", BitAnd "math.bitAnd", BitOr "math.bitOr", BitXor "math.bitXor",
    BitNot "math.bitNot", ShiftLeft "math.bitShiftLeft", ShiftRight "math.bitShiftRight",
}

/// Why there is no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EvalFault {
    /// A field is missing.
    Missing,
    /// The whole expression is neither true nor false.
    NotBoolean(ValueType),
    /// A condition is neither true nor false.
    NotCondition(ValueType),
    /// The operation does not take a value of that type.
    Type(Op, ValueType),
    /// The operation does not take values of these types.
    Types(Op, ValueType, ValueType),
    /// The operation takes another number of values.
    Arguments(Op),
    /// Division by zero.
    Zero,
    /// Beyond the range of the type.
    Overflow(Op),
    /// A value that the function can't be applied to.
    Value(Op),
    /// The record would cost more than allowed.
    TooCostly,
    /// A map with the same key twice.
    DuplicateKey,
    /// A name without a value.
    Nothing,
}

impl EvalFault {
    /// The reason for dropping the record; `None` if a field is missing, which is just no match.
    pub(crate) fn reason(self) -> Option<DropReason> {
        Some(match self {
            Self::Missing => return None,
            Self::NotBoolean(_) => DropReason::MatchNotBoolean,
            Self::NotCondition(_) | Self::Type(..) | Self::Types(..) | Self::Arguments(_) => {
                DropReason::MatchWrongType
            }
            Self::Zero | Self::Overflow(_) => DropReason::MatchArithmetic,
            Self::TooCostly => DropReason::MatchTooCostly,
            Self::Value(_) | Self::DuplicateKey | Self::Nothing => DropReason::MatchFailed,
        })
    }
}

impl fmt::Display for EvalFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("a field is not there"),
            Self::NotBoolean(kind) => write!(f, "it is of type {}, not true or false", kind.name()),
            Self::NotCondition(kind) => write!(f, "a condition is of type {}, not bool", kind.name()),
            Self::Type(op, kind) => write!(f, "`{}` does not take {}", op.name(), kind.name()),
            Self::Types(op, left, right) => {
                write!(f, "`{}` does not take {} and {}", op.name(), left.name(), right.name())
            }
            Self::Arguments(op) => write!(f, "`{}` takes another number of values", op.name()),
            Self::Zero => f.write_str("division by zero"),
            Self::Overflow(op) => write!(f, "`{}` overflows", op.name()),
            Self::Value(op) => write!(f, "`{}` can't be applied to this record", op.name()),
            Self::TooCostly => {
                write!(
                    f,
                    "more than one record may cost: {} steps, or what functions and patterns read",
                    super::MAX_STEPS
                )
            }
            Self::DuplicateKey => f.write_str("a map has the same key twice"),
            Self::Nothing => f.write_str("can't be evaluated for this record"),
        }
    }
}
