//! The network between the service and Redis misbehaves, in one direction or the other.

use std::thread;
use std::time::Duration;

use super::Extent;
use super::proxy::{Fault, RETRANSMISSION, Way};
use super::site::Plot;
use super::support::Redis;
use super::tally::Row;

fn faulty(name: &str, extent: &Extent, fault: Fault, way: Way) -> Row {
    let site = Plot::on(Redis::start()).impatient().proxied().start(|daemon| daemon);
    let site = if fault == Fault::BlackHole { site.haunted(RETRANSMISSION) } else { site };
    site.struck(name, extent, extent.pick_of(1, 4, 25), |strike, round| {
        let Some(proxy) = strike.proxy else { return };
        if round > 0 && fault == Fault::BlackHole {
            // What the last one held back comes under load, and is not held back again.
            thread::sleep(RETRANSMISSION);
        }
        proxy.set(way, fault);
        thread::sleep(strike.some_time(500, 2000));
        proxy.set(way, Fault::None);
    })
}

const DELAY: Fault = Fault::Delay(Duration::from_millis(150));
const THROTTLE: Fault = Fault::Throttle(20_000);

pub fn delay_out(extent: &Extent) -> Row {
    faulty("proxy-delay-out", extent, DELAY, Way::ToRedis)
}

pub fn delay_back(extent: &Extent) -> Row {
    faulty("proxy-delay-back", extent, DELAY, Way::ToService)
}

pub fn slice_out(extent: &Extent) -> Row {
    faulty("proxy-slice-out", extent, Fault::Slice, Way::ToRedis)
}

pub fn slice_back(extent: &Extent) -> Row {
    faulty("proxy-slice-back", extent, Fault::Slice, Way::ToService)
}

pub fn black_hole_out(extent: &Extent) -> Row {
    faulty("proxy-hole-out", extent, Fault::BlackHole, Way::ToRedis)
}

pub fn black_hole_back(extent: &Extent) -> Row {
    faulty("proxy-hole-back", extent, Fault::BlackHole, Way::ToService)
}

pub fn throttle_out(extent: &Extent) -> Row {
    faulty("proxy-throttle-out", extent, THROTTLE, Way::ToRedis)
}

pub fn throttle_back(extent: &Extent) -> Row {
    faulty("proxy-throttle-back", extent, THROTTLE, Way::ToService)
}

pub fn half_close_out(extent: &Extent) -> Row {
    faulty("proxy-half-out", extent, Fault::HalfClose, Way::ToRedis)
}

pub fn half_close_back(extent: &Extent) -> Row {
    faulty("proxy-half-back", extent, Fault::HalfClose, Way::ToService)
}

/// A reset has no direction.
pub fn reset(extent: &Extent) -> Row {
    faulty("proxy-reset", extent, Fault::Reset, Way::ToRedis)
}
