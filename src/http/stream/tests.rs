use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Wake, Waker};

use actix_rt::net::TcpStream;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig, crypto::ring};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::net::TcpSocket;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;
use crate::http::progress::KnownAnswer;
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
    let (io, peer) = connected(4096).await;
    let connecting = TlsConnector::from(Arc::new(client)).connect(ServerName::try_from("a.test").unwrap(), peer);
    let (io, peer) = futures::join!(TlsAcceptor::from(Arc::new(server)).accept(io), connecting);
    (stream(Io::Tls(Box::new(io.unwrap()))), peer.unwrap())
}

/// Both sides of a connection whose buffers have this size.
async fn connected(buffer: u32) -> (TcpStream, TcpStream) {
    let listener = TcpSocket::new_v4().unwrap();
    listener.set_send_buffer_size(buffer).unwrap();
    listener.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = listener.listen(1).unwrap();
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(buffer).unwrap();
    let peer = socket.connect(listener.local_addr().unwrap()).await.unwrap();
    (listener.accept().await.unwrap().0, peer)
}

fn stream(io: Io) -> Stream {
    let (metrics, lingering) = (Metrics::new("").unwrap(), Arc::new(Semaphore::new(1)));
    let common = Common { patience: PATIENCE, metrics, places: Places::within(0), lingering };
    Stream::new(io, common, None, Admission::new(1, 1, 1).permit())
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

/// Longer than the system takes to pass on that room has come.
const TIME_OF_ANSWER: Duration = Duration::from_millis(600);

/// Writes an answer of this size to a reader that takes so many bytes a second. How it ends, and after how long.
async fn answer_to_reader(bytes: usize, bytes_a_second: usize) -> (io::Result<()>, Duration) {
    let (io, mut peer) = connected(8 * 1024).await;
    let mut stream = stream(Io::Plain(io));
    stream.patience.answer = TIME_OF_ANSWER;
    let (begun, mut space) = (Instant::now(), vec![0; 8 * 1024]);
    let reading = async {
        let mut taken = 0;
        while let Ok(read @ 1..) = peer.read(&mut space).await {
            taken += read;
            sleep_until(begun + Duration::from_millis((taken * 1000 / bytes_a_second) as u64)).await;
        }
    };
    let head = b"HTTP/1.1 200 OK\r\n\r\n";
    let answer = [head.as_slice(), &vec![b'x'; bytes]].concat();
    stream.progress.begin().answered(KnownAnswer {
        body_bytes: bytes as u64,
        is_last: false,
        unwritten: None,
        request: None,
    });
    let writing = async {
        // As actix-http does: a part at a time.
        for part in answer.chunks(32 * 1024) {
            let mut left = part;
            while !left.is_empty() {
                let written = poll_fn(|context| Pin::new(&mut stream).poll_write(context, left)).await?;
                left = &left[written..];
            }
            poll_fn(|context| Pin::new(&mut stream).poll_flush(context)).await?;
        }
        Ok(())
    };
    let ended = tokio::select! {
        ended = writing => ended,
        () = reading => Err(io::ErrorKind::UnexpectedEof.into()),
    };
    (ended, begun.elapsed())
}

#[actix_web::test]
async fn the_time_of_an_answer_does_not_begin_anew_with_each_part_that_is_taken() {
    let (ended, took) = answer_to_reader(1 << 20, LEAST_BYTES_A_SECOND / 2).await;
    assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::TimedOut, "after {took:?}");
    assert!((TIME_OF_ANSWER..Duration::from_secs(4)).contains(&took), "{took:?}");
}

#[actix_web::test]
async fn an_answer_that_is_taken_at_the_pace_may_take_longer_than_its_time() {
    let (ended, took) = answer_to_reader(2 << 20, 4 * LEAST_BYTES_A_SECOND).await;
    ended.unwrap();
    assert!(took > 2 * TIME_OF_ANSWER, "{took:?}");
}

/// Whether it was woken since it was looked at last.
#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Relaxed);
    }
}

#[actix_web::test]
async fn what_nobody_asks_for_is_left_unread_and_read_once_somebody_does() {
    const ROOM: usize = 8 * 1024;
    let (io, mut peer) = connected(64 * 1024).await;
    let mut stream = stream(Io::Plain(io));
    let head = b"POST / HTTP/1.1\r\ncontent-length: 40000\r\n\r\n";
    peer.write_all(&[head.as_slice(), &[b'x'; 40_000]].concat()).await.unwrap();
    let mut space = [0; ROOM];
    assert_eq!(poll_fn(|context| read(&mut stream, &mut space, context)).await, ROOM);
    let progress = stream.progress();
    let _request = progress.begin();

    let woken = Arc::new(Woken::default());
    let (waker, is_woken) = (Waker::from(woken.clone()), || woken.0.swap(false, Relaxed));
    let mut context = Context::from_waker(&waker);
    assert_eq!(read(&mut stream, &mut space, &mut context), Poll::Ready(ROOM - 1024));
    assert!(read(&mut stream, &mut space[..1024], &mut context).is_pending() && is_woken(), "it is to be passed on");
    assert!(read(&mut stream, &mut space[..1024], &mut context).is_pending() && !is_woken(), "nobody asks for more");
    let flush = |stream: &mut Stream| assert!(Pin::new(stream).poll_flush(&mut Context::from_waker(&waker)).is_ready());
    flush(&mut stream);
    assert!(!is_woken());
    progress.ask_for_body();
    flush(&mut stream);
    assert!(is_woken(), "it would wait for ever");
    assert_eq!(read(&mut stream, &mut space[..1024], &mut context), Poll::Ready(1024));
    flush(&mut stream);
    assert!(!is_woken());
}

fn read(stream: &mut Stream, space: &mut [u8], context: &mut Context<'_>) -> Poll<usize> {
    let mut buffer = ReadBuf::new(space);
    let read = Pin::new(stream).poll_read(context, &mut buffer);
    read.map(|read| read.map(|()| buffer.filled().len()).unwrap())
}
