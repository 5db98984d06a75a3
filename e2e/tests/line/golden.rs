//! Golden outputs: compares what a user sees with text files in `golden/`.
//!
//! What varies from run to run is replaced: moments, ages, uids, resource versions, addresses of pods and node. The rest must be the same
//! to the letter. `UPDATE_GOLDEN=1` overwrites the files; read what changed before you keep it.
//!
//! Before a test runs again in the same cluster, wait two minutes: so long the hub remembers a deleted namespace.
//!
//! Status counters lag by up to 30 s. So a text that kubectl shows is asked for again until it equals the file. What must hold before and
//! after that moment belongs in the test's own assertions.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use e2e::tenant::Tenant;
use futures::future::join_all;
use jiff::Timestamp;

/// With `UPDATE_GOLDEN`, how long a text must stay the same before it is written: longer than counters may lag.
const SETTLED: Duration = Duration::from_secs(35);
/// How long a text may take until it equals the file.
const PATIENCE: Duration = Duration::from_secs(90);

/// Checks that what `kubectl get` and `kubectl describe` show of each object becomes equal to its `golden/<file>.txt`. `files` are pairs of
/// file and object.
pub(crate) async fn assert_shown(tenant: &Tenant, files: &[(&str, &str)]) {
    join_all(files.iter().map(|(file, what)| assert_one_shown(tenant, file, what))).await;
}

async fn assert_one_shown(tenant: &Tenant, file: &str, what: &str) {
    let (cluster, ns) = (&tenant.cluster, tenant.ns.as_str());
    let look = async || {
        let get = cluster.kubectl(&["-n", ns, "get", what]).await;
        let describe = cluster.kubectl(&["-n", ns, "describe", what]).await;
        format!(
            "$ kubectl -n {ns} get {what}\n{}\n$ kubectl -n {ns} describe {what}\n{}",
            normalized(&get),
            normalized(&describe)
        )
    };
    let start = Instant::now();
    let mut last = (look().await, Instant::now());
    loop {
        let kept = kept(file);
        if updating() && last.1.elapsed() > SETTLED || !updating() && kept.as_deref() == Some(&last.0) {
            return assert_same_normalized(file, &last.0);
        }
        if !updating() && start.elapsed() > PATIENCE {
            return assert_same_normalized(file, &last.0);
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = look().await;
        if now != last.0 {
            last = (now, Instant::now());
        }
    }
}

/// Checks that a text, after what varies was replaced, equals `golden/<file>.txt`.
pub(crate) fn assert_same(file: &str, text: &str) {
    assert_same_normalized(file, &normalized(text));
}

fn assert_same_normalized(file: &str, text: &str) {
    if updating() {
        std::fs::write(path(file), text).expect("golden/ can be written");
        return;
    }
    let kept = kept(file)
        .unwrap_or_else(|| panic!("golden/{file}.txt is not there; UPDATE_GOLDEN=1 makes it:\n{text}"));
    assert!(kept == text, "not as golden/{file}.txt has it:\n{}", difference(&kept, text));
}

fn updating() -> bool {
    std::env::var_os("UPDATE_GOLDEN").is_some_and(|value| !value.is_empty())
}

fn path(file: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests/line/golden", &format!("{file}.txt")].iter().collect()
}

fn kept(file: &str) -> Option<String> {
    std::fs::read_to_string(path(file)).ok()
}

/// The lines that only one of the two texts has, and all that was seen.
fn difference(kept: &str, seen: &str) -> String {
    let only = |these: &str, others: &str, mark: &str| -> Vec<String> {
        let others: Vec<&str> = others.lines().collect();
        these.lines().filter(|line| !others.contains(line)).map(|line| format!("{mark} {line}")).collect()
    };
    let lines = [only(kept, seen, "-"), only(seen, kept, "+")].concat().join("\n");
    format!("{lines}\n--- all that was seen:\n{seen}")
}

/// The text with what varies replaced, and with tables aligned again.
fn normalized(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let is_head = |line: &&str| line.starts_with("NAME ") || line.trim_start().starts_with("Type  ");
    // If kubectl's output has a table, the table is its end.
    let head = lines.iter().position(is_head).unwrap_or(lines.len());
    let mut out: Vec<String> =
        lines[..head].iter().map(|line| replace_tokens(line).trim_end().to_owned()).collect();
    if head < lines.len() {
        out.extend(table(&lines[head..]));
    }
    out.join("\n").trim_end().to_owned() + "\n"
}

/// Replaces moments, uids and addresses of the cluster's own networks, wherever they are in the line.
fn replace_tokens(line: &str) -> String {
    let is_token_char = |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '.' | '-' | '+');
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while !rest.is_empty() {
        let token = &rest[..rest.find(|c| !is_token_char(c)).unwrap_or(rest.len())];
        if token.is_empty() {
            let next = rest.find(is_token_char).unwrap_or(rest.len());
            out.push_str(&rest[..next]);
            rest = &rest[next..];
            continue;
        }
        let core = token.trim_end_matches([':', '.', '-', '+']);
        out.push_str(&replace_token(core));
        out.push_str(&token[core.len()..]);
        rest = &rest[token.len()..];
    }
    match out.split_once("Resource Version:") {
        Some((before, _)) => format!("{before}Resource Version:    <version>"),
        None => out,
    }
}

