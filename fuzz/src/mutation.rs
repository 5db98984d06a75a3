//! Runs targets in a plain loop over mutated seeds. This finds shallow faults without nightly's fuzzer.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;

use crate::{seeds, targets};

/// The longest input, bytes.
const MAX_INPUT: usize = 4_096;

/// Pseudorandom numbers (splitmix64): a function of the seed.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

fn target(name: &str) -> fn(&[u8]) {
    match name {
        "json" => targets::json,
        "logfmt" => targets::logfmt,
        "text" => targets::text,
        "cloud_events" => targets::cloud_events,
        "matcher" => targets::matcher,
        "plan" => targets::plan,
        _ => panic!("there is no target {name}"),
    }
}

/// Mutates the input in one of the ways in which inputs go wrong.
fn mutate(random: &mut SplitMix, input: &mut Vec<u8>, others: &[Vec<u8>], words: &[&str]) {
    let at = random.below(input.len() + 1);
    let to = (at + random.below(16)).min(input.len());
    match random.below(8) {
        0 => input.truncate(at),
        1 => drop(input.drain(at..to)),
        2 => {
            if let Some(byte) = input.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
        3 => input.insert(at, random.next() as u8),
        4 => {
            let again = input[at..to].repeat(1 + random.below(64));
            input.splice(at..at, again);
        }
        5 => {
            let other = &others[random.below(others.len())];
            let from = random.below(other.len() + 1);
            input.splice(at..to, other[from..].iter().copied());
        }
        _ => {
            let word = words[random.below(words.len())];
            input.splice(at..to, word.bytes());
        }
    }
    input.truncate(MAX_INPUT);
}

/// Runs a target `times` times; the error is the input at which it failed.
pub fn run_target(name: &str, times: u64, seed: u64) -> Result<(), Vec<u8>> {
    let (target, words) = (target(name), seeds::words(name));
    let mut corpus = seeds::seeds(name);
    let mut random = SplitMix(seed);
    for time in 0..times {
        let mut input = corpus[random.below(corpus.len())].clone();
        for _ in 0..random.below(6) {
            mutate(&mut random, &mut input, &corpus, words);
        }
        if catch_unwind(AssertUnwindSafe(|| target(&input))).is_err() {
            return Err(input);
        }
        // Some inputs join the corpus, to be mutated again.
        if time % 16 == 0 {
            let index = random.below(256);
            match corpus.get_mut(index) {
                Some(old) if index >= 8 => *old = input,
                Some(_) => {}
                None => corpus.push(input),
            }
        }
    }
    Ok(())
}

/// The main function of a target's program. Its arguments are `[TIMES] [SEED]`, or a file on which the target runs
/// once.
pub fn main(name: &str) -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default: u64| match arguments.get(at) {
        Some(text) => text.parse().ok(),
        None => Some(default),
    };
    let (Some(times), Some(seed)) = (number(0, 100_000), number(1, 1)) else {
        let file = arguments.first().map(PathBuf::from).unwrap_or_default();
        match std::fs::read(&file) {
            Ok(input) => target(name)(&input),
            Err(error) => {
                eprintln!("usage: {name} [TIMES] [SEED], or {name} FILE; {}: {error}", file.display());
                return ExitCode::from(2);
            }
        }
        return ExitCode::SUCCESS;
    };
    match run_target(name, times, seed) {
        Ok(()) => {
            println!("{name}: {times} inputs from seed {seed}, no fault");
            ExitCode::SUCCESS
        }
        Err(input) => {
            // The directory in which cargo-fuzz keeps crashes.
            let file = PathBuf::from(format!("fuzz/artifacts/{name}/crash-{seed}"));
            let written = file.parent().map(std::fs::create_dir_all).transpose();
            if let Err(error) = written.and_then(|_| std::fs::write(&file, &input)) {
                eprintln!("{}: {error}", file.display());
            }
            eprintln!("{name}: failed at {:?}; kept in {}", String::from_utf8_lossy(&input), file.display());
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_target_fails_at_mutated_seeds_and_the_seeds_are_what_they_should_be() {
        for name in ["json", "logfmt", "text", "cloud_events", "matcher", "plan"] {
            for seed in seeds::seeds(name) {
                target(name)(&seed);
            }
            let failed = run_target(name, 3_000, 7).err();
            assert!(
                failed.is_none(),
                "{name}: {:?}",
                failed.map(|it| String::from_utf8_lossy(&it).into_owned())
            );
        }
        for seed in seeds::seeds("plan") {
            let plan = serde_json::from_slice::<domain::Plan>(&seed);
            assert!(plan.is_ok(), "{:?}", plan.err());
        }
        for seed in seeds::seeds("matcher") {
            let text = String::from_utf8(seed).unwrap();
            let compiled = alerting::matching::Matcher::compile(&text);
            assert!(compiled.is_ok(), "{text}: {}", compiled.err().unwrap());
        }
    }
}
