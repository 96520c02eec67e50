//! Reading a request's body: bounded in bytes (after decompression), and held against admission as it arrives. Its time
//! is up to the caller.

use std::io;

use actix_web::error::PayloadError;
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, ORIGIN};
use actix_web::web::Payload;
use async_compression::tokio::bufread::GzipDecoder;
use bytes::Bytes;
use futures::{FutureExt, Stream, StreamExt};
use tokio::io::AsyncReadExt;
use tokio::task::yield_now;
use tokio_util::io::StreamReader;

use super::progress::ConnectionProgress;
use super::unproven::Share;
use super::webhook::Claim;
use crate::event::rejection::Rejection;
use crate::event::wire::BodyForm;
use crate::pipeline::work::admission::Permit;

/// Decompressed bytes asked for at a time.
const INFLATE_CHUNK: usize = 64 * 1024;
/// What a body that does not come at once has room for at first.
const FIRST_ROOM: usize = 64 * 1024;
/// What a decoder holds of its own: a window, tables and the bytes in hand.
const DECODER_BYTES: usize = 64 * 1024;
/// Bytes of a refused body that are read, at most.
const SKIMMED_BYTES: usize = 64 * 1024;

/// How the body is written.
#[derive(Debug, Clone, Copy)]
pub struct BodyType {
    pub form: BodyForm,
    gzip: bool,
}

/// What the headers say about the body, if we understand it.
pub fn kind(headers: &HeaderMap) -> Result<BodyType, Rejection> {
    let mut types = headers.get_all(CONTENT_TYPE);
    let form = match types.next() {
        // RFC 9110 section 5.3: a field that is no list stands once; of two nobody can say which holds.
        Some(_) if types.next().is_some() => {
            return Err(Rejection::UnsupportedMediaType {
                detail: "The request has more than one Content-Type.".into(),
            });
        }
        // A browser lets any page send that without asking first; every other type of ours it would ask context.
        None if headers.contains_key(ORIGIN) => {
            let detail = "A request with an Origin must have a Content-Type.";
            return Err(Rejection::UnsupportedMediaType { detail: detail.into() });
        }
        None => BodyForm::Json,
        Some(value) => {
            let essence = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
            if essence.eq_ignore_ascii_case("application/json") {
                BodyForm::Json
            } else if essence.eq_ignore_ascii_case("application/x-ndjson") {
                BodyForm::NdJson
            } else {
                let detail = "Content-Type must be application/json or application/x-ndjson.";
                return Err(Rejection::UnsupportedMediaType { detail: detail.into() });
            }
        }
    };
    Ok(BodyType { form, gzip: is_gzip(headers)? })
}

/// The same of a notification. What it is, is for its format to say; but a page may send some types without asking first, and
/// producers are no pages.
pub fn kind_of_notification(headers: &HeaderMap) -> Result<BodyType, Rejection> {
    if headers.contains_key(ORIGIN) && kind(headers).is_err() {
        let detail = "A request with an Origin must have the Content-Type application/json.";
        return Err(Rejection::UnsupportedMediaType { detail: detail.into() });
    }
    Ok(BodyType { form: BodyForm::Json, gzip: is_gzip(headers)? })
}

fn is_gzip(headers: &HeaderMap) -> Result<bool, Rejection> {
    let mut codings = headers.get_all(CONTENT_ENCODING);
    match (codings.next().map(|value| value.to_str().unwrap_or_default().trim()), codings.next()) {
        (None, _) => Ok(false),
        (Some(coding), None) if coding.eq_ignore_ascii_case("identity") => Ok(false),
        (Some(coding), None) if coding.eq_ignore_ascii_case("gzip") || coding.eq_ignore_ascii_case("x-gzip") => {
            Ok(true)
        }
        _ => Err(Rejection::UnsupportedMediaType { detail: "Content-Encoding must be gzip, or left out.".into() }),
    }
}

/// What a body may take.
pub struct BodyLimits<'a> {
    pub max_bytes: usize,
    pub permit: &'a mut Permit,
    /// The place of a body whose signature is still to be proven.
    pub unproven: Option<&'a Share<'a>>,
}

/// Reads it whole. `permit` grows with it; `claim` is told of it as it was sent, all of it, even where it turns out not
/// to be gzip. The `connection` is told before the first byte is asked for.
pub async fn read(
    payload: &mut Payload,
    headers: &HeaderMap,
    kind: BodyType,
    bounds: BodyLimits<'_>,
    claim: Option<&mut Claim>,
    connection: Option<&ConnectionProgress>,
) -> Result<Bytes, Rejection> {
    let declared = headers
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok())
        .and_then(|length| usize::try_from(length).ok());
    let max_bytes = bounds.max_bytes;
    if !kind.gzip && declared.is_some_and(|length| length > max_bytes) {
        return Err(Rejection::BodyTooLarge { max_bytes });
    }
    if let Some(connection) = connection {
        connection.ask_for_body();
    }
    let body = Body { buffer: Vec::new(), bounds, claim, connection };
    match kind.gzip {
        false => body.read_plain(payload, declared).await,
        // Boxed: it is large, and every request would carry room for it.
        true => Box::pin(body.read_gzip(payload)).await,
    }
}

