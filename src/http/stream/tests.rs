use std::future::poll_fn;
use std::sync::Arc;

use actix_rt::net::TcpStream;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig, crypto::ring};
use tokio::net::TcpSocket;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;
use crate::pipeline::work::admission::Admission;

const PATIENCE: ConnectionTimeouts = ConnectionTimeouts {
    head: Duration::from_secs(5),
    answer: Duration::from_millis(200),
    idle: Duration::from_secs(620),
};

/// A connection over TLS, and its other side, which reads nothing.
async fn over_tls() -> (Stream, impl Sized) {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["a.test".to_owned()]).unwrap().self_signed(&key).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(ring::default_provider());
    let server = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
    let server = server.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate.der().clone()).unwrap();
    let client = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let client = client.with_root_certificates(roots).with_no_client_auth();

    // With buffers so small little is enough to fill them.
    let listener = TcpSocket::new_v4().unwrap();
    listener.set_send_buffer_size(4096).unwrap();
    listener.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = listener.listen(1).unwrap();
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let peer = socket.connect(listener.local_addr().unwrap()).await.unwrap();
    let (io, _): (TcpStream, _) = listener.accept().await.unwrap();
    let connecting = TlsConnector::from(Arc::new(client)).connect(ServerName::try_from("a.test").unwrap(), peer);
    let (io, peer) = futures::join!(TlsAcceptor::from(Arc::new(server)).accept(io), connecting);
    let permit = Admission::new(1, 1, 1).permit();
    let common = Common { patience: PATIENCE, metrics: Metrics::new("").unwrap(), places: Places::within(0) };
    (Stream::new(Io::Tls(Box::new(io.unwrap())), common, None, permit), peer.unwrap())
}

/// Fills all buffers on the way to the other side.
async fn fill(stream: &mut Stream) {
    poll_fn(|context| {
        loop {
            match Pin::new(&mut stream.io).poll_write(context, &[b'x'; 4096]) {
                Poll::Ready(written) => drop(written.unwrap()),
                Poll::Pending => return Poll::Ready(()),
            }
        }
    })
    .await;
}

async fn ends_in_time(done: impl Future<Output = io::Result<()>>) {
    let begun = Instant::now();
    let done = timeout(Duration::from_secs(5), done).await.expect("it waits for what is never taken");
    assert_eq!(done.unwrap_err().kind(), io::ErrorKind::TimedOut);
    assert!(begun.elapsed() >= PATIENCE.answer, "it did not wait at all");
}

#[actix_web::test]
async fn the_last_words_of_tls_wait_no_longer_than_an_answer() {
    let (mut stream, _peer) = over_tls().await;
    fill(&mut stream).await;
    ends_in_time(poll_fn(|context| Pin::new(&mut stream).poll_shutdown(context))).await;
}

#[actix_web::test]
async fn what_tls_holds_back_waits_no_longer_than_an_answer() {
    let (mut stream, _peer) = over_tls().await;
    fill(&mut stream).await;
    ends_in_time(poll_fn(|context| Pin::new(&mut stream).poll_flush(context))).await;
}
