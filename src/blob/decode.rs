//! Content codings: which ones a response names, and undoing them over a stream, a bounded piece at a time.

mod paced;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use async_compression::tokio::bufread::{BrotliDecoder, DeflateDecoder, GzipDecoder, ZlibDecoder};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, BufReader, ReadBuf};

use self::paced::Paced;
use super::{FetchError, FetchErrorKind};

/// Codings laid over one another, at most.
const MAX_CODINGS: usize = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    Gzip,
    Deflate,
    Brotli,
}

/// The codings of `Content-Encoding` headers in the order in which they were applied. `identity` is none, and neither is
/// `aws-chunked`: S3 gateways leave it on objects though it was only the framing of their upload.
pub(super) fn codings<'a>(headers: impl Iterator<Item = &'a [u8]>) -> Result<Vec<Coding>, FetchError> {
    let mut codings = Vec::new();
    for token in headers.flat_map(|value| value.split(|byte| *byte == b',')) {
        let coding = match token.trim_ascii().to_ascii_lowercase().as_slice() {
            b"" | b"identity" | b"aws-chunked" => continue,
            b"gzip" | b"x-gzip" => Coding::Gzip,
            b"deflate" => Coding::Deflate,
            b"br" => Coding::Brotli,
            _ => return Err(denied("the body's Content-Encoding is not supported")),
        };
        if codings.len() == MAX_CODINGS {
            return Err(denied("the body has too many content codings"));
        }
        codings.push(coding);
    }
    Ok(codings)
}

/// Asking again would bring the same.
fn denied(detail: &'static str) -> FetchError {
    FetchError::new(FetchErrorKind::Denied, detail)
}

type Source = Pin<Box<dyn AsyncBufRead>>;
type Decoded = Pin<Box<dyn AsyncRead>>;

/// The stream with its codings undone. An end before the coded data is whole is an error, and so is anything behind it.
/// Reading lets others have their turn after a bounded piece of work, whether that put out a byte or none.
pub(super) async fn decoded(raw: impl AsyncBufRead + 'static, codings: &[Coding]) -> io::Result<Decoded> {
    let mut source: Source = Box::pin(raw);
    let Some((first, later)) = codings.split_first() else {
        return Ok(Box::pin(source));
    };
    for coding in later.iter().rev() {
        source = Box::pin(BufReader::new(undo(*coding, source).await?));
    }
    undo(*first, source).await
}

async fn undo(coding: Coding, source: Source) -> io::Result<Decoded> {
    let mut source: Source = Box::pin(Paced::new(source));
    Ok(match coding {
        Coding::Gzip => Box::pin(Members::Inside(GzipDecoder::new(source))),
        Coding::Brotli if is_large_window(&mut source).await? => return Err(io::ErrorKind::InvalidData.into()),
        Coding::Brotli => Box::pin(Whole(BrotliDecoder::new(source))),
        Coding::Deflate if is_zlib(&mut source).await? => Box::pin(Whole(ZlibDecoder::new(source))),
        Coding::Deflate => Box::pin(Whole(DeflateDecoder::new(source))),
    })
}

/// `deflate` is zlib by the standard, but servers that send bare deflate data are known. The low half of zlib's first
/// byte is always 8, which as bare data would be a stored block with padding that no encoder writes.
async fn is_zlib(source: &mut Source) -> io::Result<bool> {
    Ok(source.fill_buf().await?.first().is_none_or(|byte| byte & 0x0f == 8))
}

/// Whether a Brotli stream says that its window may be larger than the 16 MiB of RFC 7932 (section 9.1, where these seven
/// bits are not allowed). The decoder would take a window of up to a gigabyte, and no memory is counted for that.
async fn is_large_window(source: &mut Source) -> io::Result<bool> {
    Ok(source.fill_buf().await?.first().is_some_and(|byte| byte & 0x7f == 0b001_0001))
}

/// The members of a gzip stream, one after another. Zeros behind the last are padding, as gzip itself takes them.
enum Members {
    Inside(GzipDecoder<Source>),
    Behind(Source),
    Padding(Source),
    /// Only while one becomes the other.
    Between,
}

impl AsyncRead for Members {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let (before, room) = (buf.filled().len(), buf.remaining());
        loop {
            match &mut *self {
                Members::Inside(decoder) => {
                    ready!(Pin::new(decoder).poll_read(cx, buf))?;
                    if room == 0 || buf.filled().len() > before {
                        return Poll::Ready(Ok(()));
                    }
                    if let Members::Inside(decoder) = std::mem::replace(&mut *self, Members::Between) {
                        *self = Members::Behind(decoder.into_inner());
                    }
                    // A new decoder costs more than the few bytes of an empty member would have others wait.
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Members::Behind(source) => {
                    let next = ready!(source.as_mut().poll_fill_buf(cx))?.first().copied();
                    let Some(next) = next else { return Poll::Ready(Ok(())) };
                    if let Members::Behind(source) = std::mem::replace(&mut *self, Members::Between) {
                        *self = match next {
                            0 => Members::Padding(source),
                            _ => Members::Inside(GzipDecoder::new(source)),
                        };
                    }
                }
                Members::Padding(source) => {
                    let rest = ready!(source.as_mut().poll_fill_buf(cx))?;
                    if rest.iter().any(|byte| *byte != 0) {
                        return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
                    }
                    let zeros = rest.len();
                    if zeros == 0 {
                        return Poll::Ready(Ok(()));
                    }
                    source.as_mut().consume(zeros);
                }
                Members::Between => return Poll::Ready(Err(io::ErrorKind::InvalidData.into())),
            }
        }
    }
}

/// A decoder that stops at the end of its data, made to fail if its input does not end there too.
struct Whole<D>(D);

trait Decoder: AsyncRead + Unpin {
    fn source(&mut self) -> &mut Source;
}

impl Decoder for BrotliDecoder<Source> {
    fn source(&mut self) -> &mut Source {
        self.get_mut()
    }
}

impl Decoder for ZlibDecoder<Source> {
    fn source(&mut self) -> &mut Source {
        self.get_mut()
    }
}

impl Decoder for DeflateDecoder<Source> {
    fn source(&mut self) -> &mut Source {
        self.get_mut()
    }
}

impl<D: Decoder> AsyncRead for Whole<D> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let (before, room) = (buf.filled().len(), buf.remaining());
        ready!(Pin::new(&mut self.0).poll_read(cx, buf))?;
        if room == 0 || buf.filled().len() > before {
            return Poll::Ready(Ok(()));
        }
        let rest = ready!(self.0.source().as_mut().poll_fill_buf(cx))?;
        Poll::Ready(if rest.is_empty() { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) })
    }
}

#[cfg(test)]
mod tests;
