//! The hub's own figures against the recount: every matching record counted once, late ones as late, none dropped.
//!
//! Never here: what arrived.

use domain::DropReason;
use protocol::messages::{RuleStatus, StatusBody};

use super::compare::Figures;
use super::hub::{Hub, of_rule};
use super::manifests::channels;
use super::recount::{Numbers, Seen, numbers};
use super::rules::SoakRule;
use super::run::{NAMESPACE, Run};
use super::{now_ms, records};
use crate::tenant::Tenant;

/// Why a record without a value is not counted.
const WITHOUT_VALUE: DropReason = DropReason::ValueMissing;

/// Adds to the figures what the hub and the objects' status say otherwise.
pub async fn audit(tenant: &Tenant, run: &Run<'_>, seen: &[Seen], figures: &mut Figures) {
    let right: Vec<(&SoakRule, Numbers)> =
        run.rules.iter().map(|rule| (rule, numbers(rule, seen, run.observed_ms))).collect();
    let hub = Hub::find().await;
    let whole = |status: &RuleStatus, right: &Numbers| status.matched >= right.matched;
    let statuses = hub
        .settled(|statuses| {
            right.iter().all(|(rule, right)| of_rule(statuses, rule.name).is_some_and(|it| whole(it, right)))
        })
        .await;
    for (rule, right) in &right {
        if let Some(status) = of_rule(&statuses, rule.name) {
            counts(rule, right, status, figures);
            begun(rule, run, status, figures);
            shown(tenant, rule, right, figures).await;
        } else {
            figures.lost += 1;
            figures.faults.push(format!("the hub has no status of rule {}", rule.name));
        }
    }
    for channel in channels(NAMESPACE) {
        let name = channel["metadata"]["name"].as_str().unwrap_or_default();
        let Some(StatusBody::NotificationChannel(status)) = statuses.get(name).map(|status| &status.body)
        else {
            figures.lost += 1;
            figures.faults.push(format!("the hub has no status of channel {name}"));
            continue;
        };
        let ended = status.dead + status.expired + status.suppressed;
        if ended > 0 {
            figures.lost += ended as usize;
            figures.faults.push(format!("channel {name}: {ended} dead, expired or suppressed: {status:?}"));
        }
    }
}

fn counts(rule: &SoakRule, right: &Numbers, status: &RuleStatus, figures: &mut Figures) {
    let without_value = status.unmatched.get(&WITHOUT_VALUE).copied().unwrap_or(0);
    for (what, counted, right) in [
        ("counted", status.matched, right.matched),
        ("counted as late", status.late, right.late),
        ("left out for want of a value", without_value, right.without_value),
    ] {
        let figure = if counted > right { &mut figures.counted_twice } else { &mut figures.lost };
        *figure += counted.abs_diff(right) as usize;
        if counted != right {
            figures.faults.push(format!("rule {}: {counted} records {what} instead of {right}", rule.name));
        }
    }
    let others: Vec<_> = status.unmatched.iter().filter(|(reason, _)| **reason != WITHOUT_VALUE).collect();
    if !others.is_empty() {
        figures.lost += others.len();
        figures.faults.push(format!("rule {} left records out: {others:?}", rule.name));
    }
}

/// Each partition must have been read from its first record on, those added under way too.
fn begun(rule: &SoakRule, run: &Run<'_>, status: &RuleStatus, figures: &mut Figures) {
    let places = records::places(run.settings);
    let all =
        places.into_iter().filter(|(topic, _)| rule.topics.contains(topic)).all(|(topic, partition)| {
            status.activation.get(&format!("{}/{partition}", run.topics[topic])) == Some(&0)
        });
    if !all {
        figures
            .faults
            .push(format!("rule {} did not count from the start: {:?}", rule.name, status.activation));
        figures.lost += 1;
    }
}

/// What a user sees: the numbers in the object's status, which the operator writes a little later.
async fn shown(tenant: &Tenant, rule: &SoakRule, right: &Numbers, figures: &mut Figures) {
    let deadline = now_ms() + 60_000;
    loop {
        let object = tenant.get(&format!("alertrule/{}", rule.name)).await.unwrap_or_default();
        let number = |name: &str| object["status"][name].as_i64().unwrap_or(0);
        if (number("matched"), number("late")) == (right.matched, right.late) {
            return;
        }
        if now_ms() > deadline {
            figures.lost += 1;
            let (matched, late) = (number("matched"), number("late"));
            figures.faults.push(format!(
                "rule {}: status says {matched} matched and {late} late instead of {} and {}",
                rule.name, right.matched, right.late
            ));
            return;
        }
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    }
}
