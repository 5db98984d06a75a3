//! Renders the texts of rules on blocking threads, before the transaction that needs them, so that nobody else waits.
//!
//! Invariants: at most one job of a namespace renders at a time, and at most [`RENDER_JOBS`] in all, each for at most
//! [`JOB_TIME`] and one text. After the time for a commit, each text that is left is the fallback, so every request
//! ends. No template runs in the writer's transaction or on a thread that answers requests.
//!
//! Clause D5 of docs/semantics.md.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use alerting::alert_data::ShownRecords;
use alerting::decide::Decision;
use domain::{AlertData, Values};
use protocol::messages::{Commit, Sample};
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::catalog::Object;
use crate::rules::RuleRef;
use crate::{Options, Render, Rendered};

/// How many jobs render at the same time.
const RENDER_JOBS: usize = 2;
/// After this long, a job makes room for another namespace's.
const JOB_TIME: Duration = Duration::from_millis(50);

/// How many texts are requested at once, and for how many deliveries.
const MAX_REQUESTS: usize = 64;
const DELIVERIES: usize = 1_000;

/// Rendered texts by the notification's id.
pub(crate) type RenderedTexts = HashMap<Uuid, Rendered>;

/// A text that is to be rendered.
pub(crate) struct TextRequest {
    /// The notification's id.
    pub(crate) id: Uuid,
    pub(crate) object: Arc<Object>,
    /// The row of the group that waits for the text, if one does.
    pub(crate) group: Option<i64>,
    pub(crate) of: TextSubject,
}

/// What a text is about.
pub(crate) enum TextSubject {
    /// A record of a commit, by the index of its entry and its index there.
    Record(Arc<Commit>, usize, usize),
    Alert(Box<DecidedAlert>),
}

/// A decision of a rule, with the records and values that its text shows.
pub(crate) struct DecidedAlert {
    /// The group's labels, JSON.
    pub(crate) labels: String,
    pub(crate) decision: Decision,
    /// The first and the last record of the window, JSON.
    pub(crate) first: Option<String>,
    pub(crate) last: Option<String>,
    pub(crate) top: BTreeMap<String, Values>,
    /// The alert was closed for another reason than its condition.
    pub(crate) closed: bool,
}

/// What a step left to do.
#[derive(Default)]
pub(crate) struct Remaining {
    /// Texts that are needed to continue.
    pub(crate) requests: Vec<TextRequest>,
    /// More is due, or waits for texts.
    pub(crate) more: bool,
    /// How many deliveries the texts are for.
    pub(crate) deliveries: usize,
}

impl Remaining {
    /// Whether another text may be requested.
    pub(crate) fn has_room(&self) -> bool {
        self.requests.is_empty() || (self.requests.len() < MAX_REQUESTS && self.deliveries < DELIVERIES)
    }

    /// Requests a text that is for this many deliveries.
    pub(crate) fn request(&mut self, deliveries: usize, request: TextRequest) {
        self.deliveries += deliveries;
        self.requests.push(request);
    }

    /// Adds what another step left. Requests for which there is no room are dropped; a later step makes them again.
    pub(crate) fn add(&mut self, mut other: Self) {
        self.more |= other.more;
        while self.has_room()
            && let Some(request) = other.requests.pop()
        {
            self.requests.push(request);
        }
    }
}

