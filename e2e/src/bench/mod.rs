//! Figures, each measured on the real cluster beside its peer or limit.

pub mod admission;
pub mod consume;
pub mod dispatch;
pub mod latency;
pub mod process;
pub mod size;

/// Manifests of a webhook channel and a rule of condition `Any` that feeds it.
pub fn line(url: &str, topic: &str, delivery: &str) -> String {
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
