//! From a bucket to Redis: objects are written, overwritten and deleted, and what the cache then holds is read where it is
//! kept.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use actix_rt::time::sleep;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};

use super::bucket::{BUCKET, Bucket};
use super::print::print_wrapped;
use super::{Failure, MAX_ANSWER_BYTES};
use crate::cache::{Command, Reply, Session};
use crate::event::CacheKey;

/// For a change to arrive.
const ARRIVE_WITHIN: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(5);

struct Change {
    title: &'static str,
    object: &'static str,
    /// None: it is deleted.
    body: Option<&'static [u8]>,
}

const CHANGES: [Change; 5] = [
    Change {
        title: "an object is written: the store notifies, the daemon fetches it",
        object: "notes/hello.txt",
        body: Some(b"hello"),
    },
    Change { title: "it is overwritten", object: "notes/hello.txt", body: Some(b"hello again") },
    Change { title: "a picture, byte for byte", object: "dot.png", body: Some(include_bytes!("blobs/dot.png")) },
    Change { title: "an object is deleted, and so is its key", object: "notes/hello.txt", body: None },
    Change { title: "it is written anew", object: "notes/hello.txt", body: Some(b"and once more") },
];

/// How many changes there are.
pub(super) const COUNT: usize = CHANGES.len();

/// Where the values of the cache are read.
pub(super) enum Reader {
    /// In Redis, past the daemon.
    Redis(Box<dyn Session>),
    /// From the daemon, which alone sees its embedded cache.
    Daemon(awc::Client, SocketAddr),
}

impl Reader {
    fn label(&self) -> &'static str {
        match self {
            Reader::Redis(_) => "Redis",
            Reader::Daemon(..) => "cache",
        }
    }

    async fn value(&mut self, key: &str) -> Result<Option<Bytes>, Failure> {
        match self {
            Reader::Redis(session) => {
                let get = Command::Get { key: CacheKey::new_unchecked(key.to_owned()), max_bytes: MAX_ANSWER_BYTES };
                match session.apply(&[get], ARRIVE_WITHIN).await.pop() {
                    Some(Ok(Reply::Hit(value))) => Ok(Some(value)),
                    Some(Ok(_)) => Ok(None),
                    Some(Err(error)) => Err(error.to_string().into()),
                    None => Err("Redis did not answer".into()),
                }
            }
            Reader::Daemon(client, address) => {
                let event = json!({"key": "GET", "value": {"data": key}});
                let request = client.post(format!("http://{address}/events")).send_json(&event);
                let mut answer = request.await.map_err(|error| error.to_string())?;
                let answer: Value = serde_json::from_slice(&answer.body().limit(MAX_ANSWER_BYTES).await?)?;
                value_in(&answer["results"][0])
            }
        }
    }
}

fn value_in(result: &Value) -> Result<Option<Bytes>, Failure> {
    Ok(match (result["value"].as_str(), result["encoding"].as_str()) {
        (Some(text), Some(_)) => Some(BASE64_STANDARD.decode(text)?.into()),
        (Some(text), None) => Some(text.to_owned().into()),
        (None, _) => None,
    })
}

/// Makes all changes, numbered from `first`, and counts those that arrived.
pub(super) async fn run(first: usize, bucket: &Bucket, reader: &mut Reader) -> Result<usize, Failure> {
    let mut arrived = 0;
    for (number, change) in (first..).zip(&CHANGES) {
        let method = if change.body.is_some() { "PUT" } else { "DEL" };
        print_head(number, change, method, &bucket.url(change.object))?;
        match change.body {
            Some(body) => bucket.put(change.object, body).await?,
            None => bucket.delete(change.object).await?,
        }
        let done = Instant::now();
        let (value, fits) = arrival(reader, change).await?;
        arrived += usize::from(fits);
        let after = format!("{} ms after the store had it", done.elapsed().as_millis());
        print_tail(reader.label(), change, value.as_deref(), &after, fits)?;
    }
    Ok(arrived)
}

/// What the key holds once it is what is due, or when that takes too long, and whether it is.
async fn arrival(reader: &mut Reader, change: &Change) -> Result<(Option<Bytes>, bool), Failure> {
    let (key, end) = (format!("{BUCKET}/{}", change.object), Instant::now() + ARRIVE_WITHIN);
    loop {
        let value = reader.value(&key).await?;
        let fits = value.as_deref() == change.body;
        if fits || Instant::now() > end {
            return Ok((value, fits));
        }
        sleep(LOOK_EVERY).await;
    }
}

fn print_head(number: usize, change: &Change, method: &str, url: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{number:>2}. {}", change.title)?;
    let body = change.body.map(|body| format!("   {}", shown(body))).unwrap_or_default();
    print_wrapped(&mut out, method, &format!("{url}{body}"))?;
    out.flush()
}

fn print_tail(label: &str, change: &Change, value: Option<&[u8]>, after: &str, fits: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let value = value.map_or("nothing".to_owned(), shown);
    print_wrapped(&mut out, label, &format!("{BUCKET}/{}: {value}, {after}", change.object))?;
    let (mark, word) = if fits { ("✓", "as expected") } else { ("✗", "the change did not arrive") };
    print_wrapped(&mut out, mark, word)?;
    writeln!(out)
}

/// Text as such, and of anything else how long it is.
fn shown(value: &[u8]) -> String {
    match std::str::from_utf8(value) {
        Ok(text) => format!("{text:?}"),
        Err(_) => format!("{} bytes", value.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_of_an_answer_is_text_or_base64_or_none() {
        let value = |result: Value| value_in(&result).unwrap();
        assert_eq!(value(json!({"status": "hit", "value": "hello"})).as_deref(), Some(&b"hello"[..]));
        assert_eq!(value(json!({"value": "AAH/", "encoding": "base64"})).as_deref(), Some(&[0, 1, 255][..]));
        assert_eq!(value(json!({"status": "miss"})), None);
        assert!(value_in(&json!({"value": "?", "encoding": "base64"})).is_err());
    }

    #[test]
    fn text_is_shown_and_bytes_are_counted() {
        assert_eq!((shown(b"hi"), shown(&[0xff, 0xd8])), ("\"hi\"".to_owned(), "2 bytes".to_owned()));
    }
}
