//! What more replicas and more primaries cost: processor time an event, of the services and of Redis apart. All of them
//! share the machine's cores, so it is not throughput that is compared.

use crate::batches::{BATCH, CONNECTIONS};
use crate::commands::Cache;
use crate::process::Meter;
use crate::report::Bound::Told;
use crate::report::{Figure, Row, Sample};
use crate::requests::{Bodies, KEYS, arrays, one_by_one, sets};
use crate::service::Service;
use crate::wrk::Load;

const ROUNDS: usize = 5;
/// To each replica.
const SINGLE_CONNECTIONS: u32 = 64;

const fn figure(name: &'static str, reference: &'static str) -> Figure {
    Figure { name, unit: "µs/event", reference, must: Told, aim: Told }
}

/// By the number of replicas, the load, and whose time it is.
pub const REPLICAS: &[Figure] = &[
    figure("replicas-2-set-service", "1 replica"),
    figure("replicas-2-set-redis", "1 replica"),
    figure("replicas-4-set-service", "1 replica"),
    figure("replicas-4-set-redis", "1 replica"),
    figure("replicas-2-batch-service", "1 replica"),
    figure("replicas-2-batch-redis", "1 replica"),
    figure("replicas-4-batch-service", "1 replica"),
    figure("replicas-4-batch-redis", "1 replica"),
];

/// What one event took.
#[derive(Clone, Copy)]
struct Cost {
    service_us: f64,
    redis_us: f64,
}

pub fn replicas(figures: &[&'static Figure]) -> Vec<Row> {
    let redis = Cache::start();
    let services: Vec<Service> = (0..4).map(|_| Service::ours(&redis)).collect();
    let commands = sets(KEYS);
    let loads = [
        ("set", Bodies::json(&one_by_one(&commands)), SINGLE_CONNECTIONS, 1),
        ("batch", Bodies::json(&arrays(&commands, BATCH)), CONNECTIONS, BATCH),
    ];
    let mut rows = Vec::new();
    for (name, bodies, connections, events) in &loads {
        let counts = [1, 2, 4];
        let cost = |count: usize| {
            let load = Load { bodies, connections: *connections, events: *events };
            cost(&load, &services[..count], &[redis.pid()])
        };
        cost(4);
        let rounds: Vec<[Cost; 3]> = (0..ROUNDS).map(|_| counts.map(cost)).collect();
        for figure in figures {
            let (place, is_service) =
                (if figure.name.contains("-2-") { 1 } else { 2 }, figure.name.ends_with("service"));
            let of = |place: usize| {
                let samples = rounds.iter().map(|round| &round[place]);
                samples.map(|cost| Sample::plain(if is_service { cost.service_us } else { cost.redis_us })).collect()
            };
            if figure.name.contains(&format!("-{name}-")) {
                rows.push(Row { figure, ours: of(place), reference: of(0) });
            }
        }
    }
    rows
}

fn cost(load: &Load, services: &[Service], redis: &[u32]) -> Cost {
    let of_services = Meter::start(&services.iter().flat_map(Service::pids).collect::<Vec<_>>());
    let of_redis = Meter::start(redis);
    let events: f64 = load.on_all(services).iter().map(|measured| measured.events).sum();
    Cost { service_us: of_services.microseconds() / events, redis_us: of_redis.microseconds() / events }
}
