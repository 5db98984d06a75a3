//! Compiles regular expressions, within bounds for all expressions of one text that a user wrote: a `match`, or a
//! record's pattern.
//!
//! A pattern's length does not tell its cost: `\w{9}` takes half a megabyte. So the number of patterns and of the
//! Unicode classes that they name is counted before any is compiled, and each is compiled within a size that is charged
//! to the text. How many steps a pattern may take for each byte of input is known (`measured`); a pattern that could
//! not search a record of [`ORDINARY`] bytes is refused. Memory stays within [`MAX_COMPILED`] plus what compiling one
//! takes, and the work for a record within [`MAX_WORK`] steps.

mod measured;

use std::collections::HashMap;
use std::sync::Arc;

use regex::RegexBuilder;
use regex_syntax::ParserBuilder;

pub(crate) use measured::{MeasuredRegex, group_spans};

/// The longest pattern, bytes.
pub const MAX_LENGTH: usize = 2_048;
/// The most different patterns.
pub const MAX_PATTERNS: usize = 32;
/// The most Unicode classes (`\w`, `\d`, `\s`, `\pL` ...) in all of them.
pub const MAX_CLASSES: usize = 64;
/// How deep groups and repetitions may be nested.
pub const MAX_NESTING: u32 = 50;
/// The most memory that compiled patterns take, bytes; for one and for all.
pub const MAX_COMPILED: usize = 2 << 20;
/// The most steps that the patterns of an expression, or a record's pattern, take for one record: at most a quarter of
/// a second.
pub const MAX_WORK: usize = 32 << 20;
/// Every pattern must be able to search a record of this size, bytes.
pub const ORDINARY: usize = 16 << 10;
/// Therefore the most steps for a byte.
pub const MAX_STEPS: usize = MAX_WORK / ORDINARY;
/// The size limits with which a pattern is compiled, bytes: the smallest that suffices is charged.
const SIZES: [usize; 4] = [16 << 10, 64 << 10, 256 << 10, 1 << 20];
/// The most cache that a pattern keeps while it runs, bytes; twice that, because it searches in both directions.
const RUNNING: usize = 512 << 10;

/// The compiled patterns of one text.
#[derive(Debug, Default)]
pub(crate) struct Patterns {
    built: HashMap<String, Arc<MeasuredRegex>>,
    classes: usize,
    compiled: usize,
}

impl Patterns {
    /// Compiles a pattern, or says which bound it exceeds.
    pub(crate) fn build(&mut self, pattern: &str) -> Result<Arc<MeasuredRegex>, String> {
        if let Some(built) = self.built.get(pattern) {
            return Ok(Arc::clone(built));
        }
        if pattern.len() > MAX_LENGTH {
            return Err(format!("a regular expression of {} bytes; at most {MAX_LENGTH}", pattern.len()));
        }
        if self.built.len() == MAX_PATTERNS {
            return Err(format!("more than {MAX_PATTERNS} different regular expressions"));
        }
        self.classes += classes(pattern);
        if self.classes > MAX_CLASSES {
            return Err(format!(
                "regular expressions with more than {MAX_CLASSES} of \\w, \\d, \\s, \\p and their like; [A-Za-z0-9_] is none"
            ));
        }
        for size in SIZES {
            if self.compiled + size > MAX_COMPILED {
                break;
            }
            let mut builder = RegexBuilder::new(pattern);
            builder.size_limit(size).dfa_size_limit(RUNNING.max(size)).nest_limit(MAX_NESTING);
            match builder.build() {
                Ok(regex) => {
                    self.compiled += size;
                    let parsed = ParserBuilder::new().nest_limit(MAX_NESTING).build().parse(pattern);
                    let parsed = parsed.map_err(|_| "not a regular expression".to_owned())?;
                    let measured = MeasuredRegex::new(regex, &parsed);
                    check_steps(measured.steps)?;
                    let measured = Arc::new(measured);
                    self.built.insert(pattern.to_owned(), Arc::clone(&measured));
                    return Ok(measured);
                }
                Err(regex::Error::CompiledTooBig(_)) => {}
                Err(error) => {
                    let error = error.to_string();
                    let what = error.lines().last().unwrap_or_default().trim();
                    let what = what.trim_start_matches("error: ");
                    return Err(format!("not a regular expression: {what}"));
                }
            }
        }
        Err(format!(
            "too large a regular expression: compiled, one takes at most {} bytes and all take {MAX_COMPILED}; repeat less, or \
             [A-Za-z0-9_] in place of \\w",
            SIZES[3]
        ))
    }
}

