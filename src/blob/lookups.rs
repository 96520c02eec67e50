//! Looking up the addresses of names, so that names of which nothing is heard hold up no others.
//!
//! The system's resolver takes a thread for as long as it tries, half a minute and more, and cannot be told to stop. So
//! look-ups have threads of their own, which nothing else in the process waits for. A name is looked up once at a time: who
//! asks for it meanwhile waits for the same answer, and who gives up and asks again takes no second thread. Names that were
//! not found lately share [`MAX_UNKNOWN`] threads, and those of one zone [`MAX_OF_ZONE`] of them; the rest is for names that
//! were.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Notify, oneshot};

/// Threads, at most: each is there while it is needed, and ten seconds longer.
const MAX_THREADS: usize = 256;
const MAX_UNKNOWN: usize = 192;
/// A zone is what ends in the same two labels.
const MAX_OF_ZONE: usize = 16;
/// How long a name is known that was found, and how many are.
const KNOWN_FOR: Duration = Duration::from_secs(600);
const MAX_KNOWN: usize = 1024;

type Find = Arc<dyn Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync>;
/// None: it was not found.
type Found = Option<Arc<[IpAddr]>>;
type Answer = Shared<BoxFuture<'static, Found>>;

/// The look-ups of the process.
static LOOKUPS: LazyLock<io::Result<Lookups>> = LazyLock::new(|| Lookups::new(Arc::new(by_the_system)));

/// The addresses of a name, as the system knows them. Waits until there is a thread for it, and for the answer; the caller
/// bounds the time.
///
/// # Errors
///
/// Whatever the cause, the name was not found.
pub async fn addresses(name: &str) -> io::Result<Arc<[IpAddr]>> {
    match &*LOOKUPS {
        Ok(lookups) => lookups.addresses(name).await.ok_or(io::ErrorKind::NotFound.into()),
        Err(error) => Err(error.kind().into()),
    }
}

fn by_the_system(name: &str) -> io::Result<Vec<IpAddr>> {
    let find = |name: &str| (name, 0).to_socket_addrs().map(|found| found.map(|address| address.ip()).collect());
    match (find(name), name.strip_suffix('.')) {
        // A final dot keeps the resolver from adding search domains, but hides names that only the hosts file knows.
        (Err(_), Some(bare)) => find(bare),
        (found, _) => found,
    }
}

struct Lookups {
    find: Find,
    threads: Runtime,
    shared: Arc<LookupsState>,
}

#[derive(Default)]
struct LookupsState {
    state: Mutex<LookupTable>,
    /// A thread has become free.
    freed: Notify,
}

#[derive(Default)]
struct LookupTable {
    under_way: HashMap<String, Answer>,
    /// Look-ups in progress of names without a known answer, by zone and in all.
    unknown_of_zone: HashMap<String, usize>,
    unknown: usize,
    /// Until when.
    known: HashMap<String, Instant>,
}

impl Lookups {
    fn new(find: Find) -> io::Result<Self> {
        let threads = Builder::new_current_thread().max_blocking_threads(MAX_THREADS).thread_name("lookup").build()?;
        Ok(Lookups { find, threads, shared: Arc::default() })
    }

    async fn addresses(&self, name: &str) -> Found {
        loop {
            let freed = self.shared.freed.notified();
            if let Some(answer) = self.begin(name) {
                return answer.await;
            }
            freed.await;
        }
    }

    /// None: there is no thread for it.
    fn begin(&self, name: &str) -> Option<Answer> {
        let mut state = self.shared.lock();
        if let Some(answer) = state.under_way.get(name) {
            return Some(answer.clone());
        }
        let is_known = state.known.get(name).is_some_and(|until| *until > Instant::now());
        if !state.take_thread(name, is_known) {
            return None;
        }
        let (found, answer) = oneshot::channel();
        let answer = answer.map(|found: Result<Found, _>| found.ok().flatten()).boxed().shared();
        state.under_way.insert(name.to_owned(), answer.clone());
        let (find, held) = (self.find.clone(), Thread { shared: self.shared.clone(), name: name.to_owned(), is_known });
        self.threads.spawn_blocking(move || {
            let addresses = find(&held.name).ok().map(Arc::from);
            held.end(addresses.is_some());
            let _ = found.send(addresses);
        });
        Some(answer)
    }
}

impl LookupsState {
    fn lock(&self) -> MutexGuard<'_, LookupTable> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LookupTable {
    fn take_thread(&mut self, name: &str, is_known: bool) -> bool {
        if self.under_way.len() >= MAX_THREADS {
            return false;
        }
        if is_known {
            return true;
        }
        let of_zone = self.unknown_of_zone.get(zone(name)).copied().unwrap_or_default();
        if self.unknown >= MAX_UNKNOWN || of_zone >= MAX_OF_ZONE {
            return false;
        }
        self.unknown += 1;
        self.unknown_of_zone.insert(zone(name).to_owned(), of_zone + 1);
        true
    }

