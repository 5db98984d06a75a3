//! The `rrule` crate as a peer for e2e/recurrence.py. Each input line has zone, local start, rule and limit,
//! separated by tabs; the answer is a line with the instants, or `refused`.
#![expect(clippy::unwrap_used, reason = "a tool for tests")]

fn main() {
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        let fields: Vec<&str> = line.split('\t').collect();
        let text = format!("DTSTART;TZID={}:{}\nRRULE:{}", fields[0], fields[1], fields[2]);
        match text.parse::<rrule::RRuleSet>() {
            Err(_) => println!("refused"),
            Ok(set) => {
                let found = set.limit().into_iter().take(fields[3].parse().unwrap());
                let found: Vec<String> = found
                    .map(|it| jiff::Timestamp::from_second(it.timestamp()).unwrap().to_string())
                    .collect();
                println!("{}", found.join(" "));
            }
        }
    }
}
