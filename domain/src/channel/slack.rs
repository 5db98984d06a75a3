//! Slack.

use serde::{Deserialize, Serialize};

use super::Receiver;
use crate::FileRef;

/// A Slack incoming webhook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SlackPlan {
    /// The whole URL is the secret.
    pub webhook_url: FileRef,
}

impl Receiver for SlackPlan {
    fn files(&self) -> Vec<&FileRef> {
        vec![&self.webhook_url]
    }
}
