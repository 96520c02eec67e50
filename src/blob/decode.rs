//! Content codings: which ones a response names, and undoing them over a stream, a bounded piece at a time.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use async_compression::tokio::bufread::{BrotliDecoder, DeflateDecoder, GzipDecoder, ZlibDecoder};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, BufReader, ReadBuf};

use super::FetchError;

/// Codings laid over one another, at most.
const MAX_CODINGS: usize = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    Gzip,
    Deflate,
    Brotli,
}

/// The codings of `Content-Encoding` headers in the order in which they were applied. `identity` is none.
pub(super) fn codings<'a>(headers: impl Iterator<Item = &'a [u8]>) -> Result<Vec<Coding>, FetchError> {
    let mut codings = Vec::new();
    for token in headers.flat_map(|value| value.split(|byte| *byte == b',')) {
        let coding = match token.trim_ascii().to_ascii_lowercase().as_slice() {
            b"" | b"identity" => continue,
            b"gzip" | b"x-gzip" => Coding::Gzip,
            b"deflate" => Coding::Deflate,
            b"br" => Coding::Brotli,
            _ => {
                return Err(FetchError::unavailable("the body has a content coding that is not understood"));
            }
        };
        if codings.len() == MAX_CODINGS {
            return Err(FetchError::unavailable("the body has too many content codings"));
        }
        codings.push(coding);
    }
    Ok(codings)
}

type Source = Pin<Box<dyn AsyncBufRead>>;
type Decoded = Pin<Box<dyn AsyncRead>>;

/// The stream with its codings undone. An end before the coded data is whole is an error, and so is anything behind it.
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

async fn undo(coding: Coding, mut source: Source) -> io::Result<Decoded> {
    Ok(match coding {
        Coding::Gzip => {
            let mut decoder = GzipDecoder::new(source);
            decoder.multiple_members(true);
            Box::pin(decoder)
        }
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
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    use tokio::io::AsyncReadExt;

    use super::*;

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn zlib(data: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn bare(data: &[u8]) -> Vec<u8> {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    async fn brotli(data: &[u8]) -> Vec<u8> {
        let mut coded = Vec::new();
        async_compression::tokio::bufread::BrotliEncoder::new(data).read_to_end(&mut coded).await.unwrap();
        coded
    }

    async fn undone(coded: &[u8], header: &str) -> io::Result<Vec<u8>> {
        let codings = codings([header.as_bytes()].into_iter()).unwrap();
        let mut data = Vec::new();
        // A byte at a time: no decoder may rely on how its input is cut.
        let raw = BufReader::with_capacity(1, io::Cursor::new(coded.to_vec()));
        decoded(raw, &codings).await?.read_to_end(&mut data).await?;
        Ok(data)
    }

    async fn every_coding(data: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
        vec![
            ("gzip", gzip(data)),
            ("X-GZip", gzip(data)),
            ("deflate", zlib(data)),
            ("deflate", bare(data)),
            ("br", brotli(data).await),
            ("br, gzip", gzip(&brotli(data).await)),
            ("identity, deflate,identity,", zlib(data)),
        ]
    }

    #[tokio::test]
    async fn every_coding_is_undone() {
        for data in [&b""[..], b"x", b"hello hello hello hello hello", &[7; 100_000]] {
            for (header, coded) in every_coding(data).await {
                assert_eq!(undone(&coded, header).await.unwrap(), data, "{header}, {} bytes", data.len());
            }
        }
    }

    #[tokio::test]
    async fn coded_data_that_is_cut_anywhere_is_an_error() {
        for (header, coded) in every_coding(b"hello hello hello hello hello").await {
            for length in 0..coded.len() {
                assert!(undone(&coded[..length], header).await.is_err(), "{header} cut to {length}");
            }
        }
    }

    #[tokio::test]
    async fn bytes_behind_the_coded_data_are_an_error() {
        for (header, mut coded) in every_coding(b"hello").await {
            coded.extend_from_slice(b"more of something else");
            assert!(undone(&coded, header).await.is_err(), "{header}");
        }
        assert!(undone(b"not coded at all", "gzip").await.is_err());
    }

    #[tokio::test]
    async fn gzip_of_several_members_is_one_body() {
        let coded = [gzip(b"one,"), gzip(b""), gzip(b"two")].concat();
        assert_eq!(undone(&coded, "gzip").await.unwrap(), b"one,two");
    }

    #[tokio::test]
    async fn a_wrong_checksum_is_an_error() {
        for (header, mut coded) in [("gzip", gzip(b"hello")), ("deflate", zlib(b"hello"))] {
            let at = coded.len() - if header == "gzip" { 5 } else { 1 };
            coded[at] ^= 1;
            assert!(undone(&coded, header).await.is_err(), "{header}");
        }
    }

    #[test]
    fn codings_beyond_the_known_and_the_bounded_are_refused() {
        let parse = |values: &[&'static str]| codings(values.iter().map(|value| value.as_bytes()));
        assert_eq!(parse(&[]).unwrap(), []);
        assert_eq!(parse(&["identity"]).unwrap(), []);
        assert_eq!(parse(&["gzip", " BR "]).unwrap(), [Coding::Gzip, Coding::Brotli]);
        for bad in ["zstd", "compress", "gzip;q=1", "gzip gzip", "gzip,gzip,gzip", "\u{fffd}"] {
            assert!(parse(&[bad]).is_err(), "{bad}");
        }
    }
}
