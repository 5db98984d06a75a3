//! Paths of the hub's HTTP API, as axum routes. `{ns}` is a namespace, `{source}` a source's key.

use std::fmt::Write as _;

/// Operator. POST [`crate::messages::PutPlans`]: stores plans.
pub const PLANS: &str = "/v1/operator/plans";
/// Operator. GET → [`crate::messages::Revisions`]: what the hub holds.
pub const REVISIONS: &str = "/v1/operator/revisions";
/// Operator. PUT [`crate::messages::LiveObjects`]: the complete set of live uids.
pub const LIVE: &str = "/v1/operator/live";
/// Operator. GET [`crate::messages::FeedQuery`] → [`crate::messages::Feed`]: long poll of statuses.
pub const FEED: &str = "/v1/operator/feed";
/// Operator. POST [`crate::messages::ChannelRequest`]: send a test, resend dead deliveries.
pub const REQUESTS: &str = "/v1/operator/requests";

/// Worker `consume`. GET [`crate::messages::PlanQuery`] → [`crate::messages::SourcePlan`]; 204 when unchanged; 404 when
/// no rule reads the source.
pub const SOURCE_PLAN: &str = "/v1/namespaces/{ns}/sources/{source}/plan";
/// Worker `consume`. POST [`crate::messages::PositionsRequest`] → [`crate::messages::Positions`].
pub const POSITIONS: &str = "/v1/namespaces/{ns}/sources/{source}/positions";
/// Worker `consume`. POST [`crate::messages::Commit`] → [`crate::messages::CommitResult`].
pub const COMMITS: &str = "/v1/namespaces/{ns}/sources/{source}/commits";
/// Workers `send` and `retry`. GET [`crate::messages::PlanQuery`] → [`crate::messages::ChannelsPlan`]; 204 when unchanged.
pub const CHANNELS_PLAN: &str = "/v1/namespaces/{ns}/channels/plan";
/// Workers `send` and `retry`. POST [`crate::messages::ClaimRequest`] → [`crate::messages::Claimed`]: long poll.
pub const CLAIM: &str = "/v1/namespaces/{ns}/deliveries/claim";
/// Workers `send` and `retry`. POST [`crate::messages::Alive`]: has attempts in hand. A hub of before does not know it (404).
pub const ALIVE: &str = "/v1/namespaces/{ns}/deliveries/alive";
/// Workers `send` and `retry`. POST [`crate::messages::Outcomes`].
pub const OUTCOMES: &str = "/v1/namespaces/{ns}/deliveries/outcomes";
/// Worker `remind`. GET → [`crate::messages::ReminderState`]; 404 when there is no such schedule.
pub const SCHEDULE: &str = "/v1/namespaces/{ns}/schedules/{uid}";
/// Worker `remind`. POST [`crate::messages::Reminders`].
pub const REMINDERS: &str = "/v1/namespaces/{ns}/schedules/{uid}/reminders";
/// All workers. PUT [`crate::messages::Report`]: what it runs and what it can't do.
pub const REPORTS: &str = "/v1/namespaces/{ns}/reports";

/// Workers of the namespace, and people who may `get` `alertrules.belfry.dev` there.
/// GET [`crate::messages::NotificationQuery`] → [`crate::messages::NotificationList`], newest first, in pages of about 1 MiB;
/// 404 where nothing has that name now.
pub const NOTIFICATIONS: &str = "/v1/namespaces/{ns}/notifications";
/// The same. GET → [`crate::messages::NotificationStory`]. `{id}` is a notification's or a delivery's.
pub const NOTIFICATION: &str = "/v1/namespaces/{ns}/notifications/{id}";
/// The same people. GET [`crate::messages::DeadLetterQuery`] → [`crate::messages::DeadLetterList`], newest first, in pages of about
/// 1 MiB: records that could not be decoded and that no dead-letter topic took.
pub const DEAD_LETTERS: &str = "/v1/namespaces/{ns}/dead-letters";

/// Anybody, as a connection is anybody's. GET with `Upgrade:` [`TUNNEL_PROTOCOL`] → 101: from there on a connection within this
/// one, with a TLS handshake of its own, for those who come by a proxy that ends TLS itself.
pub const TUNNEL: &str = "/v1/tunnel";
/// What [`TUNNEL`] is an upgrade to.
pub const TUNNEL_PROTOCOL: &str = "belfry-tunnel";

/// The audience of a token with which somebody reads one namespace's notifications, made of the hub's own audience. The API
/// server gives one out, for the account that the hub knows, only to that user, and only if they may `get` AlertRules there.
pub fn reader_audience(hub: &str, namespace: &str, username: &str) -> String {
    format!("{hub}/{namespace}/{username}")
}

/// Fills `{name}` places of a path, in their order. Values are percent-encoded where a path needs it.
pub fn fill(path: &str, values: &[&str]) -> String {
    let mut filled = String::with_capacity(path.len() + 64);
    let mut values = values.iter();
    for (at, segment) in path.split('/').enumerate() {
        if at > 0 {
            filled.push('/');
        }
        if segment.starts_with('{') {
            for byte in values.next().unwrap_or(&"").bytes() {
                if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_') {
                    filled.push(char::from(byte));
                } else {
                    let _ = write!(filled, "%{byte:02X}");
                }
            }
        } else {
            filled.push_str(segment);
        }
    }
    filled
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_filled_in_order_and_can_not_leave_their_segment() {
        assert_eq!(fill(SOURCE_PLAN, &["payments", "../x"]), "/v1/namespaces/payments/sources/..%2Fx/plan");
    }
}
