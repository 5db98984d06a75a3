//! What the kernel says about processes on this machine, including those in containers.

/// A process's resident memory and the processor time it used.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    /// Resident bytes.
    pub resident: u64,
    /// User and system time, microseconds.
    pub cpu_us: u64,
}

/// Pids of the processes whose command line contains all of these words.
pub fn find(words: &[&str]) -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| {
            let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
            let line = std::fs::read(entry.path().join("cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            words.iter().all(|word| line.contains(word)).then_some(pid)
        })
        .collect()
}

/// What a process has used so far; `None` if it is gone.
pub fn usage(pid: u32) -> Option<Usage> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = resident.trim().trim_end_matches(" kB").trim().parse().ok()?;
    // Linux counts in hundredths of a second.
    Some(Usage { resident: kib * 1024, cpu_us: ticks * 10_000 })
}
