//! The fault run: `make soak`; with `ABUSE=1` one tenant's worst beside another ([`e2e::abuse`]).
//! The fault run prints one line of figures; ends with 1 unless nothing was lost, extra, counted twice, out of
//! order or sent under a new id, and all kills and rebalances happened. See [`e2e::soak`].
//!
//! Never: an end of 0 that shows nothing.

use std::fmt::Write as _;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use e2e::cluster::Cluster;
use e2e::soak::faults::{AT_LEAST, KINDS, keep};
use e2e::soak::run::{NAMESPACE, Report, run_soak};
use e2e::soak::{Settings, now_ms};
use futures::FutureExt as _;

/// Produces records while it kills everything, then recounts.
#[derive(Parser)]
struct Flags {
    /// How many records.
    #[arg(long, env = "RECORDS", default_value_t = 1_000_000)]
    records: u64,
    /// Records a second; what RECORDS and MINUTES make where it is not given, or else 1000.
    #[arg(long, env = "RATE")]
    rate: Option<u64>,
    /// How long they are produced. With RATE it decides how many records there are.
    #[arg(long, env = "MINUTES")]
    minutes: Option<u64>,
    /// What chance comes from; the clock where it is not given.
    #[arg(long, env = "SEED")]
    seed: Option<u64>,
    /// How many processes must be killed; 100 in a run of 1000 s or more, fewer in a shorter one.
    #[arg(long, env = "KILLS")]
    kills: Option<usize>,
    /// How often partitions must be shared out anew; 20 in a run of 1000 s or more, fewer in a shorter one.
    #[arg(long, env = "REBALANCES")]
    rebalances: Option<usize>,
    /// Less than five minutes in all, with a fixed seed: the one of `make test`.
    #[arg(long)]
    short: bool,
    /// How many hubs the cluster has. With several, PostgreSQL is stopped, connections to it are cut, and a hub stands still.
    #[arg(long, env = "HUBS", default_value_t = 1)]
    hubs: usize,
    /// Not the fault run but one tenant's worst beside another, each as it was found and all side by side.
    #[arg(long, env = "ABUSE", num_args = 0..=1, default_missing_value = "true", default_value_t = false,
        value_parser = clap::builder::BoolishValueParser::new())]
    abuse: bool,
    /// With ABUSE: only the attacks whose name has these words, one after the other.
    #[arg(long, env = "ATTACKS", default_value = "")]
    attacks: String,
    /// Where logs are kept when the run fails.
    #[arg(long, env = "BELFRY_SOAK_LOGS", default_value = "target/soak")]
    logs: PathBuf,
}

