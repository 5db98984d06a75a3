//! `belfry rule test`: checks that given records at given times cause exactly the expected notifications.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use domain::{Millis, Plan};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::junit::{TestCase, TestSuite};
use super::{Notice, RuleRun, times};
use crate::{manifests, records, terminal};

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Output {
    /// A line for each test, for people.
    Text,
    /// JUnit's XML, for pipelines.
    Junit,
}

#[derive(clap::Args)]
pub(crate) struct Flags {
    /// Files of tests.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// How results are written.
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
}

/// A file of tests.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct TestFile {
    /// Manifests with the rules, relative to this file.
    rules: Vec<PathBuf>,
    #[serde(default)]
    tests: Vec<Test>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Test {
    name: String,
    /// The only rule to run; all rules if absent.
    rule: Option<String>,
    /// The instant of `0s`.
    #[serde(default)]
    start: Timestamp,
    #[serde(default)]
    records: Vec<GivenRecord>,
    /// The test continues without records up to this long after the start.
    until: Option<String>,
    #[serde(default)]
    expect: Vec<Expected>,
}

/// A record, or several equal ones.
#[derive(Deserialize)]
struct GivenRecord {
    /// How long after the start.
    at: String,
    /// How many records, and how long each comes after the one before; one if absent. If a rule reads the time within the value
    /// (`eventTime`), that time moves too.
    #[serde(default)]
    repeat: Option<Repeat>,
    #[serde(flatten)]
    record: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Repeat {
    count: i64,
    every: String,
}

/// An expected notification; absent fields match anything.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Expected {
    /// How long after the start it is decided.
    at: Option<String>,
    rule: Option<String>,
    kind: Option<String>,
    group: Option<BTreeMap<String, String>>,
    count: Option<i64>,
    severity: Option<String>,
    title: Option<String>,
    summary: Option<String>,
}

/// Runs all tests; returns whether all passed.
pub(crate) fn run(flags: &Flags, now: Timestamp) -> anyhow::Result<bool> {
    let mut suites = Vec::new();
    for file in &flags.files {
        suites.push(run_file(file, now).with_context(|| file.display().to_string())?);
    }
    match flags.output {
        Output::Junit => terminal::document(&super::junit::xml(&suites))?,
        Output::Text => {
            for case in suites.iter().flat_map(|suite| &suite.cases) {
                match &case.failure {
                    None => terminal::line(format_args!("ok    {}", case.name)),
                    Some(why) => {
                        terminal::line(format_args!("FAILED {}", case.name));
                        why.lines().for_each(terminal::line);
                    }
                }
            }
        }
    }
    let cases: Vec<&TestCase> = suites.iter().flat_map(|suite| &suite.cases).collect();
    let failed = cases.iter().filter(|case| case.failure.is_some()).count();
    if flags.output == Output::Text {
        terminal::line(format_args!("{} passed, {failed} failed", cases.len() - failed));
    }
    Ok(failed == 0)
}

fn run_file(path: &Path, now: Timestamp) -> anyhow::Result<TestSuite> {
    let file: TestFile = serde_saphyr::from_str(&manifests::read_text(path)?)?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let rules: Vec<PathBuf> = file.rules.iter().map(|rules| folder.join(rules)).collect();
    let plans = manifests::rules(&manifests::read_all(&rules)?, now)?;
    let name = path.display().to_string();
    if file.tests.is_empty() {
        let failure = Some(format!("  there are no `tests` in {name}"));
        return Ok(TestSuite { cases: vec![TestCase { name: name.clone(), failure }], name });
    }
    let cases = file
        .tests
        .iter()
        .map(|test| {
            let failure = run_test(test, &plans).with_context(|| test.name.clone())?;
            Ok(TestCase { name: test.name.clone(), failure })
        })
        .collect::<anyhow::Result<_>>()?;
    Ok(TestSuite { name, cases })
}

