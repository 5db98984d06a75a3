//! Tests against a tiny SMTP server that answers by a script.

use std::time::Duration;

use domain::{AlertKind, EmailPlan, Notification, Outcome, SmtpTls};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;

use super::mail;
use crate::Message;
use crate::fixtures::{alert, all, kit, kit_with_guard, later, message, plan, secret};
use domain::Guard;

const FROM: &str = "Belfry <belfry@example.com>";
const TO: &str = "On-call <oncall@example.com>";

/// How the server differs from one that accepts everything.
#[derive(Clone, Copy, Default)]
struct Script {
    greeting: Option<&'static str>,
    login: Option<&'static str>,
    sender: Option<&'static str>,
    recipient: Option<&'static str>,
    data: Option<&'static str>,
    message: Option<&'static str>,
}

/// Ends the connection, or keeps it and says nothing more.
const DROP: &str = "drop";
const HANG: &str = "hang";

/// Serves one conversation; returns what the client said.
async fn serve(listener: TcpListener, script: Script) -> String {
    let (stream, _) = listener.accept().await.unwrap();
    let mut stream = BufReader::new(stream);
    let mut said = String::new();
    let mut answer = script.greeting.unwrap_or("220 ready").to_owned();
    loop {
        match answer.as_str() {
            DROP => return said,
            HANG => {
                // Say nothing until the client gives up.
                let _ = stream.read_to_string(&mut said).await;
                return said;
            }
            line => stream.write_all(format!("{line}\r\n").as_bytes()).await.unwrap(),
        }
        let mut line = String::new();
        if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
            return said;
        }
        said.push_str(&line);
        let verb = line.split([' ', ':', '\r']).next().unwrap_or_default().to_uppercase();
        answer = match verb.as_str() {
            "EHLO" => "250-here\r\n250 AUTH PLAIN LOGIN".to_owned(),
            "AUTH" => script.login.unwrap_or("235 welcome").to_owned(),
            "MAIL" => script.sender.unwrap_or("250 ok").to_owned(),
            "RCPT" => script.recipient.unwrap_or("250 ok").to_owned(),
            "DATA" => script.data.unwrap_or("354 go on").to_owned(),
            "QUIT" => "221 bye".to_owned(),
            other => format!("500 {other}?"),
        };
        if verb == "DATA" && answer.starts_with("354") {
            stream.write_all(b"354 go on\r\n").await.unwrap();
            while !said.ends_with("\r\n.\r\n") {
                let mut line = String::new();
                assert!(stream.read_line(&mut line).await.unwrap() > 0);
                said.push_str(&line);
            }
            answer = script.message.unwrap_or("250 taken").to_owned();
        }
    }
}

fn target(port: u16, tls: SmtpTls, login: bool) -> EmailPlan {
    EmailPlan {
        host: "127.0.0.1".to_owned(),
        port,
        tls,
        username: login.then(|| secret("user")),
        password: login.then(|| secret("password")),
        from: FROM.to_owned(),
        to: vec![TO.to_owned()],
    }
}

async fn converse(script: Script, tls: SmtpTls, login: bool) -> (Outcome, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(serve(listener, script));
    let (_files, kit) = kit(&[("user", "canary-user"), ("password", "canary-password\n")]);
    let mut message = message(alert(), TO);
    message.timeout = Duration::from_millis(500);
    let plan = plan(target(port, tls, login).into());
    let outcome = kit.channel(&plan).deliver(&message).await;
    assert!(!format!("{outcome:?}").contains("canary"), "{outcome:?}");
    (outcome, server.await.unwrap())
}

async fn plain(script: Script) -> Outcome {
    converse(script, SmtpTls::None, false).await.0
}

fn is_later(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Later { wait: None, channel_wide: false, .. })
}

#[tokio::test]
async fn a_taken_message_is_delivered_to_its_one_recipient() {
    let (outcome, said) = converse(Script::default(), SmtpTls::None, false).await;
    assert_eq!(outcome, Outcome::Delivered);
    assert!(said.contains("MAIL FROM:<belfry@example.com>"), "{said}");
    assert_eq!(said.matches("RCPT TO:").count(), 1);
    assert!(said.contains("RCPT TO:<oncall@example.com>") && !said.contains("AUTH"));
}

#[tokio::test]
async fn a_login_is_given_only_where_the_channel_has_one() {
    let (outcome, said) = converse(Script::default(), SmtpTls::None, true).await;
    assert_eq!(outcome, Outcome::Delivered);
    let login =
        base64::Engine::encode(&base64::engine::general_purpose::STANDARD, "\0canary-user\0canary-password");
    assert!(said.contains(&format!("AUTH PLAIN {login}\r\n")), "{said}");
}

