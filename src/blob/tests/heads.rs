use super::*;
use crate::blob::resource::resource;
use crate::blob::{BlobRequest, Opened, Unless};
use crate::event::{BlobUrl, EntityTag, FetchTarget};

fn status(status: u16) -> Vec<u8> {
    response(&format!("HTTP/1.1 {status} Whatever\n"), b"body")
}

#[actix_web::test]
async fn a_request_says_what_is_needed_and_nothing_else() {
    let server = Server::answering(ok(b"x"));
    fetch(&client(), &server.url("/a%20b/../c?sig=%2F#part")).await.unwrap();
    let heads = server.heads();
    let mut lines: Vec<_> = heads[0].trim_end().lines().map(str::to_ascii_lowercase).collect();
    assert_eq!(lines.remove(0), "get /c?sig=%2f http/1.1");
    lines.retain(|line| !line.starts_with("date: "));
    lines.sort();
    let host = format!("host: 127.0.0.1:{}", server.port);
    let agent = format!("user-agent: redis-cache-sync/{}", env!("CARGO_PKG_VERSION"));
    assert_eq!(lines, ["accept-encoding: identity", "accept: */*", &host, &agent]);
}

#[actix_web::test]
async fn every_status_falls_into_its_kind() {
    let server = Server::start(|path, stream| {
        stream.write_all(&status(path[1..].parse().unwrap())).unwrap();
        After::Close
    });
    let client = client();
    use FetchErrorKind::*;
    for (kind, statuses) in [
        (NotFound, vec![404, 410]),
        (Changed, vec![409, 412]),
        (Unavailable, vec![408, 425, 429, 500, 501, 502, 503, 504, 599]),
        (Denied, vec![101, 201, 202, 204, 206, 300, 304, 305, 306, 400, 401, 403, 405, 416, 451, 600, 999]),
    ] {
        for status in statuses {
            let error = fetch(&client, &server.url(&format!("/{status}"))).await.unwrap_err();
            assert_eq!((error.kind, error.silent), (kind, false), "{status}");
            assert_eq!(error.detail, format!("the server answered {status}"));
        }
    }
}

