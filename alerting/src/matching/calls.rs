//! Recognises the macros that the parser leaves as calls: those with two variables, and those over one value.

use cel::common::ast::{CallExpr, Expr, IdedExpr};

/// A macro that the parser leaves as a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MacroCallKind {
    Exists,
    All,
    ExistsOne,
    TransformList,
    TransformMap,
    OptMap,
    OptFlatMap,
    Bind,
}

impl MacroCallKind {
    /// Whether its body is evaluated for each element.
    pub(super) fn iterates(self) -> bool {
        !matches!(self, Self::OptMap | Self::OptFlatMap | Self::Bind)
    }
}

/// A macro's call.
pub(super) struct MacroCall<'e> {
    pub(super) kind: MacroCallKind,
    /// The list, map, optional or value that gives the variables their values.
    pub(super) over: &'e IdedExpr,
    /// The names of its one or two variables.
    pub(super) names: &'e [IdedExpr],
    /// The expressions that use the variables.
    pub(super) parts: &'e [IdedExpr],
}

impl MacroCall<'_> {
    /// Whether its result is always a list, a map or an optional, never a boolean.
    pub(super) fn never_true(&self) -> bool {
        !matches!(
            self.kind,
            MacroCallKind::Exists | MacroCallKind::All | MacroCallKind::ExistsOne | MacroCallKind::Bind
        )
    }
}

/// The macro that a call is, if it is one.
pub(super) fn macro_call(call: &CallExpr) -> Option<MacroCall<'_>> {
    let (over, arguments) = (call.target.as_deref()?, call.args.as_slice());
    let (kind, names) = match (call.func_name.as_str(), arguments.len()) {
        ("exists", 3) => (MacroCallKind::Exists, 2),
        ("all", 3) => (MacroCallKind::All, 2),
        ("existsOne" | "exists_one", 3) => (MacroCallKind::ExistsOne, 2),
        ("transformList", 3 | 4) => (MacroCallKind::TransformList, 2),
        ("transformMap", 3 | 4) => (MacroCallKind::TransformMap, 2),
        ("optMap", 2) => (MacroCallKind::OptMap, 1),
        ("optFlatMap", 2) => (MacroCallKind::OptFlatMap, 1),
        ("bind", 3) if name(over) == Some("cel") => {
            let [name, value, with] = arguments else { return None };
            let one = std::slice::from_ref;
            return Some(MacroCall {
                kind: MacroCallKind::Bind,
                over: value,
                names: one(name),
                parts: one(with),
            });
        }
        _ => return None,
    };
    let (names, parts) = arguments.split_at_checked(names)?;
    Some(MacroCall { kind, over, names, parts })
}

/// The name, if the expression is nothing but a name.
pub(super) fn name(expression: &IdedExpr) -> Option<&str> {
    match &expression.expr {
        Expr::Ident(name) => Some(name),
        _ => None,
    }
}
