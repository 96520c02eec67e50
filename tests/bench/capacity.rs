//! What more replicas and more primaries cost: processor time an event, of the services and of Redis apart. All of them
//! share the machine's cores, so it is not throughput that is compared.

use crate::batches::{BATCH, CONNECTIONS};
use crate::commands::Cache;
use crate::guard;
use crate::process::Meter;
use crate::report::Bound::Told;
use crate::report::{Figure, Row, Sample};
use crate::requests::{Bodies, KEYS, arrays, one_by_one, sets};
use crate::servers::{Cluster, Server};
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

/// By the number of primaries.
pub const PRIMARIES: &[Figure] = &[
    figure("primaries-3-set-service", "1 primary"),
    figure("primaries-3-set-redis", "1 primary"),
    figure("primaries-3-batch-service", "1 primary"),
    figure("primaries-3-batch-redis", "1 primary"),
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
    compare(figures, ["-1-", "-2-", "-4-"], |load, place| cost(load, &services[..1 << place], &[redis.pid()]))
}

pub fn primaries(figures: &[&'static Figure]) -> Vec<Row> {
    let setups = [1, 3].map(|primaries| {
        let cluster = Cluster::start(primaries, 0);
        let pids: Vec<u32> = cluster.servers.iter().map(Server::pid).collect();
        pids.iter().for_each(|pid| guard::started(*pid));
        let service = Service::of_cluster(cluster.nodes());
        ([service], cluster, pids)
    });
    let rows = compare(figures, ["-1-", "-3-"], |load, place| {
        let (service, _, pids) = &setups[place];
        cost(load, service, pids)
    });
    for (service, cluster, pids) in setups {
        drop((service, cluster));
        pids.into_iter().for_each(guard::ended);
    }
    rows
}

/// Measures each load in each setup in turn; a figure's name holds the setup's part, and it is held against the first.
fn compare<const N: usize>(
    figures: &[&'static Figure],
    setups: [&str; N],
    cost: impl Fn(&Load, usize) -> Cost,
) -> Vec<Row> {
    let commands = sets(KEYS);
    let loads = [
        ("set", Bodies::json(&one_by_one(&commands)), SINGLE_CONNECTIONS, 1),
        ("batch", Bodies::json(&arrays(&commands, BATCH)), CONNECTIONS, BATCH),
    ];
    let mut rows = Vec::new();
    for (name, bodies, connections, events) in &loads {
        let load = Load { bodies, connections: *connections, events: *events };
        let round = || -> Vec<Cost> { (0..N).map(|place| cost(&load, place)).collect() };
        round();
        let rounds: Vec<Vec<Cost>> = (0..ROUNDS).map(|_| round()).collect();
        for figure in figures.iter().filter(|figure| figure.name.contains(&format!("-{name}-"))) {
            let is_service = figure.name.ends_with("service");
            let of = |place: usize| {
                let costs = rounds.iter().map(|round| round[place]);
                costs.map(|cost| Sample::plain(if is_service { cost.service_us } else { cost.redis_us })).collect()
            };
            let place = setups.iter().position(|setup| figure.name.contains(setup)).expect("one of them");
            rows.push(Row { figure, ours: of(place), reference: of(0) });
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