#[actix_web::test]
async fn interim_answers_are_skipped_and_the_connection_stays_usable() {
    let server = Server::start(|path, stream| {
        let interim: &[&str] = match path {
            "/100" => &["100 Continue\r\n\r\n"],
            "/102" => &["102 Processing\r\n\r\n", "102 Processing\r\n\r\n"],
            "/103" => &["103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n"],
            "/all" => &["100 Continue\r\n\r\n", "102 \r\nX: y\r\n\r\n", "103 Early Hints\r\nContent-Length: 9\r\n\r\n"],
            _ => &[],
        };
        for head in interim {
            stream.write_all(format!("HTTP/1.1 {head}").as_bytes()).unwrap();
            // Of the next nothing may come along with this one.
            std::thread::sleep(Duration::from_millis(20));
        }
        let rest = if path == "/at-once" {
            [b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n".to_vec(), ok(path.as_bytes())].concat()
        } else {
            ok(path.as_bytes())
        };
        stream.write_all(&rest).unwrap();
        After::Keep
    });
    let client = client();
    for path in ["/100", "/102", "/103", "/all", "/at-once", "/"] {
        assert_eq!(fetch(&client, &server.url(path)).await.unwrap(), path);
    }
    assert_eq!(server.connections(), 1);
}

#[actix_web::test]
async fn interim_answers_without_an_answer_are_no_answer() {
    for interim in ["HTTP/1.1 100 Continue\r\n\r\n".to_owned(), "HTTP/1.1 103 Hints\r\n\r\n".repeat(10_000)] {
        assert_eq!(failure(interim).await.kind, FetchErrorKind::Unavailable);
    }
}

#[actix_web::test]
async fn an_answer_may_have_many_headers() {
    let many = |status: &str, count: usize, more: &str| {
        let headers: String = (0..count).map(|number| format!("X-Amz-Meta-{number}: {number}\n")).collect();
        format!("HTTP/1.1 {status}\n{headers}{more}")
    };
    for count in [90, 100, 500, 2000] {
        let server = Server::start(move |path, stream| {
            let answer = match path {
                "/moved" => response(&many("302 Found", count, "Location: /\n"), b""),
                "/coded" => {
                    response(&many("200 OK", count, "Content-Encoding: gzip\n"), &super::bodies::gzip(b"coded"))
                }
                "/busy" => response(&many("503 Busy", count, "Retry-After: 7\n"), b""),
                "/chunked" => {
                    let head = many("200 OK", count, "Transfer-Encoding: chunked\n\n").replace('\n', "\r\n");
                    [head.as_bytes(), b"5\r\nchunk\r\n0\r\n\r\n"].concat()
                }
                _ => response(&many("200 OK", count, ""), b"plain"),
            };
            stream.write_all(&answer).unwrap();
            After::Keep
        });
        let client = client();
        for (path, body) in [("/", "plain"), ("/moved", "plain"), ("/coded", "coded"), ("/chunked", "chunk")] {
            assert_eq!(fetch(&client, &server.url(path)).await.unwrap(), body, "{count} headers at {path}");
        }
        let busy = fetch(&client, &server.url("/busy")).await.unwrap_err();
        assert_eq!(busy.retry_after, Some(Duration::from_secs(7)));
        assert_eq!(server.connections(), 1);
    }
}

#[actix_web::test]
async fn an_unknown_coding_is_final_and_the_framing_of_an_upload_is_none() {
    let coded = |coding: &str, body: &[u8]| response(&format!("HTTP/1.1 200 OK\nContent-Encoding: {coding}\n"), body);
    for coding in ["zstd", "gzip, compress", "aws-chunked, zstd"] {
        let error = failure(coded(coding, b"x")).await;
        assert_eq!(error.kind, FetchErrorKind::Denied, "{coding}");
        assert!(!error.detail.contains("compress"), "{error}");
    }
    let zip = super::bodies::gzip(b"zip");
    for (coding, body, said) in
        [("aws-chunked", &b"raw"[..], "raw"), ("aws-chunked,gzip", &zip, "zip"), ("gzip, aws-chunked", &zip, "zip")]
    {
        let server = Server::answering(coded(coding, body));
        assert_eq!(fetch(&client(), &server.url("/")).await.unwrap(), said, "{coding}");
    }
}

#[actix_web::test]
async fn a_failure_tells_whether_it_was_the_host_that_was_asked() {
    let busy = Server::answering(response("HTTP/1.1 503 Busy\nRetry-After: 7\n", b""));
    let location = format!("HTTP/1.1 302 Found\nLocation: {}\n", busy.url("/"));
    let first = Server::answering(response(&location, b""));
    assert!(!fetch(&client(), &busy.url("/")).await.unwrap_err().elsewhere);
    assert!(fetch(&client(), &first.url("/")).await.unwrap_err().elsewhere);
}

#[actix_web::test]
async fn a_wait_that_the_server_asks_for_is_passed_on() {
    let busy = failure(response("HTTP/1.1 503 Busy\nRetry-After: 7\n", b"")).await;
    assert_eq!(busy.retry_after, Some(Duration::from_secs(7)));
    let gone = failure(response("HTTP/1.1 404 Gone\nRetry-After: 7\n", b"")).await;
    assert_eq!(gone.retry_after, None);
    let odd = failure(response("HTTP/1.1 503 Busy\nRetry-After: a while\n", b"")).await;
    assert_eq!(odd.retry_after, None);
}

#[actix_web::test]
async fn three_redirects_are_followed_and_a_fourth_is_not() {
    let server = Server::start(|path, stream| {
        let hops: u32 = path[1..].parse().unwrap();
        let answer = match hops {
            0 => ok(b"here"),
            _ => response(
                &format!("HTTP/1.1 30{} Moved\nLocation: {}\n", [1, 2, 3, 7, 8][hops as usize], hops - 1),
                b"x",
            ),
        };
        stream.write_all(&answer).unwrap();
        After::Keep
    });
    let client = client();
    for hops in 0..=3 {
        assert_eq!(fetch(&client, &server.url(&format!("/{hops}"))).await.unwrap(), "here", "{hops}");
    }
    let error = fetch(&client, &server.url("/4")).await.unwrap_err();
    assert_eq!((error.kind, error.detail.as_str()), (FetchErrorKind::Forbidden, "more than 3 redirects"));
    let asked = server.heads().len();
    assert_eq!(asked, 1 + 2 + 3 + 4 + 4, "the fourth redirect's target is never asked");
}

#[actix_web::test]
async fn locations_are_taken_relative_to_where_they_stand() {
    let other = Server::answering(ok(b"there"));
    let there = format!("//127.0.0.1:{}/x", other.port);
    let server = Server::start(move |path, stream| {
        let location = match path {
            "/dir/a" => "../b?q=1",
            "/b?q=1" => &there,
            _ => "/nowhere",
        };
        stream.write_all(&response(&format!("HTTP/1.1 302 Found\nLocation: {location}\n"), b"")).unwrap();
        After::Keep
    });
    assert_eq!(fetch(&client(), &server.url("/dir/a")).await.unwrap(), "there");
    assert!(other.heads()[0].starts_with("GET /x HTTP/1.1\r\n"));
}

#[actix_web::test]
async fn a_redirect_to_a_forbidden_place_is_forbidden_and_never_called() {
    let target = Server::answering(ok(b"secret"));
    let port = target.port;
    for location in [
        format!("http://127.0.0.2:{port}/?sig=secret"),
        format!("http://[::ffff:127.0.0.1]:{port}/"),
        format!("http://user@127.0.0.1:{port}/"),
        format!("http://user:pass@127.0.0.1:{port}/"),
        "http://169.254.169.254/latest/meta-data".into(),
        "ftp://127.0.0.1/".into(),
        "file:///etc/passwd".into(),
        "javascript:alert(1)".into(),
        "data:,x".into(),
    ] {
        let error = failure(response(&format!("HTTP/1.1 302 Found\nLocation: {location}\n"), b"")).await;
        assert_eq!(error.kind, FetchErrorKind::Forbidden, "{location}: {error}");
        assert!(!error.detail.contains("secret") && !error.detail.contains("pass"), "{error}");
    }
    assert_eq!(target.connections(), 0);
}

#[actix_web::test]
async fn a_redirect_without_a_usable_location_is_denied() {
    for headers in
        ["", "Location: http://[::1/\n", "Location: http://a b/\n", "Location: /a\tb\n", "Location: \u{ff}:\n"]
    {
        for status in [301, 302, 303, 307, 308] {
            let mut answer = response(&format!("HTTP/1.1 {status} Moved\n{headers}"), b"");
            answer.iter_mut().filter(|byte| **byte == 0xc3).for_each(|byte| *byte = 0xff);
            assert_eq!(failure(answer).await.kind, FetchErrorKind::Denied, "{status} {headers:?}");
        }
    }
}

#[actix_web::test]
async fn what_is_not_http_is_unavailable_and_never_quoted() {
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X-Header: 1\r\n".repeat(5000));
    for answer in [
        &b""[..],
        b"SECRET-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 SECRET\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 200 OK\r\nSECRET\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: SECRET\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: SECRET\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
        b"\x16\x03\x01\x00\x05\n\n\n\n\n",
        many.as_bytes(),
    ] {
        let error = failure(answer).await;
        let shown = String::from_utf8_lossy(answer);
        assert_eq!((error.kind, error.silent), (FetchErrorKind::Unavailable, false), "{shown}");
        assert!(!error.detail.contains("SECRET"), "{shown}: {error}");
    }
}

#[actix_web::test]
async fn a_head_without_end_is_cut_off() {
    let server = Server::start(|_, stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n");
        while stream.write_all(b"X-More: and more and more and more\r\n").is_ok() {}
        After::Close
    });
    let error = fetch(&client(), &server.url("/")).await.unwrap_err();
    assert_eq!(error.kind, FetchErrorKind::Unavailable);
    assert_ne!(error.detail, "the answer did not arrive in time");
}