fn replace_token(token: &str) -> String {
    if token.contains('-') && token.contains('T') && token.parse::<Timestamp>().is_ok() {
        return "<time>".to_owned();
    }
    if token.len() == 36 && uuid::Uuid::parse_str(token).is_ok() {
        return "<uid>".to_owned();
    }
    let (host, port) = token.split_once(':').unwrap_or((token, ""));
    match host.parse::<Ipv4Addr>() {
        Ok(address) if address.octets()[0] == 10 && port.is_empty() => "<ip>".to_owned(),
        Ok(address) if address.octets()[0] == 10 => format!("<ip>:{port}"),
        _ => token.to_owned(),
    }
}

/// A table, cut into cells at the columns of its head: ages are replaced, and the columns get the widths that the cells then need.
fn table(lines: &[&str]) -> Vec<String> {
    let head: Vec<char> = lines[0].chars().collect();
    let starts: Vec<usize> = (0..head.len())
        .filter(|&at| head[at] != ' ' && (at == 0 || head[at - 1] == ' ' && (at < 2 || head[at - 2] == ' ')))
        .collect();
    let indent = starts.first().copied().unwrap_or(0);
    let mut rows: Vec<Vec<String>> = lines.iter().map(|line| cells(line, &starts)).collect();
    let aged: Vec<bool> = rows[0].iter().map(|name| is_aged(name)).collect();
    for row in rows.iter_mut().skip(1) {
        for (cell, _) in row.iter_mut().zip(&aged).filter(|(cell, aged)| **aged && is_age(cell)) {
            "<age>".clone_into(cell);
        }
    }
    let widths: Vec<usize> = (0..starts.len())
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
        .collect();
    let mut out: Vec<String> = rows
        .iter()
        .map(|row| {
            let padded: Vec<String> =
                row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            format!("{}{}", " ".repeat(indent), padded.join("   ").trim_end())
        })
        .collect();
    // Events of the same second come in any order. Only the table of events is indented.
    if indent > 0 && out.len() > 2 {
        out[2..].sort();
    }
    out
}

fn cells(line: &str, starts: &[usize]) -> Vec<String> {
    let line: Vec<char> = line.chars().collect();
    let cell = |from: usize, to: usize| -> String {
        let (from, to) = (from.min(line.len()), to.min(line.len()));
        replace_tokens(line[from..to].iter().collect::<String>().trim())
    };
    let ends = starts.iter().skip(1).copied().chain([usize::MAX]);
    starts.iter().zip(ends).map(|(from, to)| cell(*from, to)).collect()
}

fn is_aged(column: &str) -> bool {
    column.eq_ignore_ascii_case("age") || column.starts_with("LAST ") && column != "LAST ERROR"
}

/// Whether a cell is an age, such as `12s`, `2m3s`, `5d` or `3s (x2 over 5s)`.
fn is_age(cell: &str) -> bool {
    cell.starts_with(|c: char| c.is_ascii_digit()) && cell.contains(['s', 'm', 'h', 'd', 'y'])
}

#[test]
fn what_varies_is_replaced_and_the_rest_stays() {
    let first = "NAME   REASON   LAST DELIVERY   AGE\nhook   Ready                    12s\n";
    let later = "NAME   REASON   LAST DELIVERY   AGE\nhook   Ready                    2m14s\n";
    assert_eq!(normalized(first), normalized(later));
    assert_eq!(
        normalized(first),
        "NAME   REASON   LAST DELIVERY   AGE\nhook   Ready                    <age>\n"
    );
    let described = "Start:  2027-01-04T10:00:00\n  at 2026-10-16T03:52:11Z: 10.99.1.2:8080 of 127.0.0.1 in 1.5s\n  UID:  8a7c1c0e-3c0f-4b0f-9f55-0d6f0a4a8f11\n  Resource Version:    4711\n";
    assert_eq!(
        normalized(described),
        "Start:  2027-01-04T10:00:00\n  at <time>: <ip>:8080 of 127.0.0.1 in 1.5s\n  UID:  <uid>\n  Resource Version:    <version>\n"
    );
    let events = "Events:\n  Type     Reason  Age   From      Message\n  ----     ------  ----  ----      -------\n  Warning  B       3s    operator  b\n  Normal   A       117s  operator  a\n";
    assert_eq!(
        normalized(events),
        "Events:\n  Type      Reason   Age     From       Message\n  ----      ------   ----    ----       -------\n  Normal    A        <age>   operator   a\n  Warning   B        <age>   operator   b\n"
    );
}
