//! What the hubs over one database tell each other of workers, through that database, once a second.
//!
//! A worker talks to whichever hub its connection leads to. Each hub shows what it heard itself and nothing that it heard
//! from other hubs, so nothing lives on by being passed around. What a hub showed is replaced by what it shows next.
//!
//! With SQLite there is one hub, and nothing is told.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ledger::{Error, Peer, WorkerView};
use protocol::messages::{ObjectProblem, Pool, Report};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::app::App;

/// Bytes of reports that a hub shows. What is over it is not shown: those workers count at their own hub alone.
const MOST_BYTES: usize = 8 << 20;
/// While a hub has not shown itself for this long, what it knows is not known: no worker is taken for gone.
const FRESH: Duration = Duration::from_secs(5);

/// What a hub shows.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Shown {
    pub(crate) reports: Vec<ShownReport>,
    pub(crate) sessions: Vec<ShownSession>,
    /// Rules whose templates failed lately.
    problems: Vec<(Uuid, ObjectProblem)>,
}

/// A worker's report.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct ShownReport {
    pub(crate) namespace: String,
    pub(crate) report: Report,
    /// How long ago it came, milliseconds.
    pub(crate) age_ms: u64,
}

/// A sending worker's process.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct ShownSession {
    pub(crate) namespace: String,
    pub(crate) pool: Pool,
    pub(crate) instance: String,
    pub(crate) session: Uuid,
    /// How long ago it was heard, milliseconds.
    pub(crate) age_ms: u64,
}

/// A report that came to another hub.
pub(crate) struct PeerReport {
    pub(crate) namespace: String,
    pub(crate) report: Report,
    pub(crate) at: Instant,
}

/// What the other hubs showed last.
#[derive(Default)]
pub(crate) struct Peers(Mutex<PeersHeard>);

#[derive(Default)]
struct PeersHeard {
    reports: Vec<PeerReport>,
    problems: Vec<(Uuid, ObjectProblem)>,
}

impl Peers {
    /// Takes over what the other hubs show, and returns whether that is fresh for all of them.
    fn hear(&self, app: &App, peers: Vec<Peer>, now: Instant) -> bool {
        let mut heard = PeersHeard::default();
        let mut fresh = true;
        for Peer { hub, age, body } in peers {
            fresh &= age < FRESH;
            let Ok(shown) = serde_json::from_str::<Shown>(&body) else {
                tracing::warn!(hub, "another hub shows what this one can't read: it is of another version");
                fresh = false;
                continue;
            };
            let at = |age_ms: u64| now.checked_sub(age + Duration::from_millis(age_ms)).unwrap_or(now);
            heard.reports.extend(shown.reports.into_iter().map(|it| PeerReport {
                at: at(it.age_ms),
                namespace: it.namespace,
                report: it.report,
            }));
            heard.problems.extend(shown.problems);
            for it in shown.sessions {
                let at = at(it.age_ms);
                app.sessions.heard_by_peer(&it.namespace, it.pool, &it.instance, it.session, at);
            }
        }
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = heard;
        fresh
    }

    /// All reports of the last minute, those that came to other hubs included, and the number of instances.
    pub(crate) fn view(&self, app: &App, at: Instant) -> (WorkerView, usize) {
        let heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut view, instances) = app.reports.view(&heard.reports, at);
        for (rule, problem) in &heard.problems {
            view.problems.entry(*rule).or_default().insert(problem.clone());
        }
        drop(heard);
        app.texts.tell(&mut view, at);
        (view, instances)
    }
}

/// Shows this hub's workers to the other hubs, and hears of theirs.
pub(crate) async fn exchange(app: &App) -> Result<(), Error> {
    let now = Instant::now();
    let mut failures = WorkerView::default();
    app.texts.tell(&mut failures, now);
    let each = |(rule, problems): (Uuid, std::collections::BTreeSet<ObjectProblem>)| {
        problems.into_iter().map(move |problem| (rule, problem))
    };
    let shown = Shown {
        reports: app.reports.shown(MOST_BYTES, now),
        sessions: app.sessions.shown(now),
        problems: failures.problems.into_iter().flat_map(each).collect(),
    };
    let peers = app.ledger.exchange(&app.name, serde_json::to_string(&shown)?).await;
    // Until it is known what other hubs hear, nobody is taken for gone.
    let fresh = match peers {
        Ok(peers) => Ok(app.peers.hear(app, peers, Instant::now())),
        Err(error) => Err(error),
    };
    app.sessions.others_are_known(fresh.as_ref().is_ok_and(|fresh| *fresh));
    fresh.map(drop)
}
