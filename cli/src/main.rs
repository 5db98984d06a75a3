//! `belfry`, also `kubectl-belfry`: asks the hub what happened to a notification, tries manifests without a cluster, and
//! converts calendars to Schedules and back.
//!
//! Exit codes: 0 if all is well; 1 if the answer is no (`lint` found an error, a test failed, a message did not arrive); 2 if the
//! command could not do its work.
//!
//! The command changes nothing in a cluster. It writes its results to a file or to standard output.
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod ask;
mod help;
mod hub;
mod kubeconfig;
mod lint;
mod manifests;
mod matching;
mod notification_text;
mod records;
mod rule;
mod schedule;
mod terminal;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

/// Was the person told, when, and if not, why not?
#[derive(Parser)]
#[command(name = "belfry", version)]
struct Flags {
    /// Options of the hub may stand before the command too. The help shows them with the commands that use them.
    #[command(flatten)]
    _hub: hub::Flags,
    #[command(subcommand)]
    command: Command,
}

impl Flags {
    /// The command line as users see it: the help shows options of the hub only with the commands that ask the hub.
    fn command_line() -> clap::Command {
        let command = Self::command().mut_args(|argument| argument.hide(true));
        let name = std::env::args_os().next().map(PathBuf::from);
        let plugin = name.as_ref().and_then(|name| name.file_stem()?.to_str()?.strip_prefix("kubectl-"));
        match plugin {
            Some(name) => command.bin_name(format!("kubectl {name}")),
            None => command,
        }
    }
}

#[derive(Subcommand)]
enum Command {
    /// Checks manifests as the operator would, without a cluster. Exits with 1 if there are errors.
    Lint {
        /// Files or folders (all .yaml, .yml and .json below them), or - for standard input.
        #[arg(short, long = "filename", required = true, num_args = 1..)]
        filename: Vec<PathBuf>,
        /// How findings are written.
        #[arg(short, long, value_enum, default_value = "text")]
        output: Output,
    },
    /// Prints for each record whether it matches a CEL expression: true, false, or false with the reason.
    Match {
        /// The expression, as in an AlertRule's match.
        #[arg(allow_hyphen_values = true)]
        expression: String,
        /// Records, one JSON text a line; - for standard input. With a format of text, lines as they are.
        #[arg(long)]
        records: PathBuf,
        /// How a record's value is decoded, as in an AlertRule's source.
        #[arg(long, value_enum, default_value = "json")]
        format: matching::FormatName,
        /// For the format text: a regular expression with named groups.
        #[arg(long, required_if_eq("format", "text"))]
        pattern: Option<String>,
    },
    /// Runs rules without a cluster, with the same engine.
    #[command(subcommand)]
    Rule(Rule),
    /// Works with Schedules without a cluster, with the same calendar.
    #[command(subcommand)]
    Schedule(Schedule),
    /// Shows everything about one notification: its cause, every delivery, every attempt. Exits with 1 unless all were
    /// delivered.
    Ask(ask::Ask),
    /// Lists the newest notifications, with a line for each delivery.
    List(ask::List),
    /// Lists the newest records that could not be decoded and that no dead-letter topic took.
    DeadLetters(ask::DeadLetters),
    /// Prints the completions of a shell: `source <(belfry completions bash)`.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Prints the manual page, or writes one for each command into a folder.
    Man {
        /// The folder, such as ~/.local/share/man/man1.
        #[arg(long, value_name = "FOLDER")]
        folder: Option<PathBuf>,
    },
}

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    /// Lines for people.
    Text,
    /// A JSON object per line, for programs.
    Json,
}

#[derive(Subcommand)]
enum Rule {
    /// Runs rules over records; shows which match and which notifications they cause.
    Try(rule::trial::Flags),
    /// Tests that given records cause exactly the expected notifications. Exits with 1 if a test fails.
    Test(rule::test::Flags),
    /// Runs rules over old records of their topics. Sends nothing and leaves nothing behind.
    Backtest(rule::backtest::Flags),
}

#[derive(Subcommand)]
enum Schedule {
    /// Expands recurrence rules to instants: reads JSON objects from standard input, a line each, with `rrule`, `dtstart`, `tzid`,
    /// `exdate`, `rdate`, `from`, `to`, `limit` and `dst`, and writes a JSON list of instants for each, or an `error`.
    Expand,
    /// Converts events of an iCalendar file to Schedules, with a report of each. Exits with 1 if one was refused.
    Import(schedule::import::Flags),
    /// Writes Schedules as one iCalendar file. Exits with 1 if one was refused.
    Export(schedule::export::Flags),
    /// Shows what Schedules will do: occurrences, reminders, cron lines, and effects of clock changes.
    Preview(schedule::preview::Flags),
    /// Shows when people and resources are busy, and when all are free.
    Free(schedule::free::Flags),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let mut words = std::env::args_os();
    let name = words.next().map(PathBuf::from);
    if name.as_ref().and_then(|name| name.file_stem()).is_some_and(|name| name == help::COMPLETER) {
        let words: Vec<String> = words.map(|word| word.to_string_lossy().into_owned()).collect();
        help::complete_words(Flags::command_line(), &words).iter().for_each(terminal::line);
        return ExitCode::SUCCESS;
    }
    let flags =
        Flags::from_arg_matches(&Flags::command_line().get_matches()).unwrap_or_else(|error| error.exit());
    match run_command(flags).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            terminal::error(&in_words(&format!("{error:#}")));
            ExitCode::from(2)
        }
    }
}

/// Replaces a message of a library by one that says more.
fn in_words(error: &str) -> String {
    let (theirs, ours) = (
        "received corrupt message of type InvalidContentType",
        "no TLS is spoken there: is http:// meant, or another port?",
    );
    error.replace(theirs, ours)
}

/// Runs the command; returns whether the answer is yes.
async fn run_command(flags: Flags) -> anyhow::Result<bool> {
    match flags.command {
        Command::Lint { filename, output } => lint::run(&filename, output, now()),
        Command::Match { expression, records, format, pattern } => {
            matching::run(&expression, &records, &format.with_pattern(pattern)?)
        }
        Command::Rule(Rule::Try(flags)) => rule::trial::run(&flags, now()),
        Command::Rule(Rule::Test(flags)) => rule::test::run(&flags, now()),
        Command::Rule(Rule::Backtest(flags)) => rule::backtest::run(&flags, now()),
        Command::Schedule(Schedule::Expand) => schedule::expand::run(std::io::stdin().lock(), terminal::json),
        Command::Schedule(Schedule::Import(flags)) => {
            schedule::import::run(&flags, flags.namespace.as_deref())
        }
        Command::Schedule(Schedule::Export(flags)) => {
            schedule::export::run(&flags, flags.namespace.as_deref().unwrap_or("default"), now())
        }
        Command::Schedule(Schedule::Preview(flags)) => schedule::preview::run(&flags, now()),
        Command::Schedule(Schedule::Free(flags)) => schedule::free::run(&flags),
        Command::Ask(flags) => ask::ask(&flags).await,
        Command::List(flags) => ask::list(flags, now()).await,
        Command::DeadLetters(flags) => ask::dead_letters(&flags).await,
        Command::Completions { shell } => help::completions(Flags::command_line(), shell),
        Command::Man { folder } => help::manual(Flags::command_line(), folder.as_deref()),
    }
}

#[allow(clippy::disallowed_methods, reason = "the process owns its clock")]
fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}
