//! Files read again while the daemon runs, so that a token, a certificate or a setting can be changed without a restart.
//!
//! Owns when a file is looked at, and what is made of it: what two looks in a row agree on is adopted, so a file half
//! written is not; what is of no use is told of once, and what was read before stays in force. Who asks for it has all
//! files looked at once, and takes them as they are. It looks at contents: however a file was replaced (Kubernetes swaps a
//! link in the path), that shows. A thread of its own does it, so a file system that hangs holds nothing up.
//!
//! What becomes of the settings is in [`settings`].

pub mod settings;

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use log::{info, warn};

use crate::telemetry::Metrics;

/// A change is adopted within two of these, and what reading takes.
const LOOK: Duration = Duration::from_millis(500);

/// Why there is a look.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// It is time for one.
    Passing,
    /// Somebody asked.
    Asked,
}

type File = Box<dyn FnMut(Look) + Send>;

/// The files to be followed.
pub struct Reloader {
    files: Vec<File>,
    metrics: Metrics,
}

/// The files are followed until it is dropped.
pub struct Following {
    ask: SyncSender<()>,
}

impl Following {
    /// Has all files looked at now.
    pub fn look(&self) {
        // If one look is asked for already, it will do.
        let _ = self.ask.try_send(());
    }
}

impl Reloader {
    /// Follows nothing yet. Whether what is read is in effect will be in these metrics.
    pub fn new(metrics: Metrics) -> Self {
        Reloader { files: Vec::new(), metrics }
    }

    /// Hands over to `adopt` whatever else `read` comes to give than `current`.
    pub fn follow<T: Clone + PartialEq + Send + 'static>(
        &mut self,
        setting: impl Into<String>,
        current: T,
        read: impl Fn() -> Result<T, String> + Send + 'static,
        adopt: impl Fn(&T) -> Result<(), String> + Send + 'static,
    ) {
        let (mut readings, setting) = (Readings::of(Ok(current)), setting.into());
        let metrics = self.metrics.clone();
        metrics.reloaded(&setting, true);
        self.watch(move |look| {
            let Some(news) = readings.news(read(), look) else { return };
            let adopted = news.and_then(|value| adopt(&value));
            metrics.reloaded(&setting, adopted.is_ok());
            match adopted {
                Ok(()) => info!(setting = setting.as_str(); "file reloaded"),
                Err(cause) => {
                    warn!(setting = setting.as_str(), cause = cause.as_str(); "file cannot be used, its previous content stays in effect")
                }
            }
        });
    }

    /// Calls this at each look.
    fn watch(&mut self, look: impl FnMut(Look) + Send + 'static) {
        self.files.push(Box::new(look));
    }

    /// Begins to look, if there is anything to look at.
    pub fn start(self) -> io::Result<Following> {
        let (ask, asked) = sync_channel(1);
        if !self.files.is_empty() {
            thread::Builder::new().name("reload".to_owned()).spawn(move || look(self.files, &asked))?;
        }
        Ok(Following { ask })
    }
}

fn look(mut files: Vec<File>, asked: &Receiver<()>) {
    loop {
        let look = match asked.recv_timeout(LOOK) {
            Ok(()) => Look::Asked,
            Err(RecvTimeoutError::Timeout) => Look::Passing,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        files.iter_mut().for_each(|file| file(look));
    }
}

/// What was read of a file.
struct Readings<T> {
    last: Option<T>,
    /// What was last adopted or told of.
    settled: T,
}

impl<T: Clone + PartialEq> Readings<T> {
    fn of(current: T) -> Self {
        Readings { last: None, settled: current }
    }

    /// Whether what was read last is what was last adopted or told of, and so is not being written.
    fn stands(&self) -> bool {
        self.last.as_ref() == Some(&self.settled)
    }

    /// Something new, which has stood there twice in a row if nobody asked.
    fn news(&mut self, reading: T, look: Look) -> Option<T> {
        let stands = look == Look::Asked || self.last.as_ref() == Some(&reading);
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
        let mut readings = Readings::of(Ok(1));
        let mut news = |reading: Result<i32, &str>| readings.news(reading.map_err(str::to_owned), Look::Passing);
        assert_eq!((news(Ok(1)), news(Ok(1))), (None, None));
        assert_eq!((news(Ok(2)), news(Ok(3)), news(Ok(2))), (None, None, None), "it is still being written");
        assert_eq!((news(Ok(2)), news(Ok(2))), (Some(Ok(2)), None));
        assert_eq!((news(Err("gone")), news(Err("gone"))), (None, Some(Err("gone".to_owned()))));
        assert_eq!((news(Err("gone")), news(Ok(2)), news(Ok(2))), (None, None, Some(Ok(2))), "it is good again");
    }

    #[test]
    fn whoever_asks_gets_what_stands_there_now() {
        let mut readings = Readings::of(1);
        assert_eq!(readings.news(2, Look::Asked), Some(2));
        assert_eq!((readings.news(2, Look::Passing), readings.news(2, Look::Asked)), (None, None));
    }
}
