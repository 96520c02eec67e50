//! Reading one body to its end: decoded, under the cap and the attempt's time, with as few copies as can be.

mod pieces;

use std::rc::Rc;
use std::{fmt, io};

use awc::ClientResponse;
use awc::error::PayloadError;
use awc::http::header;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout_at};

use super::aside::Aside;
use super::decode::{Coding, codings, decoded};
use super::decoding::Decoding;
use super::dial::fault;
use super::{FetchError, FetchErrorKind};
use crate::event::EntityTag;

/// A first chunk of at least this size is passed on without a copy if it is the whole body; a smaller one is copied out of
/// the read buffer, which it would keep alive.
const PASSED_ON_BYTES: usize = 16 * 1024;
const FIRST_BUFFER_BYTES: usize = 16 * 1024;
/// What is decoded between two looks at the clock.
const STEP_BYTES: usize = 64 * 1024;

/// A response of which the head is read and the body is not. Dropping it closes the connection.
pub struct Download {
    response: ClientResponse,
    /// Where the body goes if not through the response.
    aside: Option<Rc<Aside>>,
    codings: Vec<Coding>,
    etag: Option<EntityTag>,
    resource: u64,
    /// `Content-Length`, which counts coded bytes.
    announced: Option<u64>,
    max_bytes: usize,
    until: Instant,
    decoding: Rc<Decoding>,
    _permit: OwnedSemaphorePermit,
}

impl Download {
    pub(super) fn new(
        response: ClientResponse,
        aside: Option<Rc<Aside>>,
        max_bytes: usize,
        until: Instant,
        decoding: Rc<Decoding>,
        permit: OwnedSemaphorePermit,
        resource: u64,
    ) -> Result<Self, FetchError> {
        let headers = response.headers();
        let codings = codings(headers.get_all(header::CONTENT_ENCODING).map(|value| value.as_bytes()))?;
        let announced = match &aside {
            Some(aside) => Some(aside.length() as u64),
            None if headers.contains_key(header::TRANSFER_ENCODING) => None,
            None => headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.trim().parse().ok()),
        };
        if codings.is_empty() && announced.is_some_and(|length: u64| length > max_bytes as u64) {
            return Err(too_large(max_bytes));
        }
        let etag = match &aside {
            Some(aside) => aside.etag().cloned(),
            None => headers.get(header::ETAG).and_then(|tag| EntityTag::parse(tag.to_str().ok()?)),
        };
        Ok(Download {
            response,
            aside,
            codings,
            etag,
            resource,
            announced,
            max_bytes,
            until,
            decoding,
            _permit: permit,
        })
    }

    /// What the server calls this state of the blob.
    pub fn etag(&self) -> Option<&EntityTag> {
        self.etag.as_ref()
    }

    /// A hash of where the body comes from, redirects followed: what the tag belongs to.
    pub fn resource(&self) -> u64 {
        self.resource
    }

    /// The body's decoded length in bytes, if it is known beforehand; at most the cap.
    pub fn length(&self) -> Option<usize> {
        if !self.codings.is_empty() {
            return None;
        }
        self.announced.and_then(|length| usize::try_from(length).ok())
    }

    /// Reads and decodes to the end.
    ///
    /// # Errors
    ///
    /// `TooLarge` as soon as the decoded bytes pass the cap; `Unavailable` if the body is cut short or differs from its
    /// announced length, its coding is broken, or the attempt's time is up.
    pub async fn read(mut self) -> Result<Bytes, FetchError> {
        match timeout_at(self.until, self.read_untimed()).await {
            Ok(result) => result,
            Err(_) => Err(FetchError::unavailable("the body did not arrive in time")),
        }
    }

    async fn read_untimed(&mut self) -> Result<Bytes, FetchError> {
        if let Some(aside) = self.aside.take() {
            return self.read_aside(&aside).await;
        }
        // Nothing was coded; servers put the header there all the same.
        if self.codings.is_empty() || self.announced == Some(0) {
            self.read_plain().await
        } else {
            self.read_coded().await
        }
    }

    async fn read_aside(&mut self, aside: &Aside) -> Result<Bytes, FetchError> {
        // To the end: only then does the connection go back to the pool.
        while let Some(stand_in) = self.response.next().await {
            stand_in.map_err(|error| body_fault(&into_io(error)))?;
        }
        aside.take().ok_or_else(|| FetchError::unavailable("the body was cut short"))
    }

    async fn read_plain(&mut self) -> Result<Bytes, FetchError> {
        let expected = self.announced.and_then(|length| usize::try_from(length).ok());
        let (mut length, mut data, mut whole) = (0, Vec::new(), None);
        // Read to the end even if nothing is missing any more: only then does the connection go back to the pool.
        while let Some(chunk) = self.response.next().await {
            let chunk = chunk.map_err(|error| body_fault(&into_io(error)))?;
            length += chunk.len();
            if length > self.max_bytes {
                return Err(too_large(self.max_bytes));
            }
            if expected == Some(chunk.len()) && length == chunk.len() && length >= PASSED_ON_BYTES {
                whole = Some(chunk);
                continue;
            }
            make_room(&mut data, chunk.len(), expected, self.max_bytes);
            data.extend_from_slice(&chunk);
        }
        if expected.is_some_and(|expected| expected != length) {
            return Err(FetchError::unavailable("the body does not have the length that the host announced"));
        }
        Ok(whole.unwrap_or_else(|| finished(data)))
    }

    async fn read_coded(&mut self) -> Result<Bytes, FetchError> {
        let (codings, max_bytes) = (std::mem::take(&mut self.codings), self.max_bytes);
        let work = move |raw| async move {
            let mut body = decoded(raw, &codings).await.map_err(|error| body_fault(&error))?;
            read_capped(&mut body, max_bytes).await
        };
        let lost = || FetchError::unavailable("the decoder of the body failed");
        self.decoding.run((&mut self.response).map_err(into_io), work).await.unwrap_or_else(|| Err(lost()))
    }
}

