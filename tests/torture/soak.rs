//! Mixed load for a long time: nothing piles up.

use std::thread;

use super::Extent;
use super::load::under_load;
use super::machine::{connections_to, descriptors, resident_mib};
use super::site::{Plot, SECOND, rests};
use super::support::{Redis, eventually};
use super::tally::Row;

/// What a first load leaves behind for good (connections kept, the allocator's own) is no leak.
const GROWTH: f64 = 1.25;
const GROWTH_MIB: f64 = 16.0;
/// Beside connections to the blob server: as many of those are kept as there were fetches at once, and that is chance.
const MORE_DESCRIPTORS: usize = 4;
/// The default of `fetch.per_host`.
const KEPT_FOR_BLOBS: usize = 64;

pub fn soak(extent: &Extent) -> Row {
    let site = Plot::on(Redis::start()).start(|daemon| daemon);
    let plan = site.plan(extent);
    let pid = site.daemon.pid();
    under_load(plan, Some(&site.blobs), |_| thread::sleep(extent.pick(SECOND, 5 * SECOND)));
    let kept = || connections_to(pid, site.blobs.port());
    let others = || descriptors(pid).saturating_sub(kept());
    let before = (others(), resident_mib(pid));
    redis::cmd("FLUSHALL").exec(&mut site.redis.conn()).expect("FLUSHALL");
    let tally = under_load(plan, Some(&site.blobs), |_| thread::sleep(extent.pick(3 * SECOND, extent.soak)));
    let mut row = tally.into_row("soak", 1).all_answered();
    let few = eventually(5 * SECOND, || others() <= before.0 + MORE_DESCRIPTORS);
    let after = (others(), resident_mib(pid));
    let kept = kept();
    row.note(format!("file descriptors {} before, {} after, and {kept} connections for blobs", before.0, after.0));
    row.note(format!("resident {:.1} MiB before, {:.1} MiB after", before.1, after.1));
    row.expect(few, || "file descriptors have piled up".to_owned());
    row.expect(kept <= KEPT_FOR_BLOBS, || format!("{kept} connections are kept for blobs"));
    row.expect(after.1 <= before.1 * GROWTH + GROWTH_MIB, || "memory has piled up".to_owned());
    rests(&site.daemon, &mut row);
    row
}
