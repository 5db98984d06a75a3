//! `belfry ask`, `list` and `dead-letters`: questions to the hub about notifications and dead letters.

use anyhow::bail;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use domain::{DeliveryRecord, DeliveryState, Millis};
use jiff::{SignedDuration, Timestamp};
use protocol::Error;
use protocol::messages::{DeadLetterQuery, NotificationQuery, NotificationStory};
use uuid::Uuid;

use crate::hub::{self, Hub, retry_while_busy};
use crate::terminal::{self, Page, Painted};
use crate::{Output, notification_text};

/// The most lines of a list.
const MAX_LINES: i64 = 5_000;
/// The most notifications of one answer of the hub.
const PAGE_SIZE: i64 = 500;

#[derive(clap::Args)]
pub(crate) struct Ask {
    /// The id of a notification or of a delivery (the `webhook-id` that a receiver saw); or KIND/NAME, such as
    /// rule/payment-errors, for the newest notification of that object.
    #[arg(value_name = "ID|KIND/NAME", value_parser = NotificationRef::parse)]
    id: NotificationRef,
    /// In words, or the JSON object of the hub.
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
    #[command(flatten)]
    hub: hub::Flags,
}

#[derive(clap::Args)]
pub(crate) struct List {
    /// Only those of this AlertRule.
    #[arg(long, value_name = "NAME")]
    rule: Option<String>,
    /// Only those of this Schedule.
    #[arg(long, value_name = "NAME", conflicts_with = "rule")]
    schedule: Option<String>,
    /// Only deliveries to this NotificationChannel.
    #[arg(long, value_name = "NAME")]
    channel: Option<String>,
    /// The same as KIND/NAME, such as rule/payment-errors; or by uid, which finds those of a removed object too.
    #[arg(long, value_name = "KIND/NAME|UID", value_parser = ObjectRef::parse, conflicts_with_all = ["rule", "schedule", "channel"])]
    object: Option<ObjectRef>,
    /// Only deliveries in this state.
    #[arg(long, ignore_case = true, value_parser = state_parser())]
    state: Option<DeliveryState>,
    /// Only those decided since then: a duration up to now, such as 2h or 7d, or a time (RFC 3339).
    #[arg(long, value_name = "DURATION|TIME", value_parser = Since::parse)]
    since: Option<Since>,
    /// At most this many lines, 1 to 5000: a line is a delivery, with json a notification.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(i64).range(1..=MAX_LINES))]
    limit: i64,
    /// A table; wide, with all there is to say; or json, an object a line.
    #[arg(short, long, value_enum, default_value = "table")]
    output: ListFormat,
    #[command(flatten)]
    hub: hub::Flags,
}

#[derive(clap::Args)]
pub(crate) struct DeadLetters {
    /// At most this many, 1 to 500.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(i64).range(1..=500))]
    limit: i64,
    /// A line each; with json also key and value, in Base64.
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
    #[command(flatten)]
    hub: hub::Flags,
}

/// The format of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum ListFormat {
    #[value(alias = "text")]
    Table,
    Wide,
    Json,
}

/// How a user names an object.
#[derive(Debug, Clone, PartialEq, Eq)]
enum ObjectRef {
    Rule(String),
    Schedule(String),
    Channel(String),
    Uid(Uuid),
}

impl ObjectRef {
    fn parse(text: &str) -> Result<Self, String> {
        if let Ok(uid) = text.parse() {
            return Ok(Self::Uid(uid));
        }
        let (kind, name) = text.split_once('/').unwrap_or_default();
        let name = name.to_owned();
        match kind.to_ascii_lowercase().split('.').next().unwrap_or_default() {
            _ if name.is_empty() => Err(Self::ALLOWED.to_owned()),
            "rule" | "rules" | "alertrule" | "alertrules" | "alr" => Ok(Self::Rule(name)),
            "schedule" | "schedules" | "sch" => Ok(Self::Schedule(name)),
            "channel" | "channels" | "notificationchannel" | "notificationchannels" | "nch" => {
                Ok(Self::Channel(name))
            }
            _ => Err(Self::ALLOWED.to_owned()),
        }
    }

    const ALLOWED: &str =
        "write KIND/NAME, such as rule/payment-errors, schedule/standup or channel/slack, or an object's uid";

    fn query(self) -> NotificationQuery {
        let mut query = NotificationQuery::default();
        match self {
            Self::Rule(name) => query.rule = Some(name),
            Self::Schedule(name) => query.schedule = Some(name),
            Self::Channel(name) => query.channel = Some(name),
            Self::Uid(uid) => query.object = Some(uid),
        }
        query
    }
}

