//! How long the hosts of blobs take, each by its name; a store by its own, `store/NAME`. Senders name hosts, so there are [`MAX_HOSTS`] places: those that the
//! operator listed have theirs beforehand, the others are for the first that come; what finds no place, or is no name that a
//! host may have, counts as `other`.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ahash::RandomState;
use arc_swap::ArcSwap;
use prometheus::{Histogram, HistogramVec};

/// Hosts with a name of their own in the metrics, at most.
pub const MAX_HOSTS: usize = 32;
/// Characters of a host's name (RFC 1035), of the port and of what is around them.
const MAX_NAME: usize = 253 + 8;
const OUTCOMES: [&str; 2] = ["ok", "failed"];
const OTHER: &str = "other";

pub(super) struct HostFetches {
    vec: HistogramVec,
    /// Looked at for each fetch, on every thread, and hardly ever changed.
    places: ArcSwap<Places>,
    other: ByOutcome,
}

type Places = HashMap<String, ByOutcome, RandomState>;

/// The attempts that brought the blob, and those that did not.
type ByOutcome = [Histogram; OUTCOMES.len()];

impl HostFetches {
    pub fn new(vec: HistogramVec) -> Self {
        let other = resolve(&vec, OTHER);
        HostFetches { vec, places: ArcSwap::default(), other }
    }

    /// Gives these their places, as far as there are some.
    pub fn reserve(&self, hosts: impl IntoIterator<Item = String>) {
        for host in hosts {
            self.with_place(&host, true, |_| {});
        }
    }

    /// `host` is `host:port` as a URL has it. One that must not be called takes no place.
    pub fn observe(&self, host: &str, may_be_called: bool, is_ok: bool, took: Duration) {
        self.with_place(host, may_be_called, |[ok, failed]| {
            let series = if is_ok { ok } else { failed };
            series.observe(took.as_secs_f64());
        });
    }

    /// Each with its name, those that have a place.
    pub fn for_each(&self, mut each: impl FnMut(&str, &ByOutcome)) {
        for (host, series) in self.places.load().iter() {
            each(host, series);
        }
    }

    /// Attempts at this host that brought a blob; of a host without a place, those of all such.
    pub fn given(&self, host: &str) -> u64 {
        let places = self.places.load();
        let own = name(host).and_then(|name| places.get(&*name));
        own.unwrap_or(&self.other)[0].get_sample_count()
    }

    fn with_place(&self, host: &str, may_take_one: bool, work: impl FnOnce(&ByOutcome)) {
        if let Some(own) = self.places.load().get(host) {
            return work(own);
        }
        let Some(name) = name(host) else { return work(&self.other) };
        let has_room = |places: &Places| places.len() < MAX_HOSTS && !places.contains_key(&*name);
        if may_take_one && has_room(&self.places.load()) {
            self.places.rcu(|places| {
                let mut places = Places::clone(places);
                if has_room(&places) {
                    places.insert(name.clone().into_owned(), resolve(&self.vec, &name));
                }
                Arc::new(places)
            });
        }
        work(self.places.load().get(&*name).unwrap_or(&self.other));
    }
}

impl fmt::Debug for HostFetches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostFetches").finish_non_exhaustive()
    }
}

fn resolve(vec: &HistogramVec, host: &str) -> ByOutcome {
    OUTCOMES.map(|outcome| vec.with_label_values(&[host, outcome]))
}

/// The name as the label has it, without the dot that may end it. None: a URL may have it, but no host does.
fn name(host: &str) -> Option<Cow<'_, str>> {
    if let Some(store) = host.strip_prefix("store/") {
        // The operator's own name for it: there are as many as are set up.
        let is_good = store.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        return is_good.then_some(host.into());
    }
    let (name, port) = host.rsplit_once(':')?;
    let is_address = |inside: &str| inside.bytes().all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.'));
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    let is_host = match name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
        Some(inside) => is_address(inside),
        None => !name.is_empty() && name.bytes().all(is_name),
    };
    if !is_host || host.len() > MAX_NAME || !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(match name.strip_suffix('.') {
        Some(name) => format!("{name}:{port}").into(),
        None => host.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::Metrics;
    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    fn hosts(metrics: &Metrics) -> Vec<String> {
        let text = metrics.encode().unwrap();
        let counts = text.lines().filter(|line| line.starts_with("cache_sync_blob_host_fetch_duration_seconds_count"));
        let host = |line: &str| line.split("host=\"").nth(1).and_then(|rest| rest.split('"').next()).map(str::to_owned);
        let mut hosts: Vec<String> = counts.filter_map(host).collect();
        hosts.dedup();
        hosts
    }

    #[test]
    fn hosts_that_are_listed_have_places_the_first_that_come_the_rest_and_no_more_are_named() {
        let metrics = Metrics::new("").unwrap();
        metrics.reserve_hosts(["listed.example:443".to_owned()]);
        assert_eq!(hosts(&metrics), ["listed.example:443", "other"]);
        for n in 0..500 {
            metrics.host_fetch_done(&format!("h{n}.example:443"), true, n % 2 == 0, MILLISECOND);
        }
        metrics.host_fetch_done("listed.example:443", true, true, MILLISECOND);
        let named = hosts(&metrics);
        assert_eq!(named.len(), MAX_HOSTS + 1, "{named:?}");
        assert!(named.contains(&"h30.example:443".to_owned()) && !named.contains(&"h31.example:443".to_owned()));
        let text = metrics.encode().unwrap();
        let name = "cache_sync_blob_host_fetch_duration_seconds_count";
        for line in [
            format!(r#"{name}{{host="listed.example:443",outcome="ok"}} 1"#),
            format!(r#"{name}{{host="other",outcome="ok"}} 234"#),
            format!(r#"{name}{{host="other",outcome="failed"}} 235"#),
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not among\n{text}");
        }
    }

    #[test]
    fn only_a_name_that_a_host_may_have_becomes_a_label_and_what_must_not_be_called_takes_no_place() {
        let metrics = Metrics::new("").unwrap();
        let long = format!("{}:80", "a".repeat(300));
        let odd = ["a\"b:80", "a b:80", "a\nb:80", "a{b:80", ":80", "a.example", "a:b", "[::1:80", "[x]:80", &long];
        for host in odd {
            metrics.host_fetch_done(host, true, true, MILLISECOND);
        }
        metrics.host_fetch_done("forbidden.example:22", false, false, MILLISECOND);
        assert_eq!(hosts(&metrics), ["other"]);
        for host in
            ["b.example.:443", "b.example:443", "[2001:db8::1]:80", "192.0.2.1:8080", "xn--bcher-kva.example:80"]
        {
            metrics.host_fetch_done(host, true, true, MILLISECOND);
        }
        let mut named = hosts(&metrics);
        named.sort();
        let wanted = ["192.0.2.1:8080", "[2001:db8::1]:80", "b.example:443", "other", "xn--bcher-kva.example:80"];
        assert_eq!(named, wanted);
    }
}
