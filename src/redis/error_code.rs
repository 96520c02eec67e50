//! Why Redis refused a command, as far as it is kept: the code word of its answer, where a redirection points, and what is
//! known by heart of its text. The text itself may repeat keys and arguments, and need not even be UTF-8.

use super::address::Address;
use super::error::Error;
use super::slot::SLOTS;

/// The same for MOVED and ASK: a name has 255 bytes.
const MAX_REDIRECT_BYTES: usize = 512;
/// Bytes of an error's text that are looked at, at most.
const MAX_HINT_BYTES: usize = 256;
/// Bytes of a script's error that are looked at, at most.
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

/// The code word of an error that Redis answered, with what is known by heart of its text. The rest is not kept: it may repeat
/// keys and arguments.
///
/// The word has capital letters only, at most 32 of them; `ERR` where there was nothing of the kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Code {
    word: String,
    /// Inside of a script, or before it: what it was that Redis refused.
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

    /// The same as the answer to a command that depends on this one.
    pub(crate) fn inside(self, command: &'static str) -> Self {
        Code { inner: Some(command), ..self }
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

#[cfg(test)]
mod tests;
