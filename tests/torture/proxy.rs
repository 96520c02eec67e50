//! A TCP proxy between the service and Redis that misbehaves on order, in either direction.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use socket2::SockRef;

/// How long a look at a quiet connection takes; faults that are switched on take effect within it.
const LOOK: Duration = Duration::from_millis(5);
/// What a hole has held back comes so long after its end, as after a sender's back-off: behind what new connections bring.
/// Longer than connecting may take: one that was begun in the hole has been given up by then, and another one is at work.
pub const RETRANSMISSION: Duration = Duration::from_millis(1500);
const PIECE: usize = 16 * 1024;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    None,
    /// Every piece is held back so long.
    Delay(Duration),
    /// A byte at a time.
    Slice,
    /// Nothing passes; what was sent is delivered some time after the fault is over, even if the sender has gone.
    BlackHole,
    /// So many bytes a second.
    Throttle(u64),
    /// The receiver is told that there is nothing more; the other direction goes on.
    HalfClose,
    /// Connections are reset, old and new.
    Reset,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    ToRedis,
    ToService,
}

#[derive(Default)]
struct State {
    faults: Mutex<[Option<Fault>; 2]>,
    /// Raised with each change: connections from before it are to be reset.
    resets: AtomicU64,
    stopped: AtomicBool,
}

pub struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
}

impl Proxy {
    pub fn start(redis: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let state = Arc::new(State::default());
        let serving = Arc::clone(&state);
        thread::spawn(move || {
            for service in listener.incoming() {
                if serving.stopped.load(Ordering::Relaxed) {
                    return;
                }
                if let Ok(service) = service {
                    connect(service, redis, &serving);
                }
            }
        });
        Proxy { address, state }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    pub fn set(&self, way: Way, fault: Fault) {
        self.state.faults()[way as usize] = Some(fault);
        if fault == Fault::Reset {
            self.state.resets.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.stopped.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

impl State {
    fn faults(&self) -> std::sync::MutexGuard<'_, [Option<Fault>; 2]> {
        self.faults.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn fault(&self, way: Way) -> Fault {
        self.faults()[way as usize].unwrap_or(Fault::None)
    }
}

fn connect(service: TcpStream, redis: u16, state: &Arc<State>) {
    let is_reset = [Way::ToRedis, Way::ToService].iter().any(|way| state.fault(*way) == Fault::Reset);
    if is_reset {
        return reset_on_close(&service);
    }
    let Ok(redis) = TcpStream::connect((Ipv4Addr::LOCALHOST, redis)) else { return };
    for stream in [&service, &redis] {
        let _ = stream.set_nodelay(true);
        let _ = stream.set_read_timeout(Some(LOOK));
        let _ = stream.set_write_timeout(Some(Duration::from_secs(60)));
    }
    let (service, redis) = (Arc::new(service), Arc::new(redis));
    let ended = Arc::new(AtomicBool::new(false));
    for (way, from, to) in [(Way::ToRedis, &service, &redis), (Way::ToService, &redis, &service)] {
        let pump = Pump {
            way,
            from: Arc::clone(from),
            to: Arc::clone(to),
            state: Arc::clone(state),
            ended: Arc::clone(&ended),
            resets: state.resets.load(Ordering::Relaxed),
        };
        thread::spawn(move || pump.run());
    }
}

/// One direction of a connection.
struct Pump {
    way: Way,
    from: Arc<TcpStream>,
    to: Arc<TcpStream>,
    state: Arc<State>,
    /// Whether the connection is over in both directions.
    ended: Arc<AtomicBool>,
    resets: u64,
}

impl Pump {
    fn run(&self) {
        let mut buffer = vec![0; PIECE];
        while !self.is_over() {
            match self.state.fault(self.way) {
                Fault::BlackHole => {
                    self.wait_in_hole();
                    continue;
                }
                Fault::HalfClose => break,
                _ => {}
            }
            match (&*self.from).read(&mut buffer) {
                Ok(0) => break,
                Ok(count) if self.pass(&buffer[..count]) => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                _ => {
                    self.ended.store(true, Ordering::Relaxed);
                    break;
                }
            }
        }
        let _ = self.to.shutdown(Shutdown::Write);
    }

    fn is_over(&self) -> bool {
        if self.state.resets.load(Ordering::Relaxed) != self.resets {
            reset_on_close(&self.from);
            reset_on_close(&self.to);
            self.ended.store(true, Ordering::Relaxed);
        }
        self.ended.load(Ordering::Relaxed) || self.state.stopped.load(Ordering::Relaxed)
    }

    /// Returns some time after the hole is gone.
    fn wait_in_hole(&self) {
        while self.state.fault(self.way) == Fault::BlackHole && !self.is_over() {
            thread::sleep(LOOK);
        }
        thread::sleep(RETRANSMISSION);
    }

    /// Whether the piece has been passed on.
    fn pass(&self, piece: &[u8]) -> bool {
        let mut to = &*self.to;
        match self.state.fault(self.way) {
            Fault::Delay(time) => {
                thread::sleep(time);
                to.write_all(piece).is_ok()
            }
            Fault::Slice => piece.chunks(1).all(|byte| to.write_all(byte).is_ok()),
            Fault::Throttle(rate) => piece.chunks((rate / 100).max(1) as usize).all(|part| {
                thread::sleep(Duration::from_secs_f64(part.len() as f64 / rate as f64));
                to.write_all(part).is_ok()
            }),
            Fault::BlackHole => {
                self.wait_in_hole();
                to.write_all(piece).is_ok()
            }
            Fault::None | Fault::HalfClose | Fault::Reset => to.write_all(piece).is_ok(),
        }
    }
}

/// The peer gets a reset in place of an orderly end once the last handle is gone.
fn reset_on_close(stream: &TcpStream) {
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}
