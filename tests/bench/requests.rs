//! What is sent: events as bodies for wrk, and the same commands as Redis's own protocol for `redis-cli --pipe`.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::json;
use tempfile::TempDir;

use crate::guard::scratch;
use crate::support::Random;

/// Different keys in a load.
pub const KEYS: usize = 10_000;
pub const VALUE_BYTES: usize = 100;

/// One thing to do, in both forms.
pub enum Command {
    Set(String, String),
    /// For so many seconds.
    SetFor(String, String, u32),
    /// With a version that must be greater than any before.
    SetAt(String, String, usize),
    Get(String),
    Delete(String),
    SetBlob(String, String),
}

impl Command {
    pub fn event(&self) -> String {
        let event = match self {
            Command::Set(key, value) => json!({"key": "SET", "value": {"data": {"key": key, "value": value}}}),
            Command::SetFor(key, value, ttl) => {
                json!({"key": "SET", "value": {"data": {"key": key, "value": value, "ttl": ttl}}})
            }
            Command::SetAt(key, value, version) => {
                json!({"key": "SET", "version": version, "value": {"data": {"key": key, "value": value}}})
            }
            Command::Get(key) => json!({"key": "GET", "value": {"data": {"key": key}}}),
            Command::Delete(key) => json!({"key": "DELETE", "value": {"data": {"key": key}}}),
            Command::SetBlob(key, url) => json!({"key": "SET", "value": {"data": {"key": key, "url": url}}}),
        };
        event.to_string()
    }

    fn words(&self) -> Vec<String> {
        let words: &[&str] = match self {
            Command::Set(key, value) => &["SET", key, value],
            Command::SetFor(key, value, ttl) => &["SET", key, value, "EX", &ttl.to_string()],
            Command::Get(key) => &["GET", key],
            Command::Delete(key) => &["UNLINK", key],
            Command::SetAt(..) | Command::SetBlob(..) => panic!("Redis has no such command"),
        };
        words.iter().map(|word| (*word).to_owned()).collect()
    }
}

pub fn key(number: usize) -> String {
    format!("user:{number:06}")
}

/// 100 letters and digits, another text for every seed.
pub fn value(seed: usize) -> String {
    let mut random = Random::seeded(seed as u64);
    (0..VALUE_BYTES).map(|_| char::from_digit(random.below(36) as u32, 36).expect("below 36")).collect()
}

pub fn sets(keys: usize) -> Vec<Command> {
    (0..keys).map(|number| Command::Set(key(number), value(number))).collect()
}

/// Each for an hour.
pub fn sets_for_an_hour(keys: usize) -> Vec<Command> {
    (0..keys).map(|number| Command::SetFor(key(number), value(number), 3600)).collect()
}

/// Each key again and again, with a version if asked for. The first half has half of the keys and the second the others: they
/// are sent at once, each with rising versions, and none is late.
pub fn updates(count: usize, has_version: bool) -> Vec<Command> {
    let half = |number: usize| if number < count / 2 { 0 } else { KEYS / 2 };
    let one = |number: usize| {
        let (key, value) = (key(half(number) + number % (KEYS / 2)), value(number));
        if has_version { Command::SetAt(key, value, number) } else { Command::Set(key, value) }
    };
    (0..count).map(one).collect()
}

pub fn gets() -> Vec<Command> {
    (0..KEYS).map(|number| Command::Get(key(number))).collect()
}

/// SET, GET and DELETE in turn, on keys at random.
pub fn mixed(count: usize) -> Vec<Command> {
    let mut random = Random::seeded(1);
    let mut one = |number: usize| {
        let key = key(random.below(KEYS as u64) as usize);
        match number % 3 {
            0 => Command::Set(key, value(number)),
            1 => Command::Get(key),
            _ => Command::Delete(key),
        }
    };
    (0..count).map(&mut one).collect()
}

pub fn one_by_one(commands: &[Command]) -> Vec<String> {
    commands.iter().map(Command::event).collect()
}

pub fn arrays(commands: &[Command], size: usize) -> Vec<String> {
    let array = |batch: &[Command]| format!("[{}]", one_by_one(batch).join(","));
    commands.chunks(size).map(array).collect()
}

pub fn lines(commands: &[Command], size: usize) -> Vec<String> {
    commands.chunks(size).map(|batch| one_by_one(batch).join("\n")).collect()
}

