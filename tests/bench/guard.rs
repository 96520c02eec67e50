//! The end of the bench on ways that it does not choose: its time is up, or it is told to stop. Nothing that it started
//! or wrote is left behind.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};

use crate::report::Report;

/// All figures together.
const DEADLINE: Duration = Duration::from_secs(2400);
const GRACE: Duration = Duration::from_millis(500);

static STARTED: Mutex<Vec<u32>> = Mutex::new(Vec::new());
static ENDING: AtomicBool = AtomicBool::new(false);

/// Notes a process that must not outlive the bench.
pub fn started(pid: u32) {
    list().push(pid);
    if ENDING.load(Ordering::SeqCst) {
        send("KILL");
        go_on();
    }
}

/// Forgets a process that has been waited for.
pub fn ended(pid: u32) {
    list().retain(|known| *known != pid);
}

/// Does not return once the bench is being ended.
pub fn go_on() {
    while ENDING.load(Ordering::SeqCst) {
        thread::park();
    }
}

/// A directory for files that go with the value, or else with the bench.
pub fn scratch() -> TempDir {
    fs::create_dir_all(root()).expect("a temporary directory");
    tempfile::tempdir_in(root()).expect("a temporary directory")
}

/// Removes what is left of all scratch directories.
pub fn clean() {
    let _ = fs::remove_dir_all(root());
}

/// Sees to it, on a thread of its own, that the bench ends in time.
pub fn watch(report: Report) {
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let why = runtime.block_on(async {
            let mut interrupt = signal(SignalKind::interrupt()).expect("a signal handler");
            let mut terminate = signal(SignalKind::terminate()).expect("a signal handler");
            tokio::select! {
                _ = interrupt.recv() => "interrupted",
                _ = terminate.recv() => "terminated",
                () = tokio::time::sleep(DEADLINE) => "out of time",
            }
        });
        ENDING.store(true, Ordering::SeqCst);
        println!("\n{why}: what follows is not complete");
        report.finish();
        // nginx needs the polite way to take its workers along.
        send("TERM");
        thread::sleep(GRACE);
        send("KILL");
        clean();
        std::process::exit(1);
    });
}

fn send(name: &str) {
    let pids: Vec<String> = list().iter().map(u32::to_string).collect();
    if !pids.is_empty() {
        let _ = Command::new("sh")
            .args(["-c", &format!("kill -{name} {}", pids.join(" "))])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
}

fn root() -> PathBuf {
    std::env::temp_dir().join(format!("redis-cache-sync-bench-{}", std::process::id()))
}

fn list() -> std::sync::MutexGuard<'static, Vec<u32>> {
    STARTED.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
