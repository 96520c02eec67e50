//! What the requests of one HTTP worker share on its thread: the state of all workers, the way into the pipeline, and
//! the look at the clock and at the actors.
//!
//! A timer for each wait costs more than the wait is worth: nearly all of them end long before their time. So a worker
//! looks at the clock every [`CHECK_EVERY`], and wakes who is late, or everybody if the service has to end.

use std::cell::{Cell, Ref, RefCell};
use std::future::{Future, poll_fn};
use std::mem;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use actix_rt::time::interval;
use actix_web::web::Data;

use super::load::WorkerLoad;
use super::state::HttpState;
use crate::journal::{AppendStage, Appender};
use crate::pipeline::Submitter;
use crate::pipeline::runtime::Thread;
use crate::telemetry::ActorKind;

/// How much longer than its time a wait may last.
const CHECK_EVERY: Duration = Duration::from_millis(50);

pub struct Worker {
    pub shared: Data<HttpState>,
    pub submitter: Submitter,
    /// None: there is no journal.
    pub appender: Option<Appender>,
    /// When it last looked.
    looked: Cell<Instant>,
    /// What is under way must be answered now, seen then.
    has_to_end: Cell<bool>,
    /// What it has in hand.
    pub load: Arc<WorkerLoad>,
    /// The kinds of which an actor has been stuck for `live.stall_seconds`, seen then.
    stuck: RefCell<Vec<ActorKind>>,
    waits: RefCell<WaitTable>,
}

/// The waits that may be cut off, each in its own place. There are as many places as there were ever waits at once.
#[derive(Default)]
struct WaitTable {
    places: Vec<Option<WaitEntry>>,
    free: Vec<usize>,
}

struct WaitEntry {
    until: Instant,
    /// When what it waits for was accepted, if it was.
    since: Option<Instant>,
    waker: Waker,
}

/// What ended a wait before its time.
pub enum WaitEnd {
    /// The service has to go.
    CutOff,
    Late,
}

impl Worker {
    /// Must be called on the worker's thread.
    pub fn new(shared: Data<HttpState>, submitter: Submitter) -> Rc<Self> {
        let (looked, stuck, waits) = (Cell::new(Instant::now()), RefCell::default(), RefCell::default());
        let load = shared.enrol();
        let appender = shared.journal.clone().map(|journal| {
            let (registry, own) = (&shared.pipeline.registry, journal.clone());
            let start = move |_, _| AppendStage::new(own);
            Appender::new(journal, registry.start_on(&Thread::current(), ActorKind::Appender, start))
        });
        let worker =
            Rc::new(Worker { shared, submitter, appender, looked, has_to_end: Cell::new(false), load, stuck, waits });
        let watched = Rc::downgrade(&worker);
        actix_rt::spawn(async move {
            let mut looks = interval(CHECK_EVERY);
            looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            while let Some(worker) = watched.upgrade() {
                worker.check_deadlines();
                drop(worker);
                looks.tick().await;
            }
        });
        worker
    }

    /// A place from which to wait.
    pub fn timed_wait(&self) -> TimedWait<'_> {
        let mut waits = self.waits.borrow_mut();
        let place = waits.free.pop().unwrap_or_else(|| {
            waits.places.push(None);
            waits.places.len() - 1
        });
        TimedWait { worker: self, place }
    }

    /// The kinds of which an actor is stuck.
    pub fn stuck(&self) -> Ref<'_, Vec<ActorKind>> {
        self.stuck.borrow()
    }

    fn check_deadlines(&self) {
        let now = Instant::now();
        self.looked.set(now);
        self.stuck.replace(self.shared.pipeline.registry.stuck(self.shared.settings.stall));
        self.load.set_oldest_since(self.waits.borrow().places.iter().flatten().filter_map(|place| place.since).min());
        let has_to_end = self.shared.is_cut_off();
        self.has_to_end.set(has_to_end);
        for place in self.waits.borrow().places.iter().flatten().filter(|place| has_to_end || place.until <= now) {
            place.waker.wake_by_ref();
        }
    }
}

/// The right to wait on a worker, given back when it is dropped.
pub struct TimedWait<'a> {
    worker: &'a Worker,
    place: usize,
}

impl TimedWait<'_> {
    /// Waits for the work up to this moment, and no longer than the service waits. `since` is when it was accepted, if it
    /// was.
    pub async fn wait<F: Future>(
        &mut self,
        mut work: Pin<&mut F>,
        since: Option<Instant>,
        until: Instant,
    ) -> Result<F::Output, WaitEnd> {
        poll_fn(|context| match work.as_mut().poll(context) {
            Poll::Ready(done) => Poll::Ready(Ok(done)),
            Poll::Pending if self.worker.has_to_end.get() => Poll::Ready(Err(WaitEnd::CutOff)),
            Poll::Pending if self.worker.looked.get() >= until => Poll::Ready(Err(WaitEnd::Late)),
            Poll::Pending => {
                self.wake_late(since, until, context.waker());
                Poll::Pending
            }
        })
        .await
    }

    /// Waits for being polled again, which happens without a wake. If it does not, the worker's next look at the clock sees to
    /// it.
    pub async fn give_way(&mut self) {
        let mut has_waited = false;
        poll_fn(|context| match mem::replace(&mut has_waited, true) {
            false => {
                self.wake_late(None, self.worker.looked.get(), context.waker());
                Poll::Pending
            }
            true => Poll::Ready(()),
        })
        .await;
    }

    fn wake_late(&self, since: Option<Instant>, until: Instant, waker: &Waker) {
        if let Some(place) = self.worker.waits.borrow_mut().places.get_mut(self.place) {
            match place {
                Some(place) => {
                    (place.since, place.until) = (since, until);
                    place.waker.clone_from(waker);
                }
                None => *place = Some(WaitEntry { until, since, waker: waker.clone() }),
            }
        }
    }
}

impl Drop for TimedWait<'_> {
    fn drop(&mut self) {
        let mut waits = self.worker.waits.borrow_mut();
        if let Some(place) = waits.places.get_mut(self.place) {
            *place = None;
        }
        waits.free.push(self.place);
    }
}

#[cfg(test)]
mod tests {
    use actix_http::{HttpService, Request, Response};
    use actix_rt::net::TcpStream;
    use actix_service::{Service, ServiceFactory, fn_service};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::time::timeout;

    use super::*;

    /// What [`TimedWait::give_way`] relies on, and its safety net is for.
    #[actix_web::test]
    async fn actix_http_polls_a_request_again_once_it_has_looked_for_its_body() {
        let handler = fn_service(|_: Request| async {
            let mut has_waited = false;
            poll_fn(|_| if mem::replace(&mut has_waited, true) { Poll::Ready(()) } else { Poll::Pending }).await;
            Ok::<_, actix_web::Error>(Response::ok())
        });
        let service = HttpService::build().h1(handler).new_service(()).await.expect("a service");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        for behind_head in ["body", ""] {
            let mut client =
                TcpStream::connect(listener.local_addr().expect("an address")).await.expect("a connection");
            let (io, peer) = listener.accept().await.expect("a connection");
            actix_rt::spawn(service.call((io, Some(peer))));
            let sent = format!("POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 4\r\n\r\n{behind_head}");
            client.write_all(sent.as_bytes()).await.expect("it is sent");
            let mut start = [0; 12];
            let answered = timeout(Duration::from_secs(20), client.read_exact(&mut start)).await;
            answered.expect("it is polled again").expect("an answer");
            assert_eq!(&start, b"HTTP/1.1 200");
        }
    }
}