impl TextRequest {
    /// Calls `make` with the data of the text. `None` if what is stored can't be read.
    fn with_data<T>(&self, records: bool, make: impl FnOnce(&AlertData<'_>) -> T) -> Option<T> {
        let rule = RuleRef::new(&self.object)?;
        match &self.of {
            TextSubject::Record(commit, entry, at) => {
                let matched = commit.entries.get(*entry)?.records.get(*at)?;
                Some(make(&rule.subject().record(&matched.group, &matched.sample)))
            }
            TextSubject::Alert(told) => {
                let group: BTreeMap<String, String> = serde_json::from_str(&told.labels).ok()?;
                let read = |text: &Option<String>| -> Option<Sample> {
                    text.as_deref().filter(|_| records).and_then(|text| serde_json::from_str(text).ok())
                };
                let (first, last) = (read(&told.first), read(&told.last));
                let shown = ShownRecords { first: first.as_ref(), last: last.as_ref(), top: &told.top };
                let mut data = rule.subject().alert(&group, &told.decision, shown);
                if told.closed {
                    data.closed = true;
                }
                Some(make(&data))
            }
        }
    }
}

/// Renders texts, with a share for each namespace.
pub(crate) struct TextRenderer {
    render: Arc<dyn Render>,
    turns: Arc<Semaphore>,
    /// One permit for each namespace that renders.
    spaces: Mutex<HashMap<String, Arc<Semaphore>>>,
    /// How long one text may take.
    text: Duration,
    /// How long all texts may take that are requested at once.
    all: Duration,
}

/// A set of texts to render, and how far it is.
struct RenderJob {
    requests: Vec<TextRequest>,
    /// The texts of the first requests, in order.
    done: Mutex<Vec<Rendered>>,
}

impl RenderJob {
    fn done(&self) -> std::sync::MutexGuard<'_, Vec<Rendered>> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TextRenderer {
    pub(crate) fn new(render: Arc<dyn Render>, options: &Options) -> Self {
        let (text, all) = (options.text_time.std(), options.texts_time.std());
        Self { render, turns: Arc::new(Semaphore::new(RENDER_JOBS)), spaces: Mutex::default(), text, all }
    }

    /// Renders all requested texts. Those that aren't ready within the time for a commit get the fallback.
    pub(crate) async fn render_all(&self, namespace: &str, requests: Vec<TextRequest>) -> RenderedTexts {
        if requests.is_empty() {
            return RenderedTexts::new();
        }
        let deadline = Instant::now() + self.all;
        let job = Arc::new(RenderJob { done: Mutex::new(Vec::with_capacity(requests.len())), requests });
        // Rendering ends by itself at the deadline. If it doesn't, this doesn't wait for it.
        let end = tokio::time::Instant::from_std(deadline + self.text);
        let rendered = tokio::time::timeout_at(end, self.render(namespace, &job, deadline)).await;
        let mut done = std::mem::take(&mut *job.done()).into_iter();
        let late = rendered.is_err().then(|| tracing::warn!(namespace, "texts were not rendered in time"));
        let why = match late {
            Some(()) => {
                format!("not rendered within {} ms, the time for all texts at once", self.all.as_millis())
            }
            None => "rendering failed".to_owned(),
        };
        let mut ready = RenderedTexts::with_capacity(job.requests.len());
        for request in &job.requests {
            let text =
                done.next().or_else(|| request.with_data(false, |data| self.render.fallback(data, &why)));
            // Every request gets an answer, so that the caller can continue.
            ready.insert(request.id, text.unwrap_or_default());
        }
        ready
    }

    async fn render(&self, namespace: &str, job: &Arc<RenderJob>, deadline: Instant) {
        let Ok(mut ours) = self.namespace_permit(namespace).acquire_owned().await else { return };
        while job.done().len() < job.requests.len() {
            let Ok(_turn) = self.turns.acquire().await else { return };
            let (job, render, most) = (Arc::clone(job), Arc::clone(&self.render), self.text);
            // The thread holds the namespace's permit: as long as it doesn't end, no other job of the namespace
            // starts.
            let slice = tokio::task::spawn_blocking(move || {
                let until = Instant::now() + JOB_TIME;
                loop {
                    let at = job.done().len();
                    let Some(request) = job.requests.get(at) else { return ours };
                    let deadline = deadline.min(Instant::now() + most);
                    let text = request.with_data(true, |data| render.alert(data, deadline));
                    // Data that can't be read gives an empty text; the next requests go on.
                    job.done().push(text.unwrap_or_default());
                    if Instant::now() >= until {
                        return ours;
                    }
                }
            });
            match slice.await {
                Ok(back) => ours = back,
                Err(_) => return,
            }
        }
    }

    fn namespace_permit(&self, namespace: &str) -> Arc<Semaphore> {
        let mut spaces = self.spaces.lock().unwrap_or_else(PoisonError::into_inner);
        if spaces.len() > 1_000 {
            spaces.retain(|_, space| Arc::strong_count(space) > 1);
        }
        Arc::clone(spaces.entry(namespace.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(1))))
    }
}
