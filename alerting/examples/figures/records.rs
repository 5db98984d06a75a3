//! The records for the measurements: log lines of 272 bytes.

use alerting::record::RawRecord;

/// Pseudorandom numbers, determined by a seed.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % end
    }
}

/// A log line of 272 bytes.
pub(crate) fn line(dice: &mut Dice, level: &str, service: &str, amount: f64) -> Vec<u8> {
    let mut line = format!(
        "{{\"time\":\"2026-11-25T10:{:02}:{:02}.{:03}Z\",\"level\":\"{level}\",\"service\":\"{service}\",\"status\":{},\
         \"amount\":{amount:.1},\"user\":\"user-{:06}\",\"path\":\"/api/v1/orders/{}\",\"ok\":true,\"trace\":\"{:016x}\",\
         \"message\":\"",
        dice.below(60),
        dice.below(60),
        dice.below(1000),
        [200, 201, 404, 500][dice.below(4) as usize],
        dice.below(1_000_000),
        dice.below(100_000),
        dice.below(u64::MAX),
    );
    while line.len() < 272 - 2 {
        line.push(char::from(b'a' + (line.len() % 26) as u8));
    }
    line.push_str("\"}");
    line.into_bytes()
}

/// Many lines; in one of a hundred the service begins with `pay`, the level is `ERROR` and the amount is more than 516.
pub(crate) fn lines(count: usize) -> Vec<Vec<u8>> {
    let dice = &mut Dice(1);
    (0..count)
        .map(|at| {
            let hit = at % 100 == 0;
            let service = format!("{}-{}", if hit { "pay" } else { "svc" }, dice.below(2_000));
            let amount = if hit { 517.0 + dice.below(100) as f64 } else { dice.below(5_000) as f64 / 10.0 };
            line(dice, if hit { "ERROR" } else { "INFO" }, &service, amount)
        })
        .collect()
}

pub(crate) fn raw(value: &[u8], offset: i64, at: i64) -> RawRecord<'_> {
    RawRecord {
        topic: "logs",
        partition: 0,
        offset,
        timestamp_ms: at,
        clock_ms: at,
        key: None,
        value: Some(value),
        headers: &[],
    }
}