/// How a user names one notification.
#[derive(Debug, Clone, PartialEq, Eq)]
enum NotificationRef {
    Id(Uuid),
    NewestOf(ObjectRef),
}

impl NotificationRef {
    fn parse(text: &str) -> Result<Self, String> {
        if let Ok(id) = text.parse() {
            return Ok(Self::Id(id));
        }
        ObjectRef::parse(text).map(Self::NewestOf).map_err(|_| {
            "write an id of 36 characters, as `belfry list` and messages show them; or KIND/NAME, such as \
             rule/payment-errors, for the newest of an object"
                .to_owned()
        })
    }
}

/// A time, or a duration before now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Since {
    Ago(Millis),
    At(Timestamp),
}

impl Since {
    fn parse(text: &str) -> Result<Self, String> {
        if let Ok(at) = text.parse() {
            return Ok(Self::At(at));
        }
        let days = text.strip_suffix('d').and_then(|days| days.parse::<u16>().ok());
        let ago = days.map(|days| Millis::from_secs(i64::from(days) * 86_400));
        ago.or_else(|| Millis::parse(text).ok()).map(Self::Ago).ok_or_else(|| {
            "write a duration such as 90s, 2h or 7d, or a time such as 2026-01-05T10:00:00Z".to_owned()
        })
    }

    fn time(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(at) => at,
            Self::Ago(ago) => now.checked_sub(SignedDuration::from_millis(ago.0)).unwrap_or(Timestamp::MIN),
        }
    }
}

/// Parses a state by its name. Completions offer the names.
fn state_parser() -> impl TypedValueParser<Value = DeliveryState> {
    use DeliveryState::{Dead, Delivered, Expired, Pending, Suppressed};
    let all = [Pending, Delivered, Dead, Expired, Suppressed];
    let names = ["pending", "delivered", "dead", "expired", "suppressed"];
    PossibleValuesParser::new(names).try_map(move |text| {
        let found = all.into_iter().find(|state| state.name().eq_ignore_ascii_case(&text));
        found.ok_or_else(|| format!("{text} is not a state"))
    })
}

/// Prints one notification with its deliveries and attempts; returns whether all deliveries arrived.
pub(crate) async fn ask(flags: &Ask) -> anyhow::Result<bool> {
    let Hub { client, namespace } = flags.hub.connect().await?;
    let found = match &flags.id {
        NotificationRef::Id(id) => {
            let asked = retry_while_busy(async || match client.notification(&namespace, *id).await {
                Err(Error::Refused { status, problem, .. }) if status.as_u16() == 404 => {
                    Ok(Err(problem.message))
                }
                answer => answer.map(Ok),
            });
            asked.await?
        }
        NotificationRef::NewestOf(object) => {
            let query = object.clone().query();
            let mut newest = None;
            each_notification(&client, &namespace, query, 1, |story| {
                newest = Some(story);
                1
            })
            .await?;
            newest.ok_or_else(|| "nothing was told of it yet, or it is too long ago".to_owned())
        }
    };
    let story = match found {
        Ok(story) => story,
        Err(why) => {
            terminal::error(&format!("namespace {namespace}: {why}"));
            return Ok(false);
        }
    };
    match flags.output {
        Output::Text => terminal::page(&notification_text::full_text(&story, Page::coloured())),
        Output::Json => terminal::json(&notification_text::json(&story)),
    }
    Ok(notification_text::all_delivered(&story))
}

/// Prints the newest notifications; always returns true.
pub(crate) async fn list(flags: List, now: Timestamp) -> anyhow::Result<bool> {
    let Hub { client, namespace } = flags.hub.connect().await?;
    let mut query = flags.object.map(ObjectRef::query).unwrap_or_default();
    query.rule = query.rule.or(flags.rule);
    query.schedule = query.schedule.or(flags.schedule);
    query.channel = query.channel.or(flags.channel);
    query.state = flags.state;
    query.since = flags.since.map(|since| since.time(now));
    let channel = query.channel.clone();
    let asked = |delivery: &DeliveryRecord| {
        flags.state.is_none_or(|state| state == delivery.state)
            && channel.as_ref().is_none_or(|channel| *channel == delivery.channel)
    };
    let wide = flags.output == ListFormat::Wide;
    let mut rows: Vec<Vec<Painted>> = Vec::new();
    let mut printed = 0;
    each_notification(&client, &namespace, query, flags.limit, |story| {
        if flags.output == ListFormat::Json {
            terminal::json(&notification_text::json(&story));
            printed += 1;
            return 1;
        }
        let of_story = notification_text::rows(&story, wide, asked);
        let count = of_story.len();
        rows.extend(of_story);
        count as i64
    })
    .await?;
    rows.truncate(usize::try_from(flags.limit)?);
    if rows.is_empty() && printed == 0 {
        terminal::note(format_args!("no such notification in namespace {namespace}"));
    } else if flags.output != ListFormat::Json {
        let mut page = Page::coloured();
        page.table(if wide { &notification_text::WIDE } else { &notification_text::COLUMNS }, &rows);
        terminal::page(&page);
    }
    Ok(true)
}

