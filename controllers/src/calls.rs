//! Makes a controller's calls to the hub, one set at a time for each namespace.
//!
//! A slow or silent hub does not delay an object's status: a run waits a moment for its calls ([`WAITS`]), then
//! reports, and the calls go on. Two sets of calls for one namespace never run at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::Plan;
use tokio::task::JoinSet;

use crate::cluster::Error;
use crate::context::Context;

/// How long a run waits for its calls before it reports.
const WAITS: Duration = Duration::from_millis(500);
/// After what time it looks again at calls that go on.
const AGAIN: Duration = Duration::from_secs(1);

/// The running calls of one controller, by namespace. They end when this is dropped.
#[derive(Default)]
pub(crate) struct Calls {
    under_way: Mutex<HashMap<String, JoinSet<Vec<Error>>>>,
}

impl Calls {
    /// Makes the calls, unless earlier ones of the namespace still go on. Returns the errors of the calls that ended,
    /// and after what time to look again if calls go on or were not made.
    pub(crate) async fn make(
        &self,
        namespace: &str,
        calls: impl Future<Output = Vec<Error>> + Send + 'static,
    ) -> (Vec<Error>, Option<Duration>) {
        let earlier = self.lock().remove(namespace);
        if let Some(earlier) = earlier {
            let (errors, goes_on) = self.wait(namespace, earlier).await;
            // The failed calls are made again by the retry of this run.
            if goes_on.is_some() || !errors.is_empty() {
                return (errors, goes_on);
            }
        }
        let mut made = JoinSet::new();
        made.spawn(calls);
        self.wait(namespace, made).await
    }

    /// Sends the plans of a namespace that differ from what the hub holds.
    pub(crate) async fn send(
        &self,
        context: &Arc<Context>,
        namespace: &str,
        plans: Vec<Plan>,
    ) -> (Vec<Error>, Option<Duration>) {
        let context = Arc::clone(context);
        let calls =
            async move { context.hub.ensure(&plans).await.err().map(Error::Hub).into_iter().collect() };
        self.make(namespace, calls).await
    }

    async fn wait(&self, namespace: &str, mut calls: JoinSet<Vec<Error>>) -> (Vec<Error>, Option<Duration>) {
        match tokio::time::timeout(WAITS, calls.join_next()).await {
            Ok(Some(Ok(errors))) => (errors, None),
            // A panic in the calls fails this run.
            Ok(Some(Err(ended))) => std::panic::resume_unwind(ended.into_panic()),
            Ok(None) => (Vec::new(), None),
            Err(_) => {
                self.lock().insert(namespace.to_owned(), calls);
                (Vec::new(), Some(AGAIN))
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, JoinSet<Vec<Error>>>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
