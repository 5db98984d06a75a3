//! Golden outputs: what a user sees, kept as text files in `golden/` and compared.
//!
//! What varies from run to run is replaced: moments, ages, uids, resource versions, addresses of pods and node. The rest must
//! be the same to the letter. `UPDATE_GOLDEN=1` writes the files anew; read what changed before you keep it.
//!
//! In the same cluster they hold again after two minutes: as long the hub remembers a namespace that is gone.
//!
//! Never: a text that holds by luck. Status counters lag by up to 30 s, so a shown text is asked for until it is as kept; what
//! must hold before and after belongs into the test's own assertions.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use e2e::tenant::Tenant;
use futures::future::join_all;
use jiff::Timestamp;

/// How long a text must stay the same before it is kept as golden: longer than counters may lag.
const SETTLED: Duration = Duration::from_secs(35);
/// How long a shown text may take to become what is kept.
const PATIENCE: Duration = Duration::from_secs(90);

/// What `kubectl get` and `kubectl describe` show of objects is as kept, each in its `golden/<file>.txt`.
pub(crate) async fn shown(tenant: &Tenant, files: &[(&str, &str)]) {
    join_all(files.iter().map(|(file, what)| one_shown(tenant, file, what))).await;
}

async fn one_shown(tenant: &Tenant, file: &str, what: &str) {
    let (cluster, ns) = (&tenant.cluster, tenant.ns.as_str());
    let look = async || {
        let get = cluster.kubectl(&["-n", ns, "get", what]).await;
        let describe = cluster.kubectl(&["-n", ns, "describe", what]).await;
        format!(
            "$ kubectl -n {ns} get {what}\n{}\n$ kubectl -n {ns} describe {what}\n{}",
            normal(&get),
            normal(&describe)
        )
    };
    let start = Instant::now();
    let mut last = (look().await, Instant::now());
    loop {
        let kept = kept(file);
        if updating() && last.1.elapsed() > SETTLED || !updating() && kept.as_deref() == Some(&last.0) {
            return same_text(file, &last.0);
        }
        if !updating() && start.elapsed() > PATIENCE {
            return same_text(file, &last.0);
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = look().await;
        if now != last.0 {
            last = (now, Instant::now());
        }
    }
}

/// A text is as kept in `golden/<file>.txt`, what varies aside.
pub(crate) fn same(file: &str, text: &str) {
    same_text(file, &normal(text));
}

fn same_text(file: &str, text: &str) {
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

/// Lines that only one of the two has, and the whole of what was seen.
fn difference(kept: &str, seen: &str) -> String {
    let only = |these: &str, others: &str, mark: &str| -> Vec<String> {
        let others: Vec<&str> = others.lines().collect();
        these.lines().filter(|line| !others.contains(line)).map(|line| format!("{mark} {line}")).collect()
    };
    let lines = [only(kept, seen, "-"), only(seen, kept, "+")].concat().join("\n");
    format!("{lines}\n--- all that was seen:\n{seen}")
}

/// The text with what varies replaced, tables set anew.
fn normal(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let is_head = |line: &&str| line.starts_with("NAME ") || line.trim_start().starts_with("Type  ");
    // What kubectl shows ends with its table, if it has one.
    let head = lines.iter().position(is_head).unwrap_or(lines.len());
    let mut out: Vec<String> = lines[..head].iter().map(|line| tokens(line).trim_end().to_owned()).collect();
    if head < lines.len() {
        out.extend(table(&lines[head..]));
    }
    out.join("\n").trim_end().to_owned() + "\n"
}

/// Replaces moments, uids and addresses of the cluster's own networks, wherever they stand.
fn tokens(line: &str) -> String {
    let of_token = |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '.' | '-' | '+');
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while !rest.is_empty() {
        let token = &rest[..rest.find(|c| !of_token(c)).unwrap_or(rest.len())];
        if token.is_empty() {
            let next = rest.find(of_token).unwrap_or(rest.len());
            out.push_str(&rest[..next]);
            rest = &rest[next..];
            continue;
        }
        let core = token.trim_end_matches([':', '.', '-', '+']);
        out.push_str(&replaced(core));
        out.push_str(&token[core.len()..]);
        rest = &rest[token.len()..];
    }
    match out.split_once("Resource Version:") {
        Some((before, _)) => format!("{before}Resource Version:    <version>"),
        None => out,
    }
}

fn replaced(token: &str) -> String {
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

/// A table by the columns of its head: ages replaced, widths as the cells then need.
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
    // Events that happen in the same second come in any order.
    if indent > 0 && out.len() > 2 {
        out[2..].sort();
    }
    out
}

fn cells(line: &str, starts: &[usize]) -> Vec<String> {
    let line: Vec<char> = line.chars().collect();
    let cell = |from: usize, to: usize| -> String {
        let (from, to) = (from.min(line.len()), to.min(line.len()));
        tokens(line[from..to].iter().collect::<String>().trim())
    };
    let ends = starts.iter().skip(1).copied().chain([usize::MAX]);
    starts.iter().zip(ends).map(|(from, to)| cell(*from, to)).collect()
}

fn is_aged(column: &str) -> bool {
    column.eq_ignore_ascii_case("age") || column.starts_with("LAST ") && column != "LAST ERROR"
}

/// `12s`, `2m3s`, `5d`, `3s (x2 over 5s)`.
fn is_age(cell: &str) -> bool {
    cell.starts_with(|c: char| c.is_ascii_digit()) && cell.contains(['s', 'm', 'h', 'd', 'y'])
}

#[test]
fn what_varies_is_replaced_and_the_rest_stays() {
    let first = "NAME   REASON   LAST DELIVERY   AGE\nhook   Ready                    12s\n";
    let later = "NAME   REASON   LAST DELIVERY   AGE\nhook   Ready                    2m14s\n";
    assert_eq!(normal(first), normal(later));
    assert_eq!(normal(first), "NAME   REASON   LAST DELIVERY   AGE\nhook   Ready                    <age>\n");
    let described = "Start:  2027-01-04T10:00:00\n  at 2026-10-16T03:52:11Z: 10.99.1.2:8080 of 127.0.0.1 in 1.5s\n  UID:  8a7c1c0e-3c0f-4b0f-9f55-0d6f0a4a8f11\n  Resource Version:    4711\n";
    assert_eq!(
        normal(described),
        "Start:  2027-01-04T10:00:00\n  at <time>: <ip>:8080 of 127.0.0.1 in 1.5s\n  UID:  <uid>\n  Resource Version:    <version>\n"
    );
    let events = "Events:\n  Type     Reason  Age   From      Message\n  ----     ------  ----  ----      -------\n  Warning  B       3s    operator  b\n  Normal   A       117s  operator  a\n";
    assert_eq!(
        normal(events),
        "Events:\n  Type      Reason   Age     From       Message\n  ----      ------   ----    ----       -------\n  Normal    A        <age>   operator   a\n  Warning   B        <age>   operator   b\n"
    );
}
