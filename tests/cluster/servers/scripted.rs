//! Sentinels that say what a test wants them to, and ways to a server that swallow its answers.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// A sentinel's word: the master's port and the epoch. None: it is silent.
type Word = Arc<Mutex<Option<(u16, u64)>>>;

/// What speaks as a sentinel does, as far as it is asked for a master.
pub struct Scripted {
    pub port: u16,
    word: Word,
}

impl Scripted {
    pub fn start(word: Option<(u16, u64)>) -> Self {
        let word = Arc::new(Mutex::new(word));
        let said = word.clone();
        let port = serve(move |stream| {
            let said = said.clone();
            thread::spawn(move || answer(stream, &said));
        });
        Scripted { port, word }
    }

    pub fn say(&self, word: Option<(u16, u64)>) {
        *self.word.lock().expect("the word") = word;
    }
}

/// A way to a server that can be made to swallow what the server answers.
pub struct Way {
    pub port: u16,
    swallows: Arc<AtomicBool>,
}

impl Way {
    pub fn to(server: u16) -> Self {
        let swallows = Arc::new(AtomicBool::new(false));
        let is_mute = swallows.clone();
        let port = serve(move |client| {
            let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else { return };
            let (Ok(from_client), Ok(to_server)) = (client.try_clone(), server.try_clone()) else { return };
            thread::spawn(move || copy(from_client, to_server, None));
            let is_mute = is_mute.clone();
            thread::spawn(move || copy(server, client, Some(&is_mute)));
        });
        Way { port, swallows }
    }

    pub fn swallow(&self) {
        self.swallows.store(true, Ordering::SeqCst);
    }
}

/// Until the test ends.
fn serve(mut with: impl FnMut(TcpStream) + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    thread::spawn(move || listener.incoming().flatten().for_each(&mut with));
    port
}

fn copy(mut from: TcpStream, mut to: TcpStream, swallows: Option<&AtomicBool>) {
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        let is_mute = swallows.is_some_and(|swallows| swallows.load(Ordering::SeqCst));
        if !is_mute && to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

fn answer(stream: TcpStream, word: &Word) {
    let Ok(mut out) = stream.try_clone() else { return };
    let mut reader = BufReader::new(stream);
    while let Some(command) = read_command(&mut reader) {
        let Some((port, epoch)) = *word.lock().expect("the word") else { return };
        let bulk = |text: &str| format!("${}\r\n{text}\r\n", text.len());
        let (port, epoch) = (port.to_string(), epoch.to_string());
        let said = match command.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["PING", ..] => "+PONG\r\n".to_owned(),
            ["CLIENT", "ID"] => ":7\r\n".to_owned(),
            ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", _] => format!("*2\r\n{}{}", bulk("127.0.0.1"), bulk(&port)),
            ["SENTINEL", "MASTER", _] => format!("*2\r\n{}{}", bulk("config-epoch"), bulk(&epoch)),
            _ => "-ERR unknown command\r\n".to_owned(),
        };
        if out.write_all(said.as_bytes()).is_err() {
            return;
        }
    }
}

/// An array of bulk strings.
fn read_command(reader: &mut impl BufRead) -> Option<Vec<String>> {
    let count = read_length(reader, '*')?;
    (0..count)
        .map(|_| {
            let mut text = vec![0; read_length(reader, '$')? + 2];
            reader.read_exact(&mut text).ok()?;
            text.truncate(text.len() - 2);
            String::from_utf8(text).ok()
        })
        .collect()
}

fn read_length(reader: &mut impl BufRead, kind: char) -> Option<usize> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    line.trim_end().strip_prefix(kind)?.parse().ok()
}
