//! Many events a request.

use crate::commands::{Cache, pipe};
use crate::report::Bound::{AtLeast, AtMost, Told};
use crate::report::{Figure, Row, Sample};
use crate::requests::{
    Bodies, Command, Piped, arrays, lines, mixed as mixed_commands, sets as set_commands, sets_for_an_hour, updates,
};
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

pub const LIVES: &[Figure] =
    &[Figure { name: "batch-ttl", unit: "events/s", reference: PIPE, must: AtLeast(1.15), aim: AtLeast(1.4) }];

pub const MIXED: &[Figure] = &[
    Figure { name: "batch-mixed", unit: "events/s", reference: PIPE, must: Told, aim: Told },
    Figure { name: "batch-mixed-bare", unit: "events/s", reference: BARE, must: AtLeast(0.95), aim: AtLeast(1.1) },
];

pub const VERSIONS: &[Figure] = &[Figure {
    name: "batch-versions",
    unit: "µs/event",
    reference: "without versions",
    must: AtMost(2.0),
    aim: AtMost(1.7),
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
    let forms = [Bodies::json(&arrays(&commands, BATCH)), Bodies::ndjson(&lines(&commands, BATCH))];
    in_turn(figures, &forms, &commands)
}

pub fn lives(figures: &[&'static Figure]) -> Vec<Row> {
    let commands = sets_for_an_hour(BATCH_KEYS);
    in_turn(figures, &[Bodies::json(&arrays(&commands, BATCH))], &commands)
}

pub fn mixed(figures: &[&'static Figure]) -> Vec<Row> {
    let commands = mixed_commands(60 * BATCH);
    in_turn(figures, &[Bodies::json(&arrays(&commands, BATCH))], &commands)
}

/// Ours in each form, the first an array, and each reference in turn, each on an empty Redis.
fn in_turn(figures: &[&'static Figure], forms: &[Bodies], commands: &[Command]) -> Vec<Row> {
    let redis = Cache::start();
    let services = [Service::ours(&redis), Service::reference(BARE, &redis)];
    assert_alike(&services, &forms[0], || redis.empty());
    let [ours, bare] = &services;
    let piped = Piped::repeat(commands, PIPED);
    let measure = |service: &Service, bodies: &Bodies| -> Sample {
        redis.empty();
        Load { bodies, connections: CONNECTIONS, events: BATCH }.measure(service, &redis).throughput()
    };
    let mut rows: Vec<Row> =
        figures.iter().map(|figure| Row { figure, ours: Vec::new(), reference: Vec::new() }).collect();
    for round in 0..=PAIRS {
        let in_forms: Vec<Sample> = forms.iter().map(|bodies| measure(ours, bodies)).collect();
        redis.empty();
        let by_pipe = pipe(&redis, &piped);
        let by_bare = measure(bare, &forms[0]);
        // The first round is to warm up.
        for row in rows.iter_mut().filter(|_| round > 0) {
            row.ours.push(in_forms[usize::from(row.figure.name == "batch-ndjson")]);
            row.reference.push(if row.figure.reference == BARE { by_bare } else { by_pipe });
        }
    }
    rows
}
