//! `spec.kafka` → [`KafkaPlan`].

use crds::channel::KafkaTarget;
use domain::{FileRef, KafkaPlan, Target};

use super::Receiver;
use crate::validate::{Invalid, kafka};

impl Receiver for KafkaTarget {
    fn target(&self) -> Result<Target, Invalid> {
        let bootstrap_servers = kafka::servers("kafka.bootstrapServers", &self.bootstrap_servers)?;
        let topic = kafka::topic("kafka.topic", &self.topic)?;
        let security = kafka::security("kafka", self.tls.as_ref(), self.sasl.as_ref())?;
        Ok(KafkaPlan { bootstrap_servers, topic, security }.into())
    }

    fn files(&self) -> Vec<FileRef> {
        kafka::files(self.tls.as_ref(), self.sasl.as_ref())
    }
}
