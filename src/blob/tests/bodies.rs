use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;

pub(super) fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn chunked(head: &str, chunks: &[&[u8]]) -> Vec<u8> {
    let mut answer = format!("{head}Transfer-Encoding: chunked\r\n\r\n").into_bytes();
    for chunk in chunks {
        answer.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        answer.extend_from_slice(chunk);
        answer.extend_from_slice(b"\r\n");
    }
    answer
}

async fn body(answer: impl Into<Vec<u8>>) -> Result<Bytes, FetchError> {
    let server = Server::answering(answer);
    fetch(&client(), &server.url("/")).await
}

const OK: &str = "HTTP/1.1 200 OK\r\n";

#[actix_web::test]
async fn a_body_of_any_size_comes_byte_for_byte() {
    let client = client();
    let server = Server::start(|path, stream| {
        let length: usize = path[1..].parse().unwrap();
        let data: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
        stream.write_all(&ok(&data)).unwrap();
        After::Keep
    });
    for length in [0, 1, 1000, 16 * 1024, 32 * 1024, 100_000, MAX_BLOB_BYTES] {
        let download = open(&client, &server.url(&format!("/{length}"))).await.unwrap();
        assert_eq!(download.length(), Some(length));
        let data = download.read().await.unwrap();
        assert_eq!(data.len(), length);
        assert!(data.iter().enumerate().all(|(at, byte)| *byte == (at % 251) as u8), "{length}");
    }
    assert_eq!(server.connections(), 1, "a body read to its end leaves the connection usable");
}

#[actix_web::test]
async fn an_announced_length_beyond_the_cap_is_refused_before_the_body() {
    let server = Server::start(|_, stream| {
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", MAX_BLOB_BYTES + 1).unwrap();
        hang(stream);
        After::Close
    });
    let error = open(&client(), &server.url("/")).await.unwrap_err();
    assert_eq!(error.kind, FetchErrorKind::TooLarge);
    let endless = failure(format!("{OK}Content-Length: {}\r\n\r\n", u64::MAX)).await;
    assert_eq!(endless.kind, FetchErrorKind::TooLarge);
}

#[actix_web::test]
async fn a_body_without_a_length_is_read_up_to_the_cap() {
    let exact = vec![5; MAX_BLOB_BYTES];
    let end: &[u8] = b"";
    let download = Server::answering(chunked(OK, &[&exact, end]));
    let download = open(&client(), &download.url("/")).await.unwrap();
    assert_eq!(download.length(), None);
    assert_eq!(download.read().await.unwrap(), exact);

    let error = body(chunked(OK, &[&exact, b"x", end])).await.unwrap_err();
    assert_eq!(error.kind, FetchErrorKind::TooLarge);
    let error = body([OK.as_bytes(), b"\r\n", &exact, b"x"].concat()).await.unwrap_err();
    assert_eq!(error.kind, FetchErrorKind::TooLarge);
}

#[actix_web::test]
async fn an_endless_body_is_left_as_soon_as_it_passes_the_cap() {
    let server = Server::start(|_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
        while stream.write_all(&chunked("", &[&[0; 1000]])[30..]).is_ok() {}
        After::Close
    });
    let error = fetch(&client(), &server.url("/")).await.unwrap_err();
    assert_eq!(error.kind, FetchErrorKind::TooLarge);
}

#[actix_web::test]
async fn a_body_that_only_the_connections_end_delimits_is_read_whole() {
    for version in ["1.0", "1.1"] {
        assert_eq!(body(format!("HTTP/{version} 200 OK\r\n\r\nall of it")).await.unwrap(), "all of it", "{version}");
        assert_eq!(body(format!("HTTP/{version} 200 OK\n\nbare")).await.unwrap(), "bare", "{version}");
        assert_eq!(body(format!("HTTP/{version} 200 OK\r\n\r\n")).await.unwrap(), "", "{version}");
    }
    let identity = format!("{OK}Transfer-Encoding: identity\r\n\r\nall of it");
    assert_eq!(body(identity).await.unwrap(), "all of it");
    assert_eq!(body(format!("\r\n\r\n{OK}\r\nall of it")).await.unwrap(), "all of it");
    assert_eq!(body(format!("{OK}Upgrade: websocket\r\n\r\nall of it")).await.unwrap(), "all of it");
}

#[actix_web::test]
async fn an_offer_to_switch_protocols_changes_no_body() {
    for length in [4, 20_000] {
        let sent = "b".repeat(length);
        let answer = format!("{OK}Content-Length: {length}\r\nUpgrade: websocket\r\n\r\n{sent}");
        assert_eq!(body(answer).await.unwrap(), sent);
    }
}

