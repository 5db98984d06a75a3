//! The status of a rule.

use std::collections::BTreeMap;

use crds::rule::{AlertRuleStatus, FiringGroup};
use domain::{DropReason, PlanBody};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use protocol::messages::{RuleStatus, StatusBody, Uncountable};

use super::{Facts, deliveries, moment, under_way, waiting};
use crate::conditions::{Conditions, Is, Standing, cut, reasons, types};

/// The status of a rule; `before` is what it shows now.
pub fn rule(facts: &Facts<'_>, before: &AlertRuleStatus) -> AlertRuleStatus {
    let mut conditions = Conditions::new(facts.before, facts.generation, facts.now);
    let told = match facts.hub_status().map(|told| &told.body) {
        Some(StatusBody::AlertRule(told)) => Some(told),
        _ => None,
    };
    let trouble = facts.trouble().or_else(|| told.and_then(inactive)).or_else(|| told.and_then(unowned));
    conditions.stand(&trouble.unwrap_or_else(|| ready(facts, told)));
    let Some(told) = told else {
        conditions.keep(types::DELIVERED);
        conditions.keep(types::UNMATCHED);
        if !before.firing.is_empty() {
            conditions.set(types::FIRING, Is::True, reasons::GROUPS_FIRING, GROUPS_FIRING);
        }
        return AlertRuleStatus {
            observed_generation: facts.generation,
            conditions: conditions.finish(),
            ..before.clone()
        };
    };
    if told.firing_count > 0 {
        conditions.set(types::FIRING, Is::True, reasons::GROUPS_FIRING, GROUPS_FIRING);
    } else {
        conditions.set(types::FIRING, Is::False, reasons::QUIET, "no group is firing");
    }
    deliveries::delivered(&mut conditions, facts, &told.told);
    if let Some(why) = &told.uncountable {
        conditions.set(types::UNMATCHED, Is::True, why.reason.name(), &uncountable(why, facts));
    } else {
        let message = if unmatched_total(&unmatched(told)) == 0 {
            "no record has come that can't be looked into or counted"
        } else {
            "fewer than three, or less than half, of the records that came lately can't be looked into or counted; \
             status.unmatched counts all that ever came"
        };
        conditions.set(types::UNMATCHED, Is::False, reasons::COUNTED, message);
    }
    shown(told, facts.generation, conditions)
}

/// Why records can't be counted, with one of them as an example.
fn uncountable(why: &Uncountable, facts: &Facts<'_>) -> String {
    let Uncountable { reason, share, matched, partition, offset, detail } = why;
    let undecodable = format!("can't be decoded, and {}", graves(facts));
    let (of, what) = match (matched, reason) {
        (true, DropReason::TimeMissing) => ("that matched", "have no event time where source.eventTime says"),
        (true, DropReason::TimeAhead) => ("that matched", "have an event time too far ahead of the clock"),
        (true, DropReason::ValueMissing) => ("that matched", "have no value at the condition's path"),
        (true, _) => ("that matched", "have no single value at a path of groupBy"),
        (false, DropReason::Undecodable) => ("that came", undecodable.as_str()),
        (false, _) => ("that came", "can't be decided by match"),
    };
    let least = if *share < 100 { "at least " } else { "" };
    let detail = if detail.is_empty() { String::new() } else { format!(": {detail}") };
    let place = if partition.is_empty() {
        String::new()
    } else {
        format!("; such as the one at {partition} offset {offset}")
    };
    format!("{least}{share}% of the records {of} lately {what}{detail}{place}; status.unmatched counts them")
}

/// Where undecodable records go: "go to the dead-letter topic logs.DLT".
fn graves(facts: &Facts<'_>) -> String {
    let topics = match facts.plan.map(|plan| &plan.body) {
        Ok(PlanBody::AlertRule(rule)) => rule.dead_letter_topics(),
        _ => return "go to the dead-letter topics".to_owned(),
    };
    let first: Vec<&str> = topics.iter().take(5).map(String::as_str).collect();
    let more = topics.len() - first.len();
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    match first.as_slice() {
        [] => "stay in their topic, which is itself one of dead letters".to_owned(),
        [one] => format!("go to the dead-letter topic {one}"),
        some => format!("go to the dead-letter topics {}{more}", some.join(", ")),
    }
}

/// Reasons under `unmatched` that are not about records, or not about their contents.
const NOT_OF_RECORDS: [DropReason; 7] = [
    DropReason::ActivationsFull,
    DropReason::GroupsEvicted,
    DropReason::GroupsFull,
    DropReason::HistoryDropped,
    DropReason::LettersDropped,
    DropReason::StateFull,
    DropReason::Tombstone,
];

/// Records that were not counted, by reason. The hub counts undecodable records separately.
fn unmatched(told: &RuleStatus) -> BTreeMap<DropReason, i64> {
    let undecodable = (told.dead_lettered > 0).then_some((DropReason::Undecodable, told.dead_lettered));
    let others = told.unmatched.iter().map(|(reason, count)| (*reason, *count));
    undecodable.into_iter().chain(others).collect()
}

fn unmatched_total(unmatched: &BTreeMap<DropReason, i64>) -> i64 {
    let counts = unmatched.iter().filter(|(reason, _)| !NOT_OF_RECORDS.contains(reason));
    counts.map(|(_, count)| *count).sum()
}

const GROUPS_FIRING: &str = "groups are firing; status.firing lists those that have been so longest";

