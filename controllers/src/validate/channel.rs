//! `NotificationChannel` → [`Plan`].

use crds::channel::{self as wire, NotificationChannel};
use crds::common::SecretKeyRef;
use domain::{
    ChannelPlan, DeliveryPolicy, FileKind, FileRef, Millis, OnUnknown, Plan, PlanBody, RateLimit,
    RetryPolicy, SmtpTls, Target, TemplateText,
};
use templates::names::Names;

use super::webhook;
use super::{DAY, Faults, HOUR, Identity, Invalid, MONTH, SECOND, duration_or};

/// Validates a channel.
pub fn channel(object: &NotificationChannel) -> Result<Plan, Invalid> {
    let identity = Identity::of(&object.metadata)?;
    let spec = &object.spec;
    let mut faults = Faults::default();
    if spec.tls.is_some() && spec.kafka.is_some() {
        faults.add(Invalid::spec("tls: it is for the other types: that of Kafka is kafka.tls"));
    }
    let target = faults.take(target(spec));
    let bundle = spec.tls.as_ref().and_then(|tls| tls.ca_bundle.as_ref());
    let bundle = faults.take(bundle.map(ca_bundle).transpose());
    let template = faults.take(texts(spec));
    let delivery = faults.take(delivery(spec.delivery.as_ref()));
    let time_zone = faults.take(spec.time_zone.as_deref().map(zone).transpose());
    let body = (|| {
        Some(ChannelPlan {
            target: target?,
            ca_bundle: bundle?,
            template: template?,
            delivery: delivery?,
            time_zone: time_zone?,
        })
    })();
    let body = faults.end(body)?;
    Ok(identity.plan(spec.suspend, PlanBody::NotificationChannel(body)))
}

fn zone(name: &str) -> Result<String, Invalid> {
    match calendar::find_zone(name) {
        Some(_) => Ok(name.to_owned()),
        None => Err(Invalid::spec(format!(
            "timeZone: {name:?} is not a time zone of the IANA database, such as Europe/Berlin"
        ))),
    }
}

/// The files that a channel refers to, whatever else is wrong with it: its last valid plan may still need them.
pub fn files_of(object: &NotificationChannel) -> Vec<FileRef> {
    let spec = &object.spec;
    let ca = spec.tls.as_ref().and_then(|tls| tls.ca_bundle.as_ref()).and_then(|it| ca_bundle(it).ok());
    let email = spec.email.iter().flat_map(|it| it.username_secret_ref.iter().chain(&it.password_secret_ref));
    let secrets = (spec.slack.iter().map(|it| &it.webhook_url_secret_ref))
        .chain(email)
        .chain(spec.webhook.iter().flat_map(webhook::secrets));
    let kafka = spec.kafka.iter().flat_map(|it| super::kafka::files(it.tls.as_ref(), it.sasl.as_ref()));
    secrets.filter_map(|reference| secret(reference).ok()).chain(ca).chain(kafka).collect()
}

pub(super) fn secret(reference: &SecretKeyRef) -> Result<FileRef, Invalid> {
    file(FileKind::Secret, &reference.name, &reference.key)
}

/// The same, and says where it stands.
pub(super) fn secret_at(place: &str, reference: &SecretKeyRef) -> Result<FileRef, Invalid> {
    secret(reference).map_err(|invalid| invalid.below(&format!("{place}.")))
}

/// A reference becomes a path in the worker's pod: neither part may leave its folder.
pub(super) fn file(kind: FileKind, name: &str, key: &str) -> Result<FileRef, Invalid> {
    let plain = |text: &str, more: &[u8]| {
        (1..=253).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || more.contains(&byte))
    };
    if !plain(name, b"-.") || name.starts_with('.') {
        return Err(Invalid::spec(format!("name: {name:?} is not a name of a {kind:?}")));
    }
    if !plain(key, b"-._") || key == "." || key.starts_with("..") {
        return Err(Invalid::spec(format!("key: {key:?} is not a key of a {kind:?}")));
    }
    Ok(FileRef { kind, name: name.to_owned(), key: key.to_owned() })
}

pub(super) fn ca_bundle(bundle: &wire::CaBundle) -> Result<FileRef, Invalid> {
    match (&bundle.config_map_ref, &bundle.secret_ref) {
        (Some(reference), None) => file(FileKind::ConfigMap, &reference.name, &reference.key)
            .map_err(|invalid| invalid.below("tls.caBundle.configMapRef.")),
        (None, Some(reference)) => secret_at("tls.caBundle.secretRef", reference),
        _ => Err(Invalid::spec("tls.caBundle: exactly one of configMapRef and secretRef is needed")),
    }
}