#[tokio::test]
async fn temporary_answers_wait_at_every_step() {
    let no = Some("450 later");
    for script in [
        Script { greeting: Some("421 busy"), ..Script::default() },
        Script { sender: no, ..Script::default() },
        Script { recipient: no, ..Script::default() },
        Script { data: no, ..Script::default() },
        Script { message: no, ..Script::default() },
    ] {
        let outcome = plain(script).await;
        assert!(is_later(&outcome), "{outcome:?}");
    }
}

#[tokio::test]
async fn permanent_answers_refuse_from_the_sender_on() {
    let no = Some("550 5.1.1 no such\u{7} mailbox");
    for script in [
        Script { sender: no, ..Script::default() },
        Script { recipient: no, ..Script::default() },
        Script { data: no, ..Script::default() },
        Script { message: no, ..Script::default() },
    ] {
        let outcome = plain(script).await;
        assert!(
            matches!(&outcome, Outcome::Refused { reason } if reason.contains("answered 550 to")),
            "{outcome:?}"
        );
    }
    let outcome = plain(Script { greeting: Some("554 no service"), ..Script::default() }).await;
    assert!(is_later(&outcome), "{outcome:?}");
}

#[tokio::test]
async fn a_refused_login_waits_for_the_secret_and_shows_none_of_it() {
    let echo = "535 5.7.8 canary-user with canary-password is wrong";
    let (outcome, said) =
        converse(Script { login: Some(echo), ..Script::default() }, SmtpTls::None, true).await;
    assert!(is_later(&outcome), "{outcome:?}");
    assert!(outcome.reason().ends_with(" answered 535 to the login"), "{outcome:?}");
    assert!(!said.contains("MAIL FROM"));
}

#[tokio::test]
async fn a_connection_lost_after_the_message_is_unknown_and_before_it_later() {
    for end in [DROP, HANG] {
        let end = Some(end);
        let outcome = plain(Script { message: end, ..Script::default() }).await;
        assert!(matches!(&outcome, Outcome::Unknown { .. }), "{outcome:?}");
        for script in [
            Script { greeting: end, ..Script::default() },
            Script { sender: end, ..Script::default() },
            Script { recipient: end, ..Script::default() },
            Script { data: end, ..Script::default() },
        ] {
            let outcome = plain(script).await;
            assert!(is_later(&outcome), "{outcome:?}");
        }
    }
}

#[tokio::test]
async fn without_starttls_neither_login_nor_message_is_sent() {
    let (outcome, said) = converse(Script::default(), SmtpTls::StartTls, true).await;
    assert!(is_later(&outcome) && outcome.reason().contains("does not offer STARTTLS"), "{outcome:?}");
    assert!(!said.contains("AUTH") && !said.contains("MAIL"), "{said}");
}

/// Talks to a server that offers STARTTLS and sends `early` after its answer to EHLO and `late` after its answer to STARTTLS.
/// Returns the outcome and what the server then read until the client ended.
async fn between(early: &'static str, late: &'static str) -> (Outcome, Vec<u8>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        stream.write_all(b"220 ready\r\n").await.unwrap();
        stream.read_line(&mut line).await.unwrap();
        stream.write_all(format!("250-here\r\n250 STARTTLS\r\n{early}").as_bytes()).await.unwrap();
        stream.read_line(&mut line).await.unwrap();
        if line.ends_with("STARTTLS\r\n") {
            stream.write_all(format!("220 ready\r\n{late}").as_bytes()).await.unwrap();
        }
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
        rest
    });
    let (_files, kit) = kit(&[("user", "canary-user"), ("password", "canary-password")]);
    let mut message = message(alert(), TO);
    message.timeout = Duration::from_secs(2);
    let outcome = kit.channel(&plan(target(port, SmtpTls::StartTls, true).into())).deliver(&message).await;
    (outcome, server.await.unwrap())
}

#[tokio::test]
async fn plain_text_beside_the_answer_to_starttls_ends_the_connection() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    // lettre would take this for the answer to EHLO under TLS: without STARTTLS, and with a login in the clear.
    let injected = "250-evil\r\n250 AUTH PLAIN LOGIN\r\n";
    for (early, late) in [("", injected), ("220 go on\r\n250 AUTH PLAIN\r\n", ""), ("", "x"), ("250", "")] {
        let (outcome, read) = between(early, late).await;
        assert!(is_later(&outcome), "{outcome:?}");
        assert!(outcome.reason().contains("plain text stands beside the answer to STARTTLS"), "{outcome:?}");
        // The client did not even send its first TLS message.
        assert_eq!(String::from_utf8_lossy(&read).replace("QUIT\r\n", ""), "");
    }
    let (outcome, read) = between("", "").await;
    assert!(!outcome.reason().contains("plain text"), "{outcome:?}");
    assert_eq!(read.first(), Some(&22), "a handshake of TLS began");
}

