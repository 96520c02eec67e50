//! Scanner: carries out pattern deletes and previews, all that wait together in one scan, on a thread and sessions of its own.
//!
//! What a step of the scan found is deleted in the same round trip as the next step is taken ([`walk`]). A scan that does
//! not come to its end in time leaves its [place](resume), so that the same patterns go on there when they are sent again.

mod resume;
mod rule;
mod seen;
mod walk;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::lock::Mutex;

use self::resume::ResumePoints;
use self::seen::CountedKeys;
use self::walk::ScanWalk;
use crate::cache::Session;
use crate::pipeline::runtime::{DropNotice, Stage, StageContext};
use crate::pipeline::work::admission::Admission;
use crate::pipeline::work::operation::PatternDelete;
use crate::pipeline::work::reply::enter_all;
use crate::pipeline::work::timing::Phase;
use crate::telemetry::Metrics;

/// The only message to the scanner: Pattern deletes that start together, in the order of acceptance. All that was accepted before them is in the cache.
pub struct StartScan {
    /// Which of the two sessions the scan runs on.
    pub kind: ScanKind,
    /// The patterns of this scan; those of one kind share each step.
    pub deletes: Vec<PatternDelete>,
    /// Tells the central router when all of them have ended, also by a panic.
    pub ended: DropNotice<ScanEnded>,
}

/// The scanner is done with what it was given.
pub struct ScanEnded {
    /// The epoch of the router that asked for the scan.
    pub epoch: u64,
    /// Which of the two scans has ended.
    pub kind: ScanKind,
}

/// Scans of both kinds may run side by side, each on a session of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScanKind {
    /// Previews may be among them.
    Deletes,
    /// Only previews: they hold up nobody and are never waited for.
    Previews,
}

/// The actor; there is one in the process, on a thread of its own.
pub struct Scanner {
    admission: Arc<Admission>,
    metrics: Metrics,
    /// The sessions by kind of scan, each with the places where scans on it have stopped.
    sessions: [ScanSession; 2],
    /// How long a step is tried (`redis.retry_ms`).
    retry: Duration,
}

struct ScanSession {
    /// Held by the scan that runs.
    session: Rc<Mutex<Box<dyn Session>>>,
    resume: Rc<RefCell<ResumePoints>>,
}

/// How often places whose time is over are looked for: what they watch costs each operation a look.
const LOOK_EVERY: Duration = Duration::from_secs(10);

impl Scanner {
    /// A scanner with a session for each kind of scan, by the order of [`ScanKind`]. A step is tried for `retry`
    /// (`redis.retry_ms`).
    pub fn new(admission: Arc<Admission>, sessions: [Box<dyn Session>; 2], retry: Duration, metrics: Metrics) -> Self {
        let open = |session| ScanSession { session: Rc::new(Mutex::new(session)), resume: Rc::default() };
        Scanner { admission, metrics, sessions: sessions.map(open), retry }
    }

    fn start(&mut self, StartScan { kind, deletes, ended }: StartScan, context: &mut StageContext<'_, Self>) {
        enter_all(deletes.iter().flat_map(|delete| &delete.slots), Phase::Cache, Instant::now());
        let ScanSession { session, resume } = &self.sessions[kind as usize];
        let (session, resume, retry) = (session.clone(), resume.clone(), self.retry);
        let (seen, metrics) = (CountedKeys::new(self.admission.permit()), self.metrics.clone());
        let work = async move {
            let mut session = session.lock().await;
            ScanWalk::new(session.as_mut(), retry, resume, (seen, metrics), deletes).run().await;
            drop(ended);
        };
        context.spawn(work, |_, (), _| {});
    }
}

impl Stage for Scanner {
    type Message = StartScan;

    fn started(&mut self, context: &mut StageContext<'_, Self>) {
        context.every(LOOK_EVERY, |scanner, _| {
            let now = Instant::now();
            scanner.sessions.iter().for_each(|session| session.resume.borrow_mut().drop_old(now));
        });
    }

    fn handle(&mut self, deletes: StartScan, context: &mut StageContext<'_, Self>) {
        self.start(deletes, context);
    }
}
