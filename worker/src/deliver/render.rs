//! Renders the channels' own texts on blocking threads, so that nothing else waits for them.
//!
//! ```text
//! an attempt --> its channel's lock --> one of a few threads (up to 50 ms a text) --> the attempt goes on
//! ```
//!
//! Invariants: rendering never runs on a thread of the runtime. A channel renders one delivery at a time: if its texts are
//! slow, it delays its own deliveries by at most [`MAX_WAIT`] each, and those of other channels by at most one text of each
//! channel. A delivery that has waited that long gets fallback texts that say so, so that waiting does not use up its lease.
//! No message is kept back because its texts can't be rendered.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use delivery::{Composer, MessageTexts};
use domain::Notification;
use protocol::messages::ChannelEntry;
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use uuid::Uuid;

/// How many deliveries are rendered at once.
const THREADS: usize = 2;
/// How long a delivery waits for its channel's lock and a thread.
const MAX_WAIT: Duration = Duration::from_secs(2);
const MAX_WAIT_SAID: &str = "2s to wait for other texts of the channels";
/// Above this many channels, the locks that nobody waits for are forgotten.
const CHANNELS: usize = 64;

type ChannelLock = Arc<tokio::sync::Mutex<()>>;

/// Renders the texts of all channels of a worker.
pub(super) struct Renderer {
    composer: Arc<Composer>,
    threads: Arc<Semaphore>,
    channel_locks: Mutex<HashMap<Uuid, ChannelLock>>,
}

impl Default for Renderer {
    fn default() -> Self {
        Self {
            composer: Arc::default(),
            threads: Arc::new(Semaphore::new(THREADS)),
            channel_locks: Mutex::default(),
        }
    }
}

impl Renderer {
    /// Renders the texts of one delivery; returns the notification with them.
    pub(super) async fn texts(
        &self,
        channel: Uuid,
        entry: &ChannelEntry,
        notification: Notification,
        recipient: &str,
    ) -> (MessageTexts, Notification) {
        let (template, zone) = (&entry.plan.template, entry.plan.time_zone.as_deref());
        if template.is_nothing() {
            return (self.composer.texts(template, &notification, recipient, zone), notification);
        }
        let late = |notification: &Notification| {
            self.composer.texts_without_time(template, notification, (recipient, zone), MAX_WAIT_SAID)
        };
        let Ok(turn) = timeout(MAX_WAIT, self.lock_channel(channel)).await else {
            return (late(&notification), notification);
        };
        let composer = Arc::clone(&self.composer);
        let (template, zone) = (template.clone(), zone.map(str::to_owned));
        let (kept, recipient) = (Arc::new(notification), recipient.to_owned());
        let told = Arc::clone(&kept);
        let rendered = tokio::task::spawn_blocking(move || {
            // Held to the end, even if the attempt is given up meanwhile.
            let _turn = turn;
            composer.texts(&template, &told, &recipient, zone.as_deref())
        })
        .await;
        let texts = rendered.unwrap_or_else(|_| late(&kept));
        (texts, Arc::unwrap_or_clone(kept))
    }

    /// Waits for the channel's lock, and then for a thread.
    async fn lock_channel(&self, channel: Uuid) -> (OwnedMutexGuard<()>, Option<OwnedSemaphorePermit>) {
        let own = {
            let mut channel_locks = self.channel_locks.lock().unwrap_or_else(PoisonError::into_inner);
            if channel_locks.len() >= CHANNELS {
                channel_locks.retain(|_, channel_locks| Arc::strong_count(channel_locks) > 1);
            }
            Arc::clone(channel_locks.entry(channel).or_default())
        };
        let own = own.lock_owned().await;
        // The semaphore is never closed.
        (own, Arc::clone(&self.threads).acquire_owned().await.ok())
    }
}
