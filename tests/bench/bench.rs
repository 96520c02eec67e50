//! The performance bench: every figure beside a reference that is measured in turn with it, and what it must and may
//! reach. `NOTES.md` says how to run it, how the references are written and how to read the table.

mod batches;
mod blobs;
mod capacity;
mod commands;
mod guard;
mod hosts;
mod journal;
mod latency;
mod machine;
mod memory;
mod nginx;
mod pace;
mod patterns;
mod process;
mod reference;
mod repeats;
mod report;
mod requests;
#[path = "../cluster/servers/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the bench needs a part of it")]
mod servers;
mod service;

mod singles;
mod sources;
mod streamed;
#[path = "../e2e/support/mod.rs"]
#[allow(unused_imports, reason = "the bench needs a part of it")]
mod support;
mod waiting;
mod wrk;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use report::{Figure, Report, Row};

/// Figures that are measured together.
struct Group {
    figures: &'static [Figure],
    /// Measures those that are asked for.
    run: fn(&[&'static Figure]) -> Vec<Row>,
}

const GROUPS: &[Group] = &[
    Group { figures: singles::SET_64, run: singles::set_64 },
    Group { figures: singles::GET_64, run: singles::get_64 },
    Group { figures: singles::SET_512, run: singles::set_512 },
    Group { figures: singles::SET_1, run: singles::set_1 },
    Group { figures: batches::SETS, run: batches::sets },
    Group { figures: batches::LIVES, run: batches::lives },
    Group { figures: batches::MIXED, run: batches::mixed },
    Group { figures: batches::VERSIONS, run: batches::versions },
    Group { figures: blobs::SMALL, run: blobs::small },
    Group { figures: blobs::MIDDLE, run: blobs::middle },
    Group { figures: blobs::LARGE, run: blobs::large },
    Group { figures: streamed::LONG, run: streamed::long },
    Group { figures: streamed::BESIDE, run: streamed::beside },
    Group { figures: streamed::MEMORY, run: streamed::memory },
    Group { figures: patterns::DELETE, run: patterns::delete },
    Group { figures: patterns::TAG, run: patterns::tag },
    Group { figures: latency::DURING_DELETE, run: latency::during_delete },
    Group { figures: latency::DURING_HANG, run: latency::during_hang },
    Group { figures: hosts::HUNG, run: hosts::beside_hung },
    Group { figures: waiting::RATE, run: waiting::rate },
    Group { figures: waiting::STEP, run: waiting::step },
    Group { figures: waiting::PREVIEW, run: waiting::preview },
    Group { figures: memory::IDLE, run: memory::idle },
    Group { figures: sources::BATCHES, run: sources::batches },
    Group { figures: sources::SINGLES, run: sources::singles },
    Group { figures: repeats::REPEATS, run: repeats::repeats },
    Group { figures: journal::SINGLES, run: journal::singles },
    Group { figures: journal::BATCHES, run: journal::batches },
    Group { figures: journal::APPLIED, run: journal::applied },
    Group { figures: memory::PEAK, run: memory::peak },
    Group { figures: capacity::REPLICAS, run: capacity::replicas },
    Group { figures: capacity::PRIMARIES, run: capacity::primaries },
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [first, rest @ ..] = args.as_slice()
        && first == "reference"
    {
        return reference::serve(rest);
    }
    // cargo says so when it means to measure; `cargo test --all-targets` does not.
    if !args.iter().any(|arg| arg == "--bench") {
        eprintln!("nothing is measured: run `make bench`");
        return ExitCode::SUCCESS;
    }
    let only = args.iter().find(|arg| !arg.starts_with("--")).cloned().unwrap_or_default();
    measure(&only)
}

fn measure(only: &str) -> ExitCode {
    let chosen = |group: &Group| -> Vec<&'static Figure> {
        group.figures.iter().filter(|figure| figure.name.contains(only)).collect()
    };
    let known = || GROUPS.iter().flat_map(|group| group.figures).map(|figure| figure.name).collect::<Vec<_>>();
    if GROUPS.iter().all(|group| chosen(group).is_empty()) {
        eprintln!("no figure has {only:?} in its name; there are: {}", known().join(", "));
        return ExitCode::FAILURE;
    }
    let report = Report::new();
    guard::watch(report.clone());
    for group in GROUPS {
        let figures = chosen(group);
        if figures.is_empty() {
            continue;
        }
        let names: Vec<&str> = figures.iter().map(|figure| figure.name).collect();
        report.progress(&names.join(", "));
        match catch_unwind(AssertUnwindSafe(|| (group.run)(&figures))) {
            Ok(rows) => report.add(rows),
            Err(_) => {
                guard::go_on();
                report.broken(&figures);
            }
        }
    }
    guard::clean();
    if report.finish() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
