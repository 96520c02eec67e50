//! What Redis answers, read with bounds.
//!
//! A server may be hostile or merely broken, so nothing that it declares is believed beyond a limit: not the length of
//! a string, not the number of elements. Arrays are not built up but handed out flat, a [`Frame::Array`] announcing
//! how many frames follow; so nesting costs no stack. Of an error only the code word is kept, and of a redirection where
//! it points: the text may repeat keys and arguments, and need not even be UTF-8.

use bytes::{Buf, Bytes, BytesMut};

use super::address::Address;
use super::error::Error;
use super::slot::SLOTS;

/// A status or error line, at most.
const MAX_LINE_BYTES: usize = 16 * 1024;
/// A length or number with its type byte and line end, at most.
const MAX_HEADER_BYTES: usize = 32;
/// The same for MOVED and ASK: a name has 255 bytes.
const MAX_REDIRECT_BYTES: usize = 512;
/// Of an error's text, as far as it is looked into.
const MAX_HINT_BYTES: usize = 256;
/// Elements of one array. `SCAN … COUNT 1000` brings a few thousand at the very most.
const MAX_ELEMENTS: usize = 1 << 18;
/// From this size on a string is handed out as a part of the read buffer, below as a copy that pins nothing.
const SHARED_FROM_BYTES: usize = 16 * 1024;
/// A buffer that grew beyond this is given up once it is empty.
const KEPT_BYTES: usize = 256 * 1024;
const READ_BYTES: usize = 16 * 1024;

/// Of the error of a script, how much is looked at.
const MAX_SCRIPT_ERROR_BYTES: usize = 1024;
/// How Redis says inside of a script that the user lacks a right: up to 7.0, and from 7.2 on.
const NOT_PERMITTED: [&str; 2] = ["The user executing the script can't", "ACL failure in script"];
/// What our own scripts name when they find that the user lacks the right for it.
const IN_SCRIPTS: [&str; 1] = ["SETEX"];
/// Code words of faults that lie with the server's state or set-up rather than with the command.
const PASSING: [&str; 16] = [
    "READONLY",
    "LOADING",
    "MASTERDOWN",
    "TRYAGAIN",
    "CLUSTERDOWN",
    "OOM",
    "BUSY",
    "MISCONF",
    "NOREPLICAS",
    "NOAUTH",
    "WRONGPASS",
    "UNBLOCKED",
    "NOTREADY",
    "MOVED",
    "ASK",
    "NOSCRIPT",
];

/// One reply, or one element of an array.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Frame {
    /// `+OK` and other status lines.
    Status,
    Number(i64),
    Text(Bytes),
    Nil,
    /// So many frames follow as elements.
    Array(usize),
    Error(Code),
}

/// The code word of an error that Redis answered, with what is known by heart of its text. The rest is not kept: it may repeat
/// keys and arguments.
///
/// The word has capital letters only, at most 32 of them; `ERR` where there was nothing of the kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Code {
    word: String,
    /// Inside of a script: what it was that Redis refused.
    inner: Option<&'static str>,
    redirect: Option<Box<Redirect>>,
    hint: Option<Hint>,
}

/// What an error's text says beyond its word, where that is known by heart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hint {
    /// To AUTH: the user has no password.
    NoPassword,
    /// To SELECT: there is no database of that number.
    NoDatabase,
    /// To SELECT: a node of a cluster has one alone.
    OneDatabase,
    /// To whatever is said first.
    ManyClients,
    /// To a command that the server, or a proxy before it, does not have.
    UnknownCommand,
    /// To a command that the user may not use, whatever the key.
    ForbiddenCommand,
    /// To an argument that is longer than the server takes: it closes the connection then.
    TooLong,
}

