//! Recurrences that are wrong or never happen: the Schedule is Stalled, and the message says why.

use e2e::cluster::condition;
use e2e::tenant::Tenant;

use super::object;
use crate::golden;

#[tokio::test(flavor = "multi_thread")]
async fn a_recurrence_that_is_wrong_is_stalled_and_the_message_says_why() {
    let tenant = Tenant::unchecked("t-bad-times").await;
    let schedule = |name: &str, zone: &str, recurrence: &str| {
        object(
            "Schedule",
            name,
            &format!(
                "title: Month close\ntimeZone: {zone}\nstart: \"2035-01-30T17:00:00\"\nduration: 2h\nrecurrence: {{{recurrence}}}\nreminders: [{{before: 24h, notify: [{{channelRef: {{name: mail}}}}]}}]"
            ),
        )
    };
    let cases = [
        ("never", "Asia/Seoul", "rrule: FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=31", &["never happens"][..]),
        ("zone", "Asia/Soul", "rrule: FREQ=MONTHLY", &["Asia/Soul", "Europe/Berlin"]),
        ("until", "Asia/Seoul", "rrule: FREQ=MONTHLY;UNTIL=20341231T000000Z", &["UNTIL", "2035-01-30"]),
        ("frequency", "Asia/Seoul", "rrule: FREQ=FORTNIGHTLY", &["FORTNIGHTLY", "WEEKLY"]),
        ("part", "Asia/Seoul", "rrule: FREQ=MONTHLY;BYDAI=MO", &["BYDAI", "BYDAY"]),
        ("date", "Asia/Seoul", "dates: [\"2035-02-30\"]", &["dates[0]", "2035-02-30"]),
    ];
    let manifests: Vec<String> =
        cases.iter().map(|(name, zone, recurrence, _)| schedule(name, zone, recurrence)).collect();
    let neighbour = schedule("fine", "Asia/Seoul", "rrule: FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1")
        .replace("reminders:", "# reminders:");
    tenant.apply(&(manifests.concat() + &neighbour)).await;
    for (name, _, _, says) in cases {
        let what = format!("sch/{name}");
        let object = tenant.condition(&what, "Stalled", "True", "InvalidRecurrence", 30).await;
        let (_, _, message) = condition(&object, "Stalled").expect("it is there");
        for words in says {
            assert!(message.contains(words), "{name} does not say {words:?}: {message}");
        }
    }
    let files = [
        ("times-never", "sch/never"),
        ("times-zone", "sch/zone"),
        ("times-until", "sch/until"),
        ("times-frequency", "sch/frequency"),
        ("times-part", "sch/part"),
        ("times-date", "sch/date"),
    ];
    golden::assert_shown(&tenant, &files).await;
    tenant.ready("sch/fine").await;
    tenant.leave().await;
}
