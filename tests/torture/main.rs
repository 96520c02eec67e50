//! Breaks things under load and holds the service to its contract: every scenario is one line of a table. `NOTES.md` says
//! how to run it and how to read the table.

mod beside;
mod bound;
mod client;
mod connections;
mod faults;
mod hosts;
mod journal;
mod ledger;
mod limits;
mod load;
mod machine;
mod memory;
mod misbehaving;
mod network;
mod outages;
mod overload;
mod panics;
mod poison;
mod process;
mod proxy;
mod reload;
mod rolling;
mod site;
mod soak;
mod stuck;
#[path = "../e2e/support/mod.rs"]
#[allow(unused_imports, reason = "the torture needs a part of it")]
mod support;
mod tally;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bound::Run;
use tally::Row;

/// How much is done.
#[derive(Clone, Copy)]
pub struct Extent {
    /// Everything, not the minute's worth.
    all: bool,
    /// In its long form.
    full: bool,
    seed: u64,
    soak: Duration,
}

/// All rows together, in the form that is run by default.
const BOUND: Duration = Duration::from_secs(30 * 60);
const SOAK: Duration = Duration::from_secs(60);
const LONG_SOAK: Duration = Duration::from_secs(600);

impl Extent {
    pub fn pick<T>(&self, short: T, all: T) -> T {
        if self.all { all } else { short }
    }

    /// Where the whole is cut short to fit its time, and has a long form.
    pub fn pick_of<T>(&self, short: T, all: T, full: T) -> T {
        if self.full { full } else { self.pick(short, all) }
    }

    fn bound(&self) -> Option<Duration> {
        (!self.full).then(|| BOUND + self.soak.saturating_sub(SOAK))
    }
}

struct Scenario {
    name: &'static str,
    run: fn(&Extent) -> Vec<Row>,
    /// Whether `cargo test` runs it too.
    short: bool,
}

const SCENARIOS: &[Scenario] = &[
    Scenario { name: "kill", run: |extent| vec![process::kill(extent)], short: true },
    Scenario { name: "term", run: |extent| vec![process::term(extent)], short: true },
    Scenario { name: "rolling", run: |extent| vec![rolling::rolling(extent)], short: true },
    Scenario { name: "reload", run: |extent| vec![reload::reload(extent)], short: true },
    Scenario { name: "redis-stop", run: |extent| vec![outages::stop(extent)], short: true },
    Scenario { name: "redis-kill", run: |extent| vec![outages::kill(extent)], short: true },
    Scenario { name: "redis-empty", run: |extent| vec![outages::empty(extent)], short: true },
    Scenario { name: "client-kill", run: |extent| vec![outages::client_kill(extent)], short: true },
    Scenario { name: "readonly", run: |extent| vec![outages::readonly(extent)], short: true },
    Scenario { name: "oom", run: |extent| vec![outages::oom(extent)], short: true },
    Scenario { name: "slow", run: |extent| vec![outages::slow(extent)], short: true },
    Scenario { name: "password", run: |extent| vec![outages::password(extent)], short: true },
    Scenario { name: "proxy-delay-out", run: |extent| vec![network::delay_out(extent)], short: false },
    Scenario { name: "proxy-delay-back", run: |extent| vec![network::delay_back(extent)], short: false },
    Scenario { name: "proxy-slice-out", run: |extent| vec![network::slice_out(extent)], short: true },
    Scenario { name: "proxy-slice-back", run: |extent| vec![network::slice_back(extent)], short: true },
    Scenario { name: "proxy-hole-out", run: |extent| vec![network::black_hole_out(extent)], short: true },
    Scenario { name: "proxy-hole-back", run: |extent| vec![network::black_hole_back(extent)], short: true },
    Scenario { name: "proxy-throttle-out", run: |extent| vec![network::throttle_out(extent)], short: false },
    Scenario { name: "proxy-throttle-back", run: |extent| vec![network::throttle_back(extent)], short: false },
    Scenario { name: "proxy-half-out", run: |extent| vec![network::half_close_out(extent)], short: true },
    Scenario { name: "proxy-half-back", run: |extent| vec![network::half_close_back(extent)], short: true },
    Scenario { name: "proxy-reset", run: |extent| vec![network::reset(extent)], short: true },
    Scenario { name: "journal-kill", run: |extent| vec![journal::kill(extent)], short: true },
    Scenario { name: "journal-stop", run: |extent| vec![journal::stop(extent)], short: true },
    Scenario { name: "journal-partitions", run: |extent| vec![journal::partitions(extent)], short: true },
    Scenario { name: "journal-redis-kill", run: |extent| vec![journal::redis_kill(extent)], short: true },
    Scenario { name: "journal-outage", run: |extent| vec![poison::outage(extent)], short: true },
    Scenario { name: "journal-poison", run: |extent| vec![poison::poison(extent)], short: true },
    Scenario { name: "panics", run: panics::all, short: true },
    Scenario { name: "stuck", run: stuck::all, short: true },
    Scenario { name: "overload", run: |extent| vec![overload::overload(extent)], short: false },
    Scenario { name: "blob-faults", run: |extent| vec![faults::blob_faults(extent)], short: false },
    Scenario { name: "hung-host", run: |extent| vec![hosts::hung_host(extent)], short: false },
    Scenario { name: "hung-hosts", run: |extent| vec![hosts::hung_hosts(extent)], short: false },
    Scenario { name: "limits", run: limits::all, short: false },
    Scenario {
        name: "memory-blobs-waiting",
        run: |_| vec![memory::row("memory-blobs-waiting", memory::blobs_waiting)],
        short: false,
    },
    Scenario {
        name: "memory-sets-waiting",
        run: |_| vec![memory::row("memory-sets-waiting", memory::sets_waiting)],
        short: false,
    },
    Scenario {
        name: "memory-keys-waiting",
        run: |_| vec![memory::row("memory-keys-waiting", memory::keys_waiting)],
        short: false,
    },
    Scenario {
        name: "memory-events-waiting",
        run: |_| vec![memory::row("memory-events-waiting", memory::events_waiting)],
        short: false,
    },
    Scenario { name: "memory-patterns", run: |_| vec![memory::row("memory-patterns", memory::patterns)], short: false },
    Scenario { name: "memory-previews", run: |_| vec![memory::row("memory-previews", memory::previews)], short: false },
    Scenario {
        name: "memory-answers-unread",
        run: |_| vec![memory::row("memory-answers-unread", memory::answers_unread)],
        short: false,
    },
    Scenario {
        name: "memory-answers-escaped",
        run: |_| vec![memory::row("memory-answers-escaped", memory::answers_escaped)],
        short: false,
    },
    Scenario {
        name: "memory-answers-pipelined",
        run: |_| vec![memory::row("memory-answers-pipelined", memory::answers_pipelined)],
        short: false,
    },
    Scenario {
        name: "memory-values-arriving",
        run: |_| vec![memory::row("memory-values-arriving", memory::values_arriving)],
        short: false,
    },
    Scenario { name: "memory-hot-keys", run: |_| vec![memory::row("memory-hot-keys", memory::hot_keys)], short: false },
    Scenario { name: "memory-heads", run: |_| vec![memory::row("memory-heads", memory::heads)], short: false },
    Scenario {
        name: "memory-heads-permitted",
        run: |_| vec![memory::row("memory-heads-permitted", memory::heads_permitted)],
        short: false,
    },
    Scenario {
        name: "memory-pipelined",
        run: |_| vec![memory::row("memory-pipelined", memory::pipelined)],
        short: false,
    },
    Scenario { name: "memory-tls", run: |_| vec![memory::tls()], short: false },
    Scenario {
        name: "memory-pipelined-small",
        run: |_| vec![memory::row("memory-pipelined-small", memory::pipelined_small)],
        short: false,
    },
    Scenario { name: "memory-invalid", run: |_| vec![memory::row("memory-invalid", memory::invalid)], short: false },
    Scenario { name: "memory-gzip", run: |_| vec![memory::row("memory-gzip", memory::gzipped)], short: false },
    Scenario { name: "connections", run: |extent| vec![connections::connections(extent)], short: false },
    Scenario { name: "soak", run: |extent| vec![soak::soak(extent)], short: true },
];

