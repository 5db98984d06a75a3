//! Renders a rule's title and summary at the decision, within the budget of `templates`.
//!
//! Invariant: it always gives a text. What can't be rendered is replaced by a fallback that names the rule, the group and
//! the fault, so that the message is still sent and its reader sees what to mend.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use jiff::Timestamp;
use ledger::{AlertData, Render, Rendered, WorkerView};
use protocol::messages::ObjectProblem;
use serde::Serialize;
use serde_json::Value;
use templates::{Failures, Limits, RenderError, Template, fallback};
use uuid::Uuid;

use crate::metrics::{KindLabel, Metrics};

/// Compiled templates kept, and for how many uses of others one stays.
const COMPILED: usize = 2_048;

/// A template, or why the text is none. `Err` is kept too: a broken text is not compiled at every decision.
type Compiled = Result<Template, RenderError>;

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
        let compiled = Template::compile("text", text);
        let compiled = Arc::new(compiled.map_err(|error| RenderError { message: error.to_string() }));
        self.templates.insert(text.into(), (compiled.clone(), used));
        compiled
    }
}

/// What a rule's templates may speak of, as they name it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Data<'a> {
    rule: &'a str,
    namespace: &'a str,
    severity: &'static str,
    group: &'a std::collections::BTreeMap<String, String>,
    count: i64,
    /// `1m`; absent for a rule that speaks for each record.
    #[serde(skip_serializing_if = "Option::is_none")]
    window: Option<String>,
    window_start: Timestamp,
    window_end: Timestamp,
    since: Timestamp,
    kind: &'static str,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    record: Option<&'a Value>,
    #[serde(flatten)]
    at: Option<At<'a>>,
}

#[derive(Serialize)]
struct At<'a> {
    topic: &'a str,
    partition: i32,
    offset: i64,
    timestamp: Timestamp,
}

impl<'a> Data<'a> {
    fn of(alert: &AlertData<'a>) -> Self {
        let window = match alert.plan.condition {
            domain::Condition::Any => None,
            domain::Condition::Frequency { window, .. } => Some(window.to_string()),
        };
        Self {
            rule: alert.rule,
            namespace: alert.namespace,
            severity: alert.severity.name(),
            group: alert.group,
            count: alert.count,
            window,
            window_start: alert.window_start,
            window_end: alert.window_end,
            since: alert.since,
            kind: alert.kind,
            status: if alert.kind == "resolved" { "resolved" } else { "firing" },
            record: alert.record.map(|(value, _)| value),
            at: alert.record.map(|(_, at)| At {
                topic: &at.topic,
                partition: at.partition,
                offset: at.offset,
                timestamp: at.time,
            }),
        }
    }
}

/// `payment-errors (service=pay)`.
fn context(alert: &AlertData<'_>) -> String {
    let mut context = alert.rule.to_owned();
    for (at, (label, value)) in alert.group.iter().enumerate() {
        // Writing to a String cannot fail.
        let _ = write!(context, "{}{label}={value}", if at == 0 { " (" } else { ", " });
    }
    if !alert.group.is_empty() {
        context.push(')');
    }
    context
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

    fn text(
        &self,
        what: &'static str,
        text: &str,
        data: &Data<'_>,
        limits: Limits,
        alert: &AlertData<'_>,
    ) -> String {
        let compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner).get(text);
        let rendered = match compiled.as_ref() {
            Ok(template) => template.render(data, limits),
            Err(error) => Err(error.clone()),
        };
        let error = rendered.as_ref().err().map(|error| error.message.as_str());
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.note(alert.uid, what, text, error, Instant::now());
        drop(failures);
        rendered.unwrap_or_else(|error| {
            self.metrics.fallback_texts.inc();
            cut(fallback(what, &context(alert), &error), limits.output)
        })
    }
}

/// At most so many bytes, at a character's boundary.
fn cut(mut text: String, most: usize) -> String {
    if text.len() > most {
        let mut end = most.saturating_sub('…'.len_utf8());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push('…');
    }
    text
}

impl Render for Texts {
    fn alert(&self, alert: &AlertData<'_>) -> Rendered {
        self.metrics.decisions.get_or_create(&KindLabel { kind: alert.kind }).inc();
        let data = Data::of(alert);
        let title = self.text("title", &alert.plan.title, &data, Limits::TITLE, alert);
        let summary = if alert.plan.summary.is_empty() {
            String::new()
        } else {
            self.text("summary", &alert.plan.summary, &data, Limits::TEXT, alert)
        };
        // A title of blanks would be a message without a subject.
        let title = if title.trim().is_empty() { context(alert) } else { title };
        Rendered { title, summary }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use domain::{Condition, Format, Millis, RecordRef, RulePlan, Severity, Source, StartFrom};
    use uuid::Uuid;

    use super::*;

    const SINCE: Timestamp = Timestamp::constant(1_800_000_000, 0);

    fn plan(title: &str, summary: &str) -> RulePlan {
        RulePlan {
            source: Source { bootstrap_servers: vec!["kafka:9092".to_owned()], ..Source::default() },
            topics: vec!["t".to_owned()],
            format: Format::Json,
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
        }
    }

    fn render(texts: &Texts, title: &str, summary: &str) -> Rendered {
        let plan = plan(title, summary);
        let group = BTreeMap::from([("service".to_owned(), "pay".to_owned())]);
        let value = serde_json::json!({ "message": "boom" });
        let at = RecordRef { time: SINCE, topic: "t".to_owned(), partition: 3, offset: 42 };
        texts.alert(&AlertData {
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
        })
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

    #[test]
    fn a_cut_text_ends_at_a_character() {
        assert_eq!(cut("ééééé".to_owned(), 6), "é…");
        assert_eq!(cut("abc".to_owned(), 3), "abc");
    }
}
