//! What arrived at the sink, read by its meaning.
//!
//! Never here: what should have arrived.

use serde_json::Value;

use super::recount::What;
use crate::sink::Received;

/// The status with which the sink answers where it hangs until the sender has given up: taken, but nobody was told.
pub const HUNG: u16 = 202;

/// A request at the sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    /// Its place among all requests.
    pub number: u64,
    /// When, Unix ms.
    pub time_ms: i64,
    /// The channel's name: the last part of the path.
    pub channel: String,
    /// `webhook-id`.
    pub id: String,
    /// How it was answered.
    pub status: u16,
    /// The rule's name.
    pub rule: String,
    /// Labels as `name=value`, sorted, separated by commas.
    pub group: String,
    /// What it is about.
    pub what: What,
    /// Records in the window; 1 for a record.
    pub count: i64,
    /// The title.
    pub title: String,
}

impl Arrival {
    /// Whether the receiver has it.
    pub fn taken(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Whether the sender was told so, too.
    pub fn acknowledged(&self) -> bool {
        self.taken() && self.status != HUNG
    }

    /// Reads a request of a run over these topics; what is wrong with it otherwise.
    pub fn from_request(request: &Received, topics: &[String]) -> Result<Self, String> {
        let body: Value = serde_json::from_str(&request.body).map_err(|error| format!("body: {error}"))?;
        // JSON and structured CloudEvents hold the object in `data`, binary CloudEvents are the object.
        let data = if body["data"].is_object() { &body["data"] } else { &body };
        let id = request.headers.get("webhook-id").ok_or("no webhook-id")?;
        if data["delivery"] != Value::String(id.clone()) {
            return Err(format!("webhook-id {id} but delivery {}", data["delivery"]));
        }
        let text = |value: &Value, what: &str| {
            value.as_str().map(str::to_owned).ok_or_else(|| format!("no {what}: {}", request.body))
        };
        let (what, count) =
            cause(&data["cause"], topics).ok_or_else(|| format!("no such cause: {}", data["cause"]))?;
        Ok(Self {
            number: request.number,
            time_ms: request.time_ms as i64,
            channel: request.path.rsplit('/').next().unwrap_or_default().to_owned(),
            id: id.clone(),
            status: request.status,
            rule: text(&data["object"]["name"], "object")?,
            group: group(&data["group"]).ok_or("no group")?,
            what,
            count,
            title: text(&data["title"], "title")?,
        })
    }
}

fn group(labels: &Value) -> Option<String> {
    let mut labels: Vec<String> = labels
        .as_object()?
        .iter()
        .map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or_default()))
        .collect();
    labels.sort();
    Some(labels.join(","))
}

fn cause(cause: &Value, topics: &[String]) -> Option<(What, i64)> {
    let instant = |value: &Value| Some(value.as_str()?.parse::<jiff::Timestamp>().ok()?.as_millisecond());
    match cause["type"].as_str()? {
        "Record" => {
            let record = &cause["record"];
            let partition = i32::try_from(record["partition"].as_i64()?).ok()?;
            let topic = topics.iter().position(|topic| record["topic"] == **topic)?;
            Some((What::Record { topic, partition, offset: record["offset"].as_i64()? }, 1))
        }
        "Alert" => {
            let alert = &cause["alert"];
            let kind = match alert["kind"]["type"].as_str()? {
                "repeat" => format!("repeat {}", alert["kind"]["n"]),
                kind @ ("firing" | "resolved") => kind.to_owned(),
                _ => return None,
            };
            let (end_ms, since_ms) = (instant(&alert["windowEnd"])?, instant(&alert["since"])?);
            Some((What::Alert { end_ms, kind, since_ms }, alert["count"].as_i64()?))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn request(body: &Value) -> Received {
        Received {
            number: 3,
            time_ms: 9_000,
            path: "/ns/steady".to_owned(),
            headers: [("webhook-id".to_owned(), "d1".to_owned())].into(),
            body: body.to_string(),
            status: 200,
        }
    }

    fn topics() -> [String; 2] {
        ["other".to_owned(), "t".to_owned()]
    }

    fn alert() -> Value {
        json!({
            "delivery": "d1", "object": {"kind": "AlertRule", "name": "errors"}, "title": "repeat 4",
            "group": {"zone": "a", "service": "x"},
            "cause": {"type": "Alert", "rule": "u", "name": "errors", "alert": {
                "kind": {"type": "repeat", "n": 2}, "since": "1970-01-01T00:00:05Z", "count": 4,
                "windowStart": "1970-01-01T00:00:01Z", "windowEnd": "1970-01-01T00:00:09Z",
            }},
        })
    }

    #[test]
    fn an_alert_is_read_by_its_meaning_whatever_the_form_of_the_body() {
        let forms =
            [alert(), json!({"type": "t", "data": alert()}), json!({"specversion": "1.0", "data": alert()})];
        for form in forms {
            let arrival = Arrival::from_request(&request(&form), &topics()).unwrap();
            assert_eq!(arrival.group, "service=x,zone=a");
            let what = What::Alert { end_ms: 9_000, kind: "repeat 2".to_owned(), since_ms: 5_000 };
            assert_eq!((arrival.what, arrival.count, arrival.channel.as_str()), (what, 4, "steady"));
        }
    }

    #[test]
    fn a_record_is_read_by_where_it_is() {
        let mut body = alert();
        body["cause"] = json!({"type": "Record", "record": {"topic": "t", "partition": 4, "offset": 17}});
        let arrival = Arrival::from_request(&request(&body), &topics()).unwrap();
        assert_eq!(arrival.what, What::Record { topic: 1, partition: 4, offset: 17 });
    }

    #[test]
    fn an_id_in_the_header_that_is_not_the_one_in_the_body_is_told() {
        let mut body = alert();
        body["delivery"] = json!("d2");
        assert!(Arrival::from_request(&request(&body), &topics()).unwrap_err().contains("d2"));
    }
}