/// Leaves the headers out: they are the peer's text.
impl fmt::Debug for Download {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Download")
            .field("codings", &self.codings)
            .field("announced", &self.announced)
            .finish_non_exhaustive()
    }
}

async fn read_capped(body: &mut (impl AsyncRead + Unpin), max_bytes: usize) -> Result<Bytes, FetchError> {
    let mut data = Vec::new();
    loop {
        // Decoding may go on for long without waiting for anything, and others are decoded on the same thread.
        tokio::task::yield_now().await;
        let left = max_bytes - data.len();
        if left == 0 {
            return match body.read(&mut [0]).await.map_err(|error| body_fault(&error))? {
                0 => Ok(finished(data)),
                _ => Err(too_large(max_bytes)),
            };
        }
        if data.len() == data.capacity() {
            make_room(&mut data, 1, None, max_bytes);
        }
        let step = (data.capacity() - data.len()).min(left).min(STEP_BYTES);
        let mut room = body.take(step as u64);
        if room.read_buf(&mut data).await.map_err(|error| body_fault(&error))? == 0 {
            return Ok(finished(data));
        }
    }
}

/// Room for `more` bytes: at once all that is announced, and otherwise in doublings, never beyond the cap. The caller has
/// checked that it fits the cap.
fn make_room(data: &mut Vec<u8>, more: usize, expected: Option<usize>, max_bytes: usize) {
    let needed = data.len() + more;
    if needed > data.capacity() {
        let grown = expected.unwrap_or((data.capacity() * 2).max(FIRST_BUFFER_BYTES)).min(max_bytes).max(needed);
        data.reserve_exact(grown - data.len());
    }
}

/// What is kept should not hold much more memory than its length says.
fn finished(mut data: Vec<u8>) -> Bytes {
    if data.capacity() - data.len() > data.len() / 8 {
        data.shrink_to_fit();
    }
    Bytes::from(data)
}

fn too_large(max_bytes: usize) -> FetchError {
    FetchError::new(FetchErrorKind::TooLarge, format!("the blob is larger than {max_bytes} bytes"))
}

fn into_io(error: PayloadError) -> io::Error {
    match error {
        PayloadError::Io(error) | PayloadError::Incomplete(Some(error)) => error,
        PayloadError::Incomplete(None) => io::ErrorKind::UnexpectedEof.into(),
        _ => io::ErrorKind::InvalidData.into(),
    }
}

fn body_fault(error: &io::Error) -> FetchError {
    FetchError::unavailable(match error.kind() {
        io::ErrorKind::UnexpectedEof => "the body was cut short",
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::Other => "the body is malformed",
        kind => fault(kind),
    })
}
