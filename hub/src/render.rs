//! Renders a rule's title and summary at the decision, within the budget of `templates`.
//!
//! Invariant: it always gives a text. What can't be rendered is replaced by a fallback that names the rule, the group and
//! the fault, so that the message is still sent and its reader sees what to mend.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use domain::AlertData;
use ledger::{Render, Rendered, WorkerView};
use protocol::messages::ObjectProblem;
use templates::Failures;
use templates::alert::{Compiled, Data, Which, compile};
use uuid::Uuid;

use crate::metrics::{KindLabel, Metrics};

/// Compiled templates kept, and for how many uses of others one stays.
const COMPILED: usize = 2_048;

/// The hub's side of [`Render`].
pub(crate) struct Texts {
    metrics: Arc<Metrics>,
    compiled: Mutex<Cache>,
    /// Rules' templates that failed lately.
    failures: Mutex<Failures<Uuid>>,
}

#[derive(Default)]
struct Cache {
    templates: HashMap<Box<str>, (Arc<Compiled>, u64)>,
    used: u64,
}

impl Cache {
    /// The template of this text. When full, the half that was used longest ago goes.
    fn get(&mut self, text: &str) -> Arc<Compiled> {
        self.used += 1;
        let used = self.used;
        if let Some((compiled, last)) = self.templates.get_mut(text) {
            *last = used;
            return compiled.clone();
        }
        if self.templates.len() >= COMPILED {
            let mut lasts: Vec<u64> = self.templates.values().map(|(_, last)| *last).collect();
            let middle = lasts.len() / 2;
            let (_, median, _) = lasts.select_nth_unstable(middle);
            let median = *median;
            self.templates.retain(|_, (_, last)| *last > median);
        }
        let compiled = Arc::new(compile(text));
        self.templates.insert(text.into(), (compiled.clone(), used));
        compiled
    }
}

impl Texts {
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, compiled: Mutex::default(), failures: Mutex::default() }
    }

    /// Adds what failed lately to what is known of the rules.
    pub(crate) fn tell(&self, view: &mut WorkerView, at: Instant) {
        for (rule, message) in self.failures.lock().unwrap_or_else(PoisonError::into_inner).lately(at) {
            let reason = ObjectProblem::TEMPLATE_FAILED.to_owned();
            view.problems.entry(rule).or_default().insert(ObjectProblem { reason, message });
        }
    }

    /// A text; what failed is noted and counted.
    fn text(&self, which: Which, data: &Data<'_>) -> String {
        let source = data.source(which);
        let compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner).get(source);
        let (text, fault) = data.render(which, &compiled);
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.note(data.alert.uid, which.name(), source, fault.as_deref(), Instant::now());
        if fault.is_some() {
            self.metrics.fallback_texts.inc();
        }
        text
    }
}

impl Render for Texts {
    fn alert(&self, alert: &AlertData<'_>, _deadline: Instant) -> Rendered {
        self.metrics.decisions.get_or_create(&KindLabel { kind: alert.kind }).inc();
        let data = Data::of(alert);
        Rendered { title: self.text(Which::Title, &data), summary: self.text(Which::Summary, &data) }
    }