/// Refuses a pattern that could not search an ordinary record.
fn check_steps(steps: usize) -> Result<(), String> {
    if steps <= MAX_STEPS {
        return Ok(());
    }
    Err(format!(
        "too much work: a byte may take it {steps} steps, so it could not look into a record of {} KiB; at most {MAX_STEPS}, \
         so repeat less",
        ORDINARY >> 10
    ))
}

/// Compiles a pattern whose groups are read.
pub(crate) fn compile_capturing(pattern: &str) -> Result<Arc<MeasuredRegex>, String> {
    let built = Patterns::default().build(pattern)?;
    check_steps(built.steps_of_groups())?;
    Ok(built)
}

/// How many Unicode classes a pattern names.
fn classes(pattern: &str) -> usize {
    let (mut count, mut escaped) = (0, false);
    for byte in pattern.bytes() {
        count += usize::from(escaped && b"pPwWdDsS".contains(&byte));
        escaped = !escaped && byte == b'\\';
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_pattern_is_built_once() {
        let mut patterns = Patterns::default();
        for _ in 0..1_000 {
            assert!(patterns.build(r"\w{9}").unwrap().regex.is_match("abcdefghi"));
        }
        assert_eq!((patterns.built.len(), patterns.compiled), (1, 1 << 20));
    }

    #[test]
    fn what_patterns_cost_in_sum_is_bounded_and_the_bound_is_named() {
        let told = |pattern: &dyn Fn(usize) -> String| {
            let mut patterns = Patterns::default();
            let told = (0..1_000).find_map(|at| patterns.build(&pattern(at)).err());
            assert!(patterns.compiled <= MAX_COMPILED && patterns.built.len() <= MAX_PATTERNS);
            told.unwrap()
        };
        let large =
            "too large a regular expression: compiled, one takes at most 1048576 bytes and all take 2097152";
        assert!(told(&|at| format!("\\w{{9}}{at}")).starts_with(large));
        assert!(told(&|at| format!("{at}(\\w{{100}}){{100}}")).starts_with(large));
        assert!(told(&|at| format!("{at}(((a{{900}}){{900}}){{900}}){{900}}")).starts_with(large));
        assert_eq!(told(&|at| format!("^{at}")), "more than 32 different regular expressions");
        assert!(told(&|at| format!("\\d\\d\\d{at}")).contains("more than 64 of \\w"));
        assert!(told(&|_| r"\\\w".repeat(65)).contains("more than 64 of \\w"));
        assert_eq!(told(&|_| "a".repeat(2_049)), "a regular expression of 2049 bytes; at most 2048");
        assert!(told(&|_| "(".repeat(60) + &")".repeat(60)).contains("nest"));
        assert_eq!(
            told(&|_| "(a{1,100}){1,100}b".to_owned()),
            "too much work: a byte may take it 20301 steps, so it could not look into a record of 16 KiB; at most 2048, so repeat less"
        );
        assert_eq!(told(&|_| "(a".to_owned()), "not a regular expression: unclosed group");
    }

    #[test]
    fn a_backslash_that_is_escaped_begins_no_class() {
        assert_eq!(classes(r"\\w\w\\\d[\S]\.p"), 3);
    }
}