struct Arguments {
    extent: Extent,
    only: Option<String>,
}

fn main() -> ExitCode {
    let Arguments { extent, only } = match arguments() {
        Ok(Some(arguments)) => arguments,
        Ok(None) => return ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("{fault}");
            return ExitCode::FAILURE;
        }
    };
    let only = only.unwrap_or_default();
    let chosen = |scenario: &&Scenario| scenario.name.contains(&only) && (extent.all || scenario.short);
    let chosen: Vec<&Scenario> = SCENARIOS.iter().filter(chosen).collect();
    if chosen.is_empty() {
        let names: Vec<&str> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
        eprintln!("torture: nothing has {only:?} in its name; there are: {}", names.join(", "));
        // `cargo test NAME` asks every target, and most have no such test.
        return if extent.all { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    }
    println!("torture: seed {}", extent.seed);
    let all = Run::begin(extent.seed, extent.bound());
    for scenario in chosen {
        all.goes_on_with(scenario.name);
        all.note(run(scenario, &extent));
    }
    if all.end() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run(scenario: &Scenario, extent: &Extent) -> Vec<Row> {
    let begun = Instant::now();
    let rows = catch_unwind(AssertUnwindSafe(|| (scenario.run)(extent)));
    let rows = rows.unwrap_or_else(|_| vec![Row::broken(scenario.name, "it panicked, see above".to_owned())]);
    rows.iter().for_each(|row| row.print(begun.elapsed()));
    rows
}

/// `[--all] [--full] [--seed N] [--soak SECONDS] [ONLY]`; flags of the usual test harness mean nothing here.
fn arguments() -> Result<Option<Arguments>, String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let mut extent = Extent { all: false, full: false, seed: now, soak: SOAK };
    let mut soak = None;
    let mut only = None;
    let mut given = std::env::args().skip(1);
    while let Some(argument) = given.next() {
        let mut number = || {
            let text = given.next().unwrap_or_default();
            text.parse::<u64>().map_err(|_| format!("{argument} needs a number, not {text:?}"))
        };
        match argument.as_str() {
            "--all" => extent.all = true,
            "--seed" => extent.seed = number()?,
            "--full" => (extent.all, extent.full, extent.soak) = (true, true, LONG_SOAK),
            "--soak" => soak = Some(Duration::from_secs(number()?)),
            "--list" => return Ok(None),
            flag if flag.starts_with('-') => {}
            name => only = Some(name.to_owned()),
        }
    }
    extent.soak = soak.unwrap_or(extent.soak);
    Ok(Some(Arguments { extent, only }))
}
