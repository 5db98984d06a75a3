//! Wakes the other hubs at once, through Redis. Without Redis each of them looks four times a second.
//!
//! A message says no more than that a hub has stored something that somebody waits for; what, each hub reads in the database.
//! So a message that is lost, repeated, forged or unreadable costs at most a look, and Redis is never needed for being right.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::StreamExt as _;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{AsyncCommands as _, Client, TlsCertificates};
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

use crate::app::App;
use crate::metrics::ResultLabel;

/// How long Redis may take to answer.
const ANSWER: Duration = Duration::from_secs(2);
/// How long to wait after a failure.
const AGAIN: Duration = Duration::from_secs(1);
/// Messages that come faster than this are one.
const GATHER: Duration = Duration::from_millis(3);
/// A subscription on which nothing came for this long is made again: its other end may be gone.
const SILENT: Duration = Duration::from_mins(1);

/// Where Redis is.
#[derive(Debug, Clone)]
pub(crate) struct Redis {
    /// A file with its URL.
    url_file: PathBuf,
    /// The channel of this ledger.
    channel: String,
}

/// A failure, in words that hold no password.
type Failure = String;

impl Redis {
    pub(crate) fn new(url_file: PathBuf, ledger: uuid::Uuid) -> Self {
        Self { url_file, channel: format!("belfry:{ledger}") }
    }

    /// A client of the URL as it is now. A certificate authority beside the URL, `ca.crt`, is the one that it trusts.
    fn client(&self) -> Result<Client, Failure> {
        let read = |path: &Path| std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()));
        let url = String::from_utf8(read(&self.url_file)?).map_err(|_| "the URL is not UTF-8".to_owned())?;
        let authority = read(&self.url_file.with_file_name("ca.crt")).ok();
        let client = match authority.filter(|_| url.starts_with("rediss://")) {
            Some(root) => Client::build_with_tls(
                url.trim(),
                TlsCertificates { client_tls: None, root_cert: Some(root) },
            ),
            None => Client::open(url.trim()),
        };
        client.map_err(|error| format!("the URL of Redis can't be used: {error}"))
    }

    async fn publisher(&self) -> Result<ConnectionManager, Failure> {
        let config = ConnectionManagerConfig::new()
            .set_number_of_retries(0)
            .set_connection_timeout(Some(ANSWER))
            .set_response_timeout(Some(ANSWER));
        self.client()?.get_connection_manager_with_config(config).await.map_err(|error| error.to_string())
    }
}

/// Starts to tell the other hubs, and to hear them: `heard` is notified.
pub(crate) fn start(app: &App, redis: Redis, heard: std::sync::Arc<Notify>, tasks: &TaskTracker) {
    for result in ["sent", "failed", "received"] {
        app.metrics.wakeups.get_or_create(&ResultLabel { result }).inc_by(0);
    }
    let (telling, hearing) = ((app.clone(), redis.clone()), (app.clone(), redis));
    tasks.spawn(async move {
        let stop = telling.0.stop.clone();
        tokio::select! { () = tell(telling.0, telling.1) => {} () = stop.cancelled() => {} }
    });
    tasks.spawn(async move {
        let stop = hearing.0.stop.clone();
        tokio::select! { () = hear(hearing.0, hearing.1, heard) => {} () = stop.cancelled() => {} }
    });
}

/// Logs when something begins to fail, changes or works again.
struct Standing {
    what: &'static str,
    failing: Option<Failure>,
}

impl Standing {
    fn is(&mut self, failure: Option<Failure>) {
        if failure == self.failing {
            return;
        }
        if let Some(error) = &failure {
            let what = self.what;
            tracing::warn!(error, what, "Redis fails; hubs hear of each other within 250 ms, not at once");
        } else {
            tracing::info!(what = self.what, "Redis works again");
        }
        self.failing = failure;
    }
}

/// Publishes a message after each commit that wakes somebody. Never ends.
async fn tell(app: App, redis: Redis) {
    let mut committed = app.ledger.watch_committed();
    let mut standing = Standing { what: "publishing", failing: None };
    let mut connection: Option<ConnectionManager> = None;
    while committed.changed().await.is_ok() {
        let told = async {
            let connection = match &mut connection {
                Some(connection) => connection,
                none => none.insert(redis.publisher().await?),
            };
            connection.publish::<_, _, ()>(&redis.channel, &app.name).await.map_err(|error| error.to_string())
        };
        let told: Result<(), Failure> = told.await;
        let result = if told.is_ok() { "sent" } else { "failed" };
        app.metrics.wakeups.get_or_create(&ResultLabel { result }).inc();
        let failed = told.is_err();
        standing.is(told.err());
        if failed {
            // The next one reads the URL again.
            connection = None;
            tokio::time::sleep(AGAIN).await;
        } else {
            tokio::time::sleep(GATHER).await;
        }
    }
}

/// Hears other hubs' messages. Never ends.
async fn hear(app: App, redis: Redis, heard: std::sync::Arc<Notify>) {
    let mut standing = Standing { what: "the subscription", failing: None };
    loop {
        let subscribed = async {
            let client = redis.client()?;
            let connecting = async {
                let mut subscription = client.get_async_pubsub().await?;
                subscription.subscribe(&redis.channel).await?;
                Ok::<_, redis::RedisError>(subscription)
            };
            let late = |_| format!("no answer within {} s", ANSWER.as_secs());
            tokio::time::timeout(ANSWER, connecting).await.map_err(late)?.map_err(|error| error.to_string())
        };
        let subscribed: Result<_, Failure> = subscribed.await;
        match subscribed {
            Ok(mut subscription) => {
                standing.is(None);
                // What was told before the subscription.
                heard.notify_one();
                let mut messages = subscription.on_message();
                while let Ok(Some(message)) = tokio::time::timeout(SILENT, messages.next()).await {
                    if message.get_payload_bytes() != app.name.as_bytes() {
                        app.metrics.wakeups.get_or_create(&ResultLabel { result: "received" }).inc();
                        heard.notify_one();
                    }
                }
            }
            Err(error) => standing.is(Some(error)),
        }
        tokio::time::sleep(AGAIN).await;
    }
}