impl Hint {
    const KNOWN: [(&'static [u8], Hint); 9] = [
        (b"without any password configured", Hint::NoPassword),
        (b"but no password is set", Hint::NoPassword),
        (b"DB index is out of range", Hint::NoDatabase),
        (b"invalid DB index", Hint::NoDatabase),
        (b"SELECT is not allowed in cluster mode", Hint::OneDatabase),
        (b"max number of clients reached", Hint::ManyClients),
        (b"unknown command", Hint::UnknownCommand),
        (b"no permissions to run the", Hint::ForbiddenCommand),
        (b"Protocol error: invalid bulk length", Hint::TooLong),
    ];

    fn from_line(word: &str, line: &[u8]) -> Option<Self> {
        let line = line.get(..MAX_HINT_BYTES).unwrap_or(line);
        let holds = |text: &[u8]| line.windows(text.len()).any(|part| part == text);
        let known = Self::KNOWN.iter().find(|(text, _)| holds(text)).map(|(_, hint)| *hint);
        known.filter(|_| matches!(word, "" | "ERR" | "DB" | "SELECT" | "NOPERM"))
    }
}

/// Where a node of a Redis Cluster sends us on to, for one slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Redirect {
    /// `ASK`: for this command alone; otherwise `MOVED`.
    pub(crate) is_ask: bool,
    pub(crate) slot: u16,
    /// None as host: that of the node which says so.
    pub(crate) host: Option<String>,
    pub(crate) port: u16,
}

impl Redirect {
    /// Where the redirection of the node at `from` points.
    pub(crate) fn target(&self, from: &Address) -> Address {
        Address::new(self.host.as_deref().unwrap_or(&from.host), self.port)
    }

    fn from_line(word: &str, line: &[u8]) -> Option<Self> {
        let is_ask = match word {
            "ASK" => true,
            "MOVED" => false,
            _ => return None,
        };
        let mut words = std::str::from_utf8(line.get(..line.len().min(MAX_REDIRECT_BYTES))?).ok()?.split(' ').skip(1);
        let slot = words.next()?.parse().ok().filter(|slot| *slot < SLOTS)?;
        let (host, port) = words.next()?.rsplit_once(':')?;
        let port = port.parse().ok().filter(|port| *port != 0)?;
        let host = Address::read_host(host.as_bytes())?;
        Some(Redirect { is_ask, slot, host, port })
    }
}

/// The first word of an error.
fn code_word(line: &[u8]) -> String {
    line.iter().take_while(|byte| byte.is_ascii_uppercase()).take(32).map(|&byte| char::from(byte)).collect()
}

/// The code word of an error that a command inside of a script met. Redis itself gives it as the first word only from 7.0
/// on, and not always then.
fn code_word_in_script(line: &[u8]) -> Option<&'static str> {
    let line = String::from_utf8_lossy(line.get(..line.len().min(MAX_SCRIPT_ERROR_BYTES)).unwrap_or(line));
    if !line.contains("script") {
        return None;
    }
    if NOT_PERMITTED.iter().any(|text| line.contains(text)) {
        return Some("NOPERM");
    }
    let (_, message) = line.rsplit_once("@user_script")?;
    let is_word = |word: &str| PASSING.iter().chain(&["WRONGTYPE", "NOPERM"]).copied().find(|code| *code == word);
    message.split(' ').find_map(|word| is_word(word.trim_start_matches('-')))
}

impl Code {
    pub(crate) fn from_line(line: &[u8]) -> Self {
        let mut word = code_word(line);
        if word.is_empty() || word == "ERR" {
            word = code_word_in_script(line).unwrap_or("ERR").to_owned();
        }
        let second = line.split(|&byte| byte == b' ').nth(1).unwrap_or_default();
        let inner = IN_SCRIPTS.into_iter().find(|name| word == "NOPERM" && name.as_bytes() == second);
        let redirect = Redirect::from_line(&word, line).map(Box::new);
        let hint = Hint::from_line(&word, line);
        Code { word, inner, redirect, hint }
    }

    pub(crate) fn hint(&self) -> Option<Hint> {
        self.hint
    }

    /// Whether another key might not have been refused.
    pub(crate) fn concerns_a_key(&self) -> bool {
        !matches!(self.hint, Some(Hint::UnknownCommand | Hint::ForbiddenCommand))
    }

    /// The word: `OOM`, `NOSCRIPT`, `BUSYGROUP`.
    pub fn as_str(&self) -> &str {
        &self.word
    }

    /// Where it points, if it is a MOVED or ASK that makes sense.
    pub(crate) fn redirect(&self) -> Option<&Redirect> {
        self.redirect.as_deref()
    }

