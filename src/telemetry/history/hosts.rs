//! Hosts and stores of blobs that fail: since when, and why. A host that gives a blob is well again.

use std::time::{Duration, SystemTime};

use super::failures::{Failed, cut, millis};
use crate::event::FetchTarget;
use crate::event::outcome::{Class, FailedFetch};

/// Hosts that are kept: whoever failed longest ago goes.
const MAX_HOSTS: usize = 32;
/// After so long without another failure nothing is known of a host any more.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(15 * 60);
/// Bytes of a reason, and of a host's name.
const MAX_TEXT_BYTES: usize = 300;

/// A host that fails.
#[derive(Debug, Clone, PartialEq)]
pub struct FailingHost {
    /// `host:port`, or `store/NAME`.
    pub host: String,
    /// The first failure since it last gave a blob, in milliseconds since 1970.
    pub since_ms: u64,
    /// The last one.
    pub last_ms: u64,
    /// The last part of the type of the last problem.
    pub problem: &'static str,
    /// Why the last one failed, in words.
    pub detail: String,
    /// Failures since then.
    pub failures: u64,
    /// Blobs that it had given by then.
    ok: u64,
}

#[derive(Debug, Default)]
pub(super) struct FailingHosts(Vec<FailingHost>);

impl FailingHosts {
    /// Notes a failure, if it says something of a host. `ok` counts the blobs that the host has given so far.
    pub fn failed(&mut self, failed: &Failed<'_>, ok: u64, now: SystemTime) {
        let Some(fetch) = failed.fetch.filter(|fetch| is_the_hosts(failed, fetch)) else { return };
        let (host, now) = (cut(&fetch.target.authority(), MAX_TEXT_BYTES), millis(now));
        let known = self.0.iter_mut().find(|known| known.host == host);
        let known = match known {
            Some(known) => known,
            None => self.add(host, ok, now),
        };
        if known.ok != ok {
            (known.since_ms, known.ok, known.failures) = (now, ok, 0);
        }
        (known.last_ms, known.problem, known.detail) = (now, failed.problem, cut(failed.detail, MAX_TEXT_BYTES));
        known.failures += 1;
    }

    fn add(&mut self, host: String, ok: u64, now: u64) -> &mut FailingHost {
        let new =
            FailingHost { host, since_ms: now, last_ms: now, problem: "", detail: String::new(), failures: 0, ok };
        let oldest = self.0.iter().enumerate().min_by_key(|(_, host)| host.last_ms).map(|(place, _)| place);
        let place = match oldest {
            Some(place) if self.0.len() >= MAX_HOSTS => {
                self.0[place] = new;
                place
            }
            _ => {
                self.0.push(new);
                self.0.len() - 1
            }
        };
        &mut self.0[place]
    }

    /// Those that have given nothing since, the one that has failed for longest first.
    pub fn still_failing(&mut self, ok: impl Fn(&str) -> u64, now: SystemTime) -> Vec<FailingHost> {
        let oldest = millis(now).saturating_sub(FORGOTTEN_AFTER.as_millis() as u64);
        self.0.retain(|host| host.last_ms >= oldest && ok(&host.host) == host.ok);
        let mut failing = self.0.clone();
        failing.sort_by_key(|host| host.since_ms);
        failing
    }
}

/// Whether it is the host's doing: it could not be reached, or, of a store, it refuses the credentials.
fn is_the_hosts(failed: &Failed<'_>, fetch: &FailedFetch) -> bool {
    let is_store = matches!(fetch.target, FetchTarget::Object(_));
    failed.class == Some(Class::Unavailable) && failed.problem == "blob-unavailable"
        || is_store && failed.problem == "blob-denied"
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::event::{BlobUrl, StoreObject};

    fn fail(hosts: &mut FailingHosts, target: FetchTarget, (problem, class): (&'static str, Class), ok: u64, at: u64) {
        let fetch = FailedFetch { target, attempts: 1, version: None, ttl: None, is_checked: false };
        let failed = Failed { problem, class: Some(class), detail: "why", fetch: Some(&fetch), ..Failed::default() };
        hosts.failed(&failed, ok, UNIX_EPOCH + Duration::from_secs(at));
    }

    fn url(host: &str) -> FetchTarget {
        FetchTarget::Url(BlobUrl::parse(&format!("http://{host}/a")).unwrap())
    }

    fn store() -> FetchTarget {
        FetchTarget::Object(StoreObject::parse("main", "b/n").unwrap())
    }

    const DOWN: (&str, Class) = ("blob-unavailable", Class::Unavailable);

    #[test]
    fn a_host_fails_from_its_first_failure_on_until_it_gives_a_blob() {
        let mut hosts = FailingHosts::default();
        (10..15).for_each(|at| fail(&mut hosts, url("h.example"), DOWN, 7, at));
        let now = UNIX_EPOCH + Duration::from_secs(20);
        let failing = hosts.still_failing(|_| 7, now);
        assert_eq!((failing[0].since_ms, failing[0].last_ms, failing[0].failures), (10_000, 14_000, 5));
        assert_eq!((failing[0].host.as_str(), failing[0].detail.as_str()), ("h.example:80", "why"));
        fail(&mut hosts, url("h.example"), DOWN, 8, 16);
        assert_eq!(hosts.still_failing(|_| 8, now)[0].since_ms, 16_000, "it gave one in between");
        assert_eq!(hosts.still_failing(|_| 9, now), [], "it gives blobs again");
        fail(&mut hosts, url("h.example"), DOWN, 9, 17);
        assert_eq!(hosts.still_failing(|_| 9, now + FORGOTTEN_AFTER), [], "it is long ago");
    }

    #[test]
    fn what_a_blob_lacks_is_not_its_hosts_fault_and_refused_credentials_are() {
        let mut hosts = FailingHosts::default();
        fail(&mut hosts, url("h.example"), ("blob-not-found", Class::Rejected), 0, 1);
        fail(&mut hosts, url("h.example"), ("blob-denied", Class::Rejected), 0, 1);
        fail(&mut hosts, store(), ("blob-denied", Class::Rejected), 0, 1);
        let failing = hosts.still_failing(|_| 0, UNIX_EPOCH + Duration::from_secs(2));
        assert_eq!(failing.iter().map(|host| host.host.as_str()).collect::<Vec<_>>(), ["store/main"]);
    }

    #[test]
    fn so_many_hosts_are_kept_and_the_one_that_failed_longest_ago_goes() {
        let mut hosts = FailingHosts::default();
        (0..MAX_HOSTS as u64 + 3).for_each(|n| fail(&mut hosts, url(&format!("h{n}.example")), DOWN, 0, n));
        let failing = hosts.still_failing(|_| 0, UNIX_EPOCH + Duration::from_secs(60));
        assert_eq!((failing.len(), failing[0].host.as_str()), (MAX_HOSTS, "h3.example:80"));
    }
}
