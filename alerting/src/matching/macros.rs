//! `exists`, `all`, `exists_one`, `map` and `filter`.
//!
//! Invariant: each element is a step, and an expression has [`MAX_STEPS`] for one record.

use bumpalo::collections::Vec as Made;

use super::MAX_STEPS;
use super::eval::{Eval, not_boolean};
use super::fault::{Fault, Op};
use super::program::{Macro, MacroKind, Node};
use super::value::Val;

impl<'a> Eval<'a> {
    fn step(&mut self) -> Result<(), Fault> {
        self.steps = self.steps.saturating_add(1);
        if self.steps > MAX_STEPS { Err(Fault::TooCostly) } else { Ok(()) }
    }

    #[inline(never)]
    pub(super) fn macro_over(&mut self, it: &'a Macro) -> Result<Val<'a>, Fault> {
        let over = self.value(&it.over)?;
        let wrong = Fault::Type(Op::Macro, over.kind());
        if let Some(items) = over.items() {
            self.elements(it, items)
        } else {
            let keys = over.entries().ok_or(wrong)?.map(|(key, _)| key);
            self.elements(it, keys)
        }
    }

    fn set(&mut self, slot: usize, value: Val<'a>) {
        if let Some(place) = self.slots.get_mut(slot) {
            *place = value;
        }
    }

    fn elements(&mut self, it: &'a Macro, items: impl Iterator<Item = Val<'a>>) -> Result<Val<'a>, Fault> {
        match &it.kind {
            MacroKind::Exists(holds) => self.search(it.slot, holds, true, items),
            MacroKind::All(holds) => self.search(it.slot, holds, false, items),
            MacroKind::ExistsOne(holds) => {
                let mut count = 0_u32;
                for item in items {
                    self.step()?;
                    self.set(it.slot, item);
                    let holds = self.truth(holds).map_err(|fault| not_boolean(fault, Op::Conditional))?;
                    count += u32::from(holds);
                }
                Ok(Val::Bool(count == 1))
            }
            MacroKind::Collect(guard, made) => {
                let mut list = Made::new_in(self.memory());
                for item in items {
                    self.step()?;
                    self.set(it.slot, item);
                    let keeps = match guard {
                        Some(guard) => {
                            self.truth(guard).map_err(|fault| not_boolean(fault, Op::Conditional))?
                        }
                        None => true,
                    };
                    if keeps {
                        self.spend(2 * size_of::<Val<'_>>())?;
                        list.push(self.value(made)?);
                    }
                }
                Ok(Val::List(list.into_bump_slice()))
            }
        }
    }

    /// `exists` and `all`: one element decides whatever fails for the others; else the last failure counts.
    fn search(
        &mut self,
        slot: usize,
        holds: &'a Node,
        decides: bool,
        items: impl Iterator<Item = Val<'a>>,
    ) -> Result<Val<'a>, Fault> {
        let (mut failed, mut found) = (None, false);
        for item in items {
            self.step()?;
            if found {
                break;
            }
            self.set(slot, item);
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
