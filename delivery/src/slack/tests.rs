use domain::{AlertKind, Outcome, SlackPlan};
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::payload;
use crate::fixtures::{alert, all, kit, later, message, plan, reminder, secret};

const PATH: &str = "/services/T000/B000/CanaryXyz";

async fn answered(answer: ResponseTemplate) -> Outcome {
    let server = MockServer::start().await;
    Mock::given(any()).respond_with(answer).mount(&server).await;
    let (_files, kit) = kit(&[("slack-url", &format!("{}{PATH}\n", server.uri()))]);
    let plan = plan(SlackPlan { webhook_url: secret("slack-url") }.into());
    let outcome = kit.channel(&plan).deliver(&message(alert(), "")).await;
    assert!(!format!("{outcome:?}").contains("Canary"), "{outcome:?}");
    outcome
}

#[tokio::test]
async fn definite_errors_are_refused_and_others_wait() {
    assert_eq!(answered(ResponseTemplate::new(200).set_body_string("ok")).await, Outcome::Delivered);
    for (status, word) in [
        (400, "invalid_payload"),
        (403, "action_prohibited"),
        (404, "channel_not_found"),
        (404, "whatever"),
        (410, "channel_is_archived"),
        (404, "no_service"),
    ] {
        let outcome = answered(ResponseTemplate::new(status).set_body_string(word)).await;
        assert!(matches!(&outcome, Outcome::Refused { reason } if reason.ends_with(word)), "{outcome:?}");
    }
    for (status, word) in [(500, "rollup_error"), (400, "something_new"), (403, PATH)] {
        let outcome = answered(ResponseTemplate::new(status).set_body_string(word)).await;
        assert!(matches!(&outcome, Outcome::Later { channel_wide: false, .. }), "{outcome:?}");
    }
}

#[tokio::test]
async fn a_service_that_imitates_slack_gets_no_part_of_the_url_into_the_reason() {
    let server = MockServer::start().await;
    let answer = ResponseTemplate::new(404).set_body_string("no_hook_qwertyuiopasdf");
    Mock::given(any()).respond_with(answer).mount(&server).await;
    let (_files, kit) = kit(&[("slack-url", &format!("{}/hooks/qwertyuiopasdf", server.uri()))]);
    let plan = plan(SlackPlan { webhook_url: secret("slack-url") }.into());
    let outcome = kit.channel(&plan).deliver(&message(alert(), "")).await;
    assert!(outcome.reason().ends_with("404 Not Found: no_hook_***"), "{outcome:?}");
}

#[tokio::test]
async fn too_many_requests_pause_the_channel() {
    let answer =
        ResponseTemplate::new(429).insert_header("retry-after", "30").set_body_string("rate_limited");
    let Outcome::Later { wait, channel_wide, .. } = answered(answer).await else { panic!() };
    assert_eq!((wait, channel_wide), (Some(domain::Millis::from_secs(30)), true));
}

#[tokio::test]
async fn a_missing_or_unusable_url_is_named_without_its_value() {
    let (_files, kit) = kit(&[("bad", "gopher://canary")]);
    for (key, reason) in [
        (
            "none",
            "SecretKeyNotFound: key \"none\" of Secret \"notify\" is not there: the Secret is missing, or only the key in it",
        ),
        ("bad", "SecretKeyInvalid: key \"bad\" of Secret \"notify\" is not an http or https URL"),
    ] {
        let plan = plan(SlackPlan { webhook_url: secret(key) }.into());
        let outcome = kit.channel(&plan).deliver(&message(alert(), "")).await;
        assert_eq!(outcome, Outcome::NotSent { reason: reason.to_owned() });
        assert_eq!(kit.problems(&plan).await.len(), 1);
    }
}

#[test]
fn the_message_is_block_kit_with_a_text_fallback_and_escaped() {
    let texts = all().map(|(name, notification)| {
        let payload = serde_json::to_string_pretty(&payload(&message(notification, ""))).unwrap();
        format!("# {name}\n{payload}")
    });
    insta::assert_snapshot!(texts.join("\n"));
}

#[test]
fn an_ended_alert_has_another_colour_and_says_so_first() {
    let [firing, resolved, closed] =
        [alert(), later(AlertKind::Resolved, None), later(AlertKind::Resolved, Some("RuleChanged"))]
            .map(|notification| payload(&message(notification, "")));
    let colour =
        |payload: &serde_json::Value| payload["attachments"][0]["color"].as_str().unwrap().to_owned();
    assert_eq!([&firing, &resolved, &closed].map(colour), ["#e01e5a", "#2eb67d", "#9e9ea6"]);
    let title =
        |payload: &serde_json::Value| payload["blocks"][0]["text"]["text"].as_str().unwrap().to_owned();
    assert_eq!(title(&resolved), "*Resolved: pay: 21 bad log lines in 1m*");
    assert!(resolved["text"].as_str().unwrap().starts_with("Resolved: "));
    let foot = resolved["attachments"][0]["blocks"][0]["elements"].to_string();
    assert!(foot.contains("critical") && foot.contains(&format!("first message {}", alert().id)), "{foot}");
}

#[test]
fn only_a_reminders_url_becomes_a_link() {
    let mut message = message(reminder(), "");
    message.body.push_str("\nhttps://meet.example.com/x?a=1&b=2 https://evil.example.com");
    let body = payload(&message)["blocks"][1]["text"]["text"].as_str().unwrap().to_owned();
    assert_eq!(body.matches('<').count(), 1, "{body}");
    assert!(body.contains("Link: <https://meet.example.com/x?a=1&amp;b=2>\n"), "{body}");
}

#[test]
fn a_text_over_slacks_bounds_is_cut_with_a_mark_and_no_entity_is_split() {
    let mut message = message(alert(), "");
    message.body = "<&".repeat(30_000);
    let payload = payload(&message);
    let body = payload["blocks"][1]["text"]["text"].as_str().unwrap();
    assert!(body.chars().count() <= 3_000, "{}", body.chars().count());
    assert!(body.contains("[cut: 270000 of at most 3000 for a Slack block]"), "{body}");
    let text = payload["text"].as_str().unwrap();
    assert!(text.chars().count() <= 40_000 && text.contains("for a Slack message]"));
    assert!(body.replace("&lt;", "").replace("&amp;", "").starts_with('…'), "{body}");
}

#[test]
fn text_of_a_record_mentions_nobody_and_links_to_nothing() {
    let mut message = message(alert(), "");
    message.title = "<!channel> <@U123> <https://evil.example.com|your bank>".to_owned();
    message.body = "<!here> & <#C123> https://evil.example.com @channel".to_owned();
    message.notification.group.insert("<!everyone>".to_owned(), "<!subteam^S1>".to_owned());
    let payload = payload(&message);
    let all = payload.to_string();
    assert!(!all.contains('<') && !all.contains('>'), "{all}");
    assert_eq!((&payload["unfurl_links"], &payload["unfurl_media"]), (&false.into(), &false.into()));
    let blocks = payload["blocks"].as_array().unwrap();
    assert_eq!(blocks.iter().filter(|block| block["text"]["verbatim"] == true).count(), 2);
    let foot = payload["attachments"][0]["blocks"][0]["elements"].as_array().unwrap();
    assert!(foot.len() == 2 && foot.iter().all(|text| text["verbatim"] == true), "{foot:?}");
}
