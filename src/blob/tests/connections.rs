use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::*;
use crate::blob::{BlobRequest, Opened};
use crate::event::{BlobUrl, FetchTarget};

#[actix_web::test]
async fn a_private_address_is_never_connected_to_without_a_list() {
    let server = Server::answering(ok(b"secret"));
    let client = BlobClient::new(BlobSettings { allowed_hosts: AllowedHosts::default(), ..settings() }).unwrap();
    for url in ["http://127.0.0.1/", "http://localhost/", "https://localhost/", "http://[::1]/", "http://2130706433/"] {
        let error = fetch(&client, &Url::parse(url).unwrap()).await.unwrap_err();
        assert_eq!(error.kind, FetchErrorKind::Forbidden, "{url}: {error}");
    }
    let error = fetch(&client, &server.url("/")).await.unwrap_err();
    assert_eq!(error.kind, FetchErrorKind::Forbidden);
    assert_eq!(server.connections(), 0);
}

#[actix_web::test]
async fn the_error_says_what_a_name_resolved_to_and_leaves_out_the_query() {
    let client = BlobClient::new(BlobSettings { allowed_hosts: AllowedHosts::default(), ..settings() }).unwrap();
    let error = fetch(&client, &Url::parse("http://localhost/a?sig=secret").unwrap()).await.unwrap_err();
    let v4 = "localhost resolves to 127.0.0.1, which is not a public address";
    let v6 = "localhost resolves to ::1, which is not a public address";
    assert!(error.detail == v4 || error.detail == v6, "{error}");
}

#[actix_web::test]
async fn a_listed_name_may_resolve_to_a_private_address() {
    let server = Server::answering(ok(b"x"));
    for host in ["localhost", "LOCALHOST", "localhost."] {
        let url = Url::parse(&format!("http://{host}:{}/", server.port)).unwrap();
        assert_eq!(fetch(&client(), &url).await.unwrap(), "x", "{host}");
    }
}

#[actix_web::test]
async fn a_refused_connection_is_unavailable_but_not_silent() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = Url::parse(&format!("http://127.0.0.1:{port}/")).unwrap();
    let error = fetch(&client(), &url).await.unwrap_err();
    assert_eq!((error.kind, error.silent), (FetchErrorKind::Unavailable, false));
    assert_eq!(error.detail, "the connection was refused");
}

#[actix_web::test]
async fn a_name_that_does_not_resolve_is_unavailable() {
    let list = "nowhere.invalid".parse().unwrap();
    let client = BlobClient::new(BlobSettings { allowed_hosts: list, ..settings() }).unwrap();
    let error = fetch(&client, &Url::parse("http://nowhere.invalid/").unwrap()).await.unwrap_err();
    assert_eq!(error.kind, FetchErrorKind::Unavailable);
}

