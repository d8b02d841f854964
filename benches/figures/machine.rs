//! The machine, and who uses it: cores, load, CPU time of processes.

use std::path::Path;
use std::time::Instant;

use crate::errors::Result;

/// Of the times in /proc/<pid>/stat: what Linux shows to programs, whatever the kernel's own tick is.
const TICKS_PER_SECOND: f64 = 100.0;

/// Number and model of cores.
pub fn cores() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':').map(|(_, name)| name));
    let count = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{count} x {}", model.unwrap_or("(model unknown)").trim())
}

/// Load averages of 1, 5 and 15 minutes: how busy others kept the cores.
pub fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

/// A line `Name:   123 kB` of /proc/<pid>/status, in MB of 10^6 bytes.
pub fn status_mb(pid: u32, name: &str) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kib: f64 = line.and_then(|rest| rest.split_whitespace().next()).ok_or("no such line in status")?.parse()?;
    Ok(kib * 1_024.0 / 1e6)
}

/// Seconds of CPU that a process used so far, in user and kernel mode.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"))?;
    // The program's name is in parentheses and may hold anything.
    let (_, rest) = stat.rsplit_once(')').ok_or("an odd /proc/<pid>/stat")?;
    let mut fields = rest.split_whitespace().skip(11);
    let mut next = || -> Result<f64> { Ok(fields.next().ok_or("an odd /proc/<pid>/stat")?.parse()?) };
    Ok((next()? + next()?) / TICKS_PER_SECOND)
}

/// CPU time of generator, server and stub while something is measured; summed over runs.
#[derive(Debug, Default)]
pub struct Shares {
    wall: f64,
    used: [f64; 3],
}

impl Shares {
    /// Runs `work` and adds what it used.
    pub fn during<T>(&mut self, server: u32, stub: u32, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let pids = [std::process::id(), server, stub];
        let before = pids.map(|pid| cpu_seconds(pid).unwrap_or_default());
        let start = Instant::now();
        let done = work()?;
        self.wall += start.elapsed().as_secs_f64();
        for ((used, pid), before) in self.used.iter_mut().zip(pids).zip(before) {
            *used += cpu_seconds(pid)? - before;
        }
        Ok(done)
    }

    /// What one of so many things cost all three: the bound that free cores would set.
    pub fn for_each(&self, count: usize, what: &str) -> String {
        let used: f64 = self.used.iter().sum();
        format!("{:.2} ms of CPU a {what} in all three", 1e3 * used / count as f64)
    }
}

impl std::fmt::Display for Shares {
    /// In percent of one core.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [generator, server, stub] = self.used.map(|used| 100.0 * used / self.wall);
        write!(f, "CPU of one core: generator {generator:.0} %, server {server:.0} %, stub {stub:.0} %")
    }
}
