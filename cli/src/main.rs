//! `belfry`, also `kubectl-belfry`: asks the hub what happened to a notification, tries manifests without a cluster, and
//! makes Schedules of calendars and back.
//!
//! Exit codes: 0 all is well, 1 the answer is no (an error found by `lint`, a test that failed), 2 it could not be asked.
//!
//! Never here: a change of a cluster. What it makes it writes to a file, or to standard output.
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod lint;
mod manifests;
mod matching;
mod records;
mod rule;
mod schedule;
mod story;
mod terminal;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use domain::DeliveryState;
use protocol::messages::{DeadLetterQuery, NotificationQuery};
use protocol::{Client, ClientConfig, TokenSource};
use uuid::Uuid;

/// Was the person told, when, and if not, why not?
#[derive(Parser)]
#[command(name = "belfry", version)]
struct Flags {
    /// The hub, such as https://localhost:8443 after `kubectl -n belfry-system port-forward svc/belfry-hub 8443`.
    #[arg(
        help_heading = "Asking the hub",
        long,
        env = "BELFRY_HUB_URL",
        default_value = "https://localhost:8443",
        global = true
    )]
    hub: String,
    /// PEM of the authority of the hub's certificate: `kubectl -n belfry-system get configmap belfry-ca -o
    /// 'jsonpath={.data.ca\.crt}'` prints it.
    #[arg(help_heading = "Asking the hub", long, env = "BELFRY_HUB_CA_FILE", global = true)]
    hub_ca_file: Option<PathBuf>,
    /// The name that the hub's certificate is checked for, where its address has another.
    #[arg(help_heading = "Asking the hub", long, env = "BELFRY_HUB_SERVER_NAME", global = true)]
    hub_server_name: Option<String>,
    /// A file with a token of somebody who may get alertrules in the namespace, such as from `kubectl create token
    /// ACCOUNT --audience=belfry-hub`.
    #[arg(help_heading = "Asking the hub", long, env = "BELFRY_TOKEN_FILE", global = true)]
    token_file: Option<PathBuf>,
    /// The same token itself.
    #[arg(
        help_heading = "Asking the hub",
        long,
        env = "BELFRY_TOKEN",
        hide_env_values = true,
        global = true
    )]
    token: Option<String>,
    /// The namespace to ask about, and of what `schedule import` makes; `default` when absent.
    #[arg(help_heading = "Asking the hub", short, long, global = true)]
    namespace: Option<String>,
    #[command(subcommand)]
    command: Command,
}

impl Flags {
    fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or("default")
    }
}

#[derive(Subcommand)]
enum Command {
    /// All that the operator would say about manifests, without a cluster. Exits with 1 if there are errors.
    Lint {
        /// Files or folders (all .yaml, .yml and .json below them), or - for standard input.
        #[arg(short, long = "filename", required = true, num_args = 1..)]
        filename: Vec<PathBuf>,
        /// How findings are written.
        #[arg(short, long, value_enum, default_value = "text")]
        output: Output,
    },
    /// Whether each record matches a CEL expression: true, false, or false with the reason, a line each.
    Match {
        /// The expression, as in an AlertRule's match.
        expression: String,
        /// Records, one JSON text a line; - for standard input. With a format of text, lines as they are.
        #[arg(long)]
        records: PathBuf,
        /// How a record's value is decoded, as in an AlertRule's source.
        #[arg(long, value_enum, default_value = "json")]
        format: matching::Format,
        /// For the format text: a regular expression with named groups.
        #[arg(long, required_if_eq("format", "text"))]
        pattern: Option<String>,
    },
    /// Rules without a cluster: the engine that runs behind it.
    #[command(subcommand)]
    Rule(Rule),
    /// Schedules without a cluster: the calendar that runs behind it.
    #[command(subcommand)]
    Schedule(Schedule),
    /// Everything about one notification: what caused it, every delivery, every attempt.
    Ask {
        /// The id of a notification or of a delivery (the `webhook-id` that a receiver saw).
        id: Uuid,
    },
    /// The newest notifications, a line for each delivery.
    List {
        /// Only those of this rule, schedule or channel, by uid.
        #[arg(long)]
        object: Option<Uuid>,
        /// Only those with a delivery in this state: Pending, Delivered, Dead, Expired or Suppressed.
        #[arg(long, value_parser = state)]
        state: Option<DeliveryState>,
        /// At most this many, 1 to 500.
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(i64).range(1..=500))]
        limit: i64,
    },
    /// The newest records that could not be decoded and that no dead-letter topic took.
    DeadLetters {
        /// At most this many, 1 to 500.
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(i64).range(1..=500))]
        limit: i64,
        /// A line each; with json also key and value, in Base64.
        #[arg(short, long, value_enum, default_value = "text")]
        output: Output,
    },
}

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    /// A line for each, for people.
    Text,
    /// A JSON object in a line for each, for programs.
    Json,
}