#[actix_web::test]
async fn a_blob_that_has_not_changed_is_told_as_such_and_the_connection_stays_usable() {
    let server = Server::start(|path, stream| {
        let head = match path {
            // The length is that of the blob, which is not sent.
            "/same" => "HTTP/1.1 304 Not Modified\r\nETag: \"v1\"\r\nContent-Length: 5\r\n\r\n".to_owned(),
            _ => "HTTP/1.1 200 OK\r\nETag: \"v2\"\r\nContent-Length: 3\r\n\r\nnew".to_owned(),
        };
        stream.write_all(head.as_bytes()).unwrap();
        After::Keep
    });
    let (client, tag) = (client(), EntityTag::parse("v1").unwrap());
    for path in ["/same", "/other", "/same"] {
        let target = FetchTarget::Url(BlobUrl::parse(server.url(path).as_str()).unwrap());
        let unless = Some(Unless { etag: &tag, resource: resource(&server.url(path), path) });
        let asked = BlobRequest { target: &target, unless, trace: None };
        match client.open(asked, soon(), || false).await.unwrap() {
            Opened::NotModified => assert_eq!(path, "/same"),
            Opened::Body(download) => {
                assert_eq!((path, download.etag().unwrap().opaque()), ("/other", "v2"));
                assert_eq!(download.read().await.unwrap(), "new");
            }
            Opened::GaveUp => panic!("{path}"),
        }
    }
    assert!(server.heads().iter().all(|head| head.to_ascii_lowercase().contains("if-none-match: \"v1\"\r\n")));
    assert_eq!(server.connections(), 1);
}

#[actix_web::test]
async fn a_tag_is_shown_only_to_what_it_belongs_to() {
    let server = Server::start(|path, stream| {
        let head = match path {
            "/latest" => "HTTP/1.1 302 Found\r\nLocation: /7\r\nContent-Length: 0\r\n\r\n",
            _ => "HTTP/1.1 304 Not Modified\r\nETag: \"v1\"\r\n\r\n",
        };
        stream.write_all(head.as_bytes()).unwrap();
        After::Keep
    });
    let (client, tag) = (client(), EntityTag::parse("v1").unwrap());
    let target = FetchTarget::Url(BlobUrl::parse(server.url("/latest").as_str()).unwrap());
    for (belongs_to, is_shown) in [("/7", vec![false, true]), ("/6", vec![false, false])] {
        let before = server.heads().len();
        let unless = Some(Unless { etag: &tag, resource: resource(&server.url(belongs_to), belongs_to) });
        let opened = client.open(BlobRequest { target: &target, unless, trace: None }, soon(), || false).await;
        // What says 304 to a request without a condition has no answer that can be used.
        let is_denied = opened.as_ref().is_err_and(|error| error.kind == FetchErrorKind::Denied);
        assert!(matches!(opened, Ok(Opened::NotModified)) || is_denied, "{belongs_to}: {opened:?}");
        let shown = |head: &String| head.to_ascii_lowercase().contains("if-none-match: \"v1\"\r\n");
        assert_eq!(server.heads()[before..].iter().map(shown).collect::<Vec<bool>>(), is_shown, "{belongs_to}");
        assert_eq!(is_denied, belongs_to == "/6");
    }
}