    /// Whether the server is about to change: a new connection may reach another one, or know better.
    pub(crate) fn asks_for_a_new_connection(&self) -> bool {
        self.hint == Some(Hint::TooLong) || matches!(self.as_str(), "READONLY" | "MASTERDOWN" | "NOAUTH" | "WRONGPASS")
    }

    /// Whether the fault lies with the server's state or set-up rather than with the command.
    pub(crate) fn is_passing(&self) -> bool {
        PASSING.contains(&self.as_str())
    }

    /// Whether it concerns this command only: others on the same connection may well be carried out.
    fn is_of_the_command(&self) -> bool {
        matches!(
            self.as_str(),
            "OOM" | "MISCONF" | "TRYAGAIN" | "NOREPLICAS" | "CLUSTERDOWN" | "MOVED" | "ASK" | "NOSCRIPT"
        )
    }

    /// What it means as the answer to this command.
    pub fn to_error(&self, command: &'static str) -> Error {
        match self.as_str() {
            "WRONGTYPE" => Error::WrongType,
            _ if self.hint == Some(Hint::TooLong) => too_long(command),
            code if self.is_of_the_command() => Error::RefusedForNow(format!("redis answered {code}").into()),
            code if self.is_passing() => Error::Unavailable(format!("redis answered {code}").into()),
            code => Error::Refused(format!("redis refused {}: {code}", self.inner.unwrap_or(command)).into()),
        }
    }
}

/// A value that is longer than the server takes.
pub(crate) fn too_long(command: &'static str) -> Error {
    Error::Refused(format!("redis refused {command}: the value is longer than its proto-max-bulk-len").into())
}

/// What [`Code::to_error`] makes of a cluster that is down, and of a slot of it that nobody serves.
pub(crate) const CLUSTER_DOWN: &str = "redis answered CLUSTERDOWN";

/// The server broke the protocol, or a limit.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error("redis answered out of protocol or beyond a limit")]
pub(crate) struct Malformed;

impl From<Malformed> for Error {
    fn from(malformed: Malformed) -> Self {
        Error::Unavailable(malformed.to_string().into())
    }
}

/// Bytes that were read and not yet taken as frames.
#[derive(Default)]
pub(crate) struct Decoder {
    buffer: BytesMut,
    missing: usize,
}

impl Decoder {
    /// The next frame, if all of it has been read; a string may have up to `max_bytes`.
    pub(crate) fn next(&mut self, max_bytes: usize) -> Result<Option<Frame>, Malformed> {
        let Some(&kind) = self.buffer.first() else {
            if self.buffer.capacity() > KEPT_BYTES {
                self.buffer = BytesMut::new();
            }
            return Ok(None);
        };
        let longest = if matches!(kind, b'+' | b'-') { MAX_LINE_BYTES } else { MAX_HEADER_BYTES };
        let Some(end) = self.line_end(longest)? else {
            return Ok(None);
        };
        let line = self.buffer.get(1..end).ok_or(Malformed)?;
        let frame = match kind {
            b'+' => Frame::Status,
            b'-' => Frame::Error(Code::from_line(line)),
            b':' => Frame::Number(number(line)?),
            b'*' => match number(line)? {
                -1 => Frame::Nil,
                count => Frame::Array(usize::try_from(count).ok().filter(|&n| n <= MAX_ELEMENTS).ok_or(Malformed)?),
            },
            b'$' => match number(line)? {
                -1 => Frame::Nil,
                length => {
                    let length = usize::try_from(length).ok().filter(|&n| n <= max_bytes).ok_or(Malformed)?;
                    return self.text(end + 2, length);
                }
            },
            _ => return Err(Malformed),
        };
        self.buffer.advance(end + 2);
        Ok(Some(frame))
    }

    /// Whether something was read that nobody asked for.
    pub(crate) fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    pub(crate) fn unread(&self) -> &[u8] {
        &self.buffer
    }

    /// Where to read to. Room for the rest of a string that has begun, so that it grows once and no further.
    pub(crate) fn room(&mut self) -> &mut BytesMut {
        self.buffer.reserve(self.missing.max(READ_BYTES));
        &mut self.buffer
    }

    fn line_end(&self, longest: usize) -> Result<Option<usize>, Malformed> {
        let seen = self.buffer.get(..longest).unwrap_or(&self.buffer);
        match seen.windows(2).position(|pair| pair == b"\r\n") {
            Some(end) => Ok(Some(end)),
            None if self.buffer.len() >= longest => Err(Malformed),
            None => Ok(None),
        }
    }

