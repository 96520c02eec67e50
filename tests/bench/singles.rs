//! One event a request.

use crate::commands::{Cache, pipe};
use crate::report::Bound::{AtLeast, AtMost, Told};
use crate::report::{Figure, Row, Sample};
use crate::requests::{Bodies, KEYS, Piped, gets, one_by_one, sets};
use crate::service::{Service, assert_alike};
use crate::wrk::{Load, Measured};

const PAIRS: usize = 8;

pub const SET_64: &[Figure] = &[
    Figure { name: "set-64-floor", unit: "events/s", reference: "floor", must: AtLeast(0.70), aim: AtLeast(0.78) },
    Figure { name: "set-64-bare", unit: "events/s", reference: "bare", must: AtLeast(1.1), aim: AtLeast(1.25) },
    Figure {
        name: "set-64-nginx-lua",
        unit: "events/s",
        reference: "nginx-lua",
        must: AtLeast(1.3),
        aim: AtLeast(1.7),
    },
    Figure { name: "set-64-cpu", unit: "µs/event", reference: "bare", must: AtMost(0.85), aim: AtMost(0.75) },
    Figure { name: "set-64-bare-each", unit: "events/s", reference: "bare-each", must: Told, aim: Told },
    Figure { name: "set-64-cpu-each", unit: "µs/event", reference: "bare-each", must: Told, aim: Told },
];

pub const GET_64: &[Figure] =
    &[Figure { name: "get-64", unit: "events/s", reference: "bare", must: AtLeast(1.1), aim: AtLeast(1.25) }];

pub const SET_512: &[Figure] =
    &[Figure { name: "set-512", unit: "events/s", reference: "floor", must: AtLeast(0.50), aim: AtLeast(0.65) }];

pub const SET_1: &[Figure] =
    &[Figure { name: "set-1-latency", unit: "µs median", reference: "bare", must: AtMost(1.35), aim: AtMost(1.15) }];

/// Ours and all references in one round, so that rows of one table stand for one time.
pub fn set_64(figures: &[&'static Figure]) -> Vec<Row> {
    let redis = Cache::start();
    let bodies = Bodies::json(&one_by_one(&sets(KEYS)));
    let mut names: Vec<&'static str> = figures.iter().map(|figure| figure.reference).collect();
    names.sort_unstable();
    names.dedup();
    let mut services = vec![Service::ours(&redis)];
    services.extend(names.iter().map(|name| reference(name, &redis)));
    let measured = in_turn(&services, &bodies, 64, &redis);
    let rows = figures.iter().map(|figure| {
        let value = |measured: &Measured| match figure.name {
            "set-64-cpu" | "set-64-cpu-each" => Sample::plain(measured.cpu_us),
            _ => measured.throughput(),
        };
        let place = 1 + names.iter().position(|name| *name == figure.reference).expect("started");
        Row {
            figure,
            ours: measured[0].iter().map(value).collect(),
            reference: measured[place].iter().map(value).collect(),
        }
    });
    rows.collect()
}

pub fn get_64(figures: &[&'static Figure]) -> Vec<Row> {
    let redis = Cache::start();
    pipe(&redis, &Piped::repeat(&sets(KEYS), KEYS));
    let bodies = Bodies::json(&one_by_one(&gets()));
    pair(figures[0], &bodies, 64, &redis, Measured::throughput)
}

pub fn set_512(figures: &[&'static Figure]) -> Vec<Row> {
    let redis = Cache::start();
    let bodies = Bodies::json(&one_by_one(&sets(KEYS)));
    pair(figures[0], &bodies, 512, &redis, Measured::throughput)
}

pub fn set_1(figures: &[&'static Figure]) -> Vec<Row> {
    let redis = Cache::start();
    let bodies = Bodies::json(&one_by_one(&sets(KEYS)));
    pair(figures[0], &bodies, 1, &redis, |measured| Sample { value: measured.median_us, cpu_us: Some(measured.cpu_us) })
}

/// Ours and the figure's reference.
pub fn pair(
    figure: &'static Figure,
    bodies: &Bodies,
    connections: u32,
    redis: &Cache,
    value: impl Fn(&Measured) -> Sample,
) -> Vec<Row> {
    let services = [Service::ours(redis), reference(figure.reference, redis)];
    let measured = in_turn(&services, bodies, connections, redis);
    let samples = |place: usize| measured[place].iter().map(&value).collect();
    vec![Row { figure, ours: samples(0), reference: samples(1) }]
}

fn reference(name: &'static str, redis: &Cache) -> Service {
    match name {
        "nginx-lua" => Service::nginx_lua(redis),
        _ => Service::reference(name, redis),
    }
}

/// The measurements of each service, after a warm-up of each: A B A B ….
fn in_turn(services: &[Service], bodies: &Bodies, connections: u32, redis: &Cache) -> Vec<Vec<Measured>> {
    assert_alike(services, bodies, || ());
    let load = Load { bodies, connections, events: 1 };
    for service in services {
        load.measure(service, redis);
    }
    let mut measured: Vec<Vec<Measured>> = services.iter().map(|_| Vec::new()).collect();
    for _ in 0..PAIRS {
        for (service, measured) in services.iter().zip(&mut measured) {
            measured.push(load.measure(service, redis));
        }
    }
    measured
}
