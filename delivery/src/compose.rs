//! Renders a channel's own texts. If a template fails, a text that names the fault takes its place: no message is kept back.
//!
//! The data that templates see:
//!
//! | for | names |
//! | --- | --- |
//! | all | `id`, `ask` (the command that tells what became of it), `title`, `summary`, `severity`, `namespace`, `name` and `object` (of the cause), `created`, `group` (a map, which is false if it is empty), `kind` (`firing`, `repeat`, `resolved`, `closed`, `record`, `reminder`, `test`), `status` (`resolved`, `closed`, otherwise `firing`) |
//! | an alert | `episode`, `first` (the id of the notification that told of it first), `since`, `count`, `windowStart`, `windowEnd`, `repeat`; `closed`, if the rule closed it |
//! | a record | `topic`, `partition`, `offset`, `timestamp` |
//! | a reminder | `occurrence`, `end`, `timeZone`, `description`, `location` and `url` (empty if there is none), `resources`, `beforeMinutes`, `due`; `at` and `daysBefore`, for a reminder at a time of day; `recipientTimeZone` and `recipientStart`, if the recipient's zone is known |
//! | a test | `request` |
//! | a webhook's own body | also `text`: title and body as the channel writes them |
//!
//! Times are RFC 3339. Names are strict: a name that a kind does not have is undefined; test with `{% if count is defined %}`.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use domain::{AlertKind, Cause, Notification, PayloadText, TemplateText};
use jiff::Zoned;
use jiff::tz::TimeZone;
use serde_json::{Map, Value, json};
use templates::rule_texts::{CompiledText, compile_text};
use templates::{OutputLimit, RenderError, Template, TemplateCache, TemplateData};

use crate::message::{NotificationLabels, Payload, ask_command};

/// The memory that compiled templates may take, bytes: enough for hundreds of channels with usual templates.
const CACHED: usize = 4 << 20;
/// How long rendering one text may take.
const TIME: Duration = Duration::from_millis(50);
const TIME_SAID: &str = "50ms for a text";

/// Renders texts and caches compiled templates. Rendering takes up to 50 ms of CPU for each text: call it on a thread where
/// nothing else waits.
pub struct Composer {
    /// The key says whether values are escaped for strings in JSON.
    compiled: Mutex<TemplateCache<bool, CompiledText>>,
}

impl Default for Composer {
    fn default() -> Self {
        Self { compiled: Mutex::new(TemplateCache::new(CACHED, CACHED)) }
    }
}

/// The texts of a message, with the faults of templates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageTexts {
    /// The title, or a fallback that names the fault.
    pub title: String,
    /// The body, or a fallback that names the fault.
    pub body: String,
    /// Why the channel's template of the title could not be rendered.
    pub title_fault: Option<String>,
    /// Why the channel's template of the body could not be rendered.
    pub body_fault: Option<String>,
    /// A webhook's body in the channel's own form; `None` if it has no such form or could not be rendered.
    pub payload: Option<Payload>,
    /// Why `payload` could not be rendered.
    pub payload_fault: Option<String>,
}

impl Composer {
    /// The channel's texts, or the notification's own where the channel has no template. `zone` is the channel's time zone.
    pub fn texts(
        &self,
        template: &TemplateText,
        notification: &Notification,
        recipient: &str,
        zone: Option<&str>,
    ) -> MessageTexts {
        self.compose(template, notification, recipient, zone, None)
    }

    /// The texts if there was no time to render: templates are replaced by fallbacks that say that `which` time was over.
    pub fn texts_without_time(
        &self,
        template: &TemplateText,
        notification: &Notification,
        (recipient, zone): (&str, Option<&str>),
        which: &'static str,
    ) -> MessageTexts {
        self.compose(template, notification, recipient, zone, Some(which))
    }

