use std::fmt::Write as _;

use super::*;

fn mask(secrets: &[&str]) -> Mask {
    let mut mask = Mask::default();
    for secret in secrets {
        mask.hide(secret);
    }
    mask
}

fn percent(text: &str, escaped: impl Fn(u8) -> bool, upper: bool) -> String {
    text.bytes().fold(String::new(), |mut all, byte| {
        let _ = match (escaped(byte), upper) {
            (true, true) => write!(all, "%{byte:02X}"),
            (true, false) => write!(all, "%{byte:02x}"),
            // The rest of a character is escaped too.
            (false, _) => write!(all, "{}", char::from(byte)),
        };
        all
    })
}

fn not_plain(byte: u8) -> bool {
    !byte.is_ascii_alphanumeric()
}

fn json(text: &str) -> String {
    serde_json::to_string(text).unwrap().trim_matches('"').to_owned()
}

fn units(text: &str) -> String {
    text.encode_utf16().fold(String::new(), |all, unit| all + &format!("\\u{unit:04x}"))
}

fn html(text: &str) -> String {
    let named = |it| match it {
        '&' => "&amp;".to_owned(),
        '<' => "&lt;".to_owned(),
        '"' => "&quot;".to_owned(),
        '\'' => "&#39;".to_owned(),
        '/' => "&#x2F;".to_owned(),
        it => it.to_string(),
    };
    text.chars().map(named).collect()
}

type Form = (&'static str, fn(&str) -> String);

const FORMS: [Form; 10] = [
    ("as it is", str::to_owned),
    ("in capitals", |text| text.to_ascii_uppercase()),
    ("as a host", |text| text.to_ascii_lowercase()),
    ("percent-encoded", |text| percent(text, not_plain, true)),
    ("percent-encoded in lower case", |text| percent(text, not_plain, false)),
    ("percent-encoded whole", |text| percent(text, |_| true, true)),
    ("as a form's value", |text| percent(text, not_plain, true).replace("%20", "+")),
    ("in JSON", json),
    ("in JSON, as units", units),
    ("in HTML", html),
];

/// Whether `shown` has no four characters in a row of `secret`, in upper or lower case.
fn shows_nothing_of(shown: &str, secret: &str) -> bool {
    let (shown, secret) = (shown.to_ascii_lowercase(), secret.to_ascii_lowercase());
    let letters: Vec<char> = secret.chars().collect();
    !letters.windows(4.min(letters.len())).any(|run| shown.contains(&run.iter().collect::<String>()))
}

#[test]
fn a_secret_is_covered_in_each_form_and_in_forms_within_forms() {
    for secret in [
        "CANARYabcdef123456",
        "ab\"cd\\EFGHSECRET12",
        "p&ss w<rd/with='all'%41+\\u0041",
        "%2541\\\\n&amp;amp;",
        "ключ-от-дома\u{1f511}",
        "short/7",
        "tok",
    ] {
        let mask = mask(&[secret]);
        for (outer, outside) in FORMS {
            for (inner, inside) in FORMS {
                let echo = outside(&inside(secret));
                for text in [echo.clone(), format!("no {echo}, sorry"), format!("\"{echo}\"={echo}\n")] {
                    let shown = mask.apply(&text);
                    assert!(!shown.contains(&echo), "{secret} {inner} {outer}: {text} as {shown}");
                    assert!(shows_nothing_of(&shown, secret), "{secret} {inner} {outer}: {text} as {shown}");
                }
                let shown = mask.apply(&format!("no {echo}, sorry"));
                assert_eq!(shown, "no ***, sorry", "{secret} {inner} {outer}");
            }
        }
    }
}

#[test]
fn a_login_is_covered_in_base64_at_any_place_of_what_was_encoded() {
    let mut mask = Mask::default();
    mask.hide_login("belfry", "CANARY-password");
    for text in ["belfry:CANARY-password", "\0belfry\0CANARY-password", "CANARY-password"] {
        for engine in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
            assert_eq!(mask.apply(&format!("no {} here", engine.encode(text))), "no *** here", "{text:?}");
        }
    }
    for before in ["", "a", "ab", "abc"] {
        let whole = STANDARD_NO_PAD.encode(format!("{before}authorization: CANARY-password\r\nmore"));
        let shown = mask.apply(&whole);
        let inner = &whole[(before.len() + 15).div_ceil(3) * 4..][..16];
        assert!(shown.contains("***") && !shown.contains(&inner[..8]), "{whole} as {shown}");
    }
}

#[test]
fn overlapping_secrets_are_covered_wholly() {
    for (secrets, text, shown) in [
        (&["tok", "tok-REALLYSECRET1234"][..], "tok-REALLYSECRET1234 tok", "*** ***"),
        (&["aa/echoZZTOPSECRET99", "/echo"], "no aa/echoZZTOPSECRET99", "no ***"),
        (&["abcd", "cdef"], "xabcdefx", "x***x"),
        (&["CANARY-one-two", "one-two-three"], "(CANARY-one-two-three)", "(***)"),
        (&["ana"], "banana", "b***"),
    ] {
        assert_eq!(mask(secrets).apply(text), shown);
        let backwards: Vec<&str> = secrets.iter().rev().copied().collect();
        assert_eq!(mask(&backwards).apply(text), shown);
    }
}

#[test]
fn a_part_of_a_secret_is_covered_and_words_are_left() {
    let mask = mask(&["CANARY-0123456789-abcdefgh"]);
    assert_eq!(mask.apply("wrong key: CANARY-01234..."), "wrong key: ***...");
    assert_eq!(mask.apply("wrong key: ...9-abcdefgh"), "wrong key: ...***");
    assert_eq!(mask.apply("a canary sang"), "a canary sang");
    assert_eq!(mask.apply(""), "");
    assert_eq!(self::mask(&["", " ", "/"]).apply("a / b"), "a / b");
    assert_eq!(Mask::default().apply("100 % of é &amp; \\"), "100 % of é &amp; \\");
    assert_eq!(mask.apply("100 % of é &amp; \\"), "100 % of é &amp; \\", "what is shown is the text itself");
}

#[test]
fn a_text_that_may_be_a_secret_is_covered_only_as_a_whole() {
    let mut mask = Mask::default();
    mask.hide_rest(&Url::parse("https://h.example/hook/canary-in-the-path?token=canary").unwrap());
    assert_eq!(mask.apply("no /hook/canary-in-the-path?token=canary"), "no ***?***");
    assert_eq!(mask.apply("the path of a canary"), "the path of a canary");
    let mut mask = Mask::default();
    mask.hide_url(&Url::parse("https://who:CANARYpw@h.example/to/TOKENabcdef?sig=s%2Fgn%22ed").unwrap());
    for (text, shown) in [
        ("tokenabcdef.h.example", "***.h.example"),
        ("who:canarypw", "***:***"),
        (r#"{"sig":"s/gn\"ed"}"#, r#"{"sig":"***"}"#),
        ("to h.example", "to h.example"),
    ] {
        assert_eq!(mask.apply(text), shown);
    }
}

#[test]
fn long_texts_and_secrets_of_one_letter_take_no_longer() {
    let (text, secret) = ("a".repeat(64 * 1024), "a".repeat(256 * 1024));
    assert_eq!(mask(&[&secret]).apply(&text), "***");
    assert_eq!(mask(&["xy"]).apply(&"%25".repeat(20_000)).len(), 60_000);
}

#[test]
fn debug_of_a_mask_shows_no_secret() {
    assert_eq!(format!("{:?}", mask(&["canary"])), "***");
}