    fn text(&mut self, start: usize, length: usize) -> Result<Option<Frame>, Malformed> {
        let whole = start + length + 2;
        if self.buffer.len() < whole {
            self.missing = whole - self.buffer.len();
            return Ok(None);
        }
        self.missing = 0;
        self.buffer.advance(start);
        let text = if length >= SHARED_FROM_BYTES {
            self.buffer.split_to(length).freeze()
        } else {
            let copy = Bytes::copy_from_slice(self.buffer.get(..length).ok_or(Malformed)?);
            self.buffer.advance(length);
            copy
        };
        let closed = self.buffer.starts_with(b"\r\n");
        self.buffer.advance(2);
        if length > KEPT_BYTES && self.buffer.is_empty() {
            // Otherwise what is left of the buffer would keep the string's memory alive.
            self.buffer = BytesMut::new();
        }
        if closed { Ok(Some(Frame::Text(text))) } else { Err(Malformed) }
    }
}

fn number(line: &[u8]) -> Result<i64, Malformed> {
    std::str::from_utf8(line).ok().and_then(|text| text.parse().ok()).ok_or(Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(bytes: &[u8], step: usize, max_bytes: usize) -> Result<Vec<Frame>, Malformed> {
        let mut decoder = Decoder::default();
        let mut frames = Vec::new();
        for chunk in bytes.chunks(step) {
            decoder.room().extend_from_slice(chunk);
            while let Some(frame) = decoder.next(max_bytes)? {
                frames.push(frame);
            }
        }
        Ok(frames)
    }

    #[test]
    fn frames_come_out_the_same_however_the_bytes_arrive() {
        let large = vec![0xfe; SHARED_FROM_BYTES + 1];
        let mut bytes =
            b"+OK\r\n:-7\r\n$-1\r\n$0\r\n\r\n$4\r\na\r\n\0\r\n*2\r\n$1\r\n0\r\n*0\r\n-LOADING wait\r\n".to_vec();
        bytes.extend_from_slice(format!("${}\r\n", large.len()).as_bytes());
        bytes.extend_from_slice(&large);
        bytes.extend_from_slice(b"\r\n:1\r\n");
        let expected = vec![
            Frame::Status,
            Frame::Number(-7),
            Frame::Nil,
            Frame::Text(Bytes::new()),
            Frame::Text(Bytes::from_static(b"a\r\n\0")),
            Frame::Array(2),
            Frame::Text(Bytes::from_static(b"0")),
            Frame::Array(0),
            Frame::Error(Code::from_line(b"LOADING")),
            Frame::Text(large.into()),
            Frame::Number(1),
        ];
        for step in [1, 2, 3, 7, 1000, usize::MAX] {
            assert_eq!(all(&bytes, step, 1 << 20).as_ref(), Ok(&expected), "in steps of {step}");
        }
    }

    #[test]
    fn nothing_is_believed_beyond_its_limit() {
        let long_line = [b"-".as_slice(), &[b'x'; MAX_LINE_BYTES]].concat();
        for bytes in [
            b"$5\r\nabcde\r\n".as_slice(),
            b"$99999999999999999999\r\n",
            b"$-2\r\n",
            b"*-2\r\n",
            b"*999999999\r\n",
            b":1x\r\n",
            b":11111111111111111111111111111111111111",
            b"$1\r\nabc",
            b"%1\r\n",
            b"HTTP/1.1 400 Bad Request\r\n",
            &long_line,
        ] {
            assert_eq!(all(bytes, usize::MAX, 4), Err(Malformed), "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn of_an_error_only_the_code_word_is_kept_and_what_is_known_by_heart() {
        let unknown = Some(Hint::UnknownCommand);
        for (line, code, hint) in [
            (b"-WRONGTYPE Operation \xff\r\n".as_slice(), "WRONGTYPE", None),
            (b"-ERR unknown command 'secret'\r\n", "ERR", unknown),
            (
                b"-NOPERM this user has no permissions to run the 'mset' command\r\n",
                "NOPERM",
                Some(Hint::ForbiddenCommand),
            ),
            (b"-ERR Protocol error: invalid bulk length\r\n", "ERR", Some(Hint::TooLong)),
            (b"-secret\r\n", "ERR", None),
            (b"-\r\n", "ERR", None),
        ] {
            let expected = Code { word: code.into(), inner: None, redirect: None, hint };
            assert_eq!(all(line, usize::MAX, 0), Ok(vec![Frame::Error(expected)]));
        }
    }

    /// As 6.2.14, 7.0.15, Redis 8.2.3 and Valkey 9.1.2 put it.
    #[test]
    fn an_error_inside_of_a_script_is_told_apart_on_every_version() {
        let start = "ERR Error running script (call to f_91cd): @user_script:12: @user_script: 12:";
        let behind = "script: 91cd, on @user_script:12.";
        for (line, code) in [
            (format!("{start} -OOM command not allowed when used memory > 'maxmemory'."), "OOM"),
            (format!("{start} -READONLY You can't write against a read only replica."), "READONLY"),
            (format!("{start} -NOREPLICAS Not enough good replicas to write."), "NOREPLICAS"),
            (format!("{start} -MISCONF Redis is configured to save RDB snapshots"), "MISCONF"),
            (
                "ERR Error running script (call to f_91cd): @user_script:1: WRONGTYPE Operation against".into(),
                "WRONGTYPE",
            ),
            (format!("{start} The user executing the script can't run this command or subcommand"), "NOPERM"),
            (format!("{start} Unknown Redis command called from Lua script"), "ERR"),
            (format!("ERR The user executing the script can't run this command or subcommand {behind}"), "NOPERM"),
            (
                format!("ERR ACL failure in script: User u has no permissions to run the 'setex' command {behind}"),
                "NOPERM",
            ),
            (format!("OOM command not allowed when used memory > 'maxmemory'. {behind}"), "OOM"),
            (format!("ERR Unknown Redis command called from script {behind}"), "ERR"),
            ("BUSY Redis is busy running a script.".into(), "BUSY"),
            ("ERR value OOM".into(), "ERR"),
        ] {
            assert_eq!(Code::from_line(line.as_bytes()).as_str(), code, "{line}");
        }
    }

    #[test]
    fn what_is_refused_for_good_is_named() {
        let error = |line: &str| Code::from_line(line.as_bytes()).to_error("EVALSHA").to_string();
        assert_eq!(error("NOPERM No permissions to access a key"), "redis refused EVALSHA: NOPERM");
        assert_eq!(error("NOPERM SETEX"), "redis refused SETEX: NOPERM");
        assert_eq!(error("NOPERM SECRET"), "redis refused EVALSHA: NOPERM");
        assert_eq!(error("ERR unknown command"), "redis refused EVALSHA: ERR");
    }

    #[test]
    fn a_redirection_tells_where_to_if_that_makes_sense() {
        let read = |line: &str| Code::from_line(line.as_bytes()).redirect().cloned();
        let to = |is_ask, slot, host: &str, port| {
            let host = Some(host.to_owned()).filter(|host| !host.is_empty());
            Some(Redirect { is_ask, slot, host, port })
        };
        assert_eq!(read("MOVED 3999 127.0.0.1:6381"), to(false, 3999, "127.0.0.1", 6381));
        assert_eq!(read("ASK 16383 redis-1.example:1"), to(true, 16383, "redis-1.example", 1));
        assert_eq!(read("MOVED 0 2001:db8::1:6379"), to(false, 0, "2001:db8::1", 6379));
        assert_eq!(read("MOVED 0 :6379"), to(false, 0, "", 6379));
        assert_eq!(read("MOVED 0 ?:6379"), to(false, 0, "", 6379));
        for line in [
            "MOVED",
            "MOVED 1",
            "MOVED 16384 a:1",
            "MOVED -1 a:1",
            "MOVED 1 a:0",
            "MOVED 1 a:65536",
            "MOVED 1 a",
            "MOVED 1 a/b:1",
            "MOVED 1 a\tb:1",
            "TRYAGAIN 1 a:1",
            &format!("ASK 1 {}:1", "a".repeat(600)),
        ] {
            assert_eq!(read(line), None, "{line}");
        }
        assert_eq!(Code::from_line(b"MOVED 1 \xff:1").redirect(), None);
    }
}