#[actix_web::test]
async fn a_body_that_is_cut_short_is_unavailable() {
    let coded = gzip(b"all of it");
    for answer in [
        format!("{OK}Content-Length: 10\r\n\r\nall of it").into_bytes(),
        format!("{OK}Content-Length: 10\r\n\r\n").into_bytes(),
        chunked(OK, &[b"all of it"]),
        format!("{OK}Transfer-Encoding: chunked\r\n\r\n9\r\nall of it").into_bytes(),
        format!("{OK}Transfer-Encoding: chunked\r\n\r\n9\r\nall").into_bytes(),
        format!("{OK}Transfer-Encoding: chunked\r\n\r\n").into_bytes(),
        format!("{OK}Transfer-Encoding: chunked\r\n\r\nzz\r\n").into_bytes(),
        response("HTTP/1.1 200 OK\nContent-Encoding: gzip\n", &coded[..coded.len() - 1]),
        [b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n", &coded[..coded.len() - 1]].concat(),
        chunked("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n", &[&coded]),
        chunked("HTTP/1.1 200 OK\r\nContent-Encoding: deflate\r\n", &[b""]),
        response("HTTP/1.1 200 OK\nContent-Encoding: gzip\n", b"not gzip"),
        response("HTTP/1.1 200 OK\nContent-Encoding: br\n", b"\xff\xff\xff not brotli"),
    ] {
        let error = body(answer.clone()).await.expect_err(&String::from_utf8_lossy(&answer));
        assert_eq!((error.kind, error.silent), (FetchErrorKind::Unavailable, false), "{error}");
    }
}

#[actix_web::test]
async fn a_coded_body_is_decoded_under_the_cap() {
    let exact = vec![b'a'; MAX_BLOB_BYTES];
    let server = Server::answering(response("HTTP/1.1 200 OK\nContent-Encoding: gzip\n", &gzip(&exact)));
    let download = open(&client(), &server.url("/")).await.unwrap();
    assert_eq!(download.length(), None, "a coded body's length is that of its coding");
    assert_eq!(download.read().await.unwrap(), exact);

    let bomb = gzip(&vec![0; 100 * MAX_BLOB_BYTES]);
    assert!(bomb.len() < MAX_BLOB_BYTES);
    let error = body(response("HTTP/1.1 200 OK\nContent-Encoding: gzip\n", &bomb)).await.unwrap_err();
    assert_eq!(error.kind, FetchErrorKind::TooLarge);
    let twice = body(response("HTTP/1.1 200 OK\nContent-Encoding: gzip, gzip\n", &gzip(&bomb))).await.unwrap_err();
    assert_eq!(twice.kind, FetchErrorKind::TooLarge);
    let one_more = gzip(&vec![0; MAX_BLOB_BYTES + 1]);
    let error = body(response("HTTP/1.1 200 OK\nContent-Encoding: x-gzip\n", &one_more)).await.unwrap_err();
    assert_eq!(error.kind, FetchErrorKind::TooLarge);
}

#[actix_web::test]
async fn an_empty_body_with_a_coding_is_empty() {
    assert_eq!(body(response("HTTP/1.1 200 OK\nContent-Encoding: gzip\n", b"")).await.unwrap(), "");
}

#[actix_web::test]
async fn a_body_that_drips_ends_with_the_attempt() {
    let server = Server::start(|_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n").unwrap();
        while stream.write_all(b".").is_ok() {
            std::thread::sleep(Duration::from_millis(5));
        }
        After::Close
    });
    let until = Instant::now() + Duration::from_millis(300);
    let download = client().open_url(&server.url("/"), None, until).await.unwrap();
    let error = download.read().await.unwrap_err();
    assert_eq!((error.kind, error.silent), (FetchErrorKind::Unavailable, false));
    let late = until.elapsed();
    assert!(late < Duration::from_secs(2), "{late:?}");
}

#[actix_web::test]
async fn a_small_body_does_not_keep_a_large_buffer() {
    let server = Server::answering(ok(&[1; 100]));
    let data = fetch(&client(), &server.url("/")).await.unwrap();
    let held = data.try_into_mut().unwrap();
    assert!(held.capacity() < 1000, "{}", held.capacity());
}

#[actix_web::test]
async fn a_response_may_come_in_any_pieces() {
    let server = Server::start(|path, stream| {
        let answer = match path {
            "/length" => ok(b"all of it"),
            "/chunks" => chunked(OK, &[b"all", b" of it", b""]),
            _ => format!("\r\n{OK}X: y\r\n\r\nall of it").into_bytes(),
        };
        for byte in answer {
            stream.write_all(&[byte]).unwrap();
            std::thread::yield_now();
        }
        if path == "/end" { After::Close } else { After::Keep }
    });
    let client = client();
    for path in ["/length", "/chunks", "/end"].repeat(5) {
        assert_eq!(fetch(&client, &server.url(path)).await.unwrap(), "all of it", "{path}");
    }
    assert_eq!(server.connections(), 5, "only the end of the connection costs one");
}

/// A server of `/nothing`, seconds of work for a decoder without a byte put out, and of a small coded body.
fn much_ado() -> Server {
    let empty_members = gzip(b"").repeat(5_000);
    let nothing = response("HTTP/1.1 200 OK\nContent-Encoding: gzip, gzip\n", &gzip(&empty_members).repeat(2_000));
    let small = response("HTTP/1.1 200 OK\nContent-Encoding: gzip\n", &gzip(b"small"));
    Server::start(move |path, stream| {
        let _ = stream.write_all(if path == "/nothing" { &nothing } else { &small });
        After::Close
    })
}

#[actix_web::test]
async fn a_body_that_decodes_to_nothing_for_long_holds_up_no_other() {
    let (server, client) = (much_ado(), client());
    let (nothing, small) = (server.url("/nothing"), server.url("/small"));
    let for_long = fetch(&client, &nothing);
    let other = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let begun = Instant::now();
        assert_eq!(fetch(&client, &small).await.unwrap(), "small");
        begun.elapsed()
    };
    tokio::select! {
        biased;
        ended = for_long => panic!("it was to take longer: {ended:?}"),
        took = other => assert!(took < Duration::from_secs(2), "{took:?}"),
    }
}

#[actix_web::test]
async fn a_body_whose_time_is_up_is_decoded_no_further() {
    let (server, client) = (much_ado(), client());
    let until = Instant::now() + Duration::from_millis(300);
    let download = client.open_url(&server.url("/nothing"), None, until).await.unwrap();
    let error = download.read().await.unwrap_err();
    assert_eq!(error.kind, FetchErrorKind::Unavailable, "{error}");
    let begun = Instant::now();
    assert_eq!(fetch(&client, &server.url("/small")).await.unwrap(), "small");
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}
