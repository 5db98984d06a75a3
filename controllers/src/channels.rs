//! The controller of `NotificationChannel`s: plans to the hub, and the `send` and `retry` Deployments that the channels of a
//! namespace share.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crds::{NotificationChannel, RESEND, SEND_TEST};
use domain::{FileRef, Plan};
use kube::Resource as _;
use protocol::messages::{ChannelAction, ChannelRequest, ChannelStatus, StatusBody};

use crate::calls::Calls;
use crate::children::{self, Child, Owner};
use crate::cluster::{Cluster, Error};
use crate::conditions::cut;
use crate::context::{Context, Memo};
use crate::guarded::Guarded;
use crate::hub::Hub;
use crate::queue::Reconciler;
use crate::status::{self, Facts};
use crate::steps::{self, Item};
use crate::validate;

const KIND: &str = "NotificationChannel";
const COMPONENTS: [&str; 2] = ["send", "retry"];

/// The controller.
pub struct Channels {
    context: Arc<Context>,
    cluster: Cluster,
    calls: Calls,
    memo: Memo<Plan>,
}

type ChannelItem = Item<NotificationChannel, Plan>;
type GuardedChannel = Guarded<NotificationChannel>;

impl Reconciler for Channels {
    const NAME: &'static str = "notificationchannel";

    async fn reconcile(&self, namespace: String) -> Result<Option<Duration>, Error> {
        let objects = self.context.channels.in_namespace(&namespace);
        let channels: Vec<ChannelItem> = objects
            .into_iter()
            .map(|object| Item { valid: self.memo.validate(&object, validate::channel), object })
            .collect();
        let children = self.build(&namespace, &channels);
        let (mut errors, again) = self.apply(&namespace, &channels, &children).await;
        errors.extend(self.report(&namespace, &channels, &errors).await);
        steps::end(errors, again)
    }
}

impl Channels {
    /// `cluster` has this controller's field manager.
    pub fn new(context: Arc<Context>, cluster: Cluster) -> Self {
        Self { context, cluster, calls: Calls::default(), memo: Memo::default() }
    }

    fn build(&self, namespace: &str, channels: &[ChannelItem]) -> Vec<Child> {
        let owners: Vec<Owner> = channels.iter().filter_map(|channel| channel.owner(KIND)).collect();
        if owners.is_empty() {
            return Vec::new();
        }
        let files: BTreeSet<FileRef> = channels
            .iter()
            .filter_map(|channel| channel.object.0.as_ref().ok())
            .flat_map(validate::files_of)
            .collect();
        let account = children::service_account(namespace, &owners);
        let senders = children::senders(&self.context.settings, namespace, &owners, &files);
        std::iter::once(account).chain(senders).collect()
    }

    async fn apply(
        &self,
        namespace: &str,
        channels: &[ChannelItem],
        children: &[Child],
    ) -> (Vec<Error>, Option<Duration>) {
        let mut errors = steps::apply(&self.context, &self.cluster, namespace, &COMPONENTS, children).await;
        let valid = |channel: &ChannelItem| {
            Some((Arc::clone(&channel.object), Arc::clone(channel.valid.as_ref().ok()?)))
        };
        let valid: Vec<(Arc<GuardedChannel>, Arc<Plan>)> = channels.iter().filter_map(valid).collect();
        let context = Arc::clone(&self.context);
        let calls = async move {
            let plans: Vec<Plan> = valid.iter().map(|(_, plan)| plan.as_ref().clone()).collect();
            let mut failed: Vec<_> = context.hub.ensure(&plans).await.err().into_iter().collect();
            for (object, plan) in &valid {
                failed.extend(hand_on(&context.hub, object, plan).await.err());
            }
            failed.into_iter().map(Error::Hub).collect()
        };
        let (failed, again) = self.calls.make(namespace, calls).await;
        errors.extend(failed);
        (errors, again)
    }

    async fn report(&self, namespace: &str, channels: &[ChannelItem], errors: &[Error]) -> Vec<Error> {
        let mut failed = Vec::new();
        let workers: Vec<_> = ["belfry-send", "belfry-retry"]
            .iter()
            .map(|name| self.context.workers(namespace, name))
            .collect();
        let now = (self.context.now)();
        for channel in channels {
            let status = channel.object.0.as_ref().ok().and_then(|object| object.status.as_ref());
            let (shown, before) = steps::shown(&self.cluster, channel.meta(), status);
            let facts = Facts {
                generation: channel.generation(),
                before: &before.conditions,
                plan: channel.valid.as_deref(),
                hub: Some(match &channel.valid {
                    Ok(plan) => self.context.hub.view(plan),
                    Err(_) => self.context.hub.view_without_plan(channel.uid()),
                }),
                apply_error: steps::trouble(errors, |_| true),
                workers: workers.clone(),
                wants_running: true,
                missing_channels: Vec::new(),
                stuck_channels: Vec::new(),
                hub_url: &self.context.settings.hub_url,
                now,
            };
            let status = status::channel(&facts, &before);
            let conditions = (before.conditions.as_slice(), status.conditions.as_slice());
            let written = steps::report::<NotificationChannel>(
                &self.cluster,
                channel.meta(),
                shown,
                conditions,
                &status,
                now,
            );
            failed.extend(written.await.err());
        }
        failed
    }

    /// Forgets objects that are gone.
    pub fn forget(&self, is_alive: &impl Fn(&str) -> bool) {
        self.memo.forget(is_alive);
        self.cluster.forget(is_alive);
    }
}

/// Sends the requests in the annotations to the hub, unless they were handled. The hub handles each value once.
async fn hand_on(hub: &Hub, object: &GuardedChannel, plan: &Plan) -> Result<(), protocol::Error> {
    let view = hub.view(plan);
    if !view.holds {
        return Ok(());
    }
    let told = match view.status.map(|status| status.body) {
        Some(StatusBody::NotificationChannel(told)) => told,
        _ => ChannelStatus::default(),
    };
    // The object's status counts too: a hub that lost its database has forgotten which requests it handled.
    let status = object.0.as_ref().ok().and_then(|object| object.status.as_ref());
    let tested = status.and_then(|status| Some(status.last_test.as_ref()?.request.clone()));
    let resent = status.and_then(|status| Some(status.last_resend.as_ref()?.request.clone()));
    for (annotation, action, last, shown) in [
        (SEND_TEST, ChannelAction::SendTest, told.last_test, tested),
        (RESEND, ChannelAction::Resend, told.last_resend, resent),
    ] {
        let Some(value) = object.meta().annotations.as_ref().and_then(|all| all.get(annotation)) else {
            continue;
        };
        let request = cut(value, 256);
        let handled = [last.map(|last| last.request), shown].contains(&Some(request.clone()));
        if request.is_empty() || handled {
            continue;
        }
        let request = ChannelRequest { channel: plan.uid, request, action };
        match hub.request(request).await {
            Err(error) if error.is_transient() => return Err(error),
            Err(error) => {
                tracing::warn!(namespace = plan.namespace, name = plan.name, annotation, %error, "the hub refused the annotation");
            }
            Ok(()) => {}
        }
    }
    Ok(())
}
