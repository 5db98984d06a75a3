//! Measurements on the real cluster, each compared with a peer or a limit.

pub mod admission;
pub mod consume;
pub mod dispatch;
pub mod latency;
pub mod process;
pub mod size;

/// Manifests of a webhook channel, and of a rule with the condition `Any` that notifies it.
pub fn channel_and_rule(url: &str, topic: &str, delivery: &str) -> String {
    format!(
        "apiVersion: belfry.dev/v1alpha1
kind: NotificationChannel
metadata: {{name: hook, namespace: $NS}}
spec:
  type: Webhook
  webhook: {{url: \"{url}\"}}
  delivery: {delivery}
---
apiVersion: belfry.dev/v1alpha1
kind: AlertRule
metadata: {{name: event, namespace: $NS}}
spec:
  source:
    kafka: {{bootstrapServers: [\"$KAFKA\"], topics: [\"{topic}\"], format: Json, startFrom: Earliest}}
  match: record.level == \"ERROR\"
  groupBy: {{key: record.key}}
  condition: {{type: Any}}
  severity: info
  title: \"{{{{ group.key }}}}\"
  notify: [{{channelRef: {{name: hook}}}}]
"
    )
}
