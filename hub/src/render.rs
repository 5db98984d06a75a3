//! Renders a rule's title and summary when an alert is decided, within the limits of `templates`: steps, time for
//! one text, and time for all texts of a commit.
//!
//! Invariants: it ends within its time plus one step. The memory of a namespace's compiled templates is bounded and
//! separate (`templates::Cache`). It always returns a text: if a template fails, a fallback names the rule, the
//! group and the fault, so that the message is still sent and its reader sees what to fix.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use domain::AlertData;
use ledger::{Render, Rendered, WorkerView};
use protocol::messages::ObjectProblem;
use templates::rule_texts::{CompiledText, RuleText, RuleTextData, compile_text};
use templates::{Failures, Template, TemplateCache};
use uuid::Uuid;

use crate::metrics::{KindLabel, Metrics};

/// Memory of all compiled templates, bytes. A usual template takes about 1 KiB.
const CACHED: usize = 16 << 20;
/// Memory of one namespace's compiled templates, bytes.
const CACHED_OF_ONE: usize = 2 << 20;
/// How long rendering one text may take.
const TIME: Duration = Duration::from_millis(50);
const TIME_SAID: &str = "50ms for a text";
const TIME_OF_ALL_SAID: &str = "all texts of a commit may take";

/// Implements [`Render`] for the ledger.
pub(crate) struct Texts {
    metrics: Arc<Metrics>,
    compiled: Mutex<TemplateCache<Box<str>, CompiledText>>,
    /// Rules' templates that failed lately.
    failures: Mutex<Failures<Uuid>>,
}

impl Texts {
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        let compiled = Mutex::new(TemplateCache::new(CACHED, CACHED_OF_ONE));
        Self { metrics, compiled, failures: Mutex::default() }
    }

    /// Adds the template failures of late to the problems of the rules.
    pub(crate) fn tell(&self, view: &mut WorkerView, at: Instant) {
        for (rule, message) in self.failures.lock().unwrap_or_else(PoisonError::into_inner).recent(at) {
            let reason = ObjectProblem::TEMPLATE_FAILED.to_owned();
            view.problems.entry(rule).or_default().insert(ObjectProblem { reason, message });
        }
    }

    /// Takes over a failure that was reported before the hub started.
    pub(crate) fn restore(&self, rule: Uuid, message: String, at: Instant) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).restore(rule, message, at);
    }

    /// The compiled template of this text. Compiles outside the lock.
    fn template(&self, namespace: &str, text: &str) -> CompiledText {
        let lock = || self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        let known = lock().get(namespace, text);
        known.unwrap_or_else(|| {
            let compiled = compile_text(text);
            let weight = compiled.as_ref().map_or(0, Template::weight);
            lock().put(&namespace.into(), text, compiled.clone(), weight);
            compiled
        })
    }

    /// Renders title and summary before `deadline`. A text that is not ready by then is a fallback that says so.
    fn texts(&self, alert: &AlertData<'_>, deadline: Instant) -> Rendered {
        self.metrics.decisions.get_or_create(&KindLabel { kind: alert.word() }).inc();
        let data = RuleTextData::new(alert);
        Rendered {
            title: self.text(RuleText::Title, &data, deadline),
            summary: self.text(RuleText::Summary, &data, deadline),
        }
    }

    /// Renders one text. Records and counts a failure.
    fn text(&self, which: RuleText, data: &RuleTextData<'_>, deadline: Instant) -> String {
        let source = data.source(which);
        let begun = Instant::now();
        let clock = || match Instant::now() {
            now if now > deadline => Some(TIME_OF_ALL_SAID),
            now if now > begun + TIME => Some(TIME_SAID),
            _ => None,
        };
        let compiled = self.template(data.alert.namespace, source);
        let (text, fault) = data.render(which, &compiled, &clock);
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.note(data.alert.uid, which.name(), source, fault.as_deref(), Instant::now());
        if fault.is_some() {
            self.metrics.fallback_texts.inc();
        }
        text
    }
}

impl Render for Texts {
    fn alert(&self, alert: &AlertData<'_>, deadline: Instant) -> Rendered {
        self.texts(alert, deadline)
    }

    fn fallback(&self, alert: &AlertData<'_>, why: &str) -> Rendered {
        let data = RuleTextData::new(alert);
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        for which in [RuleText::Title, RuleText::Summary] {
            failures.note(alert.uid, which.name(), data.source(which), Some(why), Instant::now());
            self.metrics.fallback_texts.inc();
        }
        Rendered::plain(alert, why)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use domain::{AlertKind, Condition, Millis, RecordRef, RulePlan, Severity, Source, StartFrom, Values};
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
        texts.alert(
            &AlertData {
                record: Some((&value, &at)),
                first: Some((&value, &at)),
                previous: Some("3"),
                values: &["a".to_owned(), "b".to_owned()],
                top: &BTreeMap::from([("host".to_owned(), top)]),
                ..alert(&plan, &group)
            },
            Instant::now() + 5 * TIME,
        )
    }

