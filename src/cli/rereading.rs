//! Files that open doors, read again while the daemon runs, so that a token or a certificate can be changed without a
//! restart.
//!
//! Owns when a file is looked at, and what is made of it: what two looks in a row agree on is adopted, so a file half
//! written is not; what is of no use is warned of once, and what was read before stays in force. It looks at contents:
//! however a file was replaced (Kubernetes swaps a link in the path), that shows. A thread of its own does it, so a file
//! system that hangs holds nothing up.

use std::io;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use log::{info, warn};

/// A change is adopted within two of these, and what reading takes.
const LOOK: Duration = Duration::from_millis(500);

/// The files that are followed, until it is dropped.
#[derive(Default)]
pub struct Rereading {
    files: Vec<Box<dyn FnMut() + Send>>,
    alive: Arc<()>,
}

impl Rereading {
    /// Hands over to `adopt` whatever else `read` comes to give than `current`.
    pub fn follow<T: Clone + PartialEq + Send + 'static>(
        &mut self,
        setting: &'static str,
        current: T,
        read: impl Fn() -> Result<T, String> + Send + 'static,
        adopt: impl Fn(&T) -> Result<(), String> + Send + 'static,
    ) {
        let mut readings = Readings { last: None, settled: Ok(current) };
        self.files.push(Box::new(move || {
            let Some(news) = readings.news(read()) else { return };
            match news.and_then(|value| adopt(&value)) {
                Ok(()) => info!(setting; "file read again"),
                Err(cause) => {
                    warn!(setting, cause = cause.as_str(); "file is of no use, what it held before stays in force")
                }
            }
        }));
    }

    /// Begins to look, if there is anything to look at.
    pub fn start(mut self) -> io::Result<Self> {
        let files = std::mem::take(&mut self.files);
        if !files.is_empty() {
            let alive = Arc::downgrade(&self.alive);
            thread::Builder::new().name("rereading".to_owned()).spawn(move || look(files, &alive))?;
        }
        Ok(self)
    }
}

fn look(mut files: Vec<Box<dyn FnMut() + Send>>, alive: &Weak<()>) {
    while alive.strong_count() > 0 {
        thread::sleep(LOOK);
        files.iter_mut().for_each(|file| file());
    }
}

/// What was read of a file.
struct Readings<T> {
    last: Option<Result<T, String>>,
    /// What was last adopted or warned of.
    settled: Result<T, String>,
}

impl<T: Clone + PartialEq> Readings<T> {
    /// Something new that has stood there twice in a row.
    fn news(&mut self, reading: Result<T, String>) -> Option<Result<T, String>> {
        let stands = self.last.as_ref() == Some(&reading);
        let is_news = stands && self.settled != reading;
        self.last = Some(reading.clone());
        is_news.then(|| {
            self.settled = reading.clone();
            reading
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_read_twice_in_a_row_is_news_and_only_once() {
        let mut readings = Readings { last: None, settled: Ok(1) };
        let mut news = |reading: Result<i32, &str>| readings.news(reading.map_err(str::to_owned));
        assert_eq!((news(Ok(1)), news(Ok(1))), (None, None));
        assert_eq!((news(Ok(2)), news(Ok(3)), news(Ok(2))), (None, None, None), "it is still being written");
        assert_eq!((news(Ok(2)), news(Ok(2))), (Some(Ok(2)), None));
        assert_eq!((news(Err("gone")), news(Err("gone"))), (None, Some(Err("gone".to_owned()))));
        assert_eq!((news(Err("gone")), news(Ok(2)), news(Ok(2))), (None, None, Some(Ok(2))), "it is good again");
    }
}
