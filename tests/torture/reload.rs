//! Sizes of pools that change by SIGHUP, up and down, while all is well, while Redis closes connections, and while it does
//! not answer.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Duration;

use super::Extent;
use super::site::{Plot, SECOND};
use super::support::{Builder, Redis, Wire, eventually, signal};
use super::tally::Row;

/// Of writers and fetchers; of intake and validation actors on threads of their own.
const SIZES: [(usize, usize); 6] = [(4, 0), (2, 3), (8, 1), (1, 0), (8, 4), (2, 0)];
const FAULTS: [Fault; 3] = [Fault::None, Fault::Closes, Fault::Silent];
const FILE: &str = "settings.toml";

/// What Redis does meanwhile.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    Closes,
    Silent,
}

pub fn reload(extent: &Extent) -> Row {
    let rounds = extent.pick_of(6, 24, 200);
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join(FILE);
    write(&file, 0, SIZES[5]);
    let path = file.display().to_string();
    let settings = |daemon: Builder| daemon.set("log_level", "info").args(&["--config", &path]);
    let site = Plot::on(Redis::start()).start(settings);
    let (pid, address) = (site.daemon.pid(), site.daemon.address());
    let mut row = site.struck("reload", extent, rounds, |strike, round| {
        let fault = FAULTS[round % FAULTS.len()];
        let unavailable = || strike.load.tally.unavailable.load(Relaxed);
        let before = unavailable();
        if fault == Fault::Silent {
            strike.redis.pause();
        }
        for step in 0..2 {
            write(&file, 2 * round + step, SIZES[(2 * round + step) % SIZES.len()]);
            signal(pid, "HUP");
            thread::sleep(Duration::from_millis(20 + strike.random.below(100)));
            if fault == Fault::Closes {
                let _ = redis::cmd("CLIENT").arg("KILL").arg("TYPE").arg("normal").exec(&mut strike.redis.conn());
            }
        }
        if fault == Fault::Silent {
            strike.redis.resume();
        }
        let (wanted, _) = SIZES[(2 * round + 1) % SIZES.len()];
        if !eventually(2 * SECOND, || writers(address) == Some(wanted)) {
            strike.load.tally.complain(|| format!("{:?} writers, not {wanted}", writers(address)));
        }
        let refused = unavailable() - before;
        if fault == Fault::None && refused > 0 {
            strike.load.tally.complain(|| format!("{refused} answers of 503, and nothing was wrong"));
        }
    });
    row.note("in turn with nothing else, with CLIENT KILL, and while Redis is stopped".to_owned());
    row
}

/// Those that run.
fn writers(address: SocketAddr) -> Option<usize> {
    let mut wire = Wire::try_open(address).ok()?;
    wire.send_request("GET", "/metrics", &[], b"");
    let text = wire.try_answer(false).ok()?.text();
    let series = "cache_sync_actors{actor=\"writer\"} ";
    text.lines().find_map(|line| line.strip_prefix(series))?.trim().parse().ok()
}

fn write(file: &Path, number: usize, (pool, own): (usize, usize)) {
    let text = format!(
        "# {number}\n[redis]\npool_size = {pool}\n[fetch]\npool_size = {pool}\n[intake]\npool_size = {own}\n\
         [validation]\npool_size = {own}\n"
    );
    let beside = file.with_extension("new");
    fs::write(&beside, text).expect("it can be written");
    fs::rename(&beside, file).expect("it can be renamed");
}