    fn fallback(&self, alert: &AlertData<'_>, why: &str) -> Rendered {
        let data = Data::of(alert);
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        for which in [Which::Title, Which::Summary] {
            failures.note(alert.uid, which.name(), data.source(which), Some(why), Instant::now());
            self.metrics.fallback_texts.inc();
        }
        Rendered::plain(alert, why)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use domain::{Condition, Millis, RecordRef, RulePlan, Severity, Source, StartFrom, Values};
    use jiff::Timestamp;
    use uuid::Uuid;

    use super::*;

    const SINCE: Timestamp = Timestamp::constant(1_800_000_000, 0);

    fn plan(title: &str, summary: &str) -> RulePlan {
        RulePlan {
            source: Source { bootstrap_servers: vec!["kafka:9092".to_owned()], ..Source::default() },
            topics: vec!["t".to_owned()],
            start_from: StartFrom::Latest,
            dead_letter_topic: None,
            matches: "true".to_owned(),
            group_by: BTreeMap::new(),
            condition: Condition::Frequency { count: 5, window: Millis::from_secs(60) },
            severity: Severity::Critical,
            title: title.to_owned(),
            summary: summary.to_owned(),
            notify: vec![],
            repeat_interval: None,
            resolve: None,
            allowed_lateness: Millis(0),
            policy: domain::AlertPolicy::default(),
        }
    }

    fn render(texts: &Texts, title: &str, summary: &str) -> Rendered {
        let mut plan = plan(title, summary);
        plan.policy.top_values.insert("host".to_owned(), "record.host".to_owned());
        let group = BTreeMap::from([("service".to_owned(), "pay".to_owned())]);
        let value = serde_json::json!({ "message": "boom" });
        let counts = BTreeMap::from([("db".to_owned(), 2), ("api".to_owned(), 5), ("app".to_owned(), 2)]);
        let top = Values { counts, others: 1 };
        let at = RecordRef { time: SINCE, topic: "t".to_owned(), partition: 3, offset: 42 };
        let alert = AlertData {
            namespace: "payments",
            rule: "payment-errors",
            uid: Uuid::nil(),
            plan: &plan,
            severity: plan.severity,
            group: &group,
            count: 7,
            window_start: SINCE,
            window_end: SINCE,
            since: SINCE,
            kind: "firing",
            record: Some((&value, &at)),
            first: Some((&value, &at)),
            value: None,
            previous: Some("3"),
            values: &["a".to_owned(), "b".to_owned()],
            top: &BTreeMap::from([("host".to_owned(), top)]),
        };
        texts.alert(&alert, Instant::now())
    }

    fn texts() -> Texts {
        Texts::new(Arc::new(Metrics::new()))
    }

    #[test]
    fn a_rules_texts_may_speak_of_all_that_is_documented() {
        let title =
            "{{ count }} in {{ window }} of {{ group.service }}: {{ record.message }} ({{ severity }})";
        let summary = "{{ rule }} {{ namespace }} {{ kind }} {{ status }} {{ topic }}/{{ partition }}@{{ offset }} {{ since }} {{ windowStart }} {{ windowEnd }} {{ timestamp }}";
        let rendered = render(&texts(), title, summary);
        assert_eq!(rendered.title, "7 in 1m of pay: boom (critical)");
        assert!(
            rendered.summary.starts_with("payment-errors payments firing firing t/3@42 2027-01-15T08:00:00Z"),
            "{}",
            rendered.summary
        );
    }

    #[test]
    fn texts_may_name_things_as_alertmanager_does_and_show_what_was_measured() {
        let title =
            "{{ labels.service }} {{ value }} after {{ previous }}: {{ values | join(', ') }} {{ startsAt }}";
        let summary = "{% for it in topValues.host %}{{ it.value }}={{ it.count }} {% endfor %}{{ firstRecord.message }}";
        let rendered = render(&texts(), title, summary);
        assert_eq!(rendered.title, "pay 7 after 3: a, b 2027-01-15T08:00:00Z");
        assert_eq!(rendered.summary, "api=5 app=2 db=2 boom");
    }

    #[test]
    fn a_missing_field_gives_a_text_that_names_rule_group_and_fault() {
        let texts = texts();
        let rendered = render(&texts, "{{ record.foo }}", "{{ nope(");
        assert!(
            rendered.title.starts_with("payment-errors (service=pay): title template failed"),
            "{}",
            rendered.title
        );
        assert!(rendered.title.contains("foo"), "{}", rendered.title);
        assert!(rendered.summary.contains("summary template failed"), "{}", rendered.summary);
        assert_eq!(texts.metrics.fallback_texts.get(), 2);
        let mut view = WorkerView::default();
        texts.tell(&mut view, Instant::now());
        assert_eq!(view.problems[&Uuid::nil()].len(), 2, "{view:?}");
        render(&texts, "better", "better");
        view = WorkerView::default();
        texts.tell(&mut view, Instant::now());
        assert_eq!(view, WorkerView::default());
    }

    #[test]
    fn an_endless_template_or_one_of_blanks_still_gives_a_title() {
        let endless = render(
            &texts(),
            "{% for i in range(10000) %}{% for j in range(10000) %}x{% endfor %}{% endfor %}",
            "",
        );
        assert!(endless.title.contains("title template failed"), "{}", endless.title);
        assert_eq!(render(&texts(), "  ", "").title, "payment-errors (service=pay)");
    }

    #[test]
    fn compiled_templates_stay_bounded() {
        let mut cache = Cache::default();
        for n in 0..3 * COMPILED {
            cache.get(&format!("text {n}"));
        }
        assert!(cache.templates.len() <= COMPILED);
    }
}
