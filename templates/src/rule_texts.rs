//! Renders a rule's title and summary: the data that they may use, and the fallback for one that fails.
//!
//! Invariant: there is always a text. One that can't be rendered is replaced by one that names the rule, the group and
//! the fault, so that the message is still sent and its reader sees what to mend.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use domain::{AlertData, Values};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use crate::{OutputLimit, RenderError, Template, TemplateData, TimeCheck, fallback};

/// A template, or why the text is none. The error is kept so that a broken text is not compiled for every decision.
pub type CompiledText = Result<Template, RenderError>;

/// Compiles a text.
pub fn compile_text(text: &str) -> CompiledText {
    Template::compile(text).map_err(|error| RenderError { message: error.to_string(), cut: None })
}

/// One of the two texts of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleText {
    /// The title.
    Title,
    /// The summary.
    Summary,
}

impl RuleText {
    /// Its name in a manifest.
    pub fn name(self) -> &'static str {
        match self {
            Self::Title => "title",
            Self::Summary => "summary",
        }
    }

    fn output_limit(self) -> OutputLimit {
        match self {
            Self::Title => OutputLimit::TITLE,
            Self::Summary => OutputLimit::TEXT,
        }
    }
}

/// The data of a rule's templates, under the names that templates use.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleTextData<'a> {
    /// What the texts are about.
    #[serde(skip)]
    pub alert: &'a AlertData<'a>,
    /// This data as templates read it; built once for both texts.
    #[serde(skip)]
    template_data: OnceCell<TemplateData>,
    rule: &'a str,
    namespace: &'a str,
    severity: &'static str,
    group: &'a BTreeMap<String, String>,
    count: i64,
    /// `1m`; absent if the rule notifies of each record.
    #[serde(skip_serializing_if = "Option::is_none")]
    window: Option<String>,
    window_start: Timestamp,
    window_end: Timestamp,
    since: Timestamp,
    kind: &'static str,
    status: &'static str,
    /// Alertmanager's names for the group, and for when the alert began and ended.
    labels: &'a BTreeMap<String, String>,
    starts_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    ends_at: Option<Timestamp>,
    /// What the condition measured; the count, unless it measures something else.
    value: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous: Option<&'a str>,
    values: &'a [String],
    top_values: BTreeMap<&'a str, Vec<ValueCount<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    record: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_record: Option<&'a Value>,
    #[serde(flatten)]
    at: Option<RecordPosition<'a>>,
}

/// One of the most frequent values.
#[derive(Serialize)]
struct ValueCount<'a> {
    value: &'a str,
    count: i64,
}

/// How many of the most frequent values a text sees.
const TOP: usize = 10;

/// The most frequent values first; equally frequent ones by text.
fn most_frequent(values: &Values) -> Vec<ValueCount<'_>> {
    let mut all: Vec<ValueCount<'_>> =
        values.counts.iter().map(|(value, count)| ValueCount { value, count: *count }).collect();
    all.sort_by(|a, b| (b.count, a.value).cmp(&(a.count, b.value)));
    all.truncate(TOP);
    all
}

#[derive(Serialize)]
struct RecordPosition<'a> {
    topic: &'a str,
    partition: i32,
    offset: i64,
    timestamp: Timestamp,
}

impl<'a> RuleTextData<'a> {
    /// The data of an alert.
    pub fn new(alert: &'a AlertData<'a>) -> Self {
        let status = match alert.word() {
            over @ ("resolved" | "closed") => over,
            _ => "firing",
        };
        Self {
            alert,
            template_data: OnceCell::new(),
            rule: alert.rule,
            namespace: alert.namespace,
            severity: alert.severity.name(),
            group: alert.group,
            count: alert.count,
            window: alert.plan.condition.window().map(|window| window.to_string()),
            window_start: alert.window_start,
            window_end: alert.window_end,
            since: alert.since,
            kind: alert.word(),
            status,
            labels: alert.group,
            starts_at: alert.since,
            ends_at: (status != "firing").then_some(alert.window_end),
            value: alert.value.map_or_else(|| Cow::Owned(alert.count.to_string()), Cow::Borrowed),
            previous: alert.previous,
            values: alert.values,
            top_values: alert
                .plan
                .policy
                .top_values
                .keys()
                .map(|name| (name.as_str(), alert.top.get(name).map(most_frequent).unwrap_or_default()))
                .collect(),
            record: alert.record.map(|(value, _)| value),
            first_record: alert.first.map(|(value, _)| value),
            at: alert.record.map(|(_, at)| RecordPosition {
                topic: &at.topic,
                partition: at.partition,
                offset: at.offset,
                timestamp: at.time,
            }),
        }
    }

    /// The template as the user wrote it.
    pub fn source(&self, which: RuleText) -> &'a str {
        match which {
            RuleText::Title => &self.alert.plan.title,
            RuleText::Summary => &self.alert.plan.summary,
        }
    }

    /// Renders one text. Also returns the error if the text is a fallback. `compiled` is the template of
    /// [`RuleTextData::source`]; `time_check` says when the time is over.
    pub fn render(
        &self,
        which: RuleText,
        compiled: &CompiledText,
        time_check: TimeCheck<'_>,
    ) -> (String, Option<String>) {
        let limit = which.output_limit();
        let rendered = match compiled {
            Ok(template) => {
                let data = self.template_data.get_or_init(|| TemplateData::new(self));
                template.render(data, limit, time_check).or_else(RenderError::or_cut)
            }
            Err(error) => Err(error.clone()),
        };
        let (text, fault) = match rendered {
            // A title of blanks would be a message without a subject.
            Ok(text) if which == RuleText::Title && text.trim().is_empty() => (context(self.alert), None),
            Ok(text) => (text, None),
            Err(error) => {
                let text = cut(fallback(which.name(), &context(self.alert), &error), limit.bytes);
                (text, Some(error.message))
            }
        };
        let says_itself = compiled.as_ref().is_ok_and(|template| template.tells_apart(self.alert.word()));
        if which == RuleText::Summary || says_itself && fault.is_none() {
            return (text, fault);
        }
        (cut(self.alert.with_status_prefix(text), limit.bytes), fault)
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

/// Cuts a text to at most so many bytes, at a character boundary; `…` marks the cut.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_text_ends_at_a_character() {
        assert_eq!(cut("ééééé".to_owned(), 6), "é…");
        assert_eq!(cut("abc".to_owned(), 3), "abc");
    }
}
