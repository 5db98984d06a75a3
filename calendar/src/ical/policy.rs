//! The daylight-saving policy in iCalendar, which has no words for it: read and written as X-BELFRY-DST.
//!
//! Beside it stand the EXDATE and RDATE that say the same to everybody else ([`super::write`]). Never: a policy guessed
//! from these alone.

use super::Remark;
use super::component::Component;
use crate::zone::{Dst, Fold, Gap};

pub(super) const PROPERTY: &str = "X-BELFRY-DST";

/// `GAP=SKIP;FOLD=BOTH`, each part once or not at all.
pub(super) fn read(event: &Component) -> Result<Dst, Remark> {
    let mut dst = Dst::default();
    let Some(line) = event.first(PROPERTY) else { return Ok(dst) };
    for part in line.value.trim().to_ascii_uppercase().split(';') {
        match part {
            "GAP=SHIFTFORWARD" => dst.gap = Gap::ShiftForward,
            "GAP=SKIP" => dst.gap = Gap::Skip,
            "FOLD=FIRST" => dst.fold = Fold::First,
            "FOLD=LAST" => dst.fold = Fold::Last,
            "FOLD=BOTH" => dst.fold = Fold::Both,
            _ => {
                return Err(Remark::new(
                    line.number,
                    format!("{PROPERTY}: allowed are GAP=SHIFTFORWARD or SKIP, and FOLD=FIRST, LAST or BOTH"),
                ));
            }
        }
    }
    Ok(dst)
}

/// None for what RFC 5545 says anyway.
pub(super) fn write(dst: Dst) -> Option<String> {
    let gap = match dst.gap {
        Gap::ShiftForward => "GAP=SHIFTFORWARD",
        Gap::Skip => "GAP=SKIP",
    };
    let fold = match dst.fold {
        Fold::First => "FOLD=FIRST",
        Fold::Last => "FOLD=LAST",
        Fold::Both => "FOLD=BOTH",
    };
    (dst != Dst::default()).then(|| format!("{gap};{fold}"))
}