#[actix_web::test]
async fn a_host_that_answers_nothing_is_silent_and_one_that_drips_is_not() {
    let server = Server::start(|path, stream| {
        if path == "/drip" {
            while stream.write_all(b"H").is_ok() {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        if path == "/redirect" {
            stream.write_all(&response("HTTP/1.1 302 Found\nLocation: /\n", b"")).unwrap();
            return After::Keep;
        }
        hang(stream);
        After::Close
    });
    for (path, silent) in [("/", true), ("/drip", false), ("/redirect", false)] {
        let until = Instant::now() + Duration::from_millis(300);
        let error = client().open_url(&server.url(path), None, until).await.unwrap_err();
        assert_eq!((error.kind, error.silent), (FetchErrorKind::Unavailable, silent), "{path}");
        assert_eq!(error.detail, "the answer did not arrive in time");
    }
}

/// Otherwise all of them would make room in the same moment, and as many would begin in the next.
#[actix_web::test]
async fn attempts_that_began_together_ask_at_different_moments_whether_to_make_room() {
    let server = Server::start(|_, stream| {
        hang(stream);
        After::Close
    });
    let target = FetchTarget::Url(BlobUrl::parse(server.url("/").as_str()).unwrap());
    let client = client();
    let attempts = (0..16).map(|_| async {
        let mut asked_at = None;
        let request = BlobRequest { target: &target, unless: None, trace: None };
        let opened = client.open(request, soon(), || asked_at.replace(Instant::now()).is_none()).await;
        assert!(matches!(opened, Ok(Opened::GaveUp)), "{opened:?}");
        asked_at
    });
    let moments: Vec<Instant> = futures::future::join_all(attempts).await.into_iter().flatten().collect();
    let spread = *moments.iter().max().unwrap() - *moments.iter().min().unwrap();
    assert!(moments.len() == 16 && spread > Duration::from_millis(60), "all within {spread:?}");
}

#[actix_web::test]
async fn a_connection_that_takes_too_long_is_silent() {
    // TLS is part of connecting: this peer accepts and then says nothing.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = Url::parse(&format!("https://127.0.0.1:{}/", listener.local_addr().unwrap().port())).unwrap();
    let client = BlobClient::new(BlobSettings { connect_timeout: Duration::from_millis(200), ..settings() }).unwrap();
    let error = fetch(&client, &url).await.unwrap_err();
    assert_eq!((error.kind, error.silent), (FetchErrorKind::Unavailable, true));
    assert_eq!(error.detail, "connecting took too long");

    let location = format!("HTTP/1.1 302 Found\nLocation: {url}\n");
    let server = Server::answering(response(&location, b""));
    let error = fetch(&client, &server.url("/")).await.unwrap_err();
    assert_eq!((error.kind, error.silent), (FetchErrorKind::Unavailable, false));
    assert_eq!(error.detail, "connecting took too long");
}

#[actix_web::test]
async fn a_connection_whose_response_was_not_read_to_its_end_is_not_used_again() {
    let server = Server::start(|path, stream| {
        match path {
            "/" => stream.write_all(&ok(b"right")).unwrap(),
            "/large" => stream.write_all(&ok(&[b'x'; MAX_BLOB_BYTES + 1])).unwrap_or_default(),
            "/denied" => stream.write_all(&response("HTTP/1.1 403 No\n", b"HTTP/1.1 200 OK\r\n\r\nwrong")).unwrap(),
            "/dropped" => stream.write_all(&ok(&[b'x'; 100_000])).unwrap_or_default(),
            _ => {
                // The final response follows once the client has had its time with the interim one.
                stream.write_all(b"HTTP/1.1 103 Early Hints\r\n\r\n").unwrap();
                stream.write_all(&ok(b"wrong")).unwrap_or_default();
            }
        }
        After::Keep
    });
    let client = client();
    for path in ["/large", "/denied", "/dropped", "/hints"] {
        drop(open(&client, &server.url(path)).await);
        assert_eq!(fetch(&client, &server.url("/")).await.unwrap(), "right", "after {path}");
    }
}

#[actix_web::test]
async fn what_comes_behind_a_body_is_taken_for_no_other() {
    let server = Server::start(|path, stream| {
        match path {
            "/more" => stream.write_all(&[ok(b"short"), ok(b"wrong")].concat()).unwrap(),
            "/zeros" => stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length:  0005 \r\n\r\nshort").unwrap(),
            _ => stream.write_all(&ok(b"right")).unwrap(),
        }
        After::Keep
    });
    let client = client();
    for path in ["/more", "/zeros", "/more"] {
        assert_eq!(fetch(&client, &server.url(path)).await.unwrap(), "short", "{path}");
        assert_eq!(fetch(&client, &server.url("/")).await.unwrap(), "right", "after {path}");
    }
    assert_eq!(server.connections(), 3, "only what is clean is used again");
}

#[actix_web::test]
async fn a_connection_carries_bodies_of_every_size_one_after_the_other() {
    let server = Server::start(|path, stream| {
        let length = path[1..].parse().unwrap();
        stream.write_all(&ok(&vec![b'x'; length])).unwrap();
        After::Keep
    });
    let client = client();
    for length in [1, 0, 2, 4096, 8191, 8192, 8193, 65_536, 0, MAX_BLOB_BYTES, 1] {
        let body = fetch(&client, &server.url(&format!("/{length}"))).await.unwrap();
        assert!(body == vec![b'x'; length], "{length}");
    }
    assert_eq!(server.connections(), 1);
}

#[actix_web::test]
async fn a_connection_is_used_again_only_where_the_server_says_so() {
    for (version, header, is_kept) in [
        ("1.1", "", true),
        ("1.1", "Connection: Keep-Alive\r\n", true),
        ("1.1", "Connection: foo, Close\r\n", false),
        ("1.0", "", false),
        ("1.0", "connection: keep-alive\r\n", true),
    ] {
        for length in [5, 20_000] {
            let head = format!("HTTP/{version} 200 OK\r\n{header}Content-Length: {length}\r\n\r\n");
            let server = Server::start(move |_, stream| {
                stream.write_all(&[head.as_bytes(), &vec![b'x'; length]].concat()).unwrap();
                After::Keep
            });
            let client = client();
            for _ in 0..2 {
                assert_eq!(fetch(&client, &server.url("/")).await.unwrap().len(), length);
            }
            assert_eq!(server.connections() == 1, is_kept, "HTTP/{version} {header}{length}");
        }
    }
}

#[actix_web::test]
async fn a_connection_that_the_server_closed_meanwhile_costs_no_attempt() {
    let server = Server::start(|_, stream| {
        stream.write_all(&ok(b"x")).unwrap();
        // The client takes the connection for usable; it is closed without an answer to the next request.
        read_head(stream);
        After::Close
    });
    let client = client();
    for _ in 0..5 {
        assert_eq!(fetch(&client, &server.url("/")).await.unwrap(), "x");
    }
}

#[actix_web::test]
async fn a_fresh_connection_that_is_closed_without_an_answer_is_one_attempt() {
    let server = Server::answering("");
    let error = fetch(&client(), &server.url("/")).await.unwrap_err();
    assert_eq!((error.kind, error.silent), (FetchErrorKind::Unavailable, false));
    assert_eq!(server.connections(), 1);
}

#[actix_web::test]
async fn idle_connections_to_many_hosts_are_bounded() {
    let servers: Vec<_> = (0..20)
        .map(|_| {
            Server::start(|_, stream| {
                stream.write_all(&ok(b"x")).unwrap();
                After::Keep
            })
        })
        .collect();
    let client = client();
    for server in &servers {
        fetch(&client, &server.url("/")).await.unwrap();
        let open = client.open_connections();
        assert!(open <= settings().max_connections + 1, "{open}");
    }
}

#[actix_web::test]
async fn no_more_than_the_allowed_number_of_fetches_run_at_once() {
    let server = Server::start(|_, stream| {
        stream.write_all(&ok(b"x")).unwrap();
        After::Keep
    });
    let client = client();
    let mut held = Vec::new();
    for _ in 0..settings().max_connections {
        held.push(open(&client, &server.url("/")).await.unwrap());
    }
    let until = Instant::now() + Duration::from_millis(100);
    let error = client.open_url(&server.url("/"), None, until).await.unwrap_err();
    assert!(!error.silent && error.unasked, "our own queue is not the host's silence");
    held.pop();
    assert_eq!(fetch(&client, &server.url("/")).await.unwrap(), "x");
}

#[actix_web::test]
async fn ipv6_literals_are_called_plain_and_over_tls() {
    let authority = authority(&["::1"]);
    let client = BlobClient::new(BlobSettings { extra_roots: vec![authority.root.clone()], ..settings() }).unwrap();
    // A machine without IPv6 has nothing to call here.
    let Ok(listener) = TcpListener::bind("[::1]:0") else {
        return;
    };
    let plain = Server::on(
        listener,
        |_, stream| {
            stream.write_all(&ok(b"plain")).unwrap();
            After::Keep
        },
        |stream| Some(Box::new(stream)),
    );
    let url = Url::parse(&format!("http://[::1]:{}/", plain.port)).unwrap();
    assert_eq!(fetch(&client, &url).await.unwrap(), "plain");

    let tls = tls_server(&authority, TcpListener::bind("[::1]:0").unwrap());
    let url = Url::parse(&format!("https://[::1]:{}/", tls.port)).unwrap();
    assert_eq!(fetch(&client, &url).await.unwrap(), "over TLS");
}

struct Authority {
    root: CertificateDer<'static>,
    server: Arc<ServerConfig>,
}

fn authority(names: &[&str]) -> Authority {
    let mut root = CertificateParams::new(Vec::new()).unwrap();
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root_key = KeyPair::generate().unwrap();
    let root_certificate = root.self_signed(&root_key).unwrap();
    let names: Vec<_> = names.iter().map(|name| name.to_string()).collect();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(names).unwrap().signed_by(&key, &Issuer::new(root, root_key)).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut server = builder.with_no_client_auth().with_single_cert(vec![leaf.der().clone()], key).unwrap();
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Authority { root: root_certificate.der().clone(), server: Arc::new(server) }
}

fn tls_server(authority: &Authority, listener: TcpListener) -> Server {
    let config = Arc::clone(&authority.server);
    let script = |_: &str, stream: &mut dyn Stream| {
        stream.write_all(&ok(b"over TLS")).unwrap();
        stream.flush().unwrap();
        After::Keep
    };
    Server::on(listener, script, move |mut stream| {
        let mut connection = ServerConnection::new(Arc::clone(&config)).ok()?;
        connection.complete_io(&mut stream).ok()?;
        Some(Box::new(StreamOwned::new(connection, stream)))
    })
}

#[actix_web::test]
async fn extra_roots_are_trusted_for_the_names_they_vouch_for() {
    let authority = authority(&["localhost", "127.0.0.1"]);
    let server = tls_server(&authority, loopback());
    let client = BlobClient::new(BlobSettings { extra_roots: vec![authority.root], ..settings() }).unwrap();
    for host in ["localhost", "localhost.", "127.0.0.1"] {
        let url = Url::parse(&format!("https://{host}:{}/", server.port)).unwrap();
        for _ in 0..2 {
            assert_eq!(fetch(&client, &url).await.unwrap(), "over TLS", "{host}");
        }
    }
    assert_eq!(server.connections(), 3, "TLS connections are used again");
}

#[actix_web::test]
async fn an_unknown_authority_or_another_name_is_unavailable() {
    let known = authority(&["elsewhere.example"]);
    let server = tls_server(&known, loopback());
    let url = Url::parse(&format!("https://localhost:{}/", server.port)).unwrap();
    let error = fetch(&client(), &url).await.unwrap_err();
    assert_eq!(error.kind, FetchErrorKind::Unavailable);
    assert_eq!(error.detail, "the server's certificate is from an unknown authority");

    let client = BlobClient::new(BlobSettings { extra_roots: vec![known.root], ..settings() }).unwrap();
    let error = fetch(&client, &url).await.unwrap_err();
    assert_eq!((error.kind, error.silent), (FetchErrorKind::Unavailable, false));
    assert_eq!(error.detail, "the server's certificate is for another name");
}

#[actix_web::test]
async fn plain_and_tls_to_one_port_never_share_a_connection() {
    let authority = authority(&["localhost"]);
    let plain = Server::start(|_, stream| {
        stream.write_all(&ok(b"plain")).unwrap();
        After::Keep
    });
    let client = BlobClient::new(BlobSettings {
        extra_roots: vec![authority.root],
        connect_timeout: Duration::from_millis(300),
        ..settings()
    })
    .unwrap();
    let url = |scheme: &str| Url::parse(&format!("{scheme}://localhost:{}/", plain.port)).unwrap();
    assert_eq!(fetch(&client, &url("http")).await.unwrap(), "plain");
    let error = fetch(&client, &url("https")).await.unwrap_err();
    assert_eq!(error.kind, FetchErrorKind::Unavailable);
    assert_eq!(plain.heads().len(), 1);
}

#[test]
fn a_root_that_is_no_certificate_stops_the_setup() {
    let bad = CertificateDer::from(b"not a certificate".to_vec());
    let error = BlobClient::new(BlobSettings { extra_roots: vec![bad], ..settings() }).err().unwrap();
    assert!(error.to_string().starts_with("certificate 1 of `fetch.ca_file`"), "{error}");
}
