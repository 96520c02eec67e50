//! Many events a request.

use crate::commands::{Cache, pipe};
use crate::report::Bound::{AtLeast, AtMost};
use crate::report::{Figure, Row, Sample};
use crate::requests::{Bodies, Command, Piped, arrays, lines, mixed as mixed_commands, sets as set_commands, updates};
use crate::service::Service;
use crate::wrk::Load;

const PAIRS: usize = 7;
pub const BATCH: usize = 500;
pub const CONNECTIONS: u32 = 8;
/// As many as are written in a run: as when a cache is filled, each key is new.
const BATCH_KEYS: usize = 1_000_000;
/// So many that the start of `redis-cli` does not count.
const PIPED: usize = 1_000_000;

pub const SETS: &[Figure] = &[
    Figure {
        name: "batch-json",
        unit: "events/s",
        reference: "redis-cli --pipe",
        must: AtLeast(0.85),
        aim: AtLeast(1.0),
    },
    Figure {
        name: "batch-ndjson",
        unit: "events/s",
        reference: "redis-cli --pipe",
        must: AtLeast(0.85),
        aim: AtLeast(1.0),
    },
];

pub const MIXED: &[Figure] = &[Figure {
    name: "batch-mixed",
    unit: "events/s",
    reference: "redis-cli --pipe",
    must: AtLeast(0.75),
    aim: AtLeast(0.95),
}];

pub const VERSIONS: &[Figure] = &[Figure {
    name: "batch-versions",
    unit: "µs/event",
    reference: "without versions",
    must: AtMost(2.5),
    aim: AtMost(1.8),
}];

/// Processor time of the service and Redis for the same writes with a version and without.
pub fn versions(figures: &[&'static Figure]) -> Vec<Row> {
    let redis = Cache::start();
    let service = Service::ours(&redis);
    let measure = |bodies: &Bodies| -> Sample {
        redis.empty();
        let load = Load { bodies, connections: CONNECTIONS, events: BATCH };
        Sample::plain(load.measure(&service, &redis).cpu_us)
    };
    let bodies = [true, false].map(|has_version| Bodies::ndjson(&lines(&updates(BATCH_KEYS, has_version), BATCH)));
    for bodies in &bodies {
        measure(bodies);
    }
    let mut samples = [Vec::new(), Vec::new()];
    for _ in 0..PAIRS {
        for (bodies, samples) in bodies.iter().zip(&mut samples) {
            samples.push(measure(bodies));
        }
    }
    let [ours, reference] = samples;
    figures.iter().map(|figure| Row { figure, ours: ours.clone(), reference: reference.clone() }).collect()
}

pub fn sets(figures: &[&'static Figure]) -> Vec<Row> {
    let commands = set_commands(BATCH_KEYS);
    let forms = figures.iter().map(|figure| match figure.name {
        "batch-json" => Bodies::json(&arrays(&commands, BATCH)),
        _ => Bodies::ndjson(&lines(&commands, BATCH)),
    });
    against_pipe(figures, &forms.collect::<Vec<_>>(), &commands)
}

pub fn mixed(figures: &[&'static Figure]) -> Vec<Row> {
    let commands = mixed_commands(60 * BATCH);
    against_pipe(figures, &[Bodies::json(&arrays(&commands, BATCH))], &commands)
}

/// Each form in turn, then the pipe, each on an empty Redis.
fn against_pipe(figures: &[&'static Figure], forms: &[Bodies], commands: &[Command]) -> Vec<Row> {
    let redis = Cache::start();
    let service = Service::ours(&redis);
    let piped = Piped::repeat(commands, PIPED);
    let measure = |bodies: &Bodies| -> Sample {
        redis.empty();
        Load { bodies, connections: CONNECTIONS, events: BATCH }.measure(&service, &redis).throughput()
    };
    let reference = || {
        redis.empty();
        pipe(&redis, &piped)
    };
    for bodies in forms {
        measure(bodies);
    }
    reference();
    let mut ours: Vec<Vec<Sample>> = forms.iter().map(|_| Vec::new()).collect();
    let mut theirs = Vec::new();
    for _ in 0..PAIRS {
        for (bodies, ours) in forms.iter().zip(&mut ours) {
            ours.push(measure(bodies));
        }
        theirs.push(reference());
    }
    let rows = figures.iter().zip(ours);
    rows.map(|(figure, ours)| Row { figure, ours, reference: theirs.clone() }).collect()
}
