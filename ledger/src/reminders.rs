//! Records reminders of schedules, each once.
//!
//! Clauses of docs/semantics.md: S1, S3.

use domain::{Cause, Notification, PlanBody, ids};
use jiff::Timestamp;
use protocol::messages::Reminders;
use uuid::Uuid;

use crate::catalog::Object;
use crate::engine::{query, query_scalar};
use crate::notify::{NotificationDraft, ToChannels, make_notifications};
use crate::sql::{ms, time};
use crate::writer::{Command, Tx};
use crate::{Error, Ledger};

/// Up to when a schedule's reminders are settled: recorded, or due before the schedule was created or last resumed.
/// Unix ms.
pub(crate) fn settled_until(schedule: &Object, stored: Option<i64>) -> i64 {
    let baseline = ms(schedule.plan.created).max(schedule.resumed.unwrap_or(i64::MIN));
    baseline.max(stored.unwrap_or(i64::MIN))
}

struct RecordReminders {
    namespace: String,
    uid: Uuid,
    reminders: Reminders,
    now: Timestamp,
}

impl Command for RecordReminders {
    type Answer = Option<u64>;

    fn namespace(&self) -> Option<&str> {
        Some(&self.namespace)
    }

    async fn run(&mut self, tx: &mut Tx) -> Result<Option<u64>, Error> {
        let missing = || Error::NotFound(format!("schedule {}", self.uid));
        let object = tx.catalog.in_namespace(self.uid, &self.namespace).cloned().ok_or_else(missing)?;
        let PlanBody::Schedule(plan) = &object.plan.body else { return Err(missing()) };
        if object.absent.is_some() {
            return Err(missing());
        }
        if object.revision != self.reminders.revision || object.plan.suspended {
            return Err(Error::Conflict(format!(
                "schedule {} has changed since these reminders were found: ask for it again",
                object.plan.name
            )));
        }
        crate::deliveries::check_quota(tx, &self.namespace).await?;
        let stored: Option<i64> = query_scalar("SELECT through FROM schedules WHERE uid = $1")
            .bind(self.uid.to_string())
            .fetch_optional(&mut tx.conn)
            .await?;
        let from = settled_until(&object, stored);
        let through = ms(self.reminders.through);
        if through <= from {
            return Ok(None);
        }
        let mut drafts = Vec::new();
        let mut last: Option<i64> = None;
        for due in self.reminders.reminders.iter().filter(|due| ms(due.due) > from) {
            let names: Vec<String> = plan
                .reminders
                .iter()
                .filter(|reminder| reminder.time == due.time)
                .flat_map(|reminder| reminder.notify.iter().cloned())
                .collect();
            last = last.max(Some(ms(due.due)));
            let notification = Notification {
                id: ids::reminder_notification(self.uid, due.occurrence, due.time),
                namespace: self.namespace.clone(),
                cause: Cause::Reminder {
                    schedule: self.uid,
                    name: object.plan.name.clone(),
                    occurrence: due.occurrence,
                    end: due.end,
                    time_zone: plan.recurrence.time_zone.clone(),
                    all_day: !plan.recurrence.start.contains('T'),
                    time_zones: plan.time_zones.clone(),
                    about: plan.about.clone(),
                    time: due.time,
                    due: due.due,
                },
                severity: due.severity,
                title: due.title.clone(),
                summary: due.summary.clone(),
                group: std::collections::BTreeMap::new(),
                ordering_key: self.uid.to_string(),
                created: time(ms(self.now)),
            };
            drafts.push(NotificationDraft { object: self.uid, notification, to: ToChannels::Names(names) });
        }
        let urgent = !drafts.is_empty();
        let made = make_notifications(tx, drafts, self.now).await?;
        query(
            "INSERT INTO schedules (uid, through, last, recorded, skipped, clock_shifted, clock_skipped, \
             clock_doubled) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (uid) DO UPDATE \
             SET through = GREATEST(schedules.through, excluded.through), last = \
             coalesce(GREATEST(schedules.last, excluded.last), excluded.last, schedules.last), recorded = \
             schedules.recorded + excluded.recorded, skipped = schedules.skipped + excluded.skipped, \
             clock_shifted = schedules.clock_shifted + excluded.clock_shifted, clock_skipped = \
             schedules.clock_skipped + excluded.clock_skipped, clock_doubled = schedules.clock_doubled + \
             excluded.clock_doubled",
        )
        .bind(self.uid.to_string())
        .bind(through)
        .bind(last)
        .bind(made as i64)
        .bind(self.reminders.skipped.max(0))
        .bind(self.reminders.clock.shifted.max(0))
        .bind(self.reminders.clock.skipped.max(0))
        .bind(self.reminders.clock.doubled.max(0))
        .execute(&mut tx.conn)
        .await?;
        tx.mark(self.uid, urgent);
        Ok(Some(made as u64))
    }
}

impl Ledger {
    /// Records reminders that fell due, each once. Returns how many were new; `None` if all were settled before.
    /// [`Error::Conflict`] if they were found with another revision of the plan than the stored one.
    pub async fn record_reminders(
        &self,
        namespace: &str,
        uid: Uuid,
        reminders: Reminders,
        now: Timestamp,
    ) -> Result<Option<u64>, Error> {
        self.writer.execute(RecordReminders { namespace: namespace.to_owned(), uid, reminders, now }).await
    }
}
