//! The answer to a scrape: the process's own metrics and the process metrics that every Belfry process exposes, in
//! the format that the scraper asks for.
//!
//! OpenMetrics if it is asked for by name; otherwise Prometheus' plain text, which every scraper reads. Process
//! metrics come from Linux's `/proc/self`; what is not there is left out. It never waits, and no label is a
//! tenant's name.

use std::fmt::Write as _;

use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse as _, Response};

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PLAIN: &str = "text/plain; version=0.0.4; charset=utf-8";
/// The unit of times in `/proc`, a second's parts: the same on every Linux, whatever the kernel counts in.
const TICKS: f64 = 100.0;

/// Answers a scrape of `component`, whose own metrics are `text` in OpenMetrics.
pub fn answer(headers: &HeaderMap, component: &str, version: &str, text: &str) -> Response {
    let asked = headers.get_all(header::ACCEPT).iter().filter_map(|accept| accept.to_str().ok());
    let whole = format!(
        "{}{}# EOF\n",
        text.trim_end().strip_suffix("# EOF").unwrap_or(text),
        common(component, version)
    );
    if asked
        .flat_map(|accept| accept.split(','))
        .any(|kind| kind.trim().starts_with("application/openmetrics-text"))
    {
        return ([(header::CONTENT_TYPE, OPENMETRICS)], whole).into_response();
    }
    ([(header::CONTENT_TYPE, PLAIN)], plain(&whole)).into_response()
}

/// The same in Prometheus' plain text: a counter is named as its samples are, and units and the end are not said.
fn plain(openmetrics: &str) -> String {
    let mut plain = String::with_capacity(openmetrics.len());
    let mut help: Option<(&str, &str)> = None;
    for line in openmetrics.lines() {
        if let Some((name, words)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            help = Some((name, words));
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                "unknown" => ("", "untyped"),
                kind => ("", kind),
            };
            if let Some((_, words)) = help.take().filter(|(of, _)| *of == name) {
                // Writing to a String cannot fail.
                let _ = writeln!(plain, "# HELP {name}{suffix} {words}");
            }
            let _ = writeln!(plain, "# TYPE {name}{suffix} {kind}");
        } else if !line.starts_with('#') {
            plain.push_str(line);
            plain.push('\n');
        }
    }
    plain
}

/// What every process tells of itself.
fn common(component: &str, version: &str) -> String {
    let mut text = format!(
        "# HELP belfry_build_info The release, always 1.\n# TYPE belfry_build_info gauge\n\
         belfry_build_info{{component=\"{component}\",version=\"{version}\"}} 1\n"
    );
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{file}")).unwrap_or_default();
    let (stat, status, limits) = (read("self/stat"), read("self/status"), read("self/limits"));
    // The command's name may hold anything; the fields come after its bracket.
    let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
    let number = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok());
    let kib = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<f64>().ok()
    };
    let booted =
        read("stat").lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse::<f64>().ok());
    let open = std::fs::read_dir("/proc/self/fd").ok().map(Iterator::count);
    let most = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().next()?.parse::<f64>().ok());
    let spent = number(11).zip(number(12)).map(|(user, system)| (user + system) / TICKS);
    let started = booted.zip(number(19)).map(|(booted, ticks)| booted + ticks / TICKS);
    let mut tell = |name: &str, kind: &str, help: &str, value: Option<f64>| {
        let Some(value) = value else { return };
        let suffix = if kind == "counter" { "_total" } else { "" };
        let _ = write!(text, "# HELP {name} {help}.\n# TYPE {name} {kind}\n{name}{suffix} {value}\n");
    };
    tell("process_cpu_seconds", "counter", "Time of processors spent, user and system", spent);
    tell("process_start_time_seconds", "gauge", "When the process began, in seconds since 1970", started);
    tell(
        "process_resident_memory_bytes",
        "gauge",
        "Memory that is resident",
        kib("VmRSS:").map(|it| it * 1024.0),
    );
    tell(
        "process_virtual_memory_bytes",
        "gauge",
        "Memory that is mapped",
        kib("VmSize:").map(|it| it * 1024.0),
    );
    tell("process_threads", "gauge", "Threads", kib("Threads:"));
    #[allow(clippy::cast_precision_loss, reason = "descriptors are few")]
    tell("process_open_fds", "gauge", "Open file descriptors", open.map(|count| count as f64));
    tell("process_max_fds", "gauge", "The most file descriptors that may be open", most);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "# HELP belfry_x_done Things done.\n# TYPE belfry_x_done counter\nbelfry_x_done_total{kind=\"a\"} 3\n\
                       # HELP belfry_x_took_seconds Time.\n# TYPE belfry_x_took_seconds histogram\n\
                       # UNIT belfry_x_took_seconds seconds\nbelfry_x_took_seconds_sum 1.0\n# EOF\n";

    async fn scraped(accept: Option<&str>) -> (String, String) {
        let mut headers = HeaderMap::new();
        if let Some(accept) = accept {
            headers.insert(header::ACCEPT, accept.parse().unwrap());
        }
        let response = answer(&headers, "x", "1.2.3", OWN);
        let kind = response.headers()[header::CONTENT_TYPE].to_str().unwrap().to_owned();
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (kind, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_scraper_that_does_not_ask_for_openmetrics_gets_plain_text() {
        for accept in [None, Some("*/*"), Some("text/plain;version=0.0.4")] {
            let (kind, text) = scraped(accept).await;
            assert_eq!(kind, PLAIN);
            assert!(
                text.contains(
                    "# HELP belfry_x_done_total Things done.\n# TYPE belfry_x_done_total counter\n"
                ),
                "{text}"
            );
            assert!(text.contains("\nbelfry_x_done_total{kind=\"a\"} 3\n"), "{text}");
            assert!(!text.contains("# UNIT") && !text.contains("# EOF"), "{text}");
            // Only Linux has /proc.
            let spent = text.contains("# TYPE process_cpu_seconds_total counter\n");
            assert_eq!(spent, cfg!(target_os = "linux"), "{text}");
        }
    }

    #[tokio::test]
    async fn a_scraper_that_asks_for_openmetrics_gets_it_whole() {
        let prometheus =
            "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1";
        let (kind, text) = scraped(Some(prometheus)).await;
        assert_eq!(kind, OPENMETRICS);
        assert!(text.ends_with("# EOF\n") && text.matches("# EOF").count() == 1, "{text}");
        assert!(text.contains("# TYPE belfry_x_done counter\nbelfry_x_done_total"), "{text}");
    }

    #[tokio::test]
    #[cfg_attr(not(target_os = "linux"), ignore = "what a process uses is read from Linux's /proc")]
    async fn every_process_tells_its_release_and_what_it_uses() {
        let (_, text) = scraped(None).await;
        assert!(text.contains("belfry_build_info{component=\"x\",version=\"1.2.3\"} 1\n"), "{text}");
        for name in [
            "process_cpu_seconds_total",
            "process_start_time_seconds",
            "process_resident_memory_bytes",
            "process_virtual_memory_bytes",
            "process_threads",
            "process_open_fds",
            "process_max_fds",
        ] {
            let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            assert!(
                value.and_then(|value| value.parse::<f64>().ok()).is_some_and(|value| value >= 0.0),
                "{name}: {text}"
            );
        }
    }
}
