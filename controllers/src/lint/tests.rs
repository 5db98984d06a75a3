use super::*;

fn manifests(yaml: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(yaml).unwrap()
}

fn told(yaml: &str) -> Vec<String> {
    let now = "2026-01-01T00:00:00Z".parse().unwrap();
    lint(&manifests(yaml), now)
        .findings
        .into_iter()
        .map(|found| format!("{} {:?} {} {}", found.object, found.level, found.reason, found.message))
        .collect()
}

const RULE: &str = "
apiVersion: belfry.dev/v1alpha1
kind: AlertRule
metadata: {name: r, namespace: a}
spec:
  source: {kafka: {bootstrapServers: [\"kafka:9092\"], topics: [t]}}
  match: record.level == \"ERROR\"
  condition: {type: Any}
  title: t
  notify: [{channelRef: {name: hook}}]
";

const HOOK: &str = "
---
apiVersion: belfry.dev/v1alpha1
kind: NotificationChannel
metadata: {name: hook, namespace: a}
spec: {type: Webhook, webhook: {url: \"http://sink.a.svc/hook\"}}
";

const ROOM: &str = "
---
apiVersion: belfry.dev/v1alpha1
kind: Schedule
metadata: {name: NAME}
spec: {title: t, timeZone: UTC, start: \"2026-02-02T10:00:00\", duration: 1h, resources: [room], conflictPolicy: Reject}
";

#[test]
fn the_examples_have_nothing_wrong() {
    let yaml = include_str!("../../../examples/payments.yaml");
    assert_eq!(told(yaml), Vec::<String>::new());
}

#[test]
fn what_the_operator_would_say_is_said_with_the_place() {
    let broken = RULE.replace("== \"ERROR\"", "== (");
    let told = told(&(broken + HOOK));
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("AlertRule a/r Error InvalidMatch match: line 1, column "), "{told:?}");
}

#[test]
fn a_field_that_is_not_there_is_told_with_those_that_are() {
    let told = told(&(RULE.replace("  title: t", "  titel: t") + HOOK));
    assert!(told[0].contains("Unreadable titel: there is no such field; spec has "), "{told:?}");
    assert!(told[0].contains(", title, "), "{told:?}");
}

#[test]
fn a_wrong_type_is_told_with_its_path() {
    let told = told(&(RULE.replace("topics: [t]", "topics: t") + HOOK));
    assert!(
        told[0].ends_with("Unreadable source.kafka.topics: \"t\" is a text; a list is needed: such as [t]"),
        "{told:?}"
    );
}

#[test]
fn a_channel_that_is_not_among_the_manifests_is_a_warning() {
    let told = told(RULE);
    let expected = "AlertRule a/r Warning ChannelNotFound no NotificationChannel hook among these manifests in \
                    namespace a";
    assert_eq!(told, [expected]);
}

#[test]
fn of_two_schedules_that_clash_the_later_one_is_told() {
    let told = told(&(ROOM.replace("NAME", "one") + &ROOM.replace("NAME", "two")));
    let expected =
        "Schedule default/two Error Conflicting needs room at 2026-02-02T10:00:00Z, as schedule one does";
    assert_eq!(told, [expected]);
}

#[test]
fn of_two_that_clash_in_a_cluster_the_one_created_later_is_told_and_what_is_in_none_comes_after() {
    let stored = |name: &str, uid: u8, created: &str| {
        let meta = format!(
            "{name}, creationTimestamp: \"{created}\", uid: 00000000-0000-0000-0000-0000000000{uid:02x}"
        );
        ROOM.replace("NAME", &meta)
    };
    let of = |clashing: &str, holder: &str| {
        format!(
            "Schedule default/{clashing} Error Conflicting needs room at 2026-02-02T10:00:00Z, as schedule {holder} does"
        )
    };
    // As `kubectl get -o yaml` lists them: by name.
    let (late, early) =
        (stored("alpha", 1, "2026-01-02T00:00:00Z"), stored("beta", 2, "2026-01-01T00:00:00Z"));
    assert_eq!(told(&(late.clone() + &early)), [of("alpha", "beta")]);
    assert_eq!(told(&(ROOM.replace("NAME", "new") + &late)), [of("new", "alpha")]);
    let twin = stored("alpha", 3, "2026-01-02T00:00:00Z");
    let other = stored("beta", 2, "2026-01-02T00:00:00Z");
    assert_eq!(told(&(twin + &other)), [of("alpha", "beta")], "of the same second the lesser uid is older");
    let copy = stored("copy", 1, "2026-01-02T00:00:00Z");
    assert_eq!(told(&(late + &copy)), [of("copy", "alpha")], "a copy with its model's uid is new");
}

#[test]
fn all_that_is_wrong_with_an_object_is_told() {
    let broken = RULE
        .replace("== \"ERROR\"", "== (")
        .replace(
            "title: t\n",
            "title: \"{{ grop.a }}{{ group.b }}\"\n  summary: \"{{ oops\"\n  colour: red\n  shape: 3\n",
        )
        .replace("topics: [t]", "topics: [\"a b\"]")
        .replace("{type: Any}", "{type: Any}\n  for: 1m\n  repeatInterval: 1ms");
    let told = told(&(broken + HOOK));
    for part in [
        "Unreadable colour: there is no such field",
        "Unreadable shape: there is no such field",
        "InvalidMatch match: line 1",
        "InvalidTemplate title: line 1, column 4: there is no `grop`; a rule's texts have ",
        "InvalidTemplate title: line 1, column 16: there is no `group.b`; the rule has no groupBy",
        "InvalidTemplate summary: line 1, column 1: the tag isn't closed by `}}`",
        "InvalidSpec source.kafka.topics[0]: \"a b\" is not a topic",
        "InvalidSpec repeatInterval: 1ms is not from 1s to 168h",
        "InvalidSpec for: Any is about single records",
    ] {
        assert_eq!(told.iter().filter(|told| told.contains(part)).count(), 1, "{part}: {told:#?}");
    }
    assert_eq!(told.len(), 9, "{told:#?}");
    let hook = HOOK.replace(
        "{url:",
        "{url: \"ftp://x\", format: Json}, timeZone: Mars, template: {title: \"{{ ticket }}\"}, x: {url:",
    );
    let said = self::told(&hook);
    let reasons = [
        "webhook.url: must begin",
        "timeZone: \"Mars\"",
        "template.title: line 1, column 4: there is no `ticket`",
    ];
    assert!(reasons.iter().all(|part| said.iter().any(|told| told.contains(part))), "{said:#?}");
    let schedule = ROOM.replace(
        "start: \"2026-02-02T10:00:00\"",
        "start: \"2026-02-02T10:00:00Z\", jitter: 2h, buffer: {before: 25h}",
    );
    let said = self::told(&schedule.replace("NAME", "s"));
    assert_eq!(said.len(), 3, "{said:#?}");
    assert!(said[0].contains("the local time without one"), "{said:#?}");
}

/// What is told of one object's spec, without what is the same for all.
fn mistakes(kind: &str, spec: &str) -> Vec<String> {
    let indented = spec.trim().lines().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n");
    let yaml = format!(
        "apiVersion: belfry.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: x, namespace: a}}\nspec:\n{indented}\n"
    );
    let told = told(&(yaml + HOOK));
    let begin = format!("{kind} a/x Error ");
    told.into_iter().map(|it| it.strip_prefix(&begin).unwrap_or(&it).to_owned()).collect()
}

/// Manifests with several mistakes, and all that is told of each: how the messages begin.
const MISTAKES: [(&str, &str, &[&str]); 10] = [
        (
            "Schedule",
            "
title: t
timeZone: Europe/Berln
start: \"2027-01-01T10:00:00Z\"
duration: 1h
recurrence: {rrule: \"RRULE:FREQ=WEEKLY;BYDAY=MON\", dates: [\"2027-13-01\"]}
reminders: [{before: 90s, notify: []}, {at: \"9\", daysBefore: 40, notify: [{channelRef: {name: hook}}]}]
participants: [{name: a, workingHours: {timeZone: Mars, from: \"9\"}}, {name: b, workingHours: {to: x}}]
suggest: {grid: 1s, within: 1m, count: 11}
",
            &[
                "InvalidRecurrence start: \"2027-01-01T10:00:00Z\" has an offset;",
                "InvalidRecurrence timeZone \"Europe/Berln\" is unknown;",
                "InvalidRecurrence recurrence.rrule at byte 0, RRULE:FREQ: not a part of a rule;",
                "InvalidRecurrence recurrence.rrule at byte 24, BYDAY: \"MON\" is not allowed;",
                "InvalidRecurrence recurrence.dates[0] \"2027-13-01\" is not allowed;",
                "InvalidReminder reminders[0]: before has seconds",
                "InvalidReminder reminders[0].notify: at least one channel is needed",
                "InvalidReminder reminders[1].at: \"9\" is not a time of the clock such as 09:00",
                "InvalidReminder reminders[1].daysBefore: 40 is not from 0 to 30",
                "InvalidSpec participants[0].workingHours.from: \"9\" is not a time such as 09:00",
                "InvalidSpec participants[0].workingHours.timeZone \"Mars\" is unknown;",
                "InvalidSpec participants[1].workingHours.to: \"x\" is not a time such as 09:00",
                "InvalidSpec suggest.grid: 1s is not from 1m to 24h",
                "InvalidSpec suggest.within: 1m is not from 1h to 720h",
                "InvalidSpec suggest.count: 11 is not from 1 to 10",
            ],
        ),
        (
            "Schedule",
            "
titel: t
start: 2027
duration: 60
conflictPolicy: reject
timeZone: UTC
recurrence: {rrules: [FREQ=WEEKLY, FREQ=FORTNIGHTLY], exceptRrules: [FREQ=DAILY;COUNT=x]}
buffer: {before: 25h, after: 26h}
",
            &[
                "Unreadable conflictPolicy: \"reject\" is not one of Reject, Warn, Allow; write Reject",
                "Unreadable duration: 60 is a number; a text is needed: a duration from 1m to 720h, such as 1h30m,",
                "Unreadable start: 2027 is a number; a text is needed: a local date and time without an offset, such as",
                "Unreadable titel: there is no such field; spec has allDay, ",
                "Unreadable title is missing: The event's title",
                "InvalidRecurrence recurrence.rrules[1] at byte 5, FREQ: \"FORTNIGHTLY\" is not allowed;",
                "InvalidRecurrence recurrence.exceptRrules[0] at byte 17, COUNT: \"x\" is not allowed;",
                "InvalidSpec buffer.before: 25h is not from 0s to 24h",
                "InvalidSpec buffer.after: 26h is not from 0s to 24h",
            ],
        ),
        (
            "AlertRule",
            "
source: {kafka: {bootstrapServers: [kafka, \"localhost:9092\"], topics: [t, \"a b\"], format: JSON}}
match: record.path.includes('x') && recrod.a == lower(record.b)
condition: {type: Frequency, frequency: {count: \"5\", window: 60}}
title: \"{{ record.a | fooo }} {{ count | upper | barr }} {{ a b }} {{ nothing }}\"
repeatInterval: 5 minutes
maxGroups: 0
severity: high
notify: []
suspend: \"yes\"
",
            &[
                "Unreadable condition.frequency.count: \"5\" is a text; a whole number is needed: without quotation marks",
                "Unreadable condition.frequency.window: 60 is a number; a text is needed: a duration from 1s to 168h, such as",
                "Unreadable severity: \"high\" is not one of info, warning, critical",
                "Unreadable source.kafka.format: \"JSON\" is not one of Json, Logfmt, Text, CloudEvents; write Json",
                "Unreadable suspend: \"yes\" is a text; true or false is needed",
                "InvalidMatch match: line 1, column *: unknown function `includes`; CEL has `x.contains(\"part\")`",
                "InvalidMatch match: line 1, column 30: unknown variable `recrod`; there are record, ",
                "InvalidMatch match: line 1, column *: unknown function `lower`; CEL has `x.lowerAscii()`",
                "InvalidSpec source.kafka.bootstrapServers[0]: \"kafka\" is not host:port",
                "ForbiddenAddress source.kafka.bootstrapServers[1]: localhost is the worker itself",
                "InvalidSpec source.kafka.topics[1]: \"a b\" is not a topic",
                "InvalidSpec repeatInterval: ",
                "InvalidSpec notify: at least one channel is needed",
                "InvalidSpec maxGroups: 0 is not from 1 to 100000",
                "InvalidTemplate title: line 1, column 15: there is no filter `fooo`",
                "InvalidTemplate title: line 1, column 42: there is no filter `barr`",
                "InvalidTemplate title: line 1, column 55: `b` is not expected here",
                "InvalidTemplate title: line 1, column 63: there is no `nothing`; a rule's texts have ",
            ],
        ),
        (
            "AlertRule",
            "
source: {kafka: {bootstrapServers: [\"kafka:9092\"], topics: [t]}}
match: \"true\"
groupBy: {a: service, b: record.b}
condition: {type: Spike, spike: {ratio: \"1\", window: 100h, minCount: 0}}
title: \"{{ record.a | fooo }} {{ count | upper | barr }} {{ a b }}\"
summary: \"{{ oops\"
for: 25h
resolve: {after: 1ms, below: x}
topValues: {hosts: host}
notify: [{channelRef: {name: hook}}, {channelRef: {nam: x}}]
",
            &[
                "Unreadable notify[1].channelRef.nam: there is no such field; notify[1].channelRef has name",
                "Unreadable notify[1].channelRef.name is missing: Name of the NotificationChannel",
                "InvalidGroupBy groupBy.a: \"service\", column 1: ",
                "InvalidSpec condition.spike.ratio: 1 is not above 1",
                "InvalidSpec condition.spike.window: 100h is not from 1s to 84h",
                "InvalidSpec resolve.after: 1ms is not from 1s to 168h",
                "InvalidSpec resolve.below: only Frequency, and Cardinality",
                "InvalidSpec for: 25h is not from 1s to 24h",
                "InvalidSpec topValues.hosts: \"host\", column 1: ",
                "InvalidTemplate title: line 1, column 15: there is no filter `fooo`",
                "InvalidTemplate title: line 1, column 42: there is no filter `barr`",
                "InvalidTemplate title: line 1, column 55: `b` is not expected here",
                "InvalidTemplate summary: line 1, column 1: the tag isn't closed by `}}`",
                "InvalidSpec condition.spike.minCount: 0 is not from 1 to 1000000000",
            ],
        ),
        (
            "AlertRule",
            "
source: {kafka: {bootstrapServers: [\"kafka:9092\"], topics: [t]}}
match: record.a = 1 and record.b <> 2
condition: {type: Any}
title: \"{{ record.a | fooo }} {{ count | upper | barr }} {{ a b }} {% if nothing %}{{ 1 }}{% endif %}\"
notify: [{channelRef: {name: hook}}]
",
            &[
                "InvalidMatch match: line 1, column 10: `=` is not expected here; equality is `==`",
                "InvalidMatch match: line 1, column 14: `and` is not expected here; and is `&&`",
                "InvalidMatch match: line 1, column 27: `<>` is not expected here; unequal is `!=`",
                "InvalidTemplate title: line 1, column 15: there is no filter `fooo`",
                "InvalidTemplate title: line 1, column 42: there is no filter `barr`",
                "InvalidTemplate title: line 1, column 55: `b` is not expected here",
                "InvalidTemplate title: line 1, column 66: there is no `nothing`; a rule's texts have ",
            ],
        ),
        (
            "NotificationChannel",
            "
type: Email
email: {host: 127.0.0.1, port: 70000, tls: Starttls, from: me, to: [a, b@example.com, 7], usernameSecretRef: {name: \"..\", key: k}}
delivery: {timeout: 1h, expiresAfter: 1ms, retry: {maxAttempts: 0}}
template: {title: \"{{ ticket }}\", body: \"{{ title\"}
timeZone: Mars
",
            &[
                "Unreadable email.tls: \"Starttls\" is not one of None, StartTls, Implicit; write StartTls",
                "Unreadable email.to[2]: 7 is a number; a text is needed: a mailbox in one line, such as",
                "InvalidSpec email.usernameSecretRef.name: \"..\" is not a name of a Secret",
                "InvalidSpec email.to[0]: \"a\" is not a mailbox",
                "InvalidSpec email.from: \"me\" is not a mailbox",
                "ForbiddenAddress email.host: ",
                "InvalidSpec email.port: 70000 is not from 1 to 65535",
                "InvalidTemplate template.title: line 1, column 4: there is no `ticket`;",
                "InvalidTemplate template.body: line 1, column 1: the tag isn't closed by `}}`",
                "InvalidSpec delivery.timeout: 1h is not from 1s to 5m",
                "InvalidSpec delivery.expiresAfter: 1ms is not from 1s to 720h",
                "InvalidSpec timeZone: \"Mars\" is not a time zone",
                "InvalidSpec delivery.retry.maxAttempts: 0 is not from 1 to 100",
            ],
        ),
        (
            "NotificationChannel",
            "
type: Webhook
webhook:
  url: http://example.com/
  bearerTokenSecretRef: {name: s, key: k}
  method: post
  headers: [{name: Host, value: x}, {name: Cookie, value: x}, {name: X-A, value: x}, {name: x-a, value: z}]
  body: {template: \"{{ x\", contentType: text}
",
            &[
                "Unreadable webhook.method: \"post\" is not one of POST, PUT; write POST",
                "InvalidSpec webhook.headers[0]: Host belongs to HTTP itself",
                "InvalidSpec webhook.headers[1]: Cookie is a credential",
                "InvalidSpec webhook.headers[3]: x-a is there already",
                "InvalidSpec webhook: over http:// everybody on the way reads credentials",
                "InvalidSpec webhook.body.contentType: \"text\" is not a content type",
                "InvalidTemplate webhook.body.template: line 1, column 1: the tag isn't closed",
            ],
        ),
        (
            "BookableResource",
            "
capacity: 0
sharedWith: [A, 7, b, b]
titel: x
",
            &[
                "Unreadable sharedWith[1]: 7 is a number; a text is needed",
                "Unreadable titel: there is no such field; spec has ",
                "InvalidSpec capacity: 0 is not from 1 to 10000",
                "InvalidSpec sharedWith[0]: \"A\" is not allowed: it must be the name of a namespace",
                "InvalidSpec sharedWith[3]: \"b\" is there twice",
            ],
        ),
        (
            "NotificationChannel",
            "
webhook: {url: \"ftp://x\"}
delivery: {timeout: 10}
",
            &[
                "Unreadable type is missing: Kind of receiver: ",
                "Unreadable delivery.timeout: 10 is a number; a text is needed: a duration from 1s to 5m, such as",
                "InvalidSpec webhook.url: must begin with http:// or https://",
            ],
        ),
        (
            "AlertRule",
            "
source: {kafka: {bootstrapServers: [\"kafka:9092\"], topics: [t]}}
match: \"true\"
condition: {type: Frequency}
title: t
notify: [{channelRef: {name: hook}}]
",
            &["InvalidSpec condition.frequency is missing: type Frequency needs it"],
        ),
];

/// A `*` stands for anything.
fn begins(told: &str, expected: &str) -> bool {
    let (first, rest) = expected.split_once('*').unwrap_or((expected, ""));
    told.strip_prefix(first).is_some_and(|after| after.contains(rest))
}

#[test]
fn each_mistake_of_a_manifest_is_told_at_once_with_its_place() {
    let mut wrong = Vec::new();
    for (kind, spec, expected) in MISTAKES {
        let mut left = mistakes(kind, spec);
        for expected in expected {
            match left.iter().position(|told| begins(told, expected)) {
                Some(at) => drop(left.remove(at)),
                None => wrong.push(format!("not told: {expected}")),
            }
        }
        wrong.extend(left.into_iter().map(|told| format!("not expected: {told}")));
    }
    assert_eq!(wrong, Vec::<String>::new(), "{wrong:#?}");
}

const HALL: &str = "
---
apiVersion: belfry.dev/v1alpha1
kind: BookableResource
metadata: {name: hall, namespace: rooms}
spec: {sharedWith: [a]}
";

fn guest(namespace: &str, name: &str) -> String {
    let shared = "resources: [], sharedResources: [{namespace: rooms, name: hall}]";
    let room = ROOM.replace("{name: NAME}", &format!("{{name: {name}, namespace: {namespace}}}"));
    room.replace("resources: [room]", shared)
}

#[test]
fn a_room_of_another_namespace_is_judged_if_it_is_among_the_manifests() {
    let [one, two, other] = [guest("a", "one"), guest("a", "two"), guest("b", "other")];
    let expected = [
        "Schedule a/two Error Conflicting needs rooms/hall at 2026-02-02T10:00:00Z, as schedule one does",
        "Schedule b/other Error RefNotPermitted sharedResources: rooms/hall can't be booked from namespace b: there is \
         no such BookableResource, or its sharedWith does not list b",
    ];
    assert_eq!(told(&format!("{HALL}{one}{two}{other}")), expected);
    let all = HALL.replace("[a]", "[\"*\"], capacity: 2");
    assert_eq!(
        told(&format!("{all}{one}{two}{other}")),
        [
            "Schedule b/other Error Conflicting needs rooms/hall at 2026-02-02T10:00:00Z, as a schedule of another \
          namespace does"
        ]
    );
    let missing = "Schedule a/one Warning RefNotPermitted no BookableResource hall of namespace rooms among these \
                   manifests: whether it may be booked is not known";
    assert_eq!(told(&one), [missing]);
    assert!(told(&HALL.replace("[a]", "[a], capacity: 0"))[0].contains("capacity: 0 is not from 1 to 10000"));
}

#[test]
fn the_example_of_a_shared_room_has_nothing_wrong() {
    let text = include_str!("../../../docs/conflicts.md");
    let examples = text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let yaml: Vec<&str> = examples.collect();
    assert!(yaml.concat().contains("sharedResources"), "{yaml:?}");
    assert_eq!(told(&yaml.join("---\n")), Vec::<String>::new());
}

#[test]
fn other_kinds_are_passed_over_and_ours_must_be_known() {
    let other = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\n";
    assert_eq!(told(other), Vec::<String>::new());
    let ours = "apiVersion: belfry.dev/v1alpha1\nkind: Alert\nmetadata: {name: s}\n";
    assert!(told(ours)[0].contains("has no kind \"Alert\""), "{:?}", told(ours));
    let old = RULE.replace("v1alpha1", "v1");
    assert!(told(&old)[0].contains("it must be belfry.dev/v1alpha1"), "{:?}", told(&old));
}

#[test]
fn a_name_that_is_declared_twice_is_told() {
    let told = told(&format!("{RULE}---{RULE}{HOOK}"));
    assert_eq!(told, ["AlertRule a/r Error InvalidSpec declared twice: manifest 1 has the same name"]);
}