fn target(spec: &wire::NotificationChannelSpec) -> Result<Target, Invalid> {
    use wire::ChannelType::{Email, Kafka, Slack, Webhook};
    match (spec.type_, &spec.slack, &spec.email, &spec.webhook, &spec.kafka) {
        (Slack, Some(slack), None, None, None) => Ok(Target::Slack {
            webhook_url: secret_at("slack.webhookUrlSecretRef", &slack.webhook_url_secret_ref)?,
        }),
        (Email, None, Some(email), None, None) => mail(email),
        (Webhook, None, None, Some(webhook), None) => {
            Ok(Target::Webhook(Box::new(webhook::webhook(webhook)?)))
        }
        (Kafka, None, None, None, Some(kafka)) => topic(kafka),
        _ => Err(wrong_members(spec)),
    }
}

/// The member named like the type is not there, or another is.
fn wrong_members(spec: &wire::NotificationChannelSpec) -> Invalid {
    use wire::ChannelType::{Email, Kafka, Slack, Webhook};
    let members = [
        (Slack, "slack", spec.slack.is_some()),
        (Email, "email", spec.email.is_some()),
        (Webhook, "webhook", spec.webhook.is_some()),
        (Kafka, "kafka", spec.kafka.is_some()),
    ];
    let own = members.iter().find(|(type_, ..)| *type_ == spec.type_).map_or("", |(_, name, _)| name);
    let others: Vec<&str> = members
        .iter()
        .filter(|(type_, _, there)| *type_ != spec.type_ && *there)
        .map(|(_, name, _)| *name)
        .collect();
    let is_missing = members.iter().any(|(_, name, there)| *name == own && !there);
    let type_ = spec.type_;
    Invalid::spec(match (is_missing, others.join(" and ")) {
        (true, others) if others.is_empty() => format!("{own} is missing: type {type_:?} needs it"),
        (true, others) => {
            format!("{own} is missing: type {type_:?} needs it; leave out {others}, or say another type")
        }
        (false, others) => format!("{others}: type {type_:?} has {own} alone; leave out {others}"),
    })
}

fn topic(kafka: &wire::KafkaTarget) -> Result<Target, Invalid> {
    let mut faults = Faults::default();
    let servers = faults.take(super::rule::servers("kafka.bootstrapServers", &kafka.bootstrap_servers));
    let topic = faults.take(super::rule::topic("kafka.topic", &kafka.topic));
    let security = faults.take(super::kafka::security("kafka", kafka.tls.as_ref(), kafka.sasl.as_ref()));
    faults.end((|| {
        Some(Target::Kafka { bootstrap_servers: servers?, topic: topic?, security: Box::new(security?) })
    })())
}

fn mail(email: &wire::Email) -> Result<Target, Invalid> {
    let mut faults = Faults::default();
    let mut file = |place, reference: Option<&SecretKeyRef>| {
        faults.take(reference.map(|it| secret_at(place, it)).transpose())
    };
    let username = file("email.usernameSecretRef", email.username_secret_ref.as_ref());
    let password = file("email.passwordSecretRef", email.password_secret_ref.as_ref());
    if email.username_secret_ref.is_some() != email.password_secret_ref.is_some() {
        faults.add(Invalid::spec("email: usernameSecretRef and passwordSecretRef go together"));
    }
    if email.tls == wire::SmtpTls::None && email.password_secret_ref.is_some() && !email.allow_cleartext_login
    {
        faults.add(Invalid::spec(format!("email: {}", wire::CLEARTEXT_LOGIN)));
    }
    if email.to.is_empty() {
        faults.add(Invalid::spec("email.to: at least one recipient is needed"));
    }
    let to = email.to.iter().enumerate().map(|(at, it)| (format!("email.to[{at}]"), it));
    for (place, mailbox) in to.chain([("email.from".to_owned(), &email.from)]) {
        if !mailbox.contains('@') || mailbox.chars().any(char::is_control) {
            faults.add(Invalid::spec(format!(
                "{place}: {mailbox:?} is not a mailbox, such as belfry@example.com"
            )));
        }
    }
    faults.take(super::reachable("email.host", &email.host));
    let port = u16::try_from(email.port)
        .ok()
        .filter(|port| *port > 0)
        .ok_or_else(|| Invalid::spec(format!("email.port: {} is not from 1 to 65535", email.port)));
    let port = faults.take(port);
    faults.end((|| {
        Some(Target::Email {
            host: email.host.clone(),
            port: port?,
            tls: match email.tls {
                wire::SmtpTls::None => SmtpTls::None,
                wire::SmtpTls::StartTls => SmtpTls::StartTls,
                wire::SmtpTls::Implicit => SmtpTls::Implicit,
            },
            username: username?,
            password: password?,
            from: email.from.clone(),
            to: email.to.clone(),
        })
    })())
}

