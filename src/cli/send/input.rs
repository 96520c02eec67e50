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

use super::copy::{CopiedRedis, DELETE_FLAG, FROM_REDIS, Orphans, Strings};
use super::event::{InputPlace, Item, Looker, Touches};
use super::folder::Folder;
use super::made::{self, Made, MadeStep};
use super::split::{InputError, Splitter};
use super::table::Table;
use crate::config::Secret;

/// Stands for standard input.
const STDIN: &str = "-";
const BUFFER_BYTES: usize = 256 * 1024;
/// The size of a lot, in events and in bytes; a lot is smaller if reading may block.
const LOT_EVENTS: usize = 500;
const LOT_BYTES: usize = 256 * 1024;
const LOTS_AHEAD: usize = 8;

/// Something that could be opened.
pub enum InputFile {
    /// A file that holds events.
    Events {
        name: Arc<str>,
        input: Box<dyn Read + Send>,
        /// None: it cannot be told.
        bytes: Option<u64>,
    },
    /// Files that become events; and with the URL of the service's Redis, keys that go since they have no file.
    Folder { folder: Folder, mirror: Option<Secret> },
    /// Rows that become events.
    Table { table: Table, input: Box<dyn Read + Send>, bytes: Option<u64> },
    /// Strings of another Redis.
    Redis(CopiedRedis),
}

impl InputFile {
    /// # Errors
    /// Why it cannot be read, for a person.
    pub fn open(path: &Path) -> Result<Self, String> {
        if path == Path::new(STDIN) {
            return Ok(InputFile::Events { name: "standard input".into(), input: Box::new(io::stdin()), bytes: None });
        }
        let (file, bytes) = open(path)?;
        Ok(InputFile::Events { name: path.display().to_string().into(), input: Box::new(file), bytes })
    }

    /// A table from a file, or standard input.
    ///
    /// # Errors
    /// Why it cannot be read, for a person.
    pub fn table(table: Table) -> Result<Self, String> {
        if table.path == Path::new(STDIN) {
            return Ok(InputFile::Table { table, input: Box::new(io::stdin()), bytes: None });
        }
        let (file, bytes) = open(&table.path)?;
        Ok(InputFile::Table { table, input: Box::new(file), bytes })
    }

    /// All of them, or why one cannot be read.
    pub fn open_all(paths: &[PathBuf]) -> Result<Vec<Self>, String> {
        paths.iter().map(|path| InputFile::open(path)).collect()
    }

    /// How much there is to read, but for a folder's files, which have to be gone through. None: it cannot be told.
    fn bytes(&self) -> Option<u64> {
        match self {
            InputFile::Events { bytes, .. } | InputFile::Table { bytes, .. } => *bytes,
            InputFile::Folder { .. } => Some(0),
            InputFile::Redis(_) => None,
        }
    }

    fn folder(&self) -> Option<&Folder> {
        match self {
            InputFile::Folder { folder, .. } => Some(folder),
            _ => None,
        }
    }
}

/// The file, and how large it is if that can be told.
fn open(path: &Path) -> Result<(File, Option<u64>), String> {
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
    Ok((file, bytes))
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
    /// Bytes of all that is to be read; 0 while, or if, that is not known.
    pub total: Arc<AtomicU64>,
}

impl Input {
    /// Starts to read, leaving out the first `skip` events.
    pub fn start(sources: Vec<InputFile>, looker: Looker, skip: u64) -> io::Result<Self> {
        let (sender, news) = mpsc::channel(LOTS_AHEAD);
        let (read, total) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let faults = 0;
        let mut reader = Reader { sender, looker, skip, number: 0, lot: Vec::new(), lot_bytes: 0, read, faults };
        count(&sources, total.clone())?;
        thread::Builder::new().name("reading".to_owned()).spawn(move || reader.run(sources))?;
        Ok(Input { news, total })
    }
}

/// Finds out how much there is to read. Folders are gone through on a thread of its own: it may take long, and nothing
/// waits for it.
fn count(sources: &[InputFile], total: Arc<AtomicU64>) -> io::Result<()> {
    let Some(known) = sources.iter().map(InputFile::bytes).sum::<Option<u64>>() else { return Ok(()) };
    let folders: Vec<Folder> = sources.iter().filter_map(InputFile::folder).cloned().collect();
    if folders.is_empty() {
        total.store(known, Ordering::Relaxed);
        return Ok(());
    }
    let counting = move || total.store(known + folders.iter().map(Folder::bytes).sum::<u64>(), Ordering::Relaxed);
    thread::Builder::new().name("counting".to_owned()).spawn(counting).map(drop)
}

struct Reader {
    sender: Sender<News>,
    looker: Looker,
    skip: u64,
    number: u64,
    lot: Vec<Item>,
    lot_bytes: usize,
    /// Bytes so far.
    read: Arc<AtomicU64>,
    /// What could not be read.
    faults: usize,
}

/// Nobody takes events any more.
struct Closed;

