//! Processes that the bench starts, and what the kernel tells about them: processor time and memory.

use std::fs::{self, File};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use crate::guard;
use crate::support::{eventually, signal};

/// A server, ended with this value.
pub struct Process {
    child: Child,
    /// By TERM first, so that it takes its own children along.
    politely: bool,
}

impl Process {
    pub fn start(command: &mut Command) -> Self {
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        guard::started(child.id());
        Process { child, politely: false }
    }

    pub fn ending_politely(mut self) -> Self {
        self.politely = true;
        self
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_none())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.politely && self.is_running() {
            signal(self.pid(), "TERM");
            eventually(Duration::from_secs(5), || !self.is_running());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        guard::ended(self.pid());
    }
}

/// Runs a program to its end, which must be a good one; what it printed.
pub fn run(command: &mut Command, input: Option<&File>) -> Output {
    let input = input.map_or_else(Stdio::null, |file| Stdio::from(file.try_clone().expect("an open file")));
    let shown = format!("{command:?}");
    let child = command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child.unwrap_or_else(|error| panic!("{shown}: {error}"));
    let pid = child.id();
    guard::started(pid);
    let output = child.wait_with_output();
    guard::ended(pid);
    guard::go_on();
    let output = output.unwrap_or_else(|error| panic!("{shown}: {error}"));
    assert!(output.status.success(), "{shown}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    output
}

/// Processor time that some processes have used up to now.
pub struct Meter {
    pids: Vec<u32>,
    begun_ns: u64,
    begun_check: Duration,
}

impl Meter {
    pub fn start(pids: &[u32]) -> Self {
        let (begun_ns, begun_check) = (total_ns(pids), total_check(pids));
        Meter { pids: pids.to_vec(), begun_ns, begun_check }
    }

    /// Microseconds since the start. Threads that have ended meanwhile are missing in what is summed up thread by thread,
    /// but not in the coarser times of the process; so the two must agree.
    pub fn microseconds(&self) -> f64 {
        let used = (total_ns(&self.pids) - self.begun_ns) as f64 / 1000.0;
        let check = (total_check(&self.pids) - self.begun_check).as_micros() as f64;
        assert!((used - check).abs() <= 100_000.0 + 0.1 * used, "{used} µs by schedstat, {check} µs by stat");
        used
    }
}

/// Processor time of all children of the bench that have been waited for.
pub fn ended_children() -> Duration {
    ticks("self", [15, 16])
}

pub fn children(parent: u32) -> Vec<u32> {
    let pids = fs::read_dir("/proc").expect("/proc").flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &u32| stat(&pid.to_string()).is_some_and(|fields| fields[3] == parent.to_string())).collect()
}

/// A line such as `VmRSS` of /proc/PID/status, in MiB.
pub fn memory_mib(pid: u32, line: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let value = status.lines().find_map(|text| text.strip_prefix(line)?.strip_prefix(':'));
    let kib = value.and_then(|text| text.split_whitespace().next()?.parse::<f64>().ok());
    kib.unwrap_or_else(|| panic!("no {line} of process {pid}")) / 1024.0
}

/// Makes `VmHWM` start again from what is resident now.
pub fn reset_peak(pid: u32) {
    fs::write(format!("/proc/{pid}/clear_refs"), "5").expect("the peak can be reset");
}

fn total_ns(pids: &[u32]) -> u64 {
    pids.iter().map(|pid| own_ns(*pid)).sum()
}

fn own_ns(pid: u32) -> u64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("the process runs").flatten();
    let texts = threads.filter_map(|thread| fs::read_to_string(thread.path().join("schedstat")).ok());
    texts.filter_map(|text| text.split(' ').next()?.parse::<u64>().ok()).sum()
}

fn total_check(pids: &[u32]) -> Duration {
    pids.iter().map(|pid| ticks(&pid.to_string(), [13, 14])).sum()
}

/// The sum of two fields of /proc/PID/stat, counted from 0, that are in clock ticks: hundredths of a second on Linux.
fn ticks(pid: &str, fields: [usize; 2]) -> Duration {
    let stat = stat(pid).unwrap_or_else(|| panic!("no process {pid}"));
    let sum: u64 = fields.iter().map(|field| stat[*field].parse::<u64>().expect("a number")).sum();
    Duration::from_millis(10 * sum)
}

/// The fields of /proc/PID/stat. The second is a name in parentheses that may hold anything.
fn stat(pid: &str) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (before, after) = text.rsplit_once(')')?;
    let mut fields = vec![before.split(' ').next()?.to_owned(), String::new()];
    fields.extend(after.split_whitespace().map(str::to_owned));
    Some(fields)
}
