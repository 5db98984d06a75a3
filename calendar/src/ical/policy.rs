//! The daylight-saving policy. iCalendar has no property for it, so we read and write X-BELFRY-DST.
//!
//! For other readers, [`super::write`] adds EXDATE and RDATE with the same meaning. The policy is never guessed
//! from these.

use super::Remark;
use super::component::Component;
use crate::zone::{Dst, Fold, Gap};

pub(super) const PROPERTY: &str = "X-BELFRY-DST";

/// Reads `GAP=SKIP;FOLD=BOTH`; each part is optional.
pub(super) fn read_policy(event: &Component) -> Result<Dst, Remark> {
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

/// `None` for the policy that RFC 5545 defines.
pub(super) fn write_policy(dst: Dst) -> Option<String> {
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
