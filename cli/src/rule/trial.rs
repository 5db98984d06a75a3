//! `belfry rule try`: runs the engine over records of a file or a pipe.

use std::path::PathBuf;

use super::RuleRun;
use crate::records::{self, LineFormat, TimePath};
use crate::{Output, manifests, terminal};

/// How many matched records, and how many dead letters, are shown.
const MAX_SHOWN: u64 = 20;

#[derive(clap::Args)]
pub(crate) struct Flags {
    /// The manifest of the rule, or of several. Other kinds in it are passed over.
    #[arg(short, long)]
    filename: PathBuf,
    /// Records, one JSON text a line (with the formats Logfmt and Text lines as they are); - for standard input.
    #[arg(long)]
    records: PathBuf,
    /// Lines are bare values, and their time is here, such as record.time: RFC 3339, Unix seconds or milliseconds.
    #[arg(long, value_parser = TimePath::parse)]
    time_path: Option<TimePath>,
    /// Goes on without records up to this time (RFC 3339), so that silence is noticed and alerts end.
    #[arg(long, value_parser = parse_time)]
    until: Option<jiff::Timestamp>,
    /// How notifications are written: text, with matched records and a summary; or JSON, one object a line.
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
}

fn parse_time(text: &str) -> Result<jiff::Timestamp, &'static str> {
    text.parse().map_err(|_| "write a time with its offset, such as 2026-01-05T10:00:00Z")
}

/// Runs the rules; always returns true.
pub(crate) fn run(flags: &Flags, now: jiff::Timestamp) -> anyhow::Result<bool> {
    let manifests = manifests::read_all(std::slice::from_ref(&flags.filename))?;
    let mut run = RuleRun::new(manifests::rules(&manifests, now)?)?;
    let topic = run.default_topic().ok();
    let text = flags.output == Output::Text;
    let several = run.rules().count() > 1;
    let mut matched = 0_u64;
    let mut dead = 0_u64;
    let lines = LineFormat::new(run.decoders(), flags.time_path.clone());
    records::for_each(&flags.records, &lines, |line| {
        let pushed = run.push_line(&line, topic.as_deref())?;
        matched += u64::from(pushed.matched > 0);
        if text && pushed.matched > 0 && matched <= MAX_SHOWN {
            let which = if several {
                format!(" {}", run.counting(&line, topic.as_deref()).join(", "))
            } else {
                String::new()
            };
            terminal::line(format_args!("line {} matches{which}", line.number));
        }
        if let Some(error) = pushed.undecodable {
            dead += 1;
            if dead <= MAX_SHOWN {
                let told = format!("line {} is a dead letter: {error}", line.number);
                if text { terminal::line(told) } else { terminal::note(told) }
            }
        }
        Ok(())
    })?;
    run.require_times()?;
    if text && matched > MAX_SHOWN {
        terminal::line(format_args!("... and {} more that match", matched - MAX_SHOWN));
    }
    if text && dead > MAX_SHOWN {
        terminal::line(format_args!("... and {} more dead letters", dead - MAX_SHOWN));
    }
    for notice in run.finish(flags.until.map(jiff::Timestamp::as_millisecond)) {
        match flags.output {
            Output::Text => notice.lines().iter().for_each(terminal::line),
            Output::Json => terminal::json(&notice),
        }
    }
    for line in run.record_counts() {
        if text { terminal::line(line) } else { terminal::note(line) }
    }
    Ok(true)
}