    fn compose(
        &self,
        template: &TemplateText,
        notification: &Notification,
        recipient: &str,
        zone: Option<&str>,
        over: Option<&'static str>,
    ) -> MessageTexts {
        let local = local(notification, recipient, zone);
        let mut texts = MessageTexts {
            title: notification.title.clone(),
            body: notification.summary.clone(),
            title_fault: None,
            body_fault: None,
            payload: None,
            payload_fault: None,
        };
        if let Some(start) = &local {
            let zone = start.time_zone().iana_name().unwrap_or_default();
            let start = start.strftime("%Y-%m-%d %H:%M");
            // After the first line, which says when it is in the schedule's zone.
            let at = texts.body.find('\n').unwrap_or(texts.body.len());
            texts.body.insert_str(at, &format!(" For you: {start} ({zone})."));
        }
        if template.is_nothing() {
            return texts;
        }
        let mut data = data(notification);
        if let (Value::Object(data), Some(start)) = (&mut data, local) {
            let name = start.time_zone().iana_name().unwrap_or_default();
            data.insert("recipientTimeZone".to_owned(), name.into());
            let start = start.timestamp().display_with_offset(start.offset()).to_string();
            data.insert("recipientStart".to_owned(), start.into());
        }
        let values = TemplateData::new(&data);
        if let Some(text) = &template.title {
            match self.render(text, false, &values, OutputLimit::TITLE, over) {
                Ok(title) => texts.title = title,
                Err(error) => {
                    texts.title = templates::fallback("title", &notification.title, &error);
                    texts.title_fault = Some(error.message);
                }
            }
        }
        if let Some(text) = &template.body {
            match self.render(text, false, &values, OutputLimit::TEXT, over) {
                Ok(body) => texts.body = body,
                Err(error) => {
                    let gap = if texts.body.is_empty() { "" } else { "\n\n" };
                    texts.body += gap;
                    texts.body += &templates::fallback(
                        "body",
                        NotificationLabels::new(notification).object.name,
                        &error,
                    );
                    texts.body_fault = Some(error.message);
                }
            }
        }
        if let Some(text) = &template.payload {
            if let Value::Object(data) = &mut data {
                data.insert("text".to_owned(), format!("{}\n{}", texts.title, texts.body).trim().into());
            }
            match self.payload(text, &TemplateData::new(&data), over) {
                Ok(payload) => texts.payload = Some(payload),
                Err(error) => {
                    // People read the usual body that is sent instead: it tells them why it looks different.
                    let gap = if texts.body.is_empty() { "" } else { "\n\n" };
                    texts.body += gap;
                    texts.body += &templates::fallback(
                        "webhook body",
                        NotificationLabels::new(notification).object.name,
                        &error,
                    );
                    texts.payload_fault = Some(error.message);
                }
            }
        }
        texts
    }

    fn payload(
        &self,
        of: &PayloadText,
        data: &TemplateData,
        over: Option<&'static str>,
    ) -> Result<Payload, RenderError> {
        let text = self.render(&of.template, of.is_json(), data, OutputLimit::TEXT, over)?;
        if of.is_json()
            && let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(&text)
        {
            return Err(RenderError { message: format!("it is not JSON: {error}"), cut: None });
        }
        Ok(Payload { content_type: of.content_type.clone(), text })
    }

    fn render(
        &self,
        text: &str,
        escapes: bool,
        data: &TemplateData,
        limits: OutputLimit,
        over: Option<&'static str>,
    ) -> Result<String, RenderError> {
        let lock = || self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        let known = lock().get(&escapes, text);
        let compiled = known.unwrap_or_else(|| {
            let compiled = if escapes { compile_json(text) } else { compile_text(text) };
            let weight = compiled.as_ref().map_or(0, Template::weight);
            lock().put(&escapes, text, compiled.clone(), weight);
            compiled
        });
        let begun = Instant::now();
        compiled?.render(data, limits, &|| over.or_else(|| (begun.elapsed() > TIME).then_some(TIME_SAID)))
    }
}