impl Flags {
    fn settings(&self) -> Settings {
        let seed = self.seed.unwrap_or(if self.short { 20_260 } else { now_ms() as u64 % 1_000_000 });
        if self.short {
            return Settings { hubs: self.hubs, ..Settings::short(seed) };
        }
        let (records, rate) = match (self.rate, self.minutes) {
            (Some(rate), Some(minutes)) => (rate * minutes * 60, rate),
            (Some(rate), None) => (self.records, rate),
            (None, Some(minutes)) => (self.records, self.records / (minutes * 60).max(1)),
            (None, None) => (self.records, 1_000),
        };
        let mut settings = Settings {
            records,
            rate: rate.max(1),
            seed,
            kills: 0,
            rebalances: 0,
            short: false,
            hubs: self.hubs,
        };
        let seconds = settings.length_ms() as usize / 1000;
        settings.kills = self.kills.unwrap_or((seconds / 10).clamp(25, 100));
        settings.rebalances = self.rebalances.unwrap_or((seconds / 50).clamp(1, 20));
        settings
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let flags = Flags::parse();
    if flags.abuse {
        return abuse(&flags.attacks).await;
    }
    let settings = flags.settings();
    let hubs = if settings.hubs > 1 { format!("HUBS={} ", settings.hubs) } else { String::new() };
    let again = if settings.short {
        format!("{hubs}SEED={} e2e/soak.sh --short", settings.seed)
    } else {
        let Settings { records, rate, seed, kills, rebalances, .. } = &settings;
        format!(
            "{hubs}RECORDS={records} RATE={rate} SEED={seed} KILLS={kills} REBALANCES={rebalances} make soak"
        )
    };
    println!("   -> seed {}; the same run again: {again}", settings.seed);
    let logs = flags.logs.join(format!("seed-{}-{}", settings.seed, now_ms() / 1000));
    if let Err(error) = std::fs::create_dir_all(&logs) {
        eprintln!("belfry: {} can't be made: {error}", logs.display());
        return ExitCode::FAILURE;
    }
    // A panic says what was waited for in vain; the logs are kept then, too.
    let report = AssertUnwindSafe(run_soak(&settings, &logs)).catch_unwind().await;
    let good = if let Ok(report) = &report {
        println!("{}", line(&settings, report));
        let missing = missing(&settings, report);
        for fault in report.figures.faults.iter().take(20).chain(&missing) {
            println!("      {fault}");
        }
        report.figures.good() && missing.is_empty()
    } else {
        println!("      the run did not come to its end");
        false
    };
    if good {
        // Nobody will miss them.
        let _ = std::fs::remove_dir_all(&logs);
        return ExitCode::SUCCESS;
    }
    save(&logs, report.as_ref().ok()).await;
    println!("      logs are in {}; the same run again: {again}", logs.display());
    ExitCode::FAILURE
}

/// Prints the neighbour's times, beside the bar, and what should not have been; good when nothing should. Times alone decide
/// nothing: they are the machine's, too.
async fn abuse(words: &str) -> ExitCode {
    let report = e2e::abuse::run_attacks(e2e::abuse::Size::Full, words).await;
    println!("{report}");
    for fault in &report.faults {
        println!("      {fault}");
    }
    if report.faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The line of figures.
fn line(settings: &Settings, report: &Report) -> String {
    let (figures, done) = (&report.figures, &report.done);
    let mut kills = String::new();
    for kind in KINDS {
        let _ = write!(kills, " {} {}", kind.name(), done.kills.get(kind.name()).unwrap_or(&0));
    }
    let mut database = String::new();
    if settings.hubs > 1 {
        let _ = write!(
            database,
            ", hubs {}: PostgreSQL stopped {}, connections cut {}, Redis killed {}, a hub still {}",
            settings.hubs, done.database, done.cuts, done.redis, done.pauses
        );
    }
    format!(
        "soak seed {}: records {} ({} late), kills {}:{kills}, rebalances {}, broker outages {} (longest {:.1} s){database}, \
         expected {}, arrived {}, lost {}, extra {}, counted twice {}, out of order {}, duplicates under a new id {}, duplicates under the same id {}, \
         from decidable to its arrival at a receiver that always answers: p50 {:.1} s, p99 {:.1} s; slowest of all {:.1} s",
        settings.seed,
        report.records,
        report.late,
        done.kills.values().sum::<usize>(),
        report.rebalances,
        done.broker,
        done.longest_outage_ms as f64 / 1000.0,
        figures.expected,
        figures.arrived,
        figures.lost,
        figures.extra,
        figures.counted_twice,
        figures.out_of_order,
        figures.new_id,
        figures.same_id,
        figures.wait_ms(500) as f64 / 1000.0,
        figures.wait_ms(990) as f64 / 1000.0,
        figures.slowest_ms as f64 / 1000.0,
    )
}

/// What a run must have had to show anything.
fn missing(settings: &Settings, report: &Report) -> Vec<String> {
    let mut missing: Vec<String> = KINDS
        .iter()
        .map(|kind| (kind.name(), report.done.kills.get(kind.name()).copied().unwrap_or(0)))
        .filter(|(_, kills)| *kills < AT_LEAST)
        .map(|(kind, kills)| format!("only {kills} kills of {kind}, at least {AT_LEAST} are needed"))
        .collect();
    let kills: usize = report.done.kills.values().sum();
    if kills < settings.kills {
        missing.push(format!("only {kills} kills, at least {} are needed", settings.kills));
    }
    if report.rebalances < settings.rebalances {
        missing.push(format!(
            "only {} rebalances, at least {} are needed",
            report.rebalances, settings.rebalances
        ));
    }
    if report.late < 20 {
        missing.push(format!("only {} records were late", report.late));
    }
    if report.done.broker == 0 {
        missing.push("the broker never went away".to_owned());
    }
    if settings.hubs > 1 {
        for (what, count) in [
            ("PostgreSQL never stopped", report.done.database),
            ("no connection was cut", report.done.cuts),
            ("Redis was never killed", report.done.redis),
            ("no hub stood still", report.done.pauses),
        ] {
            if count == 0 {
                missing.push(what.to_owned());
            }
        }
    }
    if report.figures.expected < 100 {
        missing.push(format!("only {} notifications were expected", report.figures.expected));
    }
    missing
}

/// Keeps everything that may tell what went wrong.
async fn save(logs: &Path, report: Option<&Report>) {
    let cluster = Cluster::from_env();
    let write = |name: &str, text: String| {
        if let Err(error) = std::fs::write(logs.join(name), text) {
            println!("      {name} could not be kept: {error}");
        }
    };
    if let Some(report) = report {
        write("faults.txt", report.figures.faults.join("\n"));
        write("done.txt", report.done.log.join("\n"));
        let arrivals: Vec<String> = report.arrivals.iter().map(|one| format!("{one:?}")).collect();
        write("arrived.txt", arrivals.join("\n"));
        let wanted: Vec<String> = report.wanted.iter().map(|one| format!("{one:?}")).collect();
        write("wanted.txt", wanted.join("\n"));
    }
    for (name, ns) in [("tenant", NAMESPACE), ("system", "belfry-system")] {
        for (verb, rest) in [("get", "all,nch,alr,sch,events"), ("describe", "pods,nch,alr,sch")] {
            let mut args = vec!["-n", ns, verb, rest];
            if verb == "get" {
                args.extend(["-o", "wide"]);
            }
            let text = cluster.try_kubectl(&args).await.unwrap_or_else(|error| error);
            write(&format!("{name}-{verb}.txt"), text);
        }
    }
    for pod in std::fs::read_dir(Path::new(&cluster.folder).join("podlogs")).into_iter().flatten().flatten() {
        keep(&pod.path(), logs);
    }
    // The broker's log is outside of the cluster.
    let _ = std::fs::copy(Path::new(&cluster.folder).join("log/kafka.log"), logs.join("kafka.log"));
}
