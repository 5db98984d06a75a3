//! `belfry schedule import`: converts events of an iCalendar file to Schedules, with a report of each event.
//!
//! Every Schedule that is written has passed the validation of `belfry lint` and the operator. A refused event gets no manifest, and a
//! file is written whole or not at all.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use calendar::ical::{self, Import, ImportResult, ImportedEvent, ReadOptions, Remark, Series};
use serde_json::{Value, json};

use super::manifest::manifest;
use super::names::ObjectNames;
use super::output;
use crate::{Output, terminal};

/// The largest file that is read.
const MAX_BYTES: u64 = 64 * 1024 * 1024;

#[derive(clap::Args)]
pub(crate) struct Flags {
    /// An iCalendar file (.ics), or - for standard input.
    file: PathBuf,
    /// Where the manifests go: a file, which is replaced whole, or - for standard output.
    #[arg(short, long, default_value = "-")]
    output: PathBuf,
    /// Time zone of floating times and of whole days, by its IANA or Windows name; the file's X-WR-TIMEZONE when absent.
    #[arg(long)]
    time_zone: Option<String>,
    /// A NotificationChannel that tells of reminders; may be given up to 16 times. Without one no reminders are taken.
    #[arg(long)]
    notify: Vec<String>,
    /// Takes LOCATION as a resource: no two events are at one place at the same time.
    #[arg(long)]
    location_is_resource: bool,
    /// Refuses what could not be taken whole, too.
    #[arg(long)]
    strict: bool,
    /// How the report is written, to standard error.
    #[arg(long, value_enum, default_value = "text")]
    report: Output,
    /// The namespace of the Schedules; none is written when absent.
    #[arg(short, long)]
    pub(crate) namespace: Option<String>,
}

/// The result of importing one event.
struct EventResult<'a> {
    event: &'a ImportedEvent,
    /// The name of the Schedule, if one was made.
    object: Option<String>,
    remarks: Vec<Remark>,
    /// Why none was made: the event was left out (`false`) or refused (`true`).
    why: Option<(bool, Remark)>,
}

/// Imports; returns whether no event was refused.
pub(crate) fn run(flags: &Flags, namespace: Option<&str>) -> anyhow::Result<bool> {
    check_flags(flags)?;
    let bytes = read_bytes(&flags.file)?;
    let options =
        ReadOptions { time_zone: flags.time_zone.clone(), location_is_resource: flags.location_is_resource };
    let import = ical::read(&bytes, &options);
    if import.events.is_empty() {
        report(flags, &import, &[]).context("writing the report")?;
        bail!("{} has no events", flags.file.display());
    }
    let (text, outcomes) = import_events(flags, namespace, &import);
    if !text.is_empty() {
        output::write(&flags.output, &text)?;
    }
    report(flags, &import, &outcomes).context("writing the report")?;
    Ok(outcomes.iter().all(|it| !matches!(it.why, Some((true, _)))))
}

fn check_flags(flags: &Flags) -> anyhow::Result<()> {
    if let Some(zone) = &flags.time_zone
        && !ical::knows_zone(zone)
    {
        bail!(
            "--time-zone {zone} is unknown; allowed are IANA names such as Europe/Berlin, and names of Windows"
        );
    }
    let is_name = |name: &String| {
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
        (1..=253).contains(&name.len()) && name.bytes().all(inner)
    };
    if let Some(wrong) = flags.notify.iter().find(|name| !is_name(name)) {
        bail!("--notify {wrong} is no name of a NotificationChannel");
    }
    if flags.notify.len() > 16 {
        bail!("--notify: at most 16 channels are allowed");
    }
    Ok(())
}

fn read_bytes(file: &Path) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let from =
        |from: &mut dyn std::io::Read, bytes: &mut Vec<u8>| from.take(MAX_BYTES + 1).read_to_end(bytes);
    let read = if file == Path::new("-") {
        from(&mut std::io::stdin().lock(), &mut bytes)
    } else {
        std::fs::File::open(file).and_then(|mut open| from(&mut open, &mut bytes))
    };
    read.with_context(|| format!("reading {}", file.display()))?;
    if bytes.len() as u64 > MAX_BYTES {
        bail!("{} is larger than 64 MiB", file.display());
    }
    Ok(bytes)
}