fn compile_json(text: &str) -> CompiledText {
    Template::compile_json(text).map_err(|error| RenderError { message: error.to_string(), cut: None })
}

/// When a reminder's occurrence starts in the recipient's time zone; `None` if that is not known or shows the same time.
fn local(notification: &Notification, recipient: &str, zone: Option<&str>) -> Option<Zoned> {
    let Cause::Reminder { occurrence, time_zone, all_day: false, time_zones, .. } = &notification.cause
    else {
        return None;
    };
    let zone = time_zones.get(&recipient.to_lowercase()).map(String::as_str).or(zone)?;
    // The operator has checked the names, and all programs have the same time zone database.
    let (own, theirs) = (TimeZone::get(time_zone).ok()?, TimeZone::get(zone).ok()?);
    let differs = own.to_offset(*occurrence) != theirs.to_offset(*occurrence);
    differs.then(|| occurrence.to_zoned(theirs))
}

fn data(notification: &Notification) -> Value {
    let words = NotificationLabels::new(notification);
    let mut data = json!({
        "id": notification.id,
        "ask": ask_command(notification),
        "title": notification.title,
        "summary": notification.summary,
        "severity": notification.severity.name(),
        "namespace": notification.namespace,
        "name": words.object.name,
        "object": words.object.kind,
        "created": notification.created,
        "group": notification.group,
        "kind": words.kind,
        "status": notification.cause.status(),
    });
    if let (Value::Object(all), Value::Object(more)) = (&mut data, details(&notification.cause)) {
        all.extend(more);
    }
    data
}

fn details(cause: &Cause) -> Value {
    match cause {
        Cause::Alert { alert, .. } => {
            let mut details = json!({
                "episode": alert.episode,
                "first": alert.first(),
                "since": alert.since,
                "count": alert.count,
                "windowStart": alert.window_start,
                "windowEnd": alert.window_end,
                "repeat": if let AlertKind::Repeat { n } = alert.kind { n } else { 0 },
            });
            if let (Value::Object(all), Some(closed)) = (&mut details, &alert.closed) {
                all.insert("closed".to_owned(), Value::String(closed.clone()));
            }
            details
        }
        Cause::Record { record, .. } => json!({
            "topic": record.topic,
            "partition": record.partition,
            "offset": record.offset,
            "timestamp": record.time,
        }),
        Cause::Reminder { occurrence, end, time_zone, about, time, due, .. } => {
            let mut details = json!({
                "occurrence": occurrence,
                "end": end,
                "timeZone": time_zone,
                "description": about.description.as_deref().unwrap_or_default(),
                "location": about.location.as_deref().unwrap_or_default(),
                "url": about.url.as_deref().unwrap_or_default(),
                "resources": about.resources,
                "beforeMinutes": occurrence.duration_since(*due).as_mins(),
                "due": due,
            });
            if let (Value::Object(all), Ok(Value::Object(time))) = (&mut details, serde_json::to_value(time))
            {
                all.extend(time);
            }
            details
        }
        Cause::Test { request, .. } => json!({ "request": request }),
    }
}

