//! A rolling restart: two services behind one address, told to end and started again in turn. Whoever asks again gets
//! everything done, and nobody is left without an answer.

use std::io::copy;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use super::Extent;
use super::load::{Plan, under_load};
use super::site::{SECOND, UNDER_WAY, rests, service};
use super::support::{BlobServer, Random, Redis, Wire, free_port};
use super::tally::Row;

const PROBE: Duration = Duration::from_millis(20);

/// What a load balancer does: new connections go, in turn, to those that are ready; established ones stay where they are
/// until they are closed.
struct Balancer {
    address: SocketAddr,
    backends: Arc<[Backend]>,
    stopped: Arc<AtomicBool>,
}

struct Backend {
    port: u16,
    ready: AtomicBool,
    connections: AtomicUsize,
}

pub fn rolling(extent: &Extent) -> Row {
    let rounds = extent.pick_of(2, 8, 100);
    let (redis, blobs) = (Redis::start(), BlobServer::start());
    let ports = [free_port(), free_port()];
    let mut daemons = ports.map(|port| service(port, redis.port()).start());
    let balancer = Balancer::before(&ports);
    let mut random = Random::seeded(extent.seed);
    let mut slowest = Duration::ZERO;
    let plan = Plan::of(extent.seed, balancer.address.port(), redis.port()).impatient();
    let tally = under_load(plan, Some(&blobs), |load| {
        for round in 0..2 * rounds {
            let turn = round % 2;
            load.wait_acknowledged(UNDER_WAY, 10 * SECOND);
            thread::sleep(Duration::from_millis(random.below(150)));
            let begin = Instant::now();
            daemons[turn].sigterm();
            let status = daemons[turn].wait_exit(26 * SECOND);
            slowest = slowest.max(begin.elapsed());
            if status.code() != Some(0) {
                load.tally.complain(|| format!("round {round} ended with {status}"));
            }
            daemons[turn] = service(ports[turn], redis.port()).start();
            balancer.wait_ready(turn);
        }
        load.wait_acknowledged(UNDER_WAY, 10 * SECOND);
    });
    let refused = tally.refused.load(Relaxed);
    let mut row = tally.into_row("rolling", rounds).all_answered();
    let connections: Vec<_> = balancer.backends.iter().map(|backend| backend.connections.load(Relaxed)).collect();
    row.note(format!("the slowest exit took {} ms; connections to each {connections:?}", slowest.as_millis()));
    row.expect(refused == 0, || format!("{refused} connections were refused"));
    row.expect(connections.iter().all(|count| *count > 0), || format!("one was never asked: {connections:?}"));
    for daemon in &daemons {
        rests(daemon, &mut row);
    }
    row
}

impl Balancer {
    fn before(ports: &[u16]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let backend =
            |port: &u16| Backend { port: *port, ready: AtomicBool::new(true), connections: AtomicUsize::new(0) };
        let backends: Arc<[Backend]> = ports.iter().map(backend).collect();
        let stopped = Arc::new(AtomicBool::new(false));
        for number in 0..backends.len() {
            let (backends, stopped) = (backends.clone(), stopped.clone());
            thread::spawn(move || {
                while !stopped.load(Relaxed) {
                    backends[number].probe();
                    thread::sleep(PROBE);
                }
            });
        }
        let (serving, ended) = (backends.clone(), stopped.clone());
        thread::spawn(move || {
            for (number, client) in listener.incoming().map_while(Result::ok).enumerate() {
                if ended.load(Relaxed) {
                    return;
                }
                // If no one is ready the client finds its connection closed, which counts as unanswered.
                if let Some(server) = connect(&serving, number) {
                    join(client, server);
                }
            }
        });
        Balancer { address, backends, stopped }
    }

    /// Waits until new connections go there again.
    fn wait_ready(&self, number: usize) {
        let ready = super::support::eventually(5 * SECOND, || self.backends[number].ready.load(Relaxed));
        assert!(ready, "the balancer does not take service {number} for ready");
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.stopped.store(true, Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

impl Backend {
    fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    fn probe(&self) {
        let is_ready = Wire::try_open(self.address()).is_ok_and(|mut wire| {
            wire.send_request("GET", "/ready", &[], b"");
            wire.try_answer(false).is_ok_and(|answer| answer.status == 200)
        });
        self.ready.store(is_ready, Relaxed);
    }
}

fn connect(backends: &[Backend], number: usize) -> Option<TcpStream> {
    let in_turn = || (0..backends.len()).map(|step| &backends[(number + step) % backends.len()]);
    in_turn().filter(|backend| backend.ready.load(Relaxed)).find_map(|backend| {
        let server = TcpStream::connect(backend.address()).ok()?;
        backend.connections.fetch_add(1, Relaxed);
        Some(server)
    })
}

/// Passes bytes both ways, and each end of a direction as what it is.
fn join(client: TcpStream, server: TcpStream) {
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (Ok(from_client), Ok(to_client)) = (client.try_clone(), client.try_clone()) else { return };
    let Ok(to_server) = server.try_clone() else { return };
    for (mut from, mut to) in [(from_client, to_server), (server, to_client)] {
        thread::spawn(move || {
            let _ = copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        });
    }
}
