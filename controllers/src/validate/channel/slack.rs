//! `spec.slack` → [`SlackPlan`].

use crds::channel::Slack;
use crds::common::SecretKeyRef;
use domain::{SlackPlan, Target};

use super::Receiver;
use crate::validate::{Invalid, references::secret_at};

impl Receiver for Slack {
    fn target(&self) -> Result<Target, Invalid> {
        let webhook_url = secret_at("slack.webhookUrlSecretRef", &self.webhook_url_secret_ref)?;
        Ok(SlackPlan { webhook_url }.into())
    }

    fn secrets(&self) -> Vec<&SecretKeyRef> {
        vec![&self.webhook_url_secret_ref]
    }
}