/// Calls `take` with each notification that `query` selects, newest first. `take` returns how many lines it used; stops after
/// `limit` lines.
async fn each_notification(
    client: &protocol::Client,
    namespace: &str,
    mut query: NotificationQuery,
    limit: i64,
    mut take: impl FnMut(NotificationStory) -> i64,
) -> anyhow::Result<()> {
    let mut left = limit;
    while left > 0 {
        query.limit = Some(left.min(PAGE_SIZE));
        let asked = retry_while_busy(async || match client.notifications(namespace, &query).await {
            Err(Error::Refused { status, problem, .. }) if status.as_u16() == 404 => Ok(Err(problem.message)),
            answer => answer.map(Ok),
        });
        let list = match asked.await? {
            Ok(list) => list,
            Err(why) => {
                bail!("{why}: say another namespace with -n; one that was removed is asked for by its uid")
            }
        };
        for story in list.items {
            if left > 0 {
                left -= take(story);
            }
        }
        if list.next.is_none() || list.next == query.after {
            break;
        }
        query.after = list.next;
    }
    Ok(())
}

/// Prints dead letters that the hub keeps; always returns true.
pub(crate) async fn dead_letters(flags: &DeadLetters) -> anyhow::Result<bool> {
    let Hub { client, namespace } = flags.hub.connect().await?;
    let (mut left, mut query) = (flags.limit, DeadLetterQuery::default());
    let mut topics = Vec::new();
    while left > 0 {
        query.limit = Some(left);
        let list = retry_while_busy(async || client.dead_letters(&namespace, &query).await).await?;
        left -= i64::try_from(list.items.len())?;
        topics = list.topics;
        for item in list.items {
            match flags.output {
                Output::Text => terminal::line(notification_text::dead_letter(&item)),
                Output::Json => terminal::json(&item),
            }
        }
        if list.next.is_none() || list.next == query.after {
            break;
        }
        query.after = list.next;
    }
    if left == flags.limit {
        terminal::note(format_args!(
            "the hub keeps no record of namespace {namespace} that could not be decoded"
        ));
        for topic in topics {
            terminal::note(format_args!(
                "rule/{} has such records put into the topic {}: read them there",
                topic.rule, topic.topic
            ));
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_named_by_its_kind_in_any_of_its_names_or_by_its_uid() {
        for (text, object) in [
            ("rule/a", ObjectRef::Rule("a".to_owned())),
            ("alertrules.belfry.dev/a", ObjectRef::Rule("a".to_owned())),
            ("alr/a", ObjectRef::Rule("a".to_owned())),
            ("Schedule/a", ObjectRef::Schedule("a".to_owned())),
            ("nch/a", ObjectRef::Channel("a".to_owned())),
            (
                "a17dbef1-601d-5bcc-806b-b0e6bf808605",
                ObjectRef::Uid(Uuid::from_u128(0xa17d_bef1_601d_5bcc_806b_b0e6_bf80_8605)),
            ),
        ] {
            assert_eq!(ObjectRef::parse(text), Ok(object), "{text}");
        }
        for bad in ["hook", "room/a", "rule/", "", "/a"] {
            assert!(ObjectRef::parse(bad).is_err_and(|why| why.contains("KIND/NAME")), "{bad}");
        }
        assert!(NotificationRef::parse("nonsense").is_err_and(|why| why.contains("36 characters")));
    }

    #[test]
    fn since_is_a_duration_or_a_time() {
        let now: Timestamp = "2026-01-05T10:00:00Z".parse().unwrap();
        for (text, time) in [
            ("2h", "2026-01-05T08:00:00Z"),
            ("7d", "2025-12-29T10:00:00Z"),
            ("2026-01-01T00:00:00+01:00", "2025-12-31T23:00:00Z"),
        ] {
            assert_eq!(Since::parse(text).unwrap().time(now).to_string(), time, "{text}");
        }
        for bad in ["yesterday", "2", "", "-1h", "2026-01-01"] {
            assert!(Since::parse(bad).is_err(), "{bad}");
        }
    }
}
