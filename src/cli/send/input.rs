//! Reading: a thread of its own goes through the files, since reading a pipe may block for good, and hands over events in
//! small lots. What it holds is bounded by the channel's length; it ends when nobody takes them any more.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use tokio::sync::mpsc::{self, Receiver, Sender};

use super::event::{Item, Looker, Place, Touches};
use super::folder::Folder;
use super::split::Splitter;

/// Stands for standard input.
const STDIN: &str = "-";
const BUFFER_BYTES: usize = 256 * 1024;
/// A lot: so many events or bytes, or what there is before reading may block.
const LOT_EVENTS: usize = 500;
const LOT_BYTES: usize = 256 * 1024;
const LOTS_AHEAD: usize = 8;

/// Something that could be opened.
pub enum Source {
    /// A file that holds events.
    Events {
        name: Arc<str>,
        input: Box<dyn Read + Send>,
        /// None: it cannot be told.
        bytes: Option<u64>,
    },
    /// Files that become events.
    Folder(Folder),
}

impl Source {
    /// # Errors
    /// Why it cannot be read, for a person.
    pub fn open(path: &Path) -> Result<Self, String> {
        if path == Path::new(STDIN) {
            return Ok(Source::Events { name: "standard input".into(), input: Box::new(io::stdin()), bytes: None });
        }
        let name = path.display().to_string();
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => format!("{name}: there is no such file"),
            _ => format!("{name}: {error}"),
        };
        let file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if metadata.is_dir() {
            return Err(format!("{name}: it is a directory"));
        }
        let bytes = metadata.is_file().then_some(metadata.len());
        Ok(Source::Events { name: name.into(), input: Box::new(file), bytes })
    }

    /// All of them, or why one cannot be read.
    pub fn open_all(paths: &[PathBuf]) -> Result<Vec<Self>, String> {
        paths.iter().map(|path| Source::open(path)).collect()
    }

    fn bytes(&self) -> Option<u64> {
        match self {
            Source::Events { bytes, .. } => *bytes,
            Source::Folder(_) => None,
        }
    }
}

/// What the reading thread has to tell.
pub enum News {
    Items(Vec<Item>),
    /// What cannot be sent, and why.
    Unfit(Item, String),
    /// A file could not be read to its end.
    Fault(String),
}

/// The receiving end. Its channel is closed when all has been read.
pub struct Input {
    pub news: Receiver<News>,
    /// Bytes read so far.
    pub read: Arc<AtomicU64>,
    /// Bytes of all files; none if one of them is no plain file.
    pub total: Option<u64>,
}

impl Input {
    /// Starts to read, leaving out the first `skip` events.
    pub fn start(sources: Vec<Source>, looker: Looker, skip: u64) -> io::Result<Self> {
        let (sender, news) = mpsc::channel(LOTS_AHEAD);
        let read = Arc::new(AtomicU64::new(0));
        let total = sources.iter().map(Source::bytes).sum();
        let mut reader = Reader { sender, looker, skip, number: 0, lot: Vec::new(), lot_bytes: 0, read: read.clone() };
        thread::Builder::new().name("reading".to_owned()).spawn(move || reader.run(sources))?;
        Ok(Input { news, read, total })
    }
}

struct Reader {
    sender: Sender<News>,
    looker: Looker,
    skip: u64,
    number: u64,
    lot: Vec<Item>,
    lot_bytes: usize,
    read: Arc<AtomicU64>,
}

/// Nobody takes events any more.
struct Closed;

impl Reader {
    fn run(&mut self, sources: Vec<Source>) {
        for source in sources {
            let done = match source {
                Source::Events { name, input, .. } => self.file(&name, input),
                Source::Folder(folder) => self.folder(&folder),
            };
            if done.is_err() {
                return;
            }
        }
    }

    fn file(&mut self, name: &Arc<str>, input: Box<dyn Read + Send>) -> Result<(), Closed> {
        let counted = Counted { input, read: self.read.clone() };
        let input = match maybe_gzip(counted) {
            Ok(input) => input,
            Err(error) => return self.fault(name, &error.to_string()),
        };
        let mut splitter = Splitter::new(BufReader::with_capacity(BUFFER_BYTES, input));
        loop {
            if splitter.may_block() {
                self.hand_over()?;
            }
            match splitter.next() {
                Ok(Some((text, line))) => self.take(text, Place { file: name.clone(), line })?,
                Ok(None) => return self.hand_over(),
                Err(error) => return self.fault(name, &error.to_string()),
            }
        }
    }

    /// Each file has its number, whatever comes of it: what is left out by number is the same in the next run.
    fn folder(&mut self, folder: &Folder) -> Result<(), Closed> {
        for file in folder.files() {
            let file = match file {
                Ok(file) => file,
                Err(fault) => {
                    self.fault(folder.name(), &fault)?;
                    continue;
                }
            };
            if self.number < self.skip {
                self.number += 1;
                continue;
            }
            let place = Place { file: file.name(), line: 0 };
            match folder.event(&file) {
                Ok((text, bytes)) => {
                    self.read.fetch_add(bytes, Ordering::Relaxed);
                    self.take(text, place)?;
                }
                Err(why) => {
                    self.hand_over()?;
                    let (number, text) = (self.number, folder.without_content(&file));
                    self.number += 1;
                    self.send(|_| News::Unfit(Item { number, place, text, touches: Touches::Nothing }, why))?;
                }
            }
        }
        self.hand_over()
    }

    fn take(&mut self, text: Bytes, place: Place) -> Result<(), Closed> {
        let number = self.number;
        self.number += 1;
        if number < self.skip {
            return Ok(());
        }
        self.lot_bytes += text.len();
        let touches = self.looker.touches(&text);
        self.lot.push(Item { number, place, text, touches });
        if self.lot.len() >= LOT_EVENTS || self.lot_bytes >= LOT_BYTES { self.hand_over() } else { Ok(()) }
    }

    fn hand_over(&mut self) -> Result<(), Closed> {
        if self.lot.is_empty() {
            return Ok(());
        }
        self.lot_bytes = 0;
        self.send(|lot| News::Items(std::mem::take(lot)))
    }

    fn fault(&mut self, file: &str, reason: &str) -> Result<(), Closed> {
        self.hand_over()?;
        self.send(|_| News::Fault(format!("{file}: {reason}")))
    }

    fn send(&mut self, news: impl FnOnce(&mut Vec<Item>) -> News) -> Result<(), Closed> {
        let news = news(&mut self.lot);
        self.sender.blocking_send(news).map_err(|_| Closed)
    }
}

/// Counts what is read, for whoever shows how far it is.
struct Counted<R> {
    input: R,
    read: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.input.read(buffer)?;
        self.read.fetch_add(length as u64, Ordering::Relaxed);
        Ok(length)
    }
}

/// Unpacks what begins like gzip.
fn maybe_gzip(mut input: impl Read + Send + 'static) -> io::Result<Box<dyn Read + Send>> {
    let mut head = Vec::new();
    input.by_ref().take(2).read_to_end(&mut head)?;
    let is_gzip = head == [0x1f, 0x8b];
    let whole = io::Cursor::new(head).chain(input);
    Ok(if is_gzip { Box::new(MultiGzDecoder::new(BufReader::new(whole))) } else { Box::new(whole) })
}