/// Takes what has come of the body of a request that is refused: a connection whose body is left lying is closed, and
/// requests that were sent behind it are never answered.
pub async fn skim(mut payload: impl Stream<Item = Result<Bytes, PayloadError>> + Unpin) {
    // Until the connection has been looked at once more.
    yield_now().await;
    let mut left = SKIMMED_BYTES;
    while let Some(Some(Ok(chunk))) = payload.next().now_or_never() {
        match left.checked_sub(chunk.len()) {
            Some(less) => left = less,
            None => return,
        }
    }
}

struct Body<'a> {
    buffer: Vec<u8>,
    bounds: BodyLimits<'a>,
    claim: Option<&'a mut Claim>,
    connection: Option<&'a ConnectionProgress>,
}

impl Body<'_> {
    async fn read_plain(mut self, payload: &mut Payload, declared: Option<usize>) -> Result<Bytes, Rejection> {
        while let Some(chunk) = payload.next().await {
            let chunk = chunk.map_err(|_| self.unreadable())?;
            self.hold(chunk.len())?;
            if let Some(claim) = &mut self.claim {
                claim.add(&chunk);
            }
            if self.buffer.is_empty() && declared == Some(chunk.len()) {
                return Ok(chunk);
            }
            self.make_room(chunk.len(), declared);
            self.buffer.extend_from_slice(&chunk);
        }
        Ok(self.buffer.into())
    }

    /// Room for so much more: at most four times what is there, whatever was announced. A body may be given up when a part of it
    /// has come, and others then need what it held; room that it never used is of no use to them. In smaller steps more would be
    /// left behind by those that go on.
    fn make_room(&mut self, more: usize, declared: Option<usize>) {
        let needed = self.buffer.len() + more;
        if needed > self.buffer.capacity() {
            let larger = (4 * self.buffer.capacity()).max(FIRST_ROOM);
            let room = declared.unwrap_or(2 * needed).min(larger).max(needed);
            self.buffer.reserve_exact(room - self.buffer.len());
        }
    }

    /// Compressed bytes are bounded too: empty gzip members take time without making a byte.
    async fn read_gzip(mut self, payload: &mut Payload) -> Result<Bytes, Rejection> {
        let mut held = self.bounds.permit.admission().permit();
        let has_room = self.bounds.unproven.is_none_or(|share| share.grow(DECODER_BYTES));
        if !has_room || !held.try_grow(0, DECODER_BYTES) {
            return Err(Rejection::Overloaded);
        }
        let mut compressed_left = self.bounds.max_bytes.saturating_mul(2).saturating_add(INFLATE_CHUNK);
        let mut claim = self.claim.take();
        let bounded = payload.map(move |chunk| {
            let chunk = chunk.map_err(io::Error::other)?;
            compressed_left = compressed_left.checked_sub(chunk.len()).ok_or(io::ErrorKind::FileTooLarge)?;
            if let Some(claim) = &mut claim {
                claim.add(&chunk);
            }
            Ok::<Bytes, io::Error>(chunk)
        });
        let reader = StreamReader::new(bounded);
        let mut decoder = GzipDecoder::new(reader);
        decoder.multiple_members(true);
        loop {
            self.buffer.reserve(INFLATE_CHUNK);
            let before = self.buffer.len();
            let mut window = (&mut decoder).take(INFLATE_CHUNK as u64);
            match window.read_buf(&mut self.buffer).await {
                Ok(0) => return Ok(self.buffer.into()),
                Ok(_) => self.hold(self.buffer.len() - before)?,
                Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                    return Err(Rejection::BodyTooLarge { max_bytes: self.bounds.max_bytes });
                }
                Err(error) if error.get_ref().is_some_and(|cause| cause.is::<PayloadError>()) => {
                    return Err(self.unreadable());
                }
                Err(_) => {
                    let mut rest = decoder.into_inner().into_inner();
                    while let Some(Ok(_)) = rest.next().await {}
                    return Err(Rejection::Malformed { detail: "The body is not complete, valid gzip.".to_owned() });
                }
            }
        }
    }

    /// Why the body ended before it was whole. To actix-http chunks that are none and a sender that hangs up are the same.
    fn unreadable(&self) -> Rejection {
        if self.connection.is_some_and(ConnectionProgress::is_open) {
            return Rejection::BrokenChunks;
        }
        Rejection::Malformed { detail: "The body ended early.".to_owned() }
    }

    fn hold(&mut self, more: usize) -> Result<(), Rejection> {
        let BodyLimits { max_bytes, permit, unproven } = &mut self.bounds;
        if permit.bytes() + more > *max_bytes {
            return Err(Rejection::BodyTooLarge { max_bytes: *max_bytes });
        }
        let has_room = unproven.is_none_or(|share| share.grow(more)) && permit.try_grow(0, more);
        if has_room { Ok(()) } else { Err(Rejection::Overloaded) }
    }
}