impl Reader {
    fn run(&mut self, sources: Vec<InputFile>) {
        for source in sources {
            let done = match source {
                InputFile::Events { name, input, .. } => self.file(&name, input),
                InputFile::Folder { folder, mirror } => {
                    self.folder(&folder).and_then(|()| self.mirror(&folder, mirror))
                }
                InputFile::Table { table, input, .. } => self.table(&table, input),
                InputFile::Redis(from) => self.made(FROM_REDIS, Strings::open(&from)),
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
                Ok(Some((text, line))) => self.take(text, InputPlace { file: name.clone(), line })?,
                Ok(None) => return self.hand_over(),
                Err(error @ InputError::TooLarge { line }) => {
                    let place = InputPlace { file: name.clone(), line };
                    let text = made::set_without_value("", &place.to_string());
                    self.unfit(place, text, error.to_string())?;
                }
                Err(error) => return self.fault(name, &error.to_string()),
            }
        }
    }

    fn table(&mut self, table: &Table, input: Box<dyn Read + Send>) -> Result<(), Closed> {
        let counted = Counted { input, read: self.read.clone() };
        let rows = maybe_gzip(counted).map_err(|error: io::Error| error.to_string());
        self.made(&table.path.display().to_string(), rows.and_then(|input| table.rows(input)))
    }

    /// Nothing goes if a part of the folder could not be read: what is there cannot be told then. Numbers that are left out mean
    /// files, and keys that an earlier run took away: those that are found now are none of them.
    fn mirror(&mut self, folder: &Folder, redis: Option<Secret>) -> Result<(), Closed> {
        let Some(url) = redis else { return Ok(()) };
        if self.faults > 0 {
            return self.fault(DELETE_FLAG, "nothing was deleted, because a part of the folder could not be read");
        }
        self.number = self.number.max(self.skip);
        self.made(DELETE_FLAG, Orphans::open(&url, folder))
    }

    /// Events that are made of what `name` holds, to its end or until it cannot be read any further.
    fn made(
        &mut self,
        name: &str,
        steps: Result<impl Iterator<Item = Result<MadeStep, String>>, String>,
    ) -> Result<(), Closed> {
        let steps = match steps {
            Ok(steps) => steps,
            Err(error) => return self.fault(name, &error),
        };
        for step in steps {
            match step {
                Ok(MadeStep::Made(Made { place, event: Ok(text) })) => self.take(text, place)?,
                Ok(MadeStep::Made(Made { place, event: Err((text, why)) })) => self.unfit(place, text, why)?,
                Ok(MadeStep::Pause) => self.hand_over()?,
                Err(error) => return self.fault(name, &error),
            }
        }
        self.hand_over()
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
            let place = InputPlace { file: file.name(), line: 0 };
            match folder.event(&file) {
                Ok((text, bytes)) => {
                    self.read.fetch_add(bytes, Ordering::Relaxed);
                    self.take(text, place)?;
                }
                Err(why) => {
                    let text = folder.without_content(&file);
                    self.unfit(place, text, why)?;
                }
            }
        }
        self.hand_over()
    }

    fn take(&mut self, text: Bytes, place: InputPlace) -> Result<(), Closed> {
        let number = self.number;
        self.number += 1;
        if number < self.skip {
            return Ok(());
        }
        self.lot_bytes += text.len();
        let touches = self.looker.touches(&text);
        let read_to = self.read.load(Ordering::Relaxed);
        self.lot.push(Item { number, place, text, touches, read_to });
        if self.lot.len() >= LOT_EVENTS || self.lot_bytes >= LOT_BYTES { self.hand_over() } else { Ok(()) }
    }

    /// What cannot be sent has its number all the same.
    fn unfit(&mut self, place: InputPlace, text: Bytes, why: String) -> Result<(), Closed> {
        self.hand_over()?;
        let (number, read_to) = (self.number, self.read.load(Ordering::Relaxed));
        self.number += 1;
        if number < self.skip {
            return Ok(());
        }
        self.send(|_| News::Unfit(Item { number, place, text, touches: Touches::Nothing, read_to }, why))
    }

    fn hand_over(&mut self) -> Result<(), Closed> {
        if self.lot.is_empty() {
            return Ok(());
        }
        self.lot_bytes = 0;
        self.send(|lot| News::Items(std::mem::take(lot)))
    }

    fn fault(&mut self, file: &str, reason: &str) -> Result<(), Closed> {
        self.faults += 1;
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

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn what_there_is_to_read_of_a_folder_is_told_though_its_files_have_to_be_found() {
        let place = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(place.path().join("folder/inner")).unwrap();
        for (name, bytes) in [("folder/a", 5), ("folder/inner/b", 700), ("events", 30)] {
            std::fs::write(place.path().join(name), vec![b'x'; bytes]).unwrap();
        }
        let folder = Folder::new(place.path().join("folder"), String::new(), None, None).open().unwrap();
        let sources =
            [InputFile::Folder { folder, mirror: None }, InputFile::open(&place.path().join("events")).unwrap()];
        let total = Arc::new(AtomicU64::new(0));
        count(&sources, total.clone()).unwrap();
        let begun = Instant::now();
        while total.load(Ordering::Relaxed) == 0 && begun.elapsed() < Duration::from_secs(20) {
            thread::yield_now();
        }
        assert_eq!(total.load(Ordering::Relaxed), 735);
    }
}
