//! The inputs with which the mutation loop begins, and the words that it inserts.

/// The seeds of a target.
pub fn seeds(target: &str) -> Vec<Vec<u8>> {
    let texts: &[&str] = match target {
        "json" => &[
            r#"{"level":"ERROR","service":"pay-api","n":42,"amount":12.5,"ok":true,"tags":["a","b"],"x":{"y":null}}"#,
            r#"["\u00e9\ud83d\ude00\n\"\\",-0,1e5,18446744073709551615,-9223372036854775808]"#,
            r#"{"a":1,"a":2,"b":{"c":[[[[]]]]}}"#,
        ],
        "logfmt" => &[
            r#"level=error service=pay-api msg="no such file" retried n=42 url=/x?a=b"#,
            r#"a= b="" c q="say \"hi\"\n\u00e9\ud83d\ude00""#,
        ],
        "text" => &[
            "^(?<level>[A-Z]+) (?<at>\\S+) (?<n>\\d+)$\nERROR 2026-01-05T10:00:00Z 42",
            "(?<a>a|ab)(?<b>c|bcd)(?<c>d*)\nabcd",
            "(?i)(?<word>\\p{L}+)\nGrüße",
        ],
        "cloud_events" => &[
            "ce_specversion:1.0\nce_id:7\nce_source:/shop\nce_type:order\ncontent-type:application/json\n\n{\"total\":12}",
            "ce_specversion:1.0\nce_id:7\nce_source:/shop\nce_type:order\ncontent-type:text/plain\n\nhello",
            "content-type:application/cloudevents+json\n\n{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/\",\"type\":\"t\",\"data\":[1]}",
        ],
        "matcher" => &[
            r#"record.a == 1 && record.b.startsWith("x") || !(record.c.size() > 3)"#,
            r#"record.c.exists(it, it == 2.5) && has(record.e.f) ? record.b in ["x", "y"] : topic == "t""#,
            r#"timestamp(record.t) - duration("90s") < timestamp && record.b.matches("^x+$")"#,
            r#"int(record.b) + 7 * -3 / 2 % 5 >= double(record.a) && "v" == headers.h && record.c[3].d"#,
        ],
        _ => &[
            r#"{"namespace":"n","name":"r","uid":"00000000-0000-0000-0000-000000000001","generation":1,"created":"2026-01-05T10:00:00Z","suspended":false,"body":{"kind":"AlertRule","spec":{"source":{"bootstrapServers":["a:1"],"reading":{"format":{"Text":{"pattern":"(?<a>.)"}},"eventTime":{"path":"record.a","form":"UnixSeconds"}}},"topics":["t"],"startFrom":"Latest","match":"record.a == 1","groupBy":{"a":"record.a"},"condition":{"type":"Frequency","count":2,"window":10000},"severity":"warning","title":"t","summary":"","notify":["c"],"repeatInterval":1000,"resolve":{"notify":true},"allowedLateness":0,"policy":{"for":0,"repeatFactor":1000,"topValues":{"v":"record.a"},"maxGroups":10}}}}"#,
            r#"{"namespace":"n","name":"c","uid":"00000000-0000-0000-0000-000000000002","generation":1,"created":"2026-01-05T10:00:00Z","suspended":true,"body":{"kind":"NotificationChannel","spec":{"target":{"type":"Webhook","url":"http://x","format":"Json"},"delivery":{"retry":{"maxAttempts":3,"initialDelay":1000,"maxDelay":2000},"timeout":1000,"expiresAfter":1000,"onUnknown":"Resend"}}}}"#,
        ],
    };
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// The words that are inserted into a target's inputs.
pub fn words(target: &str) -> &'static [&'static str] {
    match target {
        "json" | "plan" => &[
            "{", "}", "[", "]", "\"", ",", ":", "\\u", "\\ud83d", "null", "true", "-", "1e999", "0", "\u{7f}",
        ],
        "logfmt" => &["=", "\"", "\\", " ", "\n", "\\u00e9", "\t", "a=", "=\"\""],
        "text" => &["(?<x>", ")", "*", "+", "{9}", "[^", "]", "|", "\n", "\\d", "(?i)", "$", "^"],
        "cloud_events" => {
            &["ce_id:", "ce_type:", "content-type:", "\n", "text/plain", "+json", "{", "}", "1.0"]
        }
        _ => &[
            "record",
            ".a",
            "[0]",
            "(",
            ")",
            "&&",
            "||",
            "!",
            "==",
            "<",
            "+",
            "-",
            "*",
            "/",
            "%",
            "\"x\"",
            "1",
            "2.5",
            "null",
            "has(",
            ".size()",
            ".exists(x, ",
            ".all(x, ",
            "in",
            "[",
            "]",
            "{",
            "}",
            "?",
            ":",
            "int(",
            "timestamp(",
            "duration(",
            ".matches(",
            "r\"",
            "b\"",
            "u",
        ],
    }
}
