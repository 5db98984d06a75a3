//! `consume`: reads one Kafka source, matches and counts its records, and commits what they came to.
//!
//! A thread reads and folds ([`reader`]); beside it, tasks poll for the plan, send commits, ask the broker, and report.
//! Invariant: where to read on, and what was counted, is the ledger's alone. Never here: a database or Kubernetes.

mod asks;
mod books;
mod commits;
mod metrics;
mod plan;
mod problems;
mod reader;

use std::sync::mpsc;
use std::time::Duration;

use anyhow::Context as _;
use protocol::messages::SourcePlan;
use tokio::sync::mpsc::unbounded_channel;
use tokio::sync::oneshot;

use crate::context::Context;
use crate::kafka::{Consumer, Letters};
use metrics::Metrics;
use plan::Compiled;
use problems::Standing;
use reader::{Asks, Event, Reader};

/// How long a poll for the plan may wait.
const PLAN_WAIT: Duration = Duration::from_secs(30);
/// The hub forgets a report after a minute.
const REPORT_EVERY: Duration = Duration::from_secs(20);
/// How long the reader may take to leave.
const LEAVE: Duration = Duration::from_millis(8_500);

/// Runs until [`Context::stop`].
pub async fn run(context: Context, source: String) -> anyhow::Result<()> {
    let standing = Standing::default();
    let metrics = Metrics::new(&context.health);
    let (plans, mut planned) = unbounded_channel();
    let poller = tokio::spawn(poll_plans(context.clone(), source.clone(), plans));
    let reporter = tokio::spawn(report(context.clone(), source.clone(), standing.clone()));
    let mut running: Option<(mpsc::Sender<Event>, oneshot::Receiver<anyhow::Result<()>>)> = None;
    loop {
        let plan = tokio::select! {
            plan = planned.recv() => plan.context("the poll for the plan ended")?,
            ended = ended(&mut running) => return ended.and(Err(anyhow::anyhow!("the reader ended"))),
            () = context.stop.cancelled() => break,
        };
        let event = match &plan {
            Some(plan) => Event::Plan(Box::new(Compiled::new(plan))),
            None => Event::NoPlan,
        };
        if let (None, Some(plan)) = (&running, &plan) {
            running = Some(start(&context, &source, &plan.bootstrap_servers, &standing, &metrics)?);
        }
        if let Some((events, _)) = &running {
            // A reader that ended says why above.
            let _ = events.send(event);
        }
    }
    poller.abort();
    reporter.abort();
    if let Some((events, _)) = &running {
        let _ = events.send(Event::Stop);
        if let Ok(ended) = tokio::time::timeout(LEAVE, ended(&mut running)).await {
            ended?;
        } else {
            tracing::warn!("the reader did not leave in time");
        }
    }
    let report = standing.report(&context.config.instance, &source, true);
    let _ =
        tokio::time::timeout(Duration::from_secs(1), context.hub.report(&context.config.namespace, &report))
            .await;
    Ok(())
}

type Running = (mpsc::Sender<Event>, oneshot::Receiver<anyhow::Result<()>>);

/// Waits for the reader's end; for ever when there is none.
async fn ended(running: &mut Option<Running>) -> anyhow::Result<()> {
    match running {
        Some((_, end)) => end.await.unwrap_or_else(|_| Err(anyhow::anyhow!("the reader broke off"))),
        None => std::future::pending().await,
    }
}

/// Starts the reader and what it asks.
fn start(
    context: &Context,
    source: &str,
    servers: &[String],
    standing: &Standing,
    metrics: &Metrics,
) -> anyhow::Result<Running> {
    let config = &context.config;
    let group = format!("belfry.{}.{source}", config.namespace);
    let consumer = Consumer::new(servers, &group, &config.instance).context("can't make a Kafka consumer")?;
    let broker = consumer.broker();
    let (events, happening) = mpsc::channel();
    let (commits, outgoing) = unbounded_channel();
    let (positions, wanted) = unbounded_channel();
    let (ends, looked) = unbounded_channel();
    let letters = Letters::new(servers.to_vec(), config.instance.clone());
    let (hub, key) = (context.clone(), source.to_owned());
    tokio::spawn(commits::run(hub.clone(), key.clone(), outgoing, events.clone(), letters, metrics.clone()));
    tokio::spawn(asks::positions(hub, key, broker.clone(), wanted, events.clone()));
    tokio::spawn(asks::ends(broker.clone(), looked, events.clone()));
    tokio::spawn(asks::topics(broker, standing.clone(), servers.to_vec(), events.clone()));
    let asks = Asks { commits, positions, ends };
    let reader = Reader::new(consumer, happening, asks, standing.clone(), metrics.clone());
    let beat = context.health.watch("reader", Duration::from_secs(30));
    let (done, end) = oneshot::channel();
    std::thread::Builder::new()
        .name("reader".to_owned())
        .spawn(move || {
            let _ = done.send(reader.run(&beat));
        })
        .context("can't start the reader")?;
    Ok((events, end))
}

/// Polls for the plan; sends each new one, and `None` when no rule reads the source.
async fn poll_plans(
    context: Context,
    source: String,
    plans: tokio::sync::mpsc::UnboundedSender<Option<SourcePlan>>,
) {
    let beat = context.health.watch("plan", 3 * PLAN_WAIT);
    let mut held = String::new();
    let mut backoff = Duration::from_millis(200);
    loop {
        beat.beat();
        let answer = context.hub.source_plan(&context.config.namespace, &source, &held, PLAN_WAIT).await;
        let news = match answer {
            Ok(None) => None,
            Ok(Some(plan)) => {
                plan.revision.as_str().clone_into(&mut held);
                Some(Some(plan))
            }
            Err(error) if error.status().is_some_and(|status| status.as_u16() == 404) => {
                held.clear();
                backoff = Duration::from_secs(1);
                Some(None)
            }
            Err(error) => {
                context.health.missing("hub", Some(error.to_string()));
                tracing::warn!(%error, "no plan from the hub; asking again");
                tokio::time::sleep(backoff).await;
                backoff = (backoff * 2).min(Duration::from_secs(5));
                continue;
            }
        };
        context.health.missing("hub", None);
        let gone = matches!(news, Some(None));
        if news.is_some_and(|news| plans.send(news).is_err()) {
            return;
        }
        if gone {
            tokio::time::sleep(backoff).await;
        } else {
            backoff = Duration::from_millis(200);
        }
    }
}

/// Reports on every change, and every 20 s.
async fn report(context: Context, source: String, standing: Standing) {
    loop {
        let report = standing.report(&context.config.instance, &source, false);
        let mut again = REPORT_EVERY;
        if let Err(error) = context.hub.report(&context.config.namespace, &report).await {
            tracing::warn!(%error, "the report did not reach the hub");
            again = Duration::from_secs(2);
        }
        let _ = tokio::time::timeout(again, standing.changed()).await;
        // Changes come in swarms.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[cfg(test)]
mod tests;