fn texts(spec: &wire::NotificationChannelSpec) -> Result<TemplateText, Invalid> {
    let wire = spec.template.clone().unwrap_or_default();
    let (mut faults, names) = (Faults::default(), Names::of_channel());
    let payload = spec.webhook.as_ref().and_then(|webhook| webhook.body.as_ref());
    let payload = faults.take(payload.map(webhook::payload).transpose());
    for (place, text) in [("template.title", &wire.title), ("template.body", &wire.body)] {
        if let Some(text) = text {
            faults.take(super::text(place, text, &names));
        }
    }
    faults.end(payload.map(|payload| TemplateText {
        title: wire.title.clone(),
        body: wire.body.clone(),
        payload,
    }))
}

fn delivery(wire: Option<&wire::Delivery>) -> Result<DeliveryPolicy, Invalid> {
    let default = wire::Delivery::default();
    let wire = wire.unwrap_or(&default);
    let no_retry = wire::Retry::default();
    let retry = wire.retry.as_ref().unwrap_or(&no_retry);
    let (least, ten) = (Millis(100), Millis::from_secs(10));
    let mut faults = Faults::default();
    let mut within = |place, text: Option<_>, bounds| faults.take(duration_or(place, text, bounds));
    let initial_delay =
        within("delivery.retry.initialDelay", retry.initial_delay.as_ref(), (least, ten, HOUR));
    let max_delay = within("delivery.retry.maxDelay", retry.max_delay.as_ref(), (least, HOUR, DAY));
    let timeout = within("delivery.timeout", wire.timeout.as_ref(), (SECOND, ten, Millis::from_secs(300)));
    let expires_after = within("delivery.expiresAfter", wire.expires_after.as_ref(), (SECOND, DAY, MONTH));
    let policy = (|| {
        Some(DeliveryPolicy {
            rate_limit: wire
                .rate_limit
                .map(|limit| RateLimit { per_minute: limit.per_minute.max(1), burst: limit.burst.max(1) }),
            retry: RetryPolicy {
                max_attempts: retry.max_attempts.unwrap_or(8).clamp(1, 100),
                initial_delay: initial_delay?,
                max_delay: max_delay?,
            },
            timeout: timeout?,
            expires_after: expires_after?,
            on_unknown: match wire.on_unknown {
                wire::OnUnknown::Resend => OnUnknown::Resend,
                wire::OnUnknown::Hold => OnUnknown::Hold,
            },
        })
    })();
    faults.end(policy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_without_tls_is_refused_unless_it_is_allowed_by_name() {
        let mail = |tls: &str, allowed: bool, login: bool| {
            let mut email = serde_json::json!({"host": "smtp.example.com", "port": 25, "tls": tls,
                "allowCleartextLogin": allowed, "from": "b@example.com", "to": ["a@example.com"]});
            if login {
                let reference = |key: &str| serde_json::json!({"name": "notify", "key": key});
                email["usernameSecretRef"] = reference("user");
                email["passwordSecretRef"] = reference("password");
            }
            mail(&serde_json::from_value(email).unwrap()).map(drop).map_err(|invalid| invalid.message)
        };
        assert_eq!(
            mail("None", false, true),
            Err("email: with tls: None everybody on the way reads the password: use StartTls or Implicit, or set \
                allowCleartextLogin: true"
                .to_owned())
        );
        for (tls, allowed, login) in [
            ("None", true, true),
            ("None", false, false),
            ("StartTls", false, true),
            ("Implicit", false, true),
        ] {
            assert_eq!(mail(tls, allowed, login), Ok(()), "{tls} {allowed} {login}");
        }
    }

    #[test]
    fn a_reference_can_not_leave_its_folder() {
        for (name, key) in [
            ("..", "k"),
            ("a/b", "k"),
            ("", "k"),
            ("s", ".."),
            ("s", "../x"),
            ("s", "a/b"),
            ("s", ""),
            ("s", "."),
        ] {
            assert!(file(FileKind::Secret, name, key).is_err(), "{name:?} {key:?}");
        }
        assert!(file(FileKind::Secret, "s", ".dockerconfigjson").is_ok());
    }
}
