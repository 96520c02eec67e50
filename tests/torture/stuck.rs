//! An actor that works for ever: `/live` must tell, or at least not say that all is well. Needs the cargo feature
//! `failpoints`.

use std::time::{Duration, Instant};

use super::Extent;
use super::site::{Plot, SECOND, Site};
use super::support::{Blob, Redis, Wire, eventually, set_blob};
use super::tally::Row;

const STALL: Duration = SECOND;
const LIMIT: Duration = Duration::from_secs(3);
/// What takes longer is no answer.
const PATIENCE: Duration = Duration::from_millis(250);
/// Connections go to the service's threads in turn: so many meet all of them.
const LOOKS: usize = 6;

/// A loop at each point, with the probes on the main port and on one of their own.
pub fn all(extent: &Extent) -> Vec<Row> {
    if !cfg!(feature = "failpoints") {
        println!("stuck                skipped: built without --features failpoints");
        return Vec::new();
    }
    let points = extent.pick(&["router"][..], &["intake", "validation", "router", "fetch", "write"]);
    let mut row = Row { name: "stuck".to_owned(), ..Row::default() };
    for point in points {
        for has_port in [false, true] {
            row.rounds += 1;
            stuck(point, has_port, &mut row);
        }
    }
    vec![row]
}

fn stuck(point: &str, has_port: bool, row: &mut Row) {
    let site = Plot::on(Redis::start()).start(|daemon| {
        let daemon = daemon.unready().set("live.stall_seconds", STALL.as_secs());
        // `delay` works until the time is over, where `sleep` would only wait.
        let daemon = daemon.env("FAILPOINTS", &format!("{point}=1*delay(600000)"));
        if has_port { daemon.set("admin_port", 0) } else { daemon }
    });
    site.blobs.put("/b", Blob::bytes("blob"));
    let address = if has_port { site.daemon.admin_address() } else { site.daemon.address() };
    let live = || {
        let mut wire = Wire::try_open(address).ok()?;
        wire.writer().set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        wire.send_request("GET", "/live", &[], b"");
        wire.try_answer(false).ok().map(|answer| answer.status)
    };
    let looks = || (0..LOOKS).map(|_| live()).collect::<Vec<_>>();
    let before = looks();
    let is_well = before.iter().all(|status| *status == Some(200));
    row.expect(is_well, || format!("{point}: /live answers {before:?} with nothing stuck"));
    post_and_forget(&site);
    let begin = Instant::now();
    let (mut said, mut took) = (before, Duration::ZERO);
    let told = eventually(2 * LIMIT, || {
        took = begin.elapsed();
        said = looks();
        !said.contains(&Some(200))
    });
    let place = if has_port { "on its own port" } else { "on the main port" };
    row.note(format!("{point}, /live {place}: {said:?} after {} ms", took.as_millis()));
    row.expect(told && took <= LIMIT, || format!("{point}: /live {place} answers {said:?} after {took:?}"));
    // A port of its own has a thread of its own: there it must answer.
    let is_clear = said.iter().all(|status| *status == Some(503));
    row.expect(!has_port || is_clear, || format!("{point}: /live {place} answers {said:?}"));
    row.sent += 1;
}

/// The event that the actor never gets over.
fn post_and_forget(site: &Site) {
    let (address, event) = (site.daemon.address(), set_blob("k", &site.blobs.url("/b")).to_string());
    let mut wire = Wire::open(address);
    wire.send_request("POST", "/events", &[("Content-Type", "application/json")], event.as_bytes());
    // Answered or not, it is of no interest; the connection stays open as long as the process.
    std::mem::forget(wire);
}