#[tokio::test]
async fn a_port_without_a_server_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let (_files, kit) = kit(&[]);
    let outcome =
        kit.channel(&plan(target(port, SmtpTls::None, false).into())).deliver(&message(alert(), TO)).await;
    assert!(is_later(&outcome), "{outcome:?}");
    let said = format!("no server listens at 127.0.0.1:{port}: ");
    assert!(outcome.reason().starts_with(&said), "{outcome:?}");
}

#[tokio::test]
async fn what_is_not_smtp_is_told_without_quoting_it() {
    let outcome = plain(Script { greeting: Some("HTTP/1.1 400 canary"), ..Script::default() }).await;
    assert!(
        outcome.reason().ends_with("the greeting: what it said is not SMTP, or too much of it"),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn an_address_that_is_not_allowed_is_refused_by_name_and_by_number() {
    let (_files, kit) = kit_with_guard(Guard::new(false), &[]);
    for host in ["localhost", "127.0.0.1", "169.254.169.254"] {
        let target = EmailPlan { host: host.to_owned(), ..target(25, SmtpTls::None, false) };
        let outcome = kit.channel(&plan(target.into())).deliver(&message(alert(), TO)).await;
        assert!(
            matches!(&outcome, Outcome::Refused { reason } if reason.contains("is not allowed")),
            "{outcome:?}"
        );
    }
}

#[tokio::test]
async fn a_recipient_that_is_no_mailbox_is_refused() {
    let (_files, kit) = kit(&[]);
    let plan = plan(target(1, SmtpTls::None, false).into());
    for to in ["nobody", "a@b\r\nBcc: x@example.com", ""] {
        let outcome = kit.channel(&plan).deliver(&message(alert(), to)).await;
        assert!(matches!(&outcome, Outcome::Refused { .. }), "{outcome:?}");
    }
}

fn formatted(message: &Message) -> String {
    String::from_utf8(mail(message, FROM).unwrap().formatted()).unwrap().replace("\r\n", "\n")
}

#[test]
fn the_message_has_a_text_and_an_html_part_and_headers_for_threads() {
    let texts =
        all().map(|(name, notification)| format!("# {name}\n{}", formatted(&message(notification, TO))));
    insta::assert_snapshot!(texts.join("\n=====\n"));
}

#[test]
fn later_messages_of_an_alert_refer_to_its_first_in_the_same_mailbox() {
    let header = |message: &Message, name: &str| {
        let text = formatted(message).replace("\n ", " ");
        let head = text.split("\n\n").next().unwrap().to_owned();
        head.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")).map(str::to_owned))
    };
    let of = |notification: Notification, to: &str| {
        let mut message = message(notification, to);
        message.delivery = domain::ids::delivery(message.notification.id, message.channel, to);
        message
    };
    let first = of(alert(), TO);
    let id = header(&first, "Message-ID").unwrap();
    assert_eq!((header(&first, "In-Reply-To"), header(&first, "References")), (None, None));
    for kind in [AlertKind::Repeat { n: 2 }, AlertKind::Resolved] {
        let later = of(later(kind, None), TO);
        assert_ne!(header(&later, "Message-ID").unwrap(), id);
        assert_eq!(header(&later, "In-Reply-To").as_ref(), Some(&id));
        assert_eq!(header(&later, "References").as_ref(), Some(&id));
    }
    let elsewhere = of(later(AlertKind::Resolved, None), "b@example.com");
    assert_ne!(header(&elsewhere, "In-Reply-To").unwrap(), id);
}

#[test]
fn no_text_can_add_a_header_or_markup() {
    let mut message = message(alert(), TO);
    message.title = "hello\r\nBcc: evil@example.com\r\n\r\n<script>".to_owned();
    message.body = "<script>alert(1)</script>\r\n.\r\nMAIL FROM:<x>".to_owned();
    let text = formatted(&message);
    let head = text.split("\n\n").next().unwrap();
    assert!(!head.lines().any(|line| line.to_lowercase().starts_with("bcc")), "{head}");
    assert!(head.contains("Subject: hello Bcc: evil@example.com"), "{head}");
    let html = text.split("text/html").nth(1).unwrap();
    assert!(!html.contains("<script>"), "{html}");
}

#[test]
fn a_long_subject_is_cut_with_a_mark() {
    let mut message = message(alert(), TO);
    message.title = "é".repeat(1_000);
    message.body = "b".repeat(300_000);
    let text = formatted(&message).replace("=\n", "");
    assert!(text.len() < 600_000 && text.contains("262144 for an e-mail"));
    assert!(text.lines().all(|line| line.len() < 998 || !line.starts_with("Subject")));
}
