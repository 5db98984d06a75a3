//! `belfry schedule export`: writes Schedules as one iCalendar file (RFC 5545).
//!
//! Only valid Schedules are written. One that other programs would read at other times is refused or gets a remark.

use std::path::PathBuf;

use anyhow::bail;
use calendar::ical;
use crds::schedule::Schedule;
use jiff::Timestamp;

use crate::terminal;

use super::manifest::{qualified_name, series};
use super::{checked, output};

#[derive(clap::Args)]
pub(crate) struct Flags {
    /// Files or folders with Schedules, also a List as `kubectl get sch -o yaml` writes it; - for standard input.
    #[arg(short, long = "filename", required = true, num_args = 1..)]
    filename: Vec<PathBuf>,
    /// Where the calendar goes: a file, which is replaced whole, or - for standard output.
    #[arg(short, long, default_value = "-")]
    output: PathBuf,
    /// The namespace of manifests that name none; `default` when absent.
    #[arg(short, long)]
    pub(crate) namespace: Option<String>,
}

/// Exports; returns whether no Schedule was refused.
pub(crate) fn run(flags: &Flags, namespace: &str, now: Timestamp) -> anyhow::Result<bool> {
    let read = checked::read_schedules(&flags.filename)?;
    let mut all = Vec::new();
    for it in &read.valid {
        let object: Schedule = serde_json::from_value(it.value.clone())?;
        all.push((qualified_name(&it.valid), series(&object, &it.valid, namespace)));
    }
    let list: Vec<ical::Series> = all.iter().map(|(_, (series, _))| series.clone()).collect();
    let written = ical::write(&list, now);
    let mut refused = read.refused;
    for ((name, (_, left)), result) in all.iter().zip(&written.series) {
        match result {
            Ok(remarks) => {
                left.iter().chain(remarks).for_each(|it| terminal::note(format_args!("{name}: {it}")));
            }
            Err(why) => {
                refused += 1;
                terminal::note(format_args!("{name}: refused: {why}"));
            }
        }
    }
    if refused > 0 && written.series.iter().all(Result::is_err) {
        bail!("there is nothing to write");
    }
    output::write(&flags.output, &written.text)?;
    Ok(refused == 0)
}
