//! What was published last of each object, as far as a change of it is news.
//!
//! Invariant: memory only: after a start everything is compared anew. Never: a row of the database.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use protocol::messages::DeliverySummary;
use uuid::Uuid;

use crate::WorkerView;

/// What the last publication saw. Memory only: after a start everything is compared anew.
#[derive(Default)]
pub(crate) struct Published {
    pub(crate) workers: Arc<WorkerView>,
    /// Partitions that nobody owns, by topic's row and number.
    pub(crate) unowned: BTreeMap<(i64, i32), UnownedPartition>,
    /// The partition after which to look on.
    pub(crate) looked_up_to: Option<(i64, i32)>,
    /// Of each object, what a change of is news.
    pub(crate) shown: HashMap<Uuid, LastShown>,
}

impl Published {
    /// Whether it was said that something of the object was not delivered at the channel.
    pub(crate) fn fails(&self, uid: Uuid, channel: &str) -> bool {
        self.shown.get(&uid).is_some_and(|shown| shown.fails.contains(channel))
    }

    /// What was said of the object.
    pub(crate) fn shown(&self, uid: &Uuid) -> Option<&LastShown> {
        self.shown.get(uid)
    }
}

/// A partition that nobody owns.
pub(crate) struct UnownedPartition {
    pub(crate) namespace: String,
    pub(crate) source: String,
    pub(crate) topic: String,
    pub(crate) since: i64,
    /// Whether it is said.
    pub(crate) said: bool,
}

/// Of what was published of an object, what a change of is news.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct LastShown {
    /// Channels at which something was not delivered.
    pub(crate) fails: HashSet<String>,
    /// Why its records can't be counted.
    pub(crate) uncountable: bool,
    /// Which quota it has met.
    pub(crate) full: bool,
}

impl LastShown {
    pub(crate) fn from_told(told: &DeliverySummary) -> Self {
        let fails = told.undelivered.iter().map(|it| it.channel.clone()).collect();
        Self { fails, ..Self::default() }
    }
}