/// Runs a test; returns what failed, or `None`. An error means that the test can't be run.
fn run_test(test: &Test, plans: &[Plan]) -> anyhow::Result<Option<String>> {
    let of_test = |plan: &&Plan| test.rule.as_ref().is_none_or(|name| *name == plan.name);
    let plans: Vec<Plan> = plans.iter().filter(of_test).cloned().collect();
    anyhow::ensure!(!plans.is_empty(), "there is no rule {:?}", test.rule.as_deref().unwrap_or_default());
    let mut run = RuleRun::new(plans)?;
    let topic = run.default_topic().ok();
    for given in &test.records {
        let line = records::parse_record(&given.record, 0).map_err(anyhow::Error::msg)?;
        anyhow::ensure!(line.time_ms.is_none(), "a record of a test has `at`, not `timestamp`");
        let (count, every) = match &given.repeat {
            Some(repeat) => (repeat.count, duration(&repeat.every)?),
            None => (1, 0),
        };
        for number in 0..count {
            let time_ms = Some(after(test.start, &given.at)? + number * every);
            let mut line = line.clone();
            if number > 0 && !run.event_times().is_empty() {
                let mut record = given.record.clone();
                for event_time in run.event_times() {
                    record = times::shift_time(&record, event_time, number * every)?;
                }
                line = records::parse_record(&record, 0).map_err(anyhow::Error::msg)?;
            }
            run.push_line(&records::RecordLine { time_ms, ..line }, topic.as_deref())?;
        }
    }
    let until = test.until.as_ref().map(|until| after(test.start, until)).transpose()?;
    differences(test, &run.finish(until))
}

fn duration(text: &str) -> anyhow::Result<i64> {
    if text == "0" || text == "0s" {
        return Ok(0);
    }
    Ok(Millis::parse(text).with_context(|| text.to_owned())?.0)
}

fn after(start: Timestamp, text: &str) -> anyhow::Result<i64> {
    Ok(start.as_millisecond() + duration(text)?)
}

/// Compares notifications and expectations in order; lists those that differ, those that are missing, and those that are too many.
fn differences(test: &Test, notices: &[Notice]) -> anyhow::Result<Option<String>> {
    let mut wrong = Vec::new();
    for at in 0..notices.len().max(test.expect.len()) {
        match (test.expect.get(at), notices.get(at)) {
            (Some(expected), Some(notice)) => {
                let fields = differing_fields(test.start, expected, notice)?;
                if !fields.is_empty() {
                    let got = notice.lines().join("\n    ");
                    let fields = domain::plain(&fields.join("; ")).into_owned();
                    wrong.push(format!("  {}: {fields}\n    got {got}", at + 1));
                }
            }
            (Some(expected), None) => {
                wrong.push(format!("  {}: nothing came for {}", at + 1, domain::plain(&describe(expected))));
            }
            (None, Some(notice)) => {
                let came = notice.lines().join("\n    ");
                wrong.push(format!("  {}: not expected: {came}", at + 1));
            }
            (None, None) => {}
        }
    }
    Ok((!wrong.is_empty()).then(|| wrong.join("\n")))
}

/// The expected fields as JSON.
fn describe(expected: &Expected) -> String {
    let mut fields = serde_json::to_value(expected).unwrap_or_default();
    if let Some(fields) = fields.as_object_mut() {
        fields.retain(|_, wanted| !wanted.is_null());
    }
    fields.to_string()
}

fn differing_fields(start: Timestamp, expected: &Expected, notice: &Notice) -> anyhow::Result<Vec<String>> {
    let mut unmet = Vec::new();
    let mut text = |name: &str, wanted: &Option<String>, got: &str| {
        if let Some(wanted) = wanted.as_deref().filter(|wanted| *wanted != got) {
            unmet.push(format!("{name} is {got:?}, not {wanted:?}"));
        }
    };
    text("rule", &expected.rule, &notice.rule);
    text("kind", &expected.kind, notice.kind);
    text("severity", &expected.severity, notice.severity);
    text("title", &expected.title, &notice.title);
    text("summary", &expected.summary, &notice.summary);
    if let Some(at) = &expected.at {
        let wanted = Timestamp::from_millisecond(after(start, at)?)?;
        if wanted != notice.time {
            let seconds: SignedDuration = notice.time.duration_since(start);
            unmet.push(format!("it came at {seconds:#}, not at {at}"));
        }
    }
    if let Some(wanted) = expected.count.filter(|wanted| *wanted != notice.count) {
        unmet.push(format!("count is {}, not {wanted}", notice.count));
    }
    if let Some(wanted) = expected.group.as_ref().filter(|wanted| **wanted != notice.group) {
        unmet.push(format!("group is {:?}, not {wanted:?}", notice.group));
    }
    Ok(unmet)
}
