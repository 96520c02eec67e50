//! The listener, its routes, and the drain.

use std::future::ready;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_http::error::DispatchError;
use actix_http::{HttpService, Protocol, Request};
use actix_rt::net::TcpStream;
use actix_service::{IntoServiceFactory, ServiceFactory, ServiceFactoryExt, fn_service, map_config};
use actix_web::body::MessageBody;
use actix_web::dev::{AppConfig, Server as ActixServer, ServerHandle, ServiceResponse};
use actix_web::middleware::from_fn;
use actix_web::{App, HttpResponse, Resource, web};
use log::{debug, info, warn};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::problem::Turned;
use super::request::{observe, turn_away};
use super::shared::Shared;
use super::stream::Stream;
use super::tls::{Io, Tls};
use super::worker::Worker;
use super::{Settings, events, probes};
use crate::pipeline::Pipeline;
use crate::telemetry::metrics::Metrics;

/// Idle connections are kept so long: longer than the usual load balancer's minute.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// What is left of the drain when all work is answered: time for the last bytes to leave.
const LAST_BYTES: Duration = Duration::from_secs(1);
const DRAIN_LOOK: Duration = Duration::from_millis(10);

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot listen on {address}: {cause}")]
    Listen { address: SocketAddr, cause: io::Error },
}

/// A server that listens.
pub struct Server {
    pub address: SocketAddr,
    handle: ServerHandle,
    /// Told when no more requests are waited for: idle connections close.
    closing: CancellationToken,
    shared: web::Data<Shared>,
}

impl Server {
    /// Listens and serves. Must be called within an actix system.
    pub fn start(
        settings: Settings,
        pipeline: Pipeline,
        metrics: Metrics,
        cache_name: String,
        max_events: usize,
    ) -> Result<Server, StartError> {
        let wanted = SocketAddr::new(settings.bind, settings.port);
        let failed = |cause| StartError::Listen { address: wanted, cause };
        let listener = TcpListener::bind(wanted).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (workers, head_timeout) = (settings.workers, settings.head_timeout);
        let shared = Shared::new(settings, pipeline.clone(), metrics, cache_name, max_events);
        let shared = web::Data::from(Arc::new(shared));
        let closing = CancellationToken::new();
        let (state, last_call, tls) = (shared.clone(), closing.clone(), shared.settings.tls.clone());
        let server = ActixServer::build()
            .workers(workers)
            .shutdown_timeout(shared.settings.shutdown.as_secs())
            .disable_signals()
            .listen("http", listener, move || {
                let (last_call, app) = (last_call.clone(), app(&state, &pipeline));
                let http = HttpService::build()
                    .graceful_shutdown_signal(move || last_call.clone().cancelled_owned())
                    .keep_alive(KEEP_ALIVE)
                    // The stream itself sees to the time of a head, and to what is unread when a connection ends.
                    .client_request_timeout(Duration::ZERO)
                    .on_connect_ext(|stream: &Stream, data| {
                        data.insert(stream.progress());
                    })
                    .local_addr(address)
                    .finish(map_config(app, |()| AppConfig::default()));
                let tls = tls.clone();
                fn_service(move |io| accept(io, tls.clone(), head_timeout)).map_init_err(|_: ()| ()).and_then(http)
            })
            .map_err(failed)?
            .run();
        let handle = server.handle();
        actix_rt::spawn(server);
        Ok(Server { address, handle, closing, shared })
    }

    /// Takes no new events, lets what was accepted finish, and ends: at the latest when `http.shutdown_seconds` are over.
    pub async fn drain(self) {
        let begun = Instant::now();
        self.shared.pipeline.health.drain();
        let last = self.shared.settings.shutdown.saturating_sub(LAST_BYTES);
        info!(busy = self.shared.busy(), seconds = self.shared.settings.shutdown.as_secs(); "draining");
        if !self.is_idle_by(begun + last).await {
            warn!(busy = self.shared.busy(); "drain has run out of time, answering what is left");
            self.shared.cut_off();
            self.is_idle_by(begun + self.shared.settings.shutdown).await;
        }
        self.closing.cancel();
        let left = self.shared.settings.shutdown.saturating_sub(begun.elapsed()).max(LAST_BYTES);
        if timeout(left, self.handle.stop(true)).await.is_err() {
            warn!("some connections did not take their answers in time");
        }
        info!(ms = begun.elapsed().as_millis() as u64; "drained");
    }

    async fn is_idle_by(&self, end: Instant) -> bool {
        while !self.shared.is_idle() && Instant::now() < end {
            actix_rt::time::sleep(DRAIN_LOOK).await;
        }
        self.shared.is_idle()
    }
}

/// The routes, made once for each worker, on its thread.
fn app(
    shared: &web::Data<Shared>,
    pipeline: &Pipeline,
) -> impl ServiceFactory<
    Request,
    Config = AppConfig,
    Response = ServiceResponse<impl MessageBody + use<>>,
    Error = actix_web::Error,
    InitError = (),
    Service: 'static,
    Future: 'static,
> + use<> {
    let worker = Worker::new(shared.clone(), pipeline.entrance());
    let (observing, posting) = (worker.clone(), worker.clone());
    let post = move |request, payload| events::post(posting.clone(), request, payload);
    App::new()
        .wrap(from_fn(move |request, next| observe(observing.clone(), request, next)))
        .service(only(web::resource("/events").route(web::post().to(post)), "POST"))
        .service(readable("/live", &worker, probes::live))
        .service(readable("/ready", &worker, probes::ready))
        .service(readable("/metrics", &worker, probes::metrics))
        .default_service(web::to(|request| ready(turn_away(&request, &Turned::NotFound, ""))))
        .into_factory()
}

/// A connection as actix-http takes it. Answers are small and must not wait for acknowledgements (`TCP_NODELAY`).
/// A handshake has a request head's time.
async fn accept(
    io: TcpStream,
    tls: Option<Arc<Tls>>,
    head_timeout: Duration,
) -> Result<(Stream, Protocol, Option<SocketAddr>), DispatchError> {
    io.set_nodelay(true)?;
    let peer = io.peer_addr().ok();
    let io = match tls {
        None => Io::Plain(io),
        Some(tls) => tls.accept(io, head_timeout).await.inspect_err(|cause| tell_failed(cause, peer))?,
    };
    Ok((Stream::new(io, head_timeout), Protocol::Http1, peer))
}

/// One who hangs up may only have looked whether somebody listens.
fn tell_failed(cause: &io::Error, peer: Option<SocketAddr>) {
    let peer = peer.map(|peer| peer.to_string()).unwrap_or_default();
    let peer = peer.as_str();
    match cause.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => debug!(peer, cause:% = cause; "no handshake"),
        _ => warn!(peer, cause:% = cause; "TLS handshake failed"),
    }
}

fn readable(path: &str, worker: &Rc<Worker>, answer: fn(&Worker) -> HttpResponse) -> Resource {
    let worker = worker.clone();
    let handler = move || ready(answer(&worker));
    only(web::resource(path).route(web::get().to(handler.clone())).route(web::head().to(handler)), "GET, HEAD")
}

fn only(resource: Resource, allow: &'static str) -> Resource {
    let refuse = move |request| ready(turn_away(&request, &Turned::MethodNotAllowed { allow }, ""));
    resource.default_service(web::to(refuse))
}
