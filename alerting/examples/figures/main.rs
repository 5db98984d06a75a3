//! Measures the engine on this machine, as ratios within one run:
//! `cargo run --release -p belfry-alerting --example figures`.
//!
//! The compared tasks take turns within one process, and the median turn counts. An argument runs one part alone:
//! `decode`, `formats`, `match`, `rules`, `fold` or `brute`.
#![expect(clippy::unwrap_used, reason = "a program that measures ends where something is wrong")]

mod brute;
mod decode;
mod fold;
mod formats;
mod matching;
mod records;
mod rules;

use std::alloc::System;
use std::time::Instant;

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

/// Counts allocations.
#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn main() {
    let part = std::env::args().nth(1);
    let wanted = |name: &str| part.as_deref().is_none_or(|part| part == name);
    if wanted("decode") {
        decode::figures();
    }
    if wanted("formats") {
        formats::figures();
    }
    if wanted("match") {
        matching::figures();
    }
    if wanted("rules") {
        rules::figures();
    }
    if wanted("fold") {
        fold::figures();
    }
    if wanted("brute") {
        brute::figures();
    }
}

/// Nanoseconds of each task per repetition, of which it does `count` in a turn: the tasks take turns, and the median
/// turn counts. A turn should be short: on a shared machine the median is then of turns that nothing interrupted.
fn medians<const N: usize>(turns: usize, count: usize, mut tasks: [&mut dyn FnMut(); N]) -> [f64; N] {
    let mut times = [const { Vec::new() }; N];
    for _ in 0..=turns {
        for (task, times) in tasks.iter_mut().zip(&mut times) {
            let start = Instant::now();
            task();
            times.push(start.elapsed().as_secs_f64() * 1e9 / count as f64);
        }
    }
    times.map(|mut times| {
        // The first turn warms up.
        let mut times = times.split_off(1);
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    })
}

/// How many allocations a task makes.
fn allocations(task: impl FnOnce()) -> usize {
    let before = ALLOCATOR.stats();
    task();
    let after = ALLOCATOR.stats();
    (after.allocations - before.allocations) + (after.reallocations - before.reallocations)
}

/// The bytes currently allocated.
fn held() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}

fn verdict(holds: bool) -> &'static str {
    if holds { "holds" } else { "DOES NOT HOLD" }
}