    fn note_known(&mut self, name: &str) {
        let now = Instant::now();
        if self.known.len() >= MAX_KNOWN && !self.known.contains_key(name) {
            self.known.retain(|_, until| *until > now);
            if self.known.len() >= MAX_KNOWN
                && let Some(oldest) = self.known.iter().min_by_key(|(_, until)| **until).map(|(name, _)| name.clone())
            {
                self.known.remove(&oldest);
            }
        }
        self.known.insert(name.to_owned(), now + KNOWN_FOR);
    }
}

/// A look-up under way; its drop ends it.
struct Thread {
    shared: Arc<LookupsState>,
    name: String,
    is_known: bool,
}

impl Thread {
    fn end(self, was_found: bool) {
        let mut state = self.shared.lock();
        match was_found {
            true => state.note_known(&self.name),
            false => drop(state.known.remove(&self.name)),
        }
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.under_way.remove(&self.name);
        if !self.is_known {
            state.unknown -= 1;
            if let Some(count) = state.unknown_of_zone.get_mut(zone(&self.name)) {
                *count -= 1;
                if *count == 0 {
                    state.unknown_of_zone.remove(zone(&self.name));
                }
            }
        }
        drop(state);
        self.shared.freed.notify_waiters();
    }
}

/// The last two labels of a name.
fn zone(name: &str) -> &str {
    let bare = name.strip_suffix('.').unwrap_or(name);
    let second = bare.rmatch_indices('.').nth(1).map_or(0, |(at, _)| at + 1);
    bare.get(second..).unwrap_or(bare)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tokio::time::timeout;

    use super::*;

    const AT_ONCE: Duration = Duration::from_secs(5);

    /// A resolver in which names that begin with `hung` are not answered before the sender is dropped; and which names it
    /// was asked for.
    fn lookups() -> (&'static Lookups, mpsc::Sender<()>, Arc<Mutex<Vec<String>>>) {
        let ((release, hold), asked) = (mpsc::channel::<()>(), Arc::<Mutex<Vec<String>>>::default());
        let (hold, seen) = (Arc::new(Mutex::new(hold)), asked.clone());
        let find = move |name: &str| {
            seen.lock().unwrap().push(name.to_owned());
            if name.starts_with("hung") {
                let _ = hold.lock().unwrap().recv();
            }
            if name.starts_with("none") {
                Err(io::ErrorKind::NotFound.into())
            } else {
                Ok(vec!["192.0.2.1".parse().unwrap()])
            }
        };
        // As in the service it stays for good: threads cannot be waited for within a runtime.
        (Box::leak(Box::new(Lookups::new(Arc::new(find)).unwrap())), release, asked)
    }

    async fn is_found(lookups: &Lookups, name: &str) -> bool {
        timeout(AT_ONCE, lookups.addresses(name)).await.expect("it is held up").is_some()
    }

    /// Asks for it and gives up.
    async fn give_up(lookups: &Lookups, name: &str) {
        assert!(lookups.addresses(name).now_or_never().is_none());
    }

    #[actix_web::test]
    async fn hung_names_hold_up_neither_other_zones_nor_names_that_are_known() {
        let (lookups, release, asked) = lookups();
        assert!(is_found(lookups, "well.known.test").await);
        for number in 0..1000 {
            give_up(lookups, &format!("hung{number}.a.test")).await;
        }
        assert_eq!(lookups.shared.lock().under_way.len(), MAX_OF_ZONE);
        assert!(is_found(lookups, "new.b.test").await && !is_found(lookups, "none.b.test").await);
        for number in 0..1000 {
            give_up(lookups, &format!("hung.zone{number}.test")).await;
        }
        assert_eq!(lookups.shared.lock().under_way.len(), MAX_UNKNOWN);
        assert!(is_found(lookups, "well.known.test").await);
        drop(release);
        assert!(is_found(lookups, "new.c.test").await, "its turn has come");
        assert!(asked.lock().unwrap().len() <= MAX_UNKNOWN + 5);
    }

    #[actix_web::test]
    async fn a_name_is_looked_up_once_however_many_ask_for_it() {
        let (lookups, release, asked) = lookups();
        for _ in 0..100 {
            give_up(lookups, "hung.a.test").await;
        }
        let (first, second) = (lookups.addresses("hung.a.test"), lookups.addresses("hung.a.test"));
        drop(release);
        let both = timeout(AT_ONCE, futures::future::join(first, second)).await.unwrap();
        assert!(both.0.is_some() && both.0 == both.1);
        assert_eq!(*asked.lock().unwrap(), ["hung.a.test"]);
    }

    #[test]
    fn a_zone_is_what_ends_in_the_same_two_labels() {
        for (name, of) in [("a.b.c", "b.c"), ("a.b.c.", "b.c"), ("b.c", "b.c"), ("localhost", "localhost"), ("", "")] {
            assert_eq!(zone(name), of);
        }
    }
}
