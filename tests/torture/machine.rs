//! What the kernel tells about a process (proc(5)).

use std::collections::HashSet;
use std::fs;
use std::process::Command;

/// Resident memory in MiB.
pub fn resident_mib(pid: u32) -> f64 {
    memory_mib(pid, "VmRSS:")
}

/// The most that ever was, since the start or [`reset_peak`].
pub fn peak_mib(pid: u32) -> f64 {
    memory_mib(pid, "VmHWM:")
}

pub fn reset_peak(pid: u32) {
    fs::write(format!("/proc/{pid}/clear_refs"), "5").expect("a process of our own");
}

fn memory_mib(pid: u32, name: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let kib = status.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse::<f64>().ok());
    kib.expect("a line of that name") / 1024.0
}

/// Open file descriptors.
pub fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).expect("the process runs").count()
}

/// Of those, the connections to a port of 127.0.0.1.
pub fn connections_to(pid: u32, port: u16) -> usize {
    let remote = format!("0100007F:{port:04X}");
    let table = fs::read_to_string(format!("/proc/{pid}/net/tcp")).expect("the process runs");
    let column = |line: &str, number| line.split_whitespace().nth(number).map(str::to_owned);
    let to_port = table.lines().filter(|line| column(line, 2).as_ref() == Some(&remote));
    let sockets: HashSet<String> = to_port.filter_map(|line| Some(format!("socket:[{}]", column(line, 9)?))).collect();
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).expect("the process runs").flatten();
    let targets = descriptors.filter_map(|descriptor| fs::read_link(descriptor.path()).ok());
    targets.filter(|target| target.to_str().is_some_and(|target| sockets.contains(target))).count()
}

/// Kills every process that this one has started and not waited for.
pub fn end_children() {
    let own = std::process::id().to_string();
    let processes = fs::read_dir("/proc").expect("Linux").flatten();
    for process in processes {
        // The name, in parentheses, may hold anything; state and parent come behind it.
        let stat = fs::read_to_string(process.path().join("stat")).unwrap_or_default();
        let parent = stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1));
        if let (Some(pid), true) = (process.file_name().to_str(), parent == Some(&own)) {
            let _ = Command::new("sh").args(["-c", &format!("kill -KILL {pid}")]).status();
        }
    }
}
