//! The functions of the math extension.

use std::cmp::Ordering;

use super::eval::Eval;
use super::fault::{EvalFault, Op};
use super::program::ExprNode;
use super::value::Val;

impl<'a> Eval<'a> {
    /// Evaluates `math.greatest` and `math.least`; of equal numbers the first one is returned as it is.
    #[inline(never)]
    pub(super) fn extreme(&mut self, op: Op, given: &'a [ExprNode]) -> Result<Val<'a>, EvalFault> {
        let mut best = None;
        for node in given {
            let value = self.value(node)?;
            match value.items() {
                Some(items) if given.len() == 1 => {
                    self.charge_read(items.size_hint().0)?;
                    items.into_iter().try_for_each(|item| better(op, &mut best, item))?;
                }
                _ => better(op, &mut best, value)?,
            }
        }
        best.ok_or(EvalFault::Value(op))
    }
}

fn better<'a>(op: Op, best: &mut Option<Val<'a>>, value: Val<'a>) -> Result<(), EvalFault> {
    if !matches!(value, Val::Int(_) | Val::Uint(_) | Val::Double(_)) {
        return Err(EvalFault::Type(op, value.kind()));
    }
    let wanted = if op == Op::Greatest { Ordering::Greater } else { Ordering::Less };
    if best.is_none_or(|best| value.compare(&best) == Some(wanted)) {
        *best = Some(value);
    }
    Ok(())
}

/// Applies a function to its arguments.
pub(super) fn apply<'a>(op: Op, given: &[Val<'a>]) -> Result<Val<'a>, EvalFault> {
    match *given {
        [of] => unary(op, of).unwrap_or(Err(EvalFault::Type(op, of.kind()))),
        [of, with] => bits(op, of, with).unwrap_or(Err(EvalFault::Types(op, of.kind(), with.kind()))),
        _ => Err(EvalFault::Arguments(op)),
    }
}

fn unary(op: Op, of: Val<'_>) -> Option<Result<Val<'_>, EvalFault>> {
    Some(Ok(match (op, of) {
        (Op::Ceil, Val::Double(it)) => Val::Double(it.ceil()),
        (Op::Floor, Val::Double(it)) => Val::Double(it.floor()),
        // Rounds half away from zero.
        (Op::Round, Val::Double(it)) => Val::Double(it.round()),
        (Op::Trunc, Val::Double(it)) => Val::Double(it.trunc()),
        (Op::IsInf, Val::Double(it)) => Val::Bool(it.is_infinite()),
        (Op::IsNan, Val::Double(it)) => Val::Bool(it.is_nan()),
        (Op::IsFinite, Val::Double(it)) => Val::Bool(it.is_finite()),
        (Op::Abs, Val::Double(it)) => Val::Double(it.abs()),
        (Op::Abs, Val::Int(it)) => {
            return Some(it.checked_abs().map(Val::Int).ok_or(EvalFault::Overflow(op)));
        }
        (Op::Abs, Val::Uint(_)) => of,
        (Op::Sign, Val::Int(it)) => Val::Int(it.signum()),
        (Op::Sign, Val::Uint(it)) => Val::Uint(it.min(1)),
        (Op::Sign, Val::Double(it)) if it == 0.0 || it.is_nan() => Val::Double(it.abs()),
        (Op::Sign, Val::Double(it)) => Val::Double(it.signum()),
        (Op::Sqrt, Val::Double(it)) => Val::Double(it.sqrt()),
        (Op::Sqrt, Val::Int(it)) => Val::Double((it as f64).sqrt()),
        (Op::Sqrt, Val::Uint(it)) => Val::Double((it as f64).sqrt()),
        (Op::BitNot, Val::Int(it)) => Val::Int(!it),
        (Op::BitNot, Val::Uint(it)) => Val::Uint(!it),
        _ => return None,
    }))
}

fn bits<'a>(op: Op, of: Val<'a>, with: Val<'a>) -> Option<Result<Val<'a>, EvalFault>> {
    Some(Ok(match (op, of, with) {
        (Op::BitAnd, Val::Int(a), Val::Int(b)) => Val::Int(a & b),
        (Op::BitAnd, Val::Uint(a), Val::Uint(b)) => Val::Uint(a & b),
        (Op::BitOr, Val::Int(a), Val::Int(b)) => Val::Int(a | b),
        (Op::BitOr, Val::Uint(a), Val::Uint(b)) => Val::Uint(a | b),
        (Op::BitXor, Val::Int(a), Val::Int(b)) => Val::Int(a ^ b),
        (Op::BitXor, Val::Uint(a), Val::Uint(b)) => Val::Uint(a ^ b),
        (Op::ShiftLeft | Op::ShiftRight, Val::Int(_) | Val::Uint(_), Val::Int(places)) => {
            let Ok(places) = u32::try_from(places.min(64)) else { return Some(Err(EvalFault::Value(op))) };
            // A logical shift: the sign bit moves like the others.
            let shifted = |it: u64| {
                if op == Op::ShiftLeft { it.checked_shl(places) } else { it.checked_shr(places) }
            };
            match of {
                Val::Int(it) => Val::Int(shifted(it as u64).unwrap_or(0) as i64),
                Val::Uint(it) => Val::Uint(shifted(it).unwrap_or(0)),
                _ => return None,
            }
        }
        _ => return None,
    }))
}
