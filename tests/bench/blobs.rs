//! Blobs from nginx on the same machine.

use crate::commands::{Cache, benchmark_set};
use crate::nginx::Nginx;
use crate::report::Bound::AtLeast;
use crate::report::{Figure, Row};
use crate::requests::{Bodies, Command, one_by_one};
use crate::service::Service;
use crate::singles::pair;
use crate::wrk::{Load, Measured};

const CONNECTIONS: u32 = 32;
const PAIRS: usize = 7;
/// wrk's Lua takes long to load many strings that are as alike as these.
const KEYS: usize = 1000;
/// More than are written in a run: as when a cache is filled, each is new.
const LARGE_KEYS: usize = 4000;
/// Takes `redis-benchmark` a second or two.
const LARGE_REQUESTS: usize = 2000;

pub const SMALL: &[Figure] =
    &[Figure { name: "blob-4k", unit: "events/s", reference: "blob", must: AtLeast(1.12), aim: AtLeast(1.25) }];

pub const MIDDLE: &[Figure] =
    &[Figure { name: "blob-64k", unit: "events/s", reference: "blob", must: AtLeast(1.0), aim: AtLeast(1.2) }];

pub const LARGE: &[Figure] = &[Figure {
    name: "blob-1m",
    unit: "events/s",
    reference: "redis-benchmark",
    must: AtLeast(0.75),
    aim: AtLeast(0.9),
}];

pub fn small(figures: &[&'static Figure]) -> Vec<Row> {
    fetched(figures[0], 4 << 10)
}

pub fn middle(figures: &[&'static Figure]) -> Vec<Row> {
    fetched(figures[0], 64 << 10)
}

/// Against Redis alone, without any fetch.
pub fn large(figures: &[&'static Figure]) -> Vec<Row> {
    let size = 1 << 20;
    let (redis, nginx) = (Cache::start(), Nginx::blobs(&[size]));
    let service = Service::ours(&redis);
    let bodies = bodies(&nginx, size, LARGE_KEYS);
    let load = Load { bodies: &bodies, connections: CONNECTIONS, events: 1 };
    let (mut ours, mut reference) = (Vec::new(), Vec::new());
    load.measure(&service, &redis);
    for _ in 0..PAIRS {
        redis.empty();
        ours.push(load.measure(&service, &redis).throughput());
        redis.empty();
        reference.push(benchmark_set(&redis, size, CONNECTIONS, LARGE_REQUESTS));
    }
    redis.empty();
    vec![Row { figure: figures[0], ours, reference }]
}

fn fetched(figure: &'static Figure, size: usize) -> Vec<Row> {
    let (redis, nginx) = (Cache::start(), Nginx::blobs(&[size]));
    pair(figure, &bodies(&nginx, size, KEYS), CONNECTIONS, &redis, Measured::throughput)
}

fn bodies(nginx: &Nginx, size: usize, keys: usize) -> Bodies {
    let event = |number: usize| Command::SetBlob(format!("blob:{number:05}"), nginx.url(size));
    Bodies::json(&one_by_one(&(0..keys).map(event).collect::<Vec<_>>()))
}
