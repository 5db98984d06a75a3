//! Random expressions and records. Most have fitting types, so that both answers and failures occur.

use serde_json::{Map, Value, json};

/// Pseudorandom numbers, determined by a seed.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        let mut dice = Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xD1B5_4A32_D192_ED03);
        dice.next();
        dice
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 up to but not including the bound.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }

    /// An expression that is mostly true or false.
    pub(crate) fn boolean(&mut self, depth: usize) -> String {
        if depth == 0 {
            return self
                .pick(&[
                    "true",
                    "false",
                    "record.b",
                    "record.b",
                    "has(record.t)",
                    "record.none",
                    "record.m.b",
                ])
                .into();
        }
        let next = depth - 1;
        match self.below(22) {
            0..=2 => format!("({} && {})", self.boolean(next), self.boolean(next)),
            3..=5 => format!("({} || {})", self.boolean(next), self.boolean(next)),
            6 => format!("!{}", self.boolean(next)),
            7 => format!("({} ? {} : {})", self.boolean(next), self.boolean(next), self.boolean(next)),
            8..=10 => {
                let compare = self.pick(&["<", "<=", ">", ">=", "==", "!="]);
                format!("({} {compare} {})", self.number(next), self.number(next))
            }
            11..=12 => {
                let compare = self.pick(&["==", "!=", "==", "<", ">="]);
                format!("({} {compare} {})", self.text(next), self.text(next))
            }
            13 => format!("({} == {})", self.any(next), self.any(next)),
            14 => format!("({} in {})", self.any(next), self.list(next)),
            15 => {
                let function = self.pick(&["contains", "startsWith", "endsWith"]);
                format!("{}.{function}({})", self.text(next), self.text(next))
            }
            16 => {
                let pattern = self.pick(&["^pay", "a", "[0-9]+", "(x|y)$", ""]);
                format!("{}.matches('{pattern}')", self.text(next))
            }
            17 => self
                .pick(&[
                    "has(record.t)",
                    "has(record.none)",
                    "has(record.m.x)",
                    "has(record.m.y.z)",
                    "has(record.t.x)",
                    "has(record.l.x)",
                ])
                .into(),
            18 => {
                let found = self.pick(&["exists", "all", "exists_one"]);
                let test = self.element(next);
                format!("{}.{found}(e, {test})", self.list(next))
            }
            19 => format!("({} in {})", self.text(next), self.map(next)),
            20 => {
                let compare = self.pick(&["<", ">=", "==", "!="]);
                format!("({} {compare} {})", self.time(next), self.time(next))
            }
            _ => {
                let compare = self.pick(&["<", ">=", "=="]);
                format!("({} {compare} {})", self.span(next), self.span(next))
            }
        }
    }

    /// A condition on the element `e`.
    fn element(&mut self, depth: usize) -> String {
        match self.below(6) {
            0 => format!("e == {}", self.any(depth)),
            1 => format!("e > {}", self.number(depth)),
            2 => format!("e in {}", self.list(0)),
            3 => format!("e == 1 || {}", self.boolean(depth.min(1))),
            4 => "e.x == 1".into(),
            _ => format!("e != {} && {}", self.any(depth), self.boolean(depth.min(1))),
        }
    }

    fn number(&mut self, depth: usize) -> String {
        if depth == 0 || self.below(3) == 0 {
            let literals = [
                "0",
                "1",
                "-1",
                "2",
                "42",
                "1.5",
                "-0.5",
                "1.0",
                "2u",
                "9223372036854775807",
                "18446744073709551615u",
                "9007199254740993",
            ];
            let fields = [
                "record.i",
                "record.i",
                "record.f",
                "record.u",
                "record.m.x",
                "record['i']",
                "record.l[0]",
                "record.l[1]",
                "partition",
                "record.none",
                "record.t",
                "record.n",
            ];
            return if self.below(2) == 0 { self.pick(&literals) } else { self.pick(&fields) }.into();
        }
        let next = depth - 1;
        match self.below(9) {
            0..=3 => {
                let op = self.pick(&["+", "-", "*", "/", "%"]);
                format!("({} {op} {})", self.number(next), self.number(next))
            }
            4 => format!("-{}", self.number(next)).replace("--", "- -"),
            5 => format!("size({})", if self.below(2) == 0 { self.text(next) } else { self.list(next) }),
            6 => {
                let function = self.pick(&["int", "double", "uint"]);
                let text = self.below(2) == 0;
                // Integers that a double cannot hold compare differently on purpose.
                let number = match function {
                    _ if text => self.text(next),
                    "double" => self.pick(&["record.i % 100", "record.f", "2u", "record.t"]).into(),
                    _ => self.number(next),
                };
                format!("{function}({number})")
            }
            7 => {
                let part = self.pick(&[
                    "getHours",
                    "getFullYear",
                    "getDayOfWeek",
                    "getDayOfYear",
                    "getMonth",
                    "getDate",
                    "getSeconds",
                    "getMilliseconds",
                    "getMinutes",
                    "getDayOfMonth",
                ]);
                let zone = self.pick(&[
                    "",
                    "'UTC'",
                    "'Europe/Berlin'",
                    "'America/New_York'",
                    "'+05:30'",
                    "'-08:00'",
                ]);
                format!("{}.{part}({zone})", self.time(next))
            }
            _ => {
                let part = self.pick(&["getHours", "getMinutes", "getSeconds", "getMilliseconds"]);
                format!("{}.{part}()", self.span(next))
            }
        }
    }

    fn text(&mut self, depth: usize) -> String {
        if depth == 0 || self.below(2) == 0 {
            return self
                .pick(&[
                    "'pay'",
                    "''",
                    "'payments'",
                    "'1'",
                    "'é'",
                    "'x'",
                    "'2.5'",
                    "record.t",
                    "record.t",
                    "record.m.y.z",
                    "record['t']",
                    "key",
                    "topic",
                    "headers['x-env']",
                    "headers.bin",
                    "record.none",
                    "record.i",
                    "record.l[2]",
                ])
                .into();
        }
        let next = depth - 1;
        match self.below(3) {
            0 => format!("({} + {})", self.text(next), self.text(next)),
            1 => format!("string({})", self.any(next)),
            _ => format!("({} ? {} : {})", self.boolean(next), self.text(next), self.text(next)),
        }
    }

    fn time(&mut self, depth: usize) -> String {
        if depth == 0 || self.below(2) == 0 {
            return self
                .pick(&[
                    "timestamp",
                    "timestamp('2026-03-29T01:30:00Z')",
                    "timestamp('2026-01-01T00:00:00.25+05:30')",
                    "timestamp(record.when)",
                    "timestamp(record.when)",
                    "timestamp(record.i)",
                    "timestamp(0)",
                    "timestamp('0001-01-01T00:00:00Z')",
                    "timestamp('9999-12-30T23:59:59.999999999Z')",
                    "timestamp(record.t)",
                ])
                .into();
        }
        let op = self.pick(&["+", "-"]);
        format!("({} {op} {})", self.time(depth - 1), self.span(depth - 1))
    }

    fn span(&mut self, depth: usize) -> String {
        if depth == 0 || self.below(2) == 0 {
            return self
                .pick(&[
                    "duration('1h')",
                    "duration('-1.5s')",
                    "duration('1h30m')",
                    "duration('10ms')",
                    "duration('0')",
                    "duration(record.span)",
                    "duration(record.t)",
                ])
                .into();
        }
        match self.below(2) {
            0 => format!("({} - {})", self.time(depth - 1), self.time(depth - 1)),
            _ => format!("({} + {})", self.span(depth - 1), self.span(depth - 1)),
        }
    }

    fn list(&mut self, depth: usize) -> String {
        if depth == 0 || self.below(2) == 0 {
            return self
                .pick(&[
                    "record.l",
                    "record.l",
                    "record.ll",
                    "[]",
                    "[1, 2, 3]",
                    "['pay', 'x', 'payments']",
                    "[1, 'a', null, true, 2.0]",
                    "record.none",
                    "record.i",
                    "[record.i, record.t]",
                    "[record.i, 2u]",
                    "record.m",
                ])
                .into();
        }
        let next = depth - 1;
        match self.below(4) {
            0 => format!("[{}, {}]", self.any(next), self.any(next)),
            1 => format!(
                "{}.map(v, {})",
                self.list(next),
                self.pick(&["v", "string(v)", "v + 1", "v.x", "[v]"])
            ),
            2 => format!(
                "{}.filter(v, {})",
                self.list(next),
                self.pick(&["v != 1", "v > 1", "v in record.l", "v", "true"])
            ),
            _ => format!("({} + [{}])", self.pick(&["record.l", "[1]", "[]"]), self.any(next)),
        }
    }

    fn map(&mut self, depth: usize) -> String {
        if depth == 0 || self.below(2) == 0 {
            return self
                .pick(&[
                    "record.m",
                    "record.m",
                    "record",
                    "headers",
                    "{}",
                    "{'a': 1, 'x': 'y'}",
                    "{1: 'a', 2u: 'b', true: 1}",
                    "record.none",
                    "record.m.y",
                ])
                .into();
        }
        format!("{{'k': {}, {}: 1}}", self.any(depth - 1), self.any(0))
    }

    fn any(&mut self, depth: usize) -> String {
        match self.below(10) {
            0..=2 => self.number(depth),
            3..=4 => self.text(depth),
            5 => self.boolean(depth),
            6 => self.list(depth),
            7 => self.map(depth),
            8 => self
                .pick(&[
                    "null",
                    "record.n",
                    "record.x",
                    "record.a.b.c",
                    "record.m.y.z",
                    "record.l[9]",
                    "record.m['x']",
                    "record.?t.orValue('o')",
                    "record.?none.orValue(1)",
                    "type(record.i)",
                    "b'ab'",
                    "record[record.t]",
                    "record.l[record.i]",
                    "{1: 2}[record.i]",
                    "[1, 2][record.f]",
                ])
                .into(),
            _ => self.time(depth),
        }
    }

    /// A record whose fields mostly exist and have the types that their names suggest.
    pub(crate) fn record(&mut self) -> Value {
        if self.below(40) == 0 {
            return self.value(1);
        }
        let mut fields = Map::new();
        for name in ["b", "i", "f", "u", "t", "n", "l", "ll", "m", "when", "span", "x"] {
            let value = match self.below(12) {
                0 => continue,
                1 => self.value(2),
                _ => match name {
                    "b" => json!(self.below(2) == 0),
                    "i" => {
                        [json!(0), json!(1), json!(2), json!(42), json!(-1), json!(i64::MAX), json!(i64::MIN)]
                            [self.below(7)]
                        .clone()
                    }
                    "f" => [json!(0.0), json!(1.0), json!(1.5), json!(-0.5), json!(1e300), json!(-0.0)]
                        [self.below(6)]
                    .clone(),
                    "u" => [json!(u64::MAX), json!(1), json!(1_u64 << 63)][self.below(3)].clone(),
                    "t" => json!(self.pick(&["pay", "payments", "", "1", "é", "x", "2.5", "i", "true"])),
                    "n" => Value::Null,
                    "l" => (0..self.below(4)).map(|_| self.value(0)).collect(),
                    "ll" => json!([[1, 2], [], [self.value(0)], {"x": self.value(0)}]),
                    "m" => {
                        json!({"x": self.value(0), "y": {"z": self.pick(&["pay", "x"])}, "b": self.below(2) == 0})
                    }
                    "when" => json!(self.pick(&[
                        "2026-03-29T01:30:00Z",
                        "1999-12-31T23:59:59.999-08:00",
                        "x",
                        "2026-02-30T00:00:00Z"
                    ])),
                    _ => json!(self.pick(&["1h", "90m", "-5s", "x"])),
                },
            };
            fields.insert(name.into(), value);
        }
        Value::Object(fields)
    }

    fn value(&mut self, depth: usize) -> Value {
        match self.below(if depth == 0 { 9 } else { 11 }) {
            0 => Value::Null,
            1 => json!(self.below(2) == 0),
            2..=4 => json!(self.below(4) as i64 - 1),
            5 => json!(self.below(4) as f64 / 2.0),
            6..=8 => json!(self.pick(&["pay", "x", "1", "", "a"])),
            9 => (0..self.below(3)).map(|_| self.value(depth - 1)).collect(),
            _ => json!({"x": self.value(depth - 1)}),
        }
    }
}
