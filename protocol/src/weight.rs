//! Estimates how much memory a JSON request takes once parsed, without parsing it. The hub checks this bound before
//! it parses a body, and a worker splits its commits by it.
//!
//! `[0,0,...]` takes 16 times its bytes, `[{"":0},...]` 80 times. Invariant: [`weigh`] returns at least what serde
//! allocates for the same bytes, valid or not, as free JSON or as a message of this crate. Its own memory does not
//! grow with the input.

/// Longest body of the requests that may be long (commits, plans), bytes.
pub const MAX_BODY: usize = 8 << 20;
/// Most memory that a body may take once parsed, bytes.
pub const MAX_BODY_MEMORY: usize = 48 << 20;
/// How deep a body may be nested. The parser's own bound is 128.
pub const MAX_BODY_DEPTH: usize = 100;

/// Containers nested deeper than this are weighed as one.
const STACK: usize = 128;
/// A string's memory beyond its bytes: the allocator's rounding and bookkeeping.
const STRING: usize = 32;
/// An element of a list: a [`serde_json::Value`]. Lists grow by doubling, from four elements.
const PLACE: usize = 32;
/// A leaf of a map: eleven names and values. While a map is built, each leaf is at least half full.
const LEAF: usize = 640;
const LEAF_ENTRIES: usize = 6;

/// The result of weighing.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Weight {
    /// Upper bound of the memory, bytes.
    pub memory: usize,
    /// The deepest nesting.
    pub depth: usize,
}

/// A list or an object that is not closed yet.
#[derive(Debug, Clone, Copy, Default)]
struct Container {
    is_map: bool,
    /// Whether it contains anything.
    filled: bool,
    commas: usize,
}

impl Container {
    fn memory(self) -> usize {
        let entries = if self.filled { self.commas + 1 } else { self.commas };
        match (entries, self.is_map) {
            (0, _) => 0,
            (_, true) => entries.div_ceil(LEAF_ENTRIES) * LEAF,
            (_, false) => entries.max(4).next_power_of_two() * PLACE,
        }
    }
}

/// Weighs JSON in one pass over its bytes.
pub fn weigh(json: &[u8]) -> Weight {
    let mut weight = Weight::default();
    // The outermost one holds what is beside any container.
    let mut open = [Container::default(); STACK];
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(&byte) = json.get(at) {
        at += 1;
        let here = &mut open[depth.min(STACK - 1)];
        match byte {
            b'"' => {
                here.filled = true;
                let end = end_of_string(json, at);
                weight.memory += STRING + (end - at);
                at = end;
            }
            b'{' | b'[' => {
                here.filled = true;
                depth += 1;
                weight.depth = weight.depth.max(depth);
                if depth < STACK {
                    open[depth] = Container { is_map: byte == b'{', ..Container::default() };
                }
            }
            b'}' | b']' if depth > 0 => {
                if depth < STACK {
                    weight.memory += open[depth].memory();
                }
                depth -= 1;
            }
            b',' => here.commas += 1,
            b' ' | b'\t' | b'\n' | b'\r' | b':' => {}
            _ => here.filled = true,
        }
    }
    // JSON that breaks off is parsed up to there, so its open containers count.
    weight.memory += open.iter().take((depth + 1).min(STACK)).skip(1).map(|it| it.memory()).sum::<usize>();
    weight
}

/// The index after the quote that ends the string which begins at `from`.
fn end_of_string(json: &[u8], from: usize) -> usize {
    let mut at = from;
    while let Some(&byte) = json.get(at) {
        at += 1;
        match byte {
            b'"' => return at,
            b'\\' => at += 1,
            _ => {}
        }
    }
    json.len()
}

/// Whether the hub takes a body like this one.
pub fn fits(json: &[u8]) -> bool {
    let weight = weigh(json);
    json.len() <= MAX_BODY && weight.memory <= MAX_BODY_MEMORY && weight.depth <= MAX_BODY_DEPTH
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// Bytes that the value holds beside itself. A map's leaves can't be seen: of one made in order each but the last is half
    /// full, and a few are their parents.
    fn taken(value: &Value) -> usize {
        match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => 0,
            Value::String(text) => text.capacity(),
            Value::Array(items) => {
                items.capacity() * size_of::<Value>() + items.iter().map(taken).sum::<usize>()
            }
            Value::Object(fields) => {
                let leaf = 11 * (size_of::<Value>() + size_of::<String>()) + 12;
                let leaves = fields.len().div_ceil(6);
                let own = if leaves < 2 { leaves * leaf } else { leaves * (leaf + 8) };
                own + fields.iter().map(|(name, field)| name.capacity() + taken(field)).sum::<usize>()
            }
        }
    }

    #[test]
    fn the_weight_is_at_least_what_is_taken_and_not_many_times_that() {
        let many = |part: &str| format!("[{}]", vec![part; 50_000].join(","));
        let object = |n: usize| {
            let fields: Vec<_> = (0..n).map(|n| format!("\"field{n:05}\":{n}")).collect();
            format!("{{{}}}", fields.join(","))
        };
        for json in [
            many("0"),
            many("[]"),
            many("[0]"),
            many("[[[0]]]"),
            many("{}"),
            many("{\"\":0}"),
            many("{\"\":{\"\":{}}}"),
            many("\"\""),
            many("\"a longer text than the others\""),
            many(&object(11)),
            many("\"\\\"\\\\\""),
            object(20_000),
        ] {
            let taken = taken(&serde_json::from_str(&json).expect("JSON"));
            let weight = weigh(json.as_bytes()).memory;
            assert!(weight >= taken, "{weight} < {taken}: {}", &json[..20]);
            assert!(weight <= 4 * taken.max(1 << 20), "{weight} for {taken}: {}", &json[..20]);
        }
    }

    #[test]
    fn what_breaks_off_or_is_no_json_counts_too() {
        let open = "[".repeat(1_000);
        assert_eq!(weigh(open.as_bytes()).depth, 1_000);
        assert!(weigh(b"[0,0,0,0,0").memory >= 8 * PLACE);
        assert!(weigh(b"{\"a\":[1,2").memory >= LEAF + 4 * PLACE);
        for junk in ["}}}}", "\"", "\"\\", "]", "", ",,,", "\u{0}"] {
            assert!(weigh(junk.as_bytes()).memory < 1_000, "{junk:?}");
        }
        assert_eq!(weigh(br#"["]]]{{{,,,"]"#).depth, 1);
    }

    #[test]
    fn a_body_fits_by_its_bytes_its_memory_and_its_depth() {
        assert!(fits(b"[0]"));
        assert!(!fits(format!("\"{}\"", "x".repeat(MAX_BODY)).as_bytes()));
        assert!(!fits(format!("[{}0]", "{\"\":0},".repeat(100_000)).as_bytes()));
        assert!(!fits("[".repeat(MAX_BODY_DEPTH + 1).as_bytes()));
    }
}
