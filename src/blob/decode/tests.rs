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
async fn a_brotli_window_beyond_the_standard_is_refused() {
    // An empty stream with a window of 2^25 bytes, and one with the smallest window.
    assert!(undone(&[0x11, 0xd9], "br").await.is_err());
    assert_eq!(undone(&[0xa1, 0x01], "br").await.unwrap(), b"");
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
    assert_eq!(parse(&["aws-chunked"]).unwrap(), []);
    for list in ["aws-chunked,gzip", "gzip, aws-chunked", "AWS-Chunked , gzip,", "identity,gzip,aws-chunked"] {
        assert_eq!(parse(&[list]).unwrap(), [Coding::Gzip], "{list}");
    }
    assert_eq!(parse(&["gzip", "aws-chunked", "br"]).unwrap(), [Coding::Gzip, Coding::Brotli]);
    for bad in ["zstd", "compress", "gzip;q=1", "gzip gzip", "gzip,gzip,gzip", "\u{fffd}"] {
        assert_eq!(parse(&[bad]).unwrap_err().kind, FetchErrorKind::Denied, "{bad}");
    }
}

#[tokio::test]
async fn gzip_may_have_members_and_zeros_behind_the_last() {
    let (one, two) = (gzip(b"one "), gzip(b"two"));
    let zeros = |count| vec![0; count];
    for (coded, data) in [
        ([one.clone(), two.clone()].concat(), &b"one two"[..]),
        ([one.clone(), gzip(b""), two.clone()].concat(), b"one two"),
        ([one.clone(), zeros(1)].concat(), b"one "),
        ([one.clone(), two.clone(), zeros(100_000)].concat(), b"one two"),
        (gzip(b""), b""),
    ] {
        assert_eq!(undone(&coded, "gzip").await.unwrap(), data);
    }
    for tail in [&b"\0\0x"[..], b"x", b"\x1f", &two[..two.len() - 1], &[&[0][..], &two].concat()] {
        assert!(undone(&[&one, tail].concat(), "gzip").await.is_err(), "{tail:?}");
    }
}

/// Bytes that decode to nothing, or a few, by the coding's own rules: members without data, blocks without data, metadata.
fn much_ado(coding: &str, length: usize) -> Vec<u8> {
    match coding {
        "gzip" => gzip(b"").repeat(length / 20),
        "deflate" => [&[0, 0, 0, 0xff, 0xff].repeat(length / 5)[..], &bare(b"")].concat(),
        _ => [&[0x0c][..], &vec![0x06; length], &[0x03]].concat(),
    }
}

#[tokio::test]
async fn others_have_their_turn_though_no_byte_is_put_out() {
    const LENGTH: usize = 40 * paced::TURN_BYTES;
    for coding in ["gzip", "deflate", "br"] {
        let coded = gzip(&much_ado(coding, LENGTH));
        assert!(coded.len() < LENGTH / 20, "{coding}: {} bytes", coded.len());
        let codings = codings([coding.as_bytes(), b"gzip"].into_iter()).unwrap();
        let mut body = decoded(io::Cursor::new(coded), &codings).await.unwrap();
        let mut read = Box::pin(body.read_u8());
        let mut turns = 0;
        let error = std::future::poll_fn(|cx| match read.as_mut().poll(cx) {
            Poll::Pending => {
                turns += 1;
                Poll::Pending
            }
            ended => ended,
        });
        assert_eq!(error.await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof, "{coding}");
        assert!(turns >= 39, "{coding}: {turns} turns");
    }
}
