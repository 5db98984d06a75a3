//! The status of a resource.

use crds::resource::{BookableResourceStatus, Booking};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::conditions::{Conditions, Standing, reasons};
use crate::conflicts::{Booked, Bookings};
use crate::validate::Invalid;

/// The status of a resource. If there are no bookings but an error, the resource can't be booked.
pub fn resource(
    before: &[Condition],
    generation: i64,
    found: Result<&Bookings, &Invalid>,
    now: Timestamp,
) -> BookableResourceStatus {
    let mut conditions = Conditions::new(before, generation, now);
    let standing = match found {
        Ok(Bookings { is_short: true, .. }) => Standing::Ready {
            reason: reasons::READY,
            message: "schedules may book it; too much holds it to show when".to_owned(),
        },
        Ok(_) => Standing::Ready { reason: reasons::READY, message: "schedules may book it".to_owned() },
        Err(invalid) => Standing::Stalled {
            reason: invalid.reason.to_owned(),
            message: format!("{}; it is taken as absent, and no schedule may book it", invalid.message),
        },
    };
    conditions.stand(&standing);
    let bookings = found.ok().filter(|bookings| !bookings.is_short);
    let shown = |all: &[Booked]| all.iter().map(shown).collect();
    BookableResourceStatus {
        observed_generation: generation,
        conditions: conditions.finish(),
        in_use: bookings.map(|it| i64::try_from(it.in_use).unwrap_or(i64::MAX)),
        now: bookings.map(|it| shown(&it.now)).unwrap_or_default(),
        next: bookings.map(|it| shown(&it.next)).unwrap_or_default(),
    }
}

fn shown(booked: &Booked) -> Booking {
    let Booked { schedule, held } = booked;
    Booking { start: Time(held.start), end: Time(held.end), schedule: schedule.clone() }
}
