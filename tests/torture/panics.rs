//! Real panics inside the actors, seldom and often. Needs the cargo feature `failpoints`.

use std::thread;

use super::Extent;
use super::load::{Plan, under_load};
use super::site::{Plot, SECOND, rests};
use super::support::{Redis, eventually};
use super::tally::Row;

/// The points, each with the actor that it brings down.
const POINTS: [(&str, &str); 5] = [
    ("intake", "intake"),
    ("validation", "validation"),
    ("router", "router"),
    ("fetch", "fetcher"),
    ("write", "writer"),
];

/// A row for each point and one for all at once, at each rate.
pub fn all(extent: &Extent) -> Vec<Row> {
    if !cfg!(feature = "failpoints") {
        println!("panics               skipped: built without --features failpoints");
        return Vec::new();
    }
    let points = POINTS.iter().map(std::slice::from_ref).chain([POINTS.as_slice()]);
    let rates = extent.pick(&[20][..], &[1, 20]);
    points.flat_map(|points| rates.iter().map(|rate| panicking(extent, points, *rate))).collect()
}

fn panicking(extent: &Extent, points: &[(&str, &str)], percent: u32) -> Row {
    let name = if let [(point, _)] = points { point } else { "all" };
    let failing: Vec<String> = points.iter().map(|(point, _)| format!("{point}={percent}%panic")).collect();
    let site = Plot::on(Redis::start()).start(|daemon| daemon.unready().env("FAILPOINTS", &failing.join(";")));
    let restarts = |actor: &str| {
        let label = format!("actor=\"{actor}\"");
        site.daemon.metric("cache_sync_actor_restarts_total", &[label.as_str()])
    };
    // A request of many events would never pass when each of its messages may panic: the sender keeps them small.
    let plan = Plan { batch: 3, limit: 29 * SECOND, ..site.plan(extent) };
    let tally = under_load(plan, Some(&site.blobs), |load| {
        load.wait_acknowledged(20, 20 * SECOND);
        thread::sleep(extent.pick_of(SECOND, 4 * SECOND, 30 * SECOND));
        if percent > 1 {
            eventually(60 * SECOND, || points.iter().all(|(_, actor)| restarts(actor) > 0.0));
        }
    });
    let mut row = tally.into_row(format!("panics-{name}-{percent}"), 1).all_answered();
    let counted: Vec<String> = points.iter().map(|(_, actor)| format!("{actor} {}", restarts(actor))).collect();
    row.note(format!("restarts: {}", counted.join(", ")));
    for (_, actor) in points.iter().filter(|(_, actor)| restarts(actor) == 0.0) {
        row.expect(percent == 1, || format!("no {actor} was ever restarted"));
    }
    rests(&site.daemon, &mut row);
    row
}