/// With more bodies than these, each has a header that makes its request longer or shorter: LuaJIT, in wrk, hashes a few bytes of a
/// long string only, and tells those that differ elsewhere apart by their lengths, or slowly.
const MANY: usize = 10_000;

/// Bodies, and the file with their requests from which wrk's script takes them.
pub struct Bodies {
    bodies: Vec<String>,
    dir: OnceLock<TempDir>,
    pub content_type: &'static str,
    /// Where they are posted.
    pub route: &'static str,
    /// What their `Prefer` says, if they have one.
    pub prefer: Option<&'static str>,
}

impl Bodies {
    pub fn json(bodies: &[String]) -> Self {
        Self::of(bodies, "application/json")
    }

    pub fn ndjson(bodies: &[String]) -> Self {
        Self::of(bodies, "application/x-ndjson")
    }

    /// The same to another route.
    pub fn to(self, route: &'static str) -> Self {
        Bodies { route, ..self }
    }

    /// The same, to be kept in the journal.
    pub fn kept(self) -> Self {
        Bodies { prefer: Some("respond-async"), ..self }
    }

    /// The first of them, to compare answers by.
    pub fn first(&self) -> &str {
        self.bodies.first().expect("a body")
    }

    pub fn count(&self) -> usize {
        self.bodies.len()
    }

    /// The script and its file.
    pub fn files(&self) -> [PathBuf; 2] {
        let dir = self.dir.get_or_init(|| self.write());
        ["wrk.lua", "requests"].map(|name| dir.path().join(name))
    }

    fn of(bodies: &[String], content_type: &'static str) -> Self {
        Bodies { bodies: bodies.to_vec(), dir: OnceLock::new(), content_type, route: "/events", prefer: None }
    }

    fn write(&self) -> TempDir {
        let dir = scratch();
        std::fs::write(dir.path().join("wrk.lua"), include_str!("wrk.lua")).expect("a file");
        let mut file = create(&dir.path().join("requests"));
        let prefer = self.prefer.map(|prefer| format!("Prefer: {prefer}\r\n")).unwrap_or_default();
        let head = format!(
            "POST {} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {}\r\n{prefer}",
            self.route, self.content_type
        );
        for (number, body) in self.bodies.iter().enumerate() {
            let padding = match self.bodies.len() {
                ..=MANY => String::new(),
                _ => format!("X-Padding: {}\r\n", "x".repeat(number % 64)),
            };
            let request = format!("{head}{padding}Content-Length: {}\r\n\r\n{body}", body.len());
            writeln!(file, "{:08}{request}", request.len()).expect("a file");
        }
        file.flush().expect("a file");
        dir
    }
}

/// Commands as `redis-cli --pipe` reads them.
pub struct Piped {
    dir: TempDir,
    pub count: usize,
}

impl Piped {
    /// All of them over and over, until there are `count`.
    pub fn repeat(commands: &[Command], count: usize) -> Self {
        let packed: Vec<Vec<u8>> = commands.iter().map(|command| packed(&command.words())).collect();
        Self::write(packed.iter().cycle().take(count).map(Vec::as_slice), count)
    }

    /// SETs of these keys.
    pub fn fill(count: usize, key: impl Fn(usize) -> String) -> Self {
        let value = value(0);
        let packed: Vec<Vec<u8>> = (0..count).map(|number| packed(&["SET", &key(number), &value])).collect();
        Self::write(packed.iter().map(Vec::as_slice), count)
    }

    pub fn open(&self) -> File {
        File::open(self.dir.path().join("commands")).expect("a file")
    }

    fn write<'a>(commands: impl Iterator<Item = &'a [u8]>, count: usize) -> Self {
        let dir = scratch();
        let mut file = create(&dir.path().join("commands"));
        for command in commands {
            file.write_all(command).expect("a file");
        }
        file.flush().expect("a file");
        Piped { dir, count }
    }
}

fn packed<W: AsRef<str>>(words: &[W]) -> Vec<u8> {
    let word = |word: &W| format!("${}\r\n{}\r\n", word.as_ref().len(), word.as_ref());
    let words_of: String = words.iter().map(word).collect();
    format!("*{}\r\n{words_of}", words.len()).into_bytes()
}

fn create(path: &Path) -> BufWriter<File> {
    BufWriter::new(File::create(path).expect("a file"))
}