/// The manifests as text, and the result of each event.
fn import_events<'a>(
    flags: &Flags,
    namespace: Option<&str>,
    import: &'a Import,
) -> (String, Vec<EventResult<'a>>) {
    let mut names = ObjectNames::default();
    let (mut text, mut outcomes) = (String::new(), Vec::new());
    for event in &import.events {
        let mut outcome = EventResult { event, object: None, remarks: Vec::new(), why: None };
        match &event.result {
            ImportResult::LeftOut(why) => {
                outcome.why = Some((false, Remark { line: event.line, text: why.clone() }));
            }
            ImportResult::Refused(why) => outcome.why = Some((true, why.clone())),
            ImportResult::Taken(series) => {
                outcome.remarks.clone_from(&series.remarks);
                let name = names.name(series.name.as_deref(), &series.title, &series.uid);
                match import_series(flags, namespace, series, &name, event.line, &mut outcome.remarks) {
                    Ok(yaml) => {
                        // The first document gets a separator too, so that files can be concatenated.
                        text += "---\n";
                        text += &yaml;
                        outcome.object = Some(name);
                    }
                    Err(why) => outcome.why = Some((true, why)),
                }
            }
        }
        outcomes.push(outcome);
    }
    (text, outcomes)
}

/// The validated manifest of one series, as YAML.
fn import_series(
    flags: &Flags,
    namespace: Option<&str>,
    series: &Series,
    name: &str,
    line: u32,
    remarks: &mut Vec<Remark>,
) -> Result<String, Remark> {
    let refused = |text: String| Remark { line, text };
    let (manifest, more) = manifest(series, name.to_owned(), namespace, &flags.notify).map_err(refused)?;
    remarks.extend(more.into_iter().map(refused));
    let value = serde_json::to_value(&manifest).map_err(|error| refused(error.to_string()))?;
    controllers::lint::schedule(0, &value).map_err(|invalid| refused(invalid.message))?;
    if flags.strict
        && let Some(first) = remarks.first()
    {
        return Err(Remark { line: first.line, text: format!("{} (--strict)", first.text) });
    }
    let mut yaml = serde_saphyr::to_string(&manifest).map_err(|error| refused(error.to_string()))?;
    if yaml.contains(domain::hides_in_document) {
        // JSON is YAML too, and can escape hidden characters.
        let json = serde_json::to_string_pretty(&value).map_err(|error| refused(error.to_string()))?;
        yaml = domain::plain_yaml(&json).into_owned();
    }
    if !yaml.ends_with('\n') {
        yaml.push('\n');
    }
    Ok(yaml)
}

fn report(flags: &Flags, import: &Import, outcomes: &[EventResult<'_>]) -> std::io::Result<()> {
    let mut out = terminal::notes();
    let file = flags.file.display().to_string();
    for Remark { line, text } in &import.notes {
        match flags.report {
            Output::Text => out.line(format_args!("{file}:{line}: note: {text}"))?,
            Output::Json => {
                out.json(&json!({"file": file, "line": line, "outcome": "note", "text": text}))?;
            }
        }
    }
    for outcome in outcomes {
        match flags.report {
            Output::Text => {
                for line in outcome.text(&file) {
                    out.line(line)?;
                }
            }
            Output::Json => out.json(&outcome.json(&file))?,
        }
    }
    if flags.report == Output::Text && !outcomes.is_empty() {
        let count = |is: &dyn Fn(&EventResult<'_>) -> bool| outcomes.iter().filter(|it| is(it)).count();
        out.line(format_args!(
            "{} {}: {} taken ({} with remarks), {} left out, {} refused",
            outcomes.len(),
            if outcomes.len() == 1 { "event" } else { "events" },
            count(&|it| it.object.is_some()),
            count(&|it| it.object.is_some() && !it.remarks.is_empty()),
            count(&|it| matches!(it.why, Some((false, _)))),
            count(&|it| matches!(it.why, Some((true, _)))),
        ))?;
    }
    out.finish()
}

impl EventResult<'_> {
    fn result_word(&self) -> &'static str {
        match &self.why {
            None => "taken",
            Some((false, _)) => "left out",
            Some((true, _)) => "refused",
        }
    }

    fn text(&self, file: &str) -> Vec<String> {
        let ImportedEvent { line, title, .. } = self.event;
        let what = self.object.as_deref().map_or(String::new(), |name| format!(" as {name}"));
        let title = title.as_deref().unwrap_or("(no title)");
        let mut lines = vec![format!("{file}:{line}: {}{what}: {title:?}", self.result_word())];
        let why = self.why.as_ref().map(|(_, why)| why);
        let told: Vec<&Remark> = why.map_or_else(|| self.remarks.iter().collect(), |why| vec![why]);
        lines.extend(told.into_iter().map(|it| format!("  line {}: {}", it.line, it.text)));
        lines
    }

    fn json(&self, file: &str) -> Value {
        let remark = |it: &Remark| json!({"line": it.line, "text": it.text});
        let ImportedEvent { line, uid, title, .. } = self.event;
        let mut value =
            json!({"file": file, "line": line, "uid": uid, "title": title, "outcome": self.result_word()});
        if let Some(name) = &self.object {
            value["name"] = json!(name);
            value["remarks"] = self.remarks.iter().map(remark).collect();
        }
        if let Some((_, why)) = &self.why {
            value["reason"] = remark(why);
        }
        value
    }
}
