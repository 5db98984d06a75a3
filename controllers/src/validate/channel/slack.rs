//! `spec.slack` → [`SlackPlan`].

use crds::channel::Slack;
use crds::common::SecretKeyRef;
use domain::{SlackPlan, Target};

use super::Receiver;
use crate::validate::{Invalid, references::secret};

impl Receiver for Slack {
    fn target(&self) -> Result<Target, Invalid> {
        Ok(SlackPlan { webhook_url: secret(&self.webhook_url_secret_ref)? }.into())
    }

    fn secrets(&self) -> Vec<&SecretKeyRef> {
        vec![&self.webhook_url_secret_ref]
    }
}