#[derive(Subcommand)]
enum Rule {
    /// Runs rules over records: which match, and what is told.
    Try(rule::trial::Flags),
    /// Tests rules: given these records at these times, these alerts and no others. Exits with 1 if one fails.
    Test(rule::test::Flags),
    /// Runs rules over the past of their topics. Sends nothing and leaves nothing behind.
    Backtest(rule::backtest::Flags),
}

#[derive(Subcommand)]
enum Schedule {
    /// Recurrence rules to instants: reads JSON objects from standard input, a line each, with `rrule`, `dtstart`, `tzid`,
    /// `exdate`, `rdate`, `from`, `to`, `limit` and `dst`, and writes a JSON list of instants for each, or an `error`.
    Expand,
    /// Events of an iCalendar file to Schedules, with a report of each. Exits with 1 if one was refused.
    Import(schedule::import::Flags),
    /// Schedules to one iCalendar file. Exits with 1 if one was refused.
    Export(schedule::export::Flags),
    /// What Schedules will do: occurrences, reminders, cron lines, and what clock changes do to them.
    Preview(schedule::preview::Flags),
    /// Who and what Schedules keep busy, and when all are free.
    Free(schedule::free::Flags),
}

fn state(text: &str) -> Result<DeliveryState, String> {
    use DeliveryState::{Dead, Delivered, Expired, Pending, Suppressed};
    let all = [Pending, Delivered, Dead, Expired, Suppressed];
    let found = all.into_iter().find(|state| state.name().eq_ignore_ascii_case(text));
    found.ok_or_else(|| format!("write one of {}", all.map(DeliveryState::name).join(", ")))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Flags::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            terminal::error(&format!("{error:#}"));
            ExitCode::from(2)
        }
    }
}

/// Whether the answer is yes.
async fn run(flags: Flags) -> anyhow::Result<bool> {
    let namespace = flags.namespace().to_owned();
    match flags.command {
        Command::Lint { filename, output } => return lint::run(&filename, output, now()),
        Command::Match { expression, records, format, pattern } => {
            return matching::run(&expression, &records, &format.with(pattern)?);
        }
        Command::Rule(Rule::Try(flags)) => return rule::trial::run(&flags, now()),
        Command::Rule(Rule::Test(flags)) => return rule::test::run(&flags, now()),
        Command::Rule(Rule::Backtest(flags)) => return rule::backtest::run(&flags, now()),
        Command::Schedule(Schedule::Expand) => {
            return schedule::expand::run(std::io::stdin().lock(), terminal::json);
        }
        Command::Schedule(Schedule::Import(import)) => {
            return schedule::import::run(&import, flags.namespace.as_deref());
        }
        Command::Schedule(Schedule::Export(flags)) => {
            return schedule::export::run(&flags, &namespace, now());
        }
        Command::Schedule(Schedule::Preview(flags)) => return schedule::preview::run(&flags, now()),
        Command::Schedule(Schedule::Free(flags)) => return schedule::free::run(&flags),
        Command::Ask { id } => {
            let story = client(&flags)?.notification(&namespace, id).await?;
            terminal::page(&story::whole(&story));
        }
        Command::List { object, state, limit } => {
            let (client, mut left) = (client(&flags)?, limit);
            let mut query = NotificationQuery { object, state, ..NotificationQuery::default() };
            // A page at a time: what is printed is not kept.
            while left > 0 {
                query.limit = Some(left);
                let list = client.notifications(&namespace, &query).await?;
                left -= i64::try_from(list.items.len())?;
                for item in list.items {
                    terminal::page(&story::lines(&item));
                }
                if list.next.is_none() || list.next == query.after {
                    break;
                }
                query.after = list.next;
            }
        }
        Command::DeadLetters { limit, output } => {
            let (client, mut left) = (client(&flags)?, limit);
            let mut query = DeadLetterQuery::default();
            while left > 0 {
                query.limit = Some(left);
                let list = client.dead_letters(&namespace, &query).await?;
                left -= i64::try_from(list.items.len())?;
                for item in list.items {
                    match output {
                        Output::Text => terminal::line(story::letter(&item)),
                        Output::Json => terminal::json(&item),
                    }
                }
                if list.next.is_none() || list.next == query.after {
                    break;
                }
                query.after = list.next;
            }
        }
    }
    Ok(true)
}

#[allow(clippy::disallowed_methods, reason = "the process owns its clock")]
fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

fn client(flags: &Flags) -> anyhow::Result<Client> {
    // An error says that a provider is there already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let token = match (&flags.token, &flags.token_file) {
        (Some(token), _) => TokenSource::Fixed(token.clone()),
        (None, Some(file)) => TokenSource::File(file.clone()),
        (None, None) => anyhow::bail!(
            "the hub asks who you are: give --token \"$(kubectl create token SERVICE_ACCOUNT -n {} --audience=belfry-hub)\" or --token-file",
            flags.namespace()
        ),
    };
    let ca = flags
        .hub_ca_file
        .as_ref()
        .map(|file| std::fs::read(file).with_context(|| format!("reading {}", file.display())))
        .transpose()?;
    let server_name = flags.hub_server_name.clone();
    Ok(Client::new(ClientConfig { url: flags.hub.clone(), ca, server_name, token })?)
}
