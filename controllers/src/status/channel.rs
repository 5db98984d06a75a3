//! The status of a channel.

use crds::channel::{DeliveryCounts, NotificationChannelStatus, ResendResult, TestResult};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use protocol::messages::{ChannelStatus, RequestStatus, StatusBody};

use super::{Facts, history, moment};
use crate::conditions::{Conditions, Is, cut, reasons, types};

/// The status of a channel; `before` is what it shows now.
pub fn channel(facts: &Facts<'_>, before: &NotificationChannelStatus) -> NotificationChannelStatus {
    let mut conditions = Conditions::new(facts.before, facts.generation, facts.now);
    let told = match facts.hub_status().map(|told| &told.body) {
        Some(StatusBody::NotificationChannel(told)) => Some(told),
        _ => None,
    };
    let dropped = told.map_or(0, |told| told.history_dropped);
    let ready =
        || facts.ready(&history("workers are ready to send; Healthy tells what receivers answer", dropped));
    conditions.stand(&facts.trouble().unwrap_or_else(ready));
    let Some(told) = told else {
        // Nothing new is known of the other fields, so they stay.
        conditions.keep(types::HEALTHY);
        return NotificationChannelStatus {
            observed_generation: facts.generation,
            conditions: conditions.finish(),
            ..before.clone()
        };
    };
    let (is, reason, message) = health(told);
    conditions.set(types::HEALTHY, is, reason, &message);
    NotificationChannelStatus {
        observed_generation: facts.generation,
        conditions: conditions.finish(),
        deliveries: Some(DeliveryCounts {
            pending: told.pending,
            retrying: told.retrying,
            delivered: told.delivered,
            dead: told.dead,
            expired: told.expired,
            suppressed: told.suppressed,
        }),
        last_delivery_time: moment(told.last_delivery),
        last_error: told.last_error.as_deref().map(|error| cut(error, 500)),
        last_error_time: moment(told.last_error_time),
        // A hub that lost its database does not know these requests, and they are not made again, so the earlier
        // results stay.
        last_test: told.last_test.as_ref().map(test_result).or_else(|| before.last_test.clone()),
        last_resend: told.last_resend.as_ref().map(resend_result).or_else(|| before.last_resend.clone()),
    }
}

fn test_result(told: &RequestStatus) -> TestResult {
    TestResult { request: cut(&told.request, 500), time: Time(told.time), result: cut(&told.result, 1_000) }
}

fn resend_result(told: &RequestStatus) -> ResendResult {
    let TestResult { request, time, result } = test_result(told);
    ResendResult { request, time, count: told.count, result }
}

fn health(told: &ChannelStatus) -> (Is, &'static str, String) {
    if told.consecutive_failures > 0 {
        let error = told.last_error.as_deref().unwrap_or("no reason was given");
        (Is::False, reasons::FAILING, format!("the last attempts failed: {}", cut(error, 500)))
    } else if told.last_delivery.is_some() {
        (Is::True, reasons::DELIVERING, "the last attempt succeeded".to_owned())
    } else {
        (
            Is::Unknown,
            reasons::NOTHING_SENT,
            "nothing was sent yet; annotate belfry.dev/send-test to try".to_owned(),
        )
    }
}
