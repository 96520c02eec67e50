//! Many events a request.

use crate::commands::{Cache, pipe};
use crate::report::Bound::{AtLeast, AtMost, Told};
use crate::report::{Figure, Row, Sample};
use crate::requests::{Bodies, Command, Piped, arrays, lines, mixed as mixed_commands, sets as set_commands, updates};
use crate::service::{Service, assert_alike};
use crate::wrk::Load;

const PAIRS: usize = 7;
pub const BATCH: usize = 500;
pub const CONNECTIONS: u32 = 8;
/// As many as are written in a run: as when a cache is filled, each key is new.
const BATCH_KEYS: usize = 1_000_000;
/// So many that the start of `redis-cli` does not count.
const PIPED: usize = 1_000_000;

const PIPE: &str = "redis-cli --pipe";
/// The handler of `reference.rs`.
const BARE: &str = "batch";

pub const SETS: &[Figure] = &[
    Figure { name: "batch-json", unit: "events/s", reference: PIPE, must: AtLeast(0.85), aim: AtLeast(1.0) },
    Figure { name: "batch-json-bare", unit: "events/s", reference: BARE, must: Told, aim: Told },
    Figure { name: "batch-ndjson", unit: "events/s", reference: PIPE, must: AtLeast(0.85), aim: AtLeast(1.0) },
];

pub const MIXED: &[Figure] = &[
    Figure { name: "batch-mixed", unit: "events/s", reference: PIPE, must: AtLeast(0.75), aim: AtLeast(0.95) },
    Figure { name: "batch-mixed-bare", unit: "events/s", reference: BARE, must: Told, aim: Told },
];

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
    let arrays = Bodies::json(&arrays(&commands, BATCH));
    let lines = Bodies::ndjson(&lines(&commands, BATCH));
    let form = |figure: &Figure| if figure.name == "batch-ndjson" { &lines } else { &arrays };
    in_turn(figures, form, &arrays, &commands)
}

pub fn mixed(figures: &[&'static Figure]) -> Vec<Row> {
    let commands = mixed_commands(60 * BATCH);
    let arrays = Bodies::json(&arrays(&commands, BATCH));
    in_turn(figures, |_| &arrays, &arrays, &commands)
}

/// Ours in each form and each reference in turn, each on an empty Redis.
fn in_turn<'a>(
    figures: &[&'static Figure],
    form: impl Fn(&Figure) -> &'a Bodies,
    arrays: &'a Bodies,
    commands: &[Command],
) -> Vec<Row> {
    let redis = Cache::start();
    let services = [Service::ours(&redis), Service::reference(BARE, &redis)];
    assert_alike(&services, arrays, || redis.empty());
    let piped = Piped::repeat(commands, PIPED);
    let measure = |service: &Service, bodies: &Bodies| -> Sample {
        redis.empty();
        Load { bodies, connections: CONNECTIONS, events: BATCH }.measure(service, &redis).throughput()
    };
    let [ours, bare] = &services;
    let refer = |reference: &str| -> Sample {
        if reference == BARE {
            return measure(bare, arrays);
        }
        redis.empty();
        pipe(&redis, &piped)
    };
    let mut rows: Vec<Row> =
        figures.iter().map(|figure| Row { figure, ours: Vec::new(), reference: Vec::new() }).collect();
    for round in 0..=PAIRS {
        for row in &mut rows {
            let pair = (measure(ours, form(row.figure)), refer(row.figure.reference));
            // The first is to warm up.
            if round > 0 {
                row.ours.push(pair.0);
                row.reference.push(pair.1);
            }
        }
    }
    rows
}
