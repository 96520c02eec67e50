//! A name whose addresses change from one look to the next: what was judged is what is connected to.

use std::net::SocketAddr;
use std::rc::Rc;

use super::*;
use crate::blob::dial::NameResolver;

pub const NAME: &str = "rebind.test";
pub const METADATA: &str = "169.254.169.254";

/// A client whose resolver says these addresses, one set after another, and then the last for good; and how often it was
/// asked.
fn resolving(allowed: &str, turns: &[&[&'static str]]) -> (BlobClient, Arc<AtomicUsize>) {
    resolving_with(settings(), allowed, turns)
}

pub fn resolving_with(
    settings: BlobSettings,
    allowed: &str,
    turns: &[&[&'static str]],
) -> (BlobClient, Arc<AtomicUsize>) {
    let turns: Vec<Vec<&'static str>> = turns.iter().map(|turn| turn.to_vec()).collect();
    let asked = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&asked);
    let resolve: NameResolver = Rc::new(move |name, port| {
        assert_eq!(name, NAME);
        let turn = count.fetch_add(1, Ordering::SeqCst).min(turns.len() - 1);
        let addresses: Vec<_> = turns[turn].iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), port)).collect();
        Box::pin(async move { Ok(addresses) })
    });
    let settings = BlobSettings { allowed_hosts: allowed.parse().unwrap(), ..settings };
    (BlobClient::resolving(settings, resolve).unwrap(), asked)
}

pub fn named(port: u16, path: &str) -> Url {
    Url::parse(&format!("http://{NAME}:{port}{path}")).unwrap()
}

/// Two servers on one port: what was judged, and what the name says later.
fn twins() -> (Server, Server) {
    let answering = |listener, body: &'static [u8]| {
        let script = move |path: &str, stream: &mut dyn Stream| {
            let away = format!("HTTP/1.1 302 Found\nLocation: http://{NAME}:{}/\n", path.trim_start_matches("/to-"));
            let answer = if path == "/" { ok(body) } else { response(&away, b"") };
            let _ = stream.write_all(&answer);
            After::Close
        };
        Server::on(listener, script, |stream| Some(Box::new(stream)))
    };
    let first = answering(loopback(), b"judged");
    let second = TcpListener::bind(("127.0.0.2", first.port)).unwrap();
    (first, answering(second, b"secret"))
}

#[actix_web::test]
async fn a_name_that_changes_between_check_and_connection_gains_nothing() {
    let (judged, later) = twins();
    let (client, asked) = resolving(NAME, &[&["127.0.0.1"], &["127.0.0.2"]]);
    assert_eq!(fetch(&client, &named(judged.port, "/")).await.unwrap(), "judged");
    assert_eq!((asked.load(Ordering::SeqCst), later.connections()), (1, 0));
}

#[actix_web::test]
async fn each_new_connection_is_judged_by_what_the_name_says_then() {
    let (judged, _later) = twins();
    let (client, asked) = resolving(NAME, &[&["127.0.0.1"], &[METADATA], &["127.0.0.1", METADATA]]);
    assert_eq!(fetch(&client, &named(judged.port, "/")).await.unwrap(), "judged");
    for _ in 0..2 {
        let error = fetch(&client, &named(judged.port, "/")).await.unwrap_err();
        assert_eq!(error.kind, FetchErrorKind::Forbidden, "{}", error.detail);
    }
    assert_eq!((asked.load(Ordering::SeqCst), judged.connections()), (3, 1));
}

#[actix_web::test]
async fn a_redirect_to_the_name_itself_is_judged_again() {
    let (judged, _later) = twins();
    let (client, _) = resolving(NAME, &[&["127.0.0.1"], &[METADATA]]);
    let error = fetch(&client, &named(judged.port, &format!("/to-{}", judged.port))).await.unwrap_err();
    assert_eq!((error.kind, judged.connections()), (FetchErrorKind::Forbidden, 1), "{}", error.detail);
}

#[actix_web::test]
async fn one_address_that_is_not_public_forbids_them_all() {
    for addresses in [&["198.41.0.4", "127.0.0.1"], &["127.0.0.1", "198.41.0.4"], &["198.41.0.4", "::ffff:10.0.0.1"]] {
        let (client, asked) = resolving("", &[addresses]);
        let error = fetch(&client, &named(80, "/")).await.unwrap_err();
        assert_eq!((error.kind, asked.load(Ordering::SeqCst)), (FetchErrorKind::Forbidden, 1), "{addresses:?}");
    }
}
