//! `spec.kafka` → [`KafkaPlan`].

use crds::channel::KafkaTarget;
use domain::{FileRef, KafkaPlan, Target};

use super::Receiver;
use crate::validate::{Faults, Invalid, kafka};

impl Receiver for KafkaTarget {
    fn target(&self) -> Result<Target, Invalid> {
        let mut faults = Faults::default();
        let servers = faults.take(kafka::servers("kafka.bootstrapServers", &self.bootstrap_servers));
        let topic = faults.take(kafka::topic("kafka.topic", &self.topic));
        let security = faults.take(kafka::security("kafka", self.tls.as_ref(), self.sasl.as_ref()));
        let plan = (|| Some(KafkaPlan { bootstrap_servers: servers?, topic: topic?, security: security? }))();
        faults.end(plan.map(Target::from))
    }

    fn files(&self) -> Vec<FileRef> {
        kafka::files(self.tls.as_ref(), self.sasl.as_ref())
    }
}
