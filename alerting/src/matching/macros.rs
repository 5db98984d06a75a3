//! Evaluates `exists`, `all`, `existsOne`, `map`, `filter`, `transformList` and `transformMap`, with one variable or
//! two.
//!
//! Invariant: each element is a step, and an expression has [`MAX_STEPS`] of them for one record.

use bumpalo::collections::Vec as Made;

use super::MAX_STEPS;
use super::eval::{Eval, not_boolean};
use super::fault::{EvalFault, Op};
use super::program::{ExprNode, Macro, MacroKind};
use super::value::{Val, key_order};

impl<'a> Eval<'a> {
    fn count_step(&mut self) -> Result<(), EvalFault> {
        self.steps = self.steps.saturating_add(1);
        if self.steps > MAX_STEPS { Err(EvalFault::TooCostly) } else { Ok(()) }
    }

    #[inline(never)]
    pub(super) fn macro_over(&mut self, it: &'a Macro) -> Result<Val<'a>, EvalFault> {
        let over = self.value(&it.over)?;
        let wrong = EvalFault::Type(Op::Macro, over.kind());
        match (over.items(), it.pairs) {
            (Some(items), false) => self.elements(it, items.map(|item| (item, Val::Null))),
            (Some(items), true) => {
                self.elements(it, items.enumerate().map(|(at, item)| (Val::Int(at as i64), item)))
            }
            (None, _) => self.elements(it, over.entries().ok_or(wrong)?),
        }
    }

    pub(super) fn set(&mut self, slot: usize, value: Val<'a>) {
        if let Some(variable) = self.slots.get_mut(slot) {
            *variable = value;
        }
    }

    /// Counts a step, and sets the variables to the next element.
    fn next(&mut self, it: &Macro, (first, second): (Val<'a>, Val<'a>)) -> Result<(), EvalFault> {
        self.count_step()?;
        self.set(it.slot, first);
        if it.pairs {
            self.set(it.slot + 1, second);
        }
        Ok(())
    }

    fn keeps(&mut self, guard: Option<&'a ExprNode>) -> Result<bool, EvalFault> {
        guard.map_or(Ok(true), |guard| self.truth(guard).map_err(|fault| not_boolean(fault, Op::Conditional)))
    }

    fn elements(
        &mut self,
        it: &'a Macro,
        items: impl Iterator<Item = (Val<'a>, Val<'a>)>,
    ) -> Result<Val<'a>, EvalFault> {
        match &it.kind {
            MacroKind::Exists(holds) => self.search(it, holds, true, items),
            MacroKind::All(holds) => self.search(it, holds, false, items),
            MacroKind::ExistsOne(holds) => {
                let mut count = 0_u32;
                for item in items {
                    self.next(it, item)?;
                    count += u32::from(self.keeps(Some(holds))?);
                }
                Ok(Val::Bool(count == 1))
            }
            MacroKind::Collect(guard, made) => {
                let mut list = Made::new_in(self.memory());
                for item in items {
                    self.next(it, item)?;
                    if self.keeps(guard.as_ref())? {
                        self.charge_memory(2 * size_of::<Val<'_>>())?;
                        list.push(self.value(made)?);
                    }
                }
                Ok(Val::List(list.into_bump_slice()))
            }
            MacroKind::ToMap(guard, made) => {
                let mut map = Made::new_in(self.memory());
                for item in items {
                    self.next(it, item)?;
                    if self.keeps(guard.as_ref())? {
                        self.charge_memory(4 * size_of::<Val<'_>>())?;
                        map.push((item.0, self.value(made)?));
                    }
                }
                Ok(Val::Map(sorted(map)?))
            }
        }
    }

    /// Evaluates `exists` and `all`: an element that decides does so even if others fail; otherwise the last failure
    /// counts.
    fn search(
        &mut self,
        it: &Macro,
        holds: &'a ExprNode,
        decides: bool,
        items: impl Iterator<Item = (Val<'a>, Val<'a>)>,
    ) -> Result<Val<'a>, EvalFault> {
        let (mut failed, mut found) = (None, false);
        for item in items {
            if found {
                self.count_step()?;
                break;
            }
            self.next(it, item)?;
            match self.truth(holds) {
                Ok(holds) if holds == decides => (failed, found) = (None, true),
                Ok(_) => {}
                Err(fault) => failed = Some(not_boolean(fault, if decides { Op::Or } else { Op::And })),
            }
        }
        match failed {
            Some(fault) => Err(fault),
            None => Ok(Val::Bool(found == decides)),
        }
    }
}

/// Sorts a map's entries by key; a repeated key is an error.
pub(super) fn sorted<'a>(
    mut entries: Made<'a, (Val<'a>, Val<'a>)>,
) -> Result<&'a [(Val<'a>, Val<'a>)], EvalFault> {
    entries.sort_unstable_by(|(a, _), (b, _)| key_order(a, b));
    if entries.windows(2).any(|pair| matches!(pair, [(a, _), (b, _)] if a.equals(b))) {
        return Err(EvalFault::DuplicateKey);
    }
    Ok(entries.into_bump_slice())
}
