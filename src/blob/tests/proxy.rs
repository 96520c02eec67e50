//! Proxies that misbehave, and names that change behind one.

use super::rebinding::{METADATA, NAME, named, resolving_with};
use super::*;
use crate::blob::Proxy;

fn proxy_at(port: u16) -> Option<Proxy> {
    Some(format!("http://127.0.0.1:{port}").parse().unwrap())
}

/// Through a proxy that answers `CONNECT` so.
async fn through(answer: impl Into<Vec<u8>>) -> FetchError {
    let proxy = Server::answering(answer);
    let client = BlobClient::new(BlobSettings { proxy: proxy_at(proxy.port), ..settings() }).unwrap();
    let error = fetch(&client, &Url::parse("http://127.0.0.1:9/a?sig=secret").unwrap()).await.unwrap_err();
    assert_eq!(
        proxy.heads(),
        ["CONNECT 127.0.0.1:9 HTTP/1.1\r\nHost: 127.0.0.1:9\r\nUser-Agent: redis-cache-sync/".to_owned()
            + env!("CARGO_PKG_VERSION")
            + "\r\n\r\n"]
    );
    error
}

#[actix_web::test]
async fn what_is_no_good_answer_of_a_proxy_is_told_as_the_proxys() {
    use FetchErrorKind::{Denied, Unavailable};
    let endless = [b"HTTP/1.1 200 OK\r\nX: ".to_vec(), vec![b'x'; 40_000]].concat();
    for (answer, kind, said) in [
        (b"SSH-2.0-x\r\n\r\n".to_vec(), Unavailable, ": the answer is malformed"),
        (b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n\r\n".to_vec(), Unavailable, ": the answer is malformed"),
        (endless, Unavailable, ": the answer is malformed"),
        (b"HTTP/1.1 200".to_vec(), Unavailable, ": the connection was closed early"),
        (
            b"HTTP/1.1 407 x\r\n\r\n".to_vec(),
            Unavailable,
            " rejected the user and password of fetch.proxy: it answered 407",
        ),
        (b"HTTP/1.1 403 x\r\n\r\n<p>".to_vec(), Denied, " refused to connect to 127.0.0.1:9: it answered 403"),
        (b"HTTP/1.0 502 x\r\n\r\n".to_vec(), Unavailable, " could not connect to 127.0.0.1:9: it answered 502"),
        (b"HTTP/1.1 302 x\r\n\r\n".to_vec(), Unavailable, " did not answer CONNECT as a proxy: it answered 302"),
    ] {
        let shown = String::from_utf8_lossy(&answer[..answer.len().min(40)]).into_owned();
        let error = through(answer).await;
        assert_eq!((error.kind, error.silent), (kind, false), "{shown}: {}", error.detail);
        assert_eq!(error.detail, format!("the proxy (fetch.proxy){said}"), "{shown}");
    }
}

#[actix_web::test]
async fn a_proxy_that_says_nothing_takes_no_longer_than_connecting_may() {
    let proxy = Server::start(|_, stream| {
        hang(stream);
        After::Close
    });
    let connect_timeout = Duration::from_millis(200);
    let client = BlobClient::new(BlobSettings { proxy: proxy_at(proxy.port), connect_timeout, ..settings() }).unwrap();
    let error = fetch(&client, &Url::parse("http://127.0.0.1:9/").unwrap()).await.unwrap_err();
    assert_eq!((error.detail.as_str(), error.silent), ("connecting took too long", true));
}

#[actix_web::test]
async fn the_proxy_is_asked_for_what_was_judged_whatever_the_name_says_later() {
    let proxy = Server::answering("HTTP/1.1 502 x\r\n\r\n");
    let settings = BlobSettings { proxy: proxy_at(proxy.port), ..settings() };
    let (client, asked) = resolving_with(settings, NAME, &[&["127.0.0.1"], &[METADATA]]);
    let first = fetch(&client, &named(9, "/")).await.unwrap_err();
    assert_eq!(first.kind, FetchErrorKind::Unavailable, "{}", first.detail);
    let second = fetch(&client, &named(9, "/")).await.unwrap_err();
    assert_eq!(second.kind, FetchErrorKind::Forbidden, "{}", second.detail);
    assert_eq!((asked.load(Ordering::SeqCst), proxy.connections()), (2, 1));
    assert!(proxy.heads()[0].starts_with("CONNECT 127.0.0.1:9 "), "{:?}", proxy.heads());
}