    fn alert<'a>(plan: &'a RulePlan, group: &'a BTreeMap<String, String>) -> AlertData<'a> {
        static NONE: BTreeMap<String, Values> = BTreeMap::new();
        AlertData {
            namespace: "payments",
            rule: "payment-errors",
            uid: Uuid::nil(),
            plan,
            severity: plan.severity,
            group,
            count: 7,
            window_start: SINCE,
            window_end: SINCE,
            since: SINCE,
            kind: Some(AlertKind::Firing),
            closed: false,
            record: None,
            first: None,
            value: None,
            previous: None,
            values: &[],
            top: &NONE,
        }
    }

    fn at() -> RecordRef {
        RecordRef { time: SINCE, topic: "t".to_owned(), partition: 3, offset: 42 }
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
    fn what_is_over_does_not_look_like_another_alarm_unless_its_template_says_what_it_is() {
        let told = |title: &str, kind: AlertKind, closed: bool| {
            let (plan, group) = (plan(title, "{{ count }}"), BTreeMap::new());
            let alert = AlertData {
                kind: Some(kind),
                closed,
                record: Some((&serde_json::json!({"status": 500}), &at())),
                ..alert(&plan, &group)
            };
            let rendered = texts().texts(&alert, Instant::now() + 5 * TIME);
            assert_eq!(rendered.summary, "7");
            rendered.title
        };
        let said = |title: &str, kind: AlertKind| told(title, kind, false);
        let silent = "search has been silent for 20s, last {{ record.status }}";
        assert_eq!(said(silent, AlertKind::Firing), "search has been silent for 20s, last 500");
        let again = said(silent, AlertKind::Repeat { n: 1 });
        assert_eq!(again, "Still firing since 08:00 UTC: search has been silent for 20s, last 500");
        assert_eq!(said(silent, AlertKind::Resolved), "Resolved: search has been silent for 20s, last 500");
        let own = "{% if status == 'resolved' %}search is back{% else %}search is silent{% endif %}";
        assert_eq!(said(own, AlertKind::Resolved), "search is back");
        assert_eq!(told(own, AlertKind::Resolved, true), "Closed, its rule was changed: search is silent");
        assert_eq!(said(own, AlertKind::Repeat { n: 1 }), "Still firing since 08:00 UTC: search is silent");
        assert_eq!(said("{{ kind }}: search", AlertKind::Repeat { n: 1 }), "repeat: search");
        assert_eq!(said("{{ kind }}: search", AlertKind::Resolved), "resolved: search");
        let failed = said("{{ kind }} {{ nothing }}", AlertKind::Resolved);
        assert!(failed.starts_with("Resolved: payment-errors: title template failed: "), "{failed}");
        assert_eq!(said(&"x".repeat(1_024), AlertKind::Resolved).len(), 1_024, "cut to a title's bound");
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
        let endless = |inner: &str| {
            let text = format!(
                "{{% for i in range(10000) %}}{{% for j in range(10000) %}}{inner}{{% endfor %}}{{% endfor %}}"
            );
            render(&texts(), &text, "").title
        };
        let silent = endless("");
        assert!(silent.contains("title template failed"), "{silent}");
        let long = endless("x");
        assert!(long.len() <= 1024 && long.ends_with("x…"), "{long}");
        assert_eq!(render(&texts(), "  ", "").title, "payment-errors (service=pay)");
    }

    #[test]
    fn texts_without_time_are_fallbacks_that_say_so() {
        let texts = texts();
        let plan = plan("{{ count }}", "{{ count }}");
        let group = BTreeMap::new();
        let alert = alert(&plan, &group);
        let rendered = texts.texts(&alert, Instant::now().checked_sub(TIME).unwrap());
        for (which, text) in [("title", rendered.title), ("summary", rendered.summary)] {
            let wanted = format!(
                "payment-errors: {which} template failed: took longer than all texts of a commit may take"
            );
            assert_eq!(text, wanted);
        }
    }

    #[test]
    fn a_namespace_with_thousands_of_large_templates_pushes_out_its_own_and_nobody_elses() {
        let texts = texts();
        texts.template("quiet", "{{ count }}").unwrap();
        for n in 0..40 {
            // Of 16 KiB, the most expensive kind to keep.
            let large = format!("{n}{}", "{{a}}".repeat(3_200));
            texts.template("loud", &large).unwrap();
        }
        let mut cache = texts.compiled.lock().unwrap();
        assert!(cache.weight() <= CACHED_OF_ONE + (64 << 10), "{}", cache.weight());
        assert!(cache.get("quiet", "{{ count }}").is_some());
    }
}