impl Composer {
    /// The data that a channel's templates see, for previews and tests.
    pub fn data(notification: &Notification) -> Map<String, Value> {
        match data(notification) {
            Value::Object(data) => data,
            _ => Map::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;

    fn texts(title: &str, body: &str) -> (String, String) {
        let template =
            TemplateText { title: Some(title.to_owned()), body: Some(body.to_owned()), payload: None };
        let texts = Composer::default().texts(&template, &fixtures::alert(), "", None);
        let failed =
            |text: &str, fault: &Option<String>| fault.is_some() == text.contains("template failed: ");
        assert!(
            failed(&texts.title, &texts.title_fault) && failed(&texts.body, &texts.body_fault),
            "{texts:?}"
        );
        (texts.title, texts.body)
    }

    #[test]
    fn without_templates_the_texts_are_the_notifications() {
        let notification = fixtures::alert();
        let texts = Composer::default().texts(&TemplateText::default(), &notification, "", None);
        assert_eq!((texts.title, texts.body), (notification.title, notification.summary));
    }

    #[test]
    fn the_example_channel_renders() {
        let (title, body) = texts(
            "[{{ severity }}] {{ title }}",
            "{{ summary }}{% if group %} ({{ group.service }}){% endif %}",
        );
        assert_eq!(title, "[critical] pay: 21 bad log lines in 1m");
        assert_eq!(body, "Last: <b>card & pin</b> refused (pay)");
        let reminder = fixtures::reminder();
        let template = TemplateText {
            body: Some("{% if group %}never{% endif %}{{ kind }}".to_owned()),
            ..TemplateText::default()
        };
        assert_eq!(Composer::default().texts(&template, &reminder, "", None).body, "reminder");
    }

    #[test]
    fn a_reminder_tells_the_recipients_local_time_if_that_differs() {
        let reminder = fixtures::reminder();
        let says = |notification: &Notification, recipient: &str, zone| {
            Composer::default().texts(&TemplateText::default(), notification, recipient, zone).body
        };
        let first = "Starts at 2027-01-15 17:00 (Asia/Seoul), in 10 minutes.";
        let berlin =
            reminder.summary.replace(first, &format!("{first} For you: 2027-01-15 09:00 (Europe/Berlin)."));
        assert_eq!(says(&reminder, "ops@example.com", None), reminder.summary);
        assert_eq!(says(&reminder, "Jonas@example.com", None), berlin);
        assert_eq!(says(&reminder, "ops@example.com", Some("Europe/Berlin")), berlin);
        assert_eq!(
            says(&reminder, "jonas@example.com", Some("America/New_York")),
            berlin,
            "the person's goes first"
        );
        assert_eq!(says(&reminder, "", Some("Asia/Tokyo")), reminder.summary, "the same time on the clock");
        assert_eq!(
            says(&fixtures::alert(), "jonas@example.com", Some("Europe/Berlin")),
            fixtures::alert().summary
        );
        let mut whole_day = reminder.clone();
        let Cause::Reminder { all_day, .. } = &mut whole_day.cause else { panic!("a reminder") };
        *all_day = true;
        assert_eq!(says(&whole_day, "jonas@example.com", None), reminder.summary);
        let body = "{{ recipientTimeZone }} {{ recipientStart }} {{ beforeMinutes }}".to_owned();
        let template = TemplateText { body: Some(body), ..TemplateText::default() };
        let texts = Composer::default().texts(&template, &reminder, "jonas@example.com", None);
        assert_eq!(texts.body, "Europe/Berlin 2027-01-15T09:00:00+01:00 10");
    }

    #[test]
    fn a_template_sees_the_schedules_details_and_the_ask_command() {
        let body =
            "{{ location }} {{ resources | join(',') }} {{ url }} {{ description }}\n{{ ask }}".to_owned();
        let template = TemplateText { body: Some(body), ..TemplateText::default() };
        let texts = Composer::default().texts(&template, &fixtures::reminder(), "", None);
        let place = "3rd floor room-3f-a https://meet.example.com/x?a=1&b=2 Blockers first.";
        let ask = "belfry ask 00000000-0000-0000-0000-00000000000b -n payments";
        assert_eq!(texts.body, format!("{place}\n{ask}"));
        let template = TemplateText { body: Some("{{ first }}".to_owned()), ..TemplateText::default() };
        let later = fixtures::later(AlertKind::Resolved, None);
        let texts = Composer::default().texts(&template, &later, "", None);
        assert_eq!(texts.body, fixtures::alert().id.to_string());
    }

    #[test]
    fn a_template_that_fails_is_told_by_name_and_the_message_keeps_its_text() {
        for (title, body) in [("{{ nothing }}", "{{ group.missing }}"), ("{{ title", "{% for %}")] {
            let (title, body) = texts(title, body);
            assert!(title.starts_with("pay: 21 bad log lines in 1m: title template failed: "), "{title}");
            assert!(
                body.starts_with("Last: <b>card & pin</b> refused\n\npayment-errors: body template failed: "),
                "{body}"
            );
        }
    }

    #[test]
    fn a_template_over_its_budget_is_told_by_name_and_the_message_keeps_its_text() {
        let slow = "{% for a in range(9999) %}{% if summary|list|sort == a %}{% endif %}{% endfor %}";
        let (title, body) = texts(slow, slow);
        assert_eq!(title, "pay: 21 bad log lines in 1m: title template failed: more than 100000 steps");
        assert!(body.ends_with("payment-errors: body template failed: more than 100000 steps"), "{body}");
        let template = TemplateText { title: Some("{{ title }}".to_owned()), ..TemplateText::default() };
        let texts = Composer::default().texts_without_time(
            &template,
            &fixtures::alert(),
            ("", None),
            "2s of waiting",
        );
        assert_eq!(
            texts.title,
            "pay: 21 bad log lines in 1m: title template failed: took longer than 2s of waiting"
        );
        assert_eq!(texts.body, fixtures::alert().summary);
    }

    fn payload(template: &str, content_type: &str, notification: &Notification) -> MessageTexts {
        let payload =
            Some(PayloadText { template: template.to_owned(), content_type: content_type.to_owned() });
        let template =
            TemplateText { title: Some("[{{ severity }}] {{ title }}".to_owned()), payload, body: None };
        Composer::default().texts(&template, notification, "", None)
    }

    #[test]
    fn a_body_in_a_receivers_own_form_is_json_whatever_a_record_held() {
        let mut alert = fixtures::alert();
        alert.summary = "he said \"no\"\nand left \\".to_owned();
        let texts = payload(r#"{"text": "{{ text }}", "count": {{ count }}}"#, "application/json", &alert);
        let read: Value = serde_json::from_str(&texts.payload.unwrap().text).unwrap();
        let text = "[critical] pay: 21 bad log lines in 1m\nhe said \"no\"\nand left \\";
        assert_eq!(read, json!({"text": text, "count": 21}));
        let texts = payload("{{ text }}", "text/plain; charset=utf-8", &alert);
        assert_eq!(texts.payload.unwrap().text, text);
    }

    #[test]
    fn a_body_can_tell_a_closed_alert_from_a_resolved_one() {
        let template = r#"{"kind": "{{ kind }}", "colour": "{% if status == 'resolved' %}green{% elif status == 'closed' %}grey{% else %}red{% endif %}"}"#;
        let said = crate::fixtures::all().map(|(kind, notification)| {
            let texts = payload(template, "application/json", &notification);
            let read: Value = serde_json::from_str(&texts.payload.unwrap().text).unwrap();
            assert_eq!(read["kind"], kind);
            read["colour"].as_str().unwrap().to_owned()
        });
        assert_eq!(said, ["red", "red", "green", "grey", "red", "red", "red"]);
    }

    #[test]
    fn a_body_that_is_not_json_or_fails_is_told_and_not_sent() {
        for (template, why) in [
            (r#"{"text": "#, "it is not JSON: EOF while parsing a value at line 1 column 9"),
            (r#"{"text": {{ nothing }}}"#, "undefined value \"nothing\""),
        ] {
            let texts = payload(template, "application/vnd.chat+json", &fixtures::alert());
            assert_eq!((texts.payload, texts.payload_fault.as_deref()), (None, Some(why)));
            assert!(texts.title.starts_with("[critical] "), "{}", texts.title);
            let told = format!("refused\n\npayment-errors: webhook body template failed: {why}");
            assert!(texts.body.ends_with(&told), "{}", texts.body);
        }
    }
}