fn shown(told: &RuleStatus, generation: i64, conditions: Conditions) -> AlertRuleStatus {
    let unmatched = unmatched(told);
    AlertRuleStatus {
        observed_generation: generation,
        conditions: conditions.finish(),
        firing_count: Some(told.firing_count),
        firing: told
            .firing
            .iter()
            .take(10)
            .map(|group| FiringGroup {
                group: group.group.iter().map(|(name, value)| (name.clone(), cut(value, 250))).collect(),
                since: Time(group.since),
                count: group.count,
            })
            .collect(),
        pending_count: Some(told.pending_count),
        matched: Some(told.matched),
        last_match_time: moment(told.last_match),
        last_alert_time: moment(told.last_alert),
        late: Some(told.late),
        dead_lettered: Some(told.dead_lettered),
        unmatched_total: Some(unmatched_total(&unmatched)),
        unmatched: unmatched.iter().map(|(why, count)| (why.name().to_owned(), *count)).collect(),
        last_notification: deliveries::last(&told.told),
        undelivered: deliveries::undelivered(&told.told),
        lag: Some(told.lag.max(0)),
        partitions: Some(told.partitions),
        activation_offsets: first(&told.activation, 100),
    }
}

fn first(map: &BTreeMap<String, i64>, most: usize) -> BTreeMap<String, i64> {
    map.iter().take(most).map(|(key, value)| (key.clone(), *value)).collect()
}

fn ready(facts: &Facts<'_>, told: Option<&RuleStatus>) -> Standing {
    let mut standing = quiet(facts, told);
    // A rule that can't read its records seems to work but never tells anybody anything.
    if let (Standing::Ready { reason, message }, Some(why)) =
        (&mut standing, told.and_then(|told| told.uncountable.as_ref()))
    {
        *message = format!("{message}; but {}", uncountable(why, facts));
        if *reason == reasons::READY {
            *reason = reasons::UNMATCHED;
        }
    }
    // If a quota left out records within the last hour, `Ready` says so, since people look there.
    let full = match told.and_then(|told| told.full) {
        Some(DropReason::StateFull) => reasons::STATE_FULL,
        Some(DropReason::GroupsFull) => reasons::GROUPS_FULL,
        Some(DropReason::GroupsEvicted) => reasons::GROUPS_EVICTED,
        _ => return standing,
    };
    match standing {
        Standing::Ready { reason: reasons::READY, message } => Standing::Ready { reason: full, message },
        other => other,
    }
}

fn quiet(facts: &Facts<'_>, told: Option<&RuleStatus>) -> Standing {
    let over = |reason| told.is_some_and(|told| told.unmatched.contains_key(&reason));
    let undecodable = format!("records are read and matched; those that can't be decoded {}", graves(facts));
    facts.ready(if over(DropReason::StateFull) {
        "records are read and matched; the groups of this namespace's rules have taken as many bytes as the hub keeps for \
         one namespace (hub.quotas.stateBytes, 64 MiB by default) or one group 16 MiB: status.unmatched counts the records \
         without room under StateFull; fewer groups, shorter windows or a smaller maxGroups take less"
    } else if over(DropReason::ActivationsFull) {
        ACTIVATIONS_FULL
    } else if over(DropReason::GroupsEvicted) || over(DropReason::GroupsFull) {
        "records are read and matched; there have been more groups than maxGroups, or than the hub keeps for one namespace \
         (hub.quotas.groups, 20000 by default), so quiet ones were forgotten: status.unmatched counts them under \
         GroupsEvicted, and records of groups without room under GroupsFull"
    } else if over(DropReason::LettersDropped) {
        "records are read and matched; the hub holds as many bytes of dead letters as it may for the namespace \
         (hub.quotas.deadLetterBytes), so the oldest went: status.unmatched counts them under LettersDropped"
    } else if over(DropReason::HistoryDropped) {
        "records are read and matched; the hub holds as many bytes of finished notifications as it may for the \
         namespace (hub.quotas.finishedBytes), so the oldest went before their time: status.unmatched counts them \
         under HistoryDropped"
    } else if told.is_some_and(|told| told.dead_lettered > 0 && told.uncountable.is_none()) {
        undecodable.as_str()
    } else {
        "records are read and matched"
    })
}

const BEGINS: &str =
    "the consumer has not begun with all partitions of the rule's topics; it should within seconds";
const ACTIVATIONS_FULL: &str = "the rules of this namespace read more partitions than the hub keeps account of for one \
     namespace: 100000, summed over the rules; fewer rules on topics of many partitions take less (ActivationsFull)";

/// A rule counts in a partition from its activation there. Before that, records may come that it does not count, and it
/// is not known whether its topics exist.
fn inactive(told: &RuleStatus) -> Option<Standing> {
    // The hub reports at most 100 activations.
    let partitions = usize::try_from(told.partitions).unwrap_or(0).min(100);
    (partitions == 0 || told.activation.len() < partitions).then(|| {
        let message =
            if told.unmatched.contains_key(&DropReason::ActivationsFull) { ACTIVATIONS_FULL } else { BEGINS };
        under_way(reasons::WORKER_BEHIND, message.to_owned())
    })
}

fn unowned(told: &RuleStatus) -> Option<Standing> {
    (!told.unowned.is_empty()).then(|| {
        waiting(
            reasons::PARTITIONS_UNOWNED,
            format!(
                "no consumer has had these partitions for a minute, which holds back the rule's windows: {}",
                told.unowned.join(", ")
            ),
        )
    })
}
