//! Where the figures were measured.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::find_program;

pub fn facts() -> Value {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    json!({
        "cores": std::thread::available_parallelism().map_or(0, |cores| cores.get()),
        "cpu": model.map(|(_, name)| name),
        "kernel": fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim(),
        "redis-server": version("redis-server", "--version"),
        "nginx": version("nginx", "-v"),
        "wrk": version("wrk", "-v"),
    })
}

/// What matters most, for a reader.
pub fn line() -> String {
    let facts = facts();
    let [cpu, kernel] = ["cpu", "kernel"].map(|name| facts[name].as_str().unwrap_or("unknown").to_owned());
    format!("{} cores of {cpu}, Linux {kernel}", facts["cores"])
}

/// The first line that a program says about itself, wherever it says it.
fn version(program: &str, flag: &str) -> Option<String> {
    let output = Command::new(find_program(program)?).arg(flag).output().ok()?;
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&text).lines().next().map(str::to_owned)
}
