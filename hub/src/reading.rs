//! People's reads of the ledger: a few at a time, shared fairly among namespaces and persons, each with a time
//! limit.
//!
//! The ledger has more read connections than people may use at once, so reads of the operator and of workers never
//! wait behind people. A read goes on after its caller gave up, and keeps its slot until it has ended: nobody gets
//! more of the ledger by not waiting. A failed read never marks the whole hub as failing.

use std::sync::Arc;
use std::time::Duration;

use ledger::Error;

use crate::faults::Faults;
use crate::reader_slots::{ReaderSlots, SlotBounds};
use crate::refusal::Refusal;

/// Reads of people at the same time: in all, of one namespace, of one person.
const AT_ONCE: SlotBounds = SlotBounds { all: 4, namespace: 2, person: 2 };
/// The ledger's read connections: those for people, and two for operator and workers.
pub(crate) const CONNECTIONS: u32 = AT_ONCE.all as u32 + 2;
/// How long a read may wait for its turn.
const MAX_WAIT: Duration = Duration::from_secs(5);
/// How long a read may take.
const LONGEST: Duration = Duration::from_secs(10);

/// Who reads, and in which namespace.
#[derive(Debug, Clone)]
pub(crate) struct Reader {
    pub(crate) person: Arc<str>,
    pub(crate) namespace: Arc<str>,
}

/// Runs people's reads in turn.
pub(crate) struct Reads(Arc<ReaderSlots>);

impl Reads {
    pub(crate) fn new() -> Self {
        Self(ReaderSlots::new(AT_ONCE))
    }

    /// Runs a read when the reader has a slot. Refuses if none is free within `MAX_WAIT`, or if the read takes
    /// longer than `LONGEST`.
    pub(crate) async fn run_read<T: Send + 'static>(
        &self,
        faults: &Faults,
        reader: &Reader,
        read: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Refusal> {
        let turn = self.0.wait(&reader.person, &reader.namespace, MAX_WAIT).await.map_err(|full| {
            faults.read_failed("Busy", "no turn in time");
            Refusal::read_failed(format!("too many reads are under way: {full}"))
        })?;
        let reading = tokio::spawn(async move {
            let read = read.await;
            drop(turn);
            read
        });
        match tokio::time::timeout(LONGEST, reading).await {
            Ok(Ok(read)) => faults.read_result(read),
            Ok(Err(_)) => Err(Refusal::internal()),
            Err(_) => {
                faults.read_failed("Timeout", "a read took longer than its time");
                let longest = LONGEST.as_secs();
                Err(Refusal::read_failed(format!("the read took longer than {longest} s: ask for less")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::metrics::Metrics;

    use super::*;

    fn reader(person: &str, namespace: &str) -> Reader {
        Reader { person: person.into(), namespace: namespace.into() }
    }

    #[tokio::test(start_paused = true)]
    async fn an_endless_read_keeps_its_slot_and_fails_for_its_reader_alone() {
        let (reads, faults) = (Arc::new(Reads::new()), Arc::new(Faults::new(Arc::new(Metrics::new()))));
        let endless = |person: &str| {
            let (reads, faults, reader) = (reads.clone(), faults.clone(), reader(person, "a"));
            tokio::spawn(async move { reads.run_read::<()>(&faults, &reader, std::future::pending()).await })
        };
        for person in ["ann", "eve"] {
            let told = endless(person).await.expect("ended").expect_err("too long");
            assert_eq!(told.reason, "ReadFailed");
            assert!(told.message.contains("10 s"), "{}", told.message);
        }
        // Both reads go on after their callers left: a third reader of the namespace gets no slot, a reader of another namespace does.
        let told = endless("bob").await.expect("ended").expect_err("no turn");
        assert!(told.message.contains("2 of one namespace"), "{}", told.message);
        let read = reads.run_read(&faults, &reader("ann", "b"), async { Ok(7) }).await;
        assert_eq!(read.expect("read"), 7);
        assert!(faults.failing().is_ok(), "nobody else is told of it");
    }
}
