//! `NotificationChannel` → [`Plan`]. Each type of receiver has a file here, which checks the member of its name.

mod email;
mod kafka;
mod slack;
mod webhook;

use crds::channel::{self as wire, NotificationChannel, ReceiverSpec};
use crds::common::SecretKeyRef;
use domain::{
    ChannelPlan, DeliveryPolicy, FileRef, Millis, OnUnknown, PayloadText, Plan, PlanBody, RateLimit,
    RetryPolicy, Target, TemplateText,
};
use templates::names::Names;

use super::references::{ca_bundle, secret};
use super::{DAY, Faults, HOUR, Identity, Invalid, MONTH, SECOND, duration_or};

/// The checks of the member that describes a receiver.
trait Receiver {
    /// Where messages go.
    fn target(&self) -> Result<Target, Invalid>;

    /// All its references to Secrets.
    fn secrets(&self) -> Vec<&SecretKeyRef> {
        Vec::new()
    }

    /// The files that it refers to, except invalid references.
    fn files(&self) -> Vec<FileRef> {
        self.secrets().into_iter().filter_map(|reference| secret(reference).ok()).collect()
    }

    /// The user's own body, if it has one instead of our formats.
    fn payload(&self) -> Result<Option<PayloadText>, Invalid> {
        Ok(None)
    }
}

fn receiver<'a>(member: &ReceiverSpec<'a>) -> &'a dyn Receiver {
    match *member {
        ReceiverSpec::Slack(slack) => slack,
        ReceiverSpec::Email(email) => email,
        ReceiverSpec::Webhook(webhook) => webhook,
        ReceiverSpec::Kafka(kafka) => kafka,
    }
}

/// Validates a channel.
pub fn channel(object: &NotificationChannel) -> Result<Plan, Invalid> {
    let identity = Identity::from_metadata(&object.metadata)?;
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

/// The files that a channel refers to, even if it is invalid: its last valid plan may still need them.
pub fn files_of(object: &NotificationChannel) -> Vec<FileRef> {
    let spec = &object.spec;
    let ca = spec.tls.as_ref().and_then(|tls| tls.ca_bundle.as_ref()).and_then(|it| ca_bundle(it).ok());
    spec.members().iter().flat_map(|member| receiver(member).files()).chain(ca).collect()
}

fn target(spec: &wire::NotificationChannelSpec) -> Result<Target, Invalid> {
    match spec.members().as_slice() {
        [member] if member.type_() == spec.type_ => receiver(member).target(),
        _ => Err(wrong_members(spec)),
    }
}

/// The member named like the type is not there, or another is.
fn wrong_members(spec: &wire::NotificationChannelSpec) -> Invalid {
    let name = |type_: wire::ChannelType| {
        let name = format!("{type_:?}");
        wire::MEMBERS.iter().find(|(known, _)| *known == name).map_or("", |(_, member)| *member)
    };
    let (type_, own) = (spec.type_, name(spec.type_));
    let members = spec.members();
    let is_missing = members.iter().all(|member| member.type_() != type_);
    let others = members.iter().map(ReceiverSpec::type_).filter(|it| *it != type_).map(name);
    let others = others.collect::<Vec<_>>().join(" and ");
    Invalid::spec(match (is_missing, others.is_empty()) {
        (true, true) => format!("{own} is missing: type {type_:?} needs it"),
        (true, false) => {
            format!("{own} is missing: type {type_:?} needs it; leave out {others}, or say another type")
        }
        (false, _) => format!("{others}: type {type_:?} has {own} alone; leave out {others}"),
    })
}

fn texts(spec: &wire::NotificationChannelSpec) -> Result<TemplateText, Invalid> {
    let wire = spec.template.clone().unwrap_or_default();
    let (mut faults, names) = (Faults::default(), Names::for_channel());
    let payloads: Result<Vec<_>, _> =
        spec.members().iter().map(|member| receiver(member).payload()).collect();
    let payload = faults.take(payloads).map(|payloads| payloads.into_iter().flatten().next());
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
