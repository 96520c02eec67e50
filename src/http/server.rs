//! The listeners, their routes, and the drain.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use actix_http::error::DispatchError;
use actix_http::{HttpService, KeepAlive, Protocol, Request};
use actix_rt::net::TcpStream;
use actix_service::{IntoServiceFactory, ServiceFactory, ServiceFactoryExt, fn_service, map_config};
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{AppConfig, Server as ActixServer, ServerHandle, ServiceRequest, ServiceResponse};
use actix_web::middleware::{Next, from_fn};
use actix_web::{App, HttpRequest, HttpResponse, web};
use futures::future::join_all;
use log::{debug, info, warn};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::read_ahead::Places;
use super::request::observe;
use super::routes::{EventRoute, exactly, not_found, only, readable};
use super::state::HttpState;
use super::stream::{Common, ConnectionTimeouts, Stream};
use super::tls::{Io, ServerTls};
use super::worker::Worker;
use super::{HttpSettings, SourceSettings, events, page, probes};
use crate::journal::Journal;
use crate::pipeline::Pipeline;
use crate::pipeline::readiness::Readiness;
use crate::pipeline::work::admission::Permit;
use crate::telemetry::ActorKind;
use crate::telemetry::metrics::Metrics;

/// What is left of the drain when all work is answered: time for the last bytes to leave.
const LAST_BYTES: Duration = Duration::from_secs(1);
/// How long the listener stays open at least: whoever has just had an answer may have the next request on its way, and is to be
/// told `shutting-down` rather than find the connection closed.
const LAST_REQUESTS: Duration = Duration::from_millis(250);
const DRAIN_LOOK: Duration = Duration::from_millis(10);

type Page = fn(&HttpState, &[ActorKind], &HttpRequest) -> HttpResponse;
const PROBES: [(&str, Page); 3] = [("/live", probes::live), ("/ready", probes::ready), ("/metrics", probes::metrics)];
const OPENAPI: (&str, Page) = ("/openapi.json", openapi);
const PAGES: [(&str, Page); 3] = [("/", page::overview), ("/docs", page::docs), ("/status.json", page::status)];

/// Why the server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The port cannot be opened.
    #[error("cannot listen on {address}: {cause}{}", what_to_do(.cause))]
    Listen {
        /// The address and port that were asked for.
        address: SocketAddr,
        /// What the system says.
        cause: io::Error,
    },
}

fn what_to_do(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::AddrInUse => {
            ". Another process listens there, perhaps a second redis-cache-sync: stop it (`ss -ltnp` shows it), or set another port"
        }
        io::ErrorKind::PermissionDenied => ". Ports below 1024 need a privilege: set a higher one",
        io::ErrorKind::AddrNotAvailable => ". This machine does not have that address: see the setting bind",
        _ => "",
    }
}

/// A server that listens.
pub struct HttpServer {
    /// Where events are accepted: with `port = 0` the port that the system gave.
    pub address: SocketAddr,
    /// Where probes and metrics are, if on a port of their own.
    pub admin_address: Option<SocketAddr>,
    handles: Vec<ServerHandle>,
    /// Told when no more requests are waited for: idle connections close.
    closing: CancellationToken,
    shared: web::Data<HttpState>,
}

impl HttpServer {
    /// Listens and serves. Must be called within an actix system.
    pub fn start(
        settings: HttpSettings,
        pipeline: Pipeline,
        (metrics, journal): (Metrics, Option<Journal>),
        cache_name: String,
        max_events: usize,
    ) -> Result<HttpServer, StartError> {
        let listener = Listener::bind(settings.bind, settings.port)?;
        let admin = settings.admin_port.map(|port| Listener::bind(settings.bind, port)).transpose()?;
        let (workers, tls) = (settings.workers, settings.tls.clone());
        let shared = HttpState::new(settings, pipeline.clone(), (metrics, journal), cache_name, max_events);
        let shared = web::Data::from(Arc::new(shared));
        let closing = CancellationToken::new();
        let (address, admin_address) = (listener.address, admin.as_ref().map(|admin| admin.address));
        let state = shared.clone();
        let app = move || app(&state, &pipeline);
        let mut handles = vec![serve(listener, workers, tls, &shared, &closing, app)?];
        if let Some(admin) = admin {
            let state = shared.clone();
            handles.push(serve(admin, 1, None, &shared, &closing, move || admin_app(&state))?);
        }
        page::keep_history(&shared, &closing);
        Ok(HttpServer { address, admin_address, handles, closing, shared })
    }

    /// Has other sources take effect.
    pub fn adopt_sources(&self, sources: Vec<SourceSettings>) {
        self.shared.sources.adopt(sources);
    }

    /// From now on one in this many requests that went well has its line in the log.
    pub fn adopt_lines_one_in(&self, one_in: u32) {
        self.shared.lines.set(one_in);
    }

    /// Takes no new events, lets what was accepted finish, and ends: at the latest when `http.shutdown_seconds` are over.
    pub async fn drain(self) {
        let begun = Instant::now();
        let last = self.shared.settings.shutdown.saturating_sub(LAST_BYTES);
        self.shared.drain(begun + last);
        info!(busy = self.shared.busy(), seconds = self.shared.settings.shutdown.as_secs(); "draining");
        if !self.is_idle_by(begun, last).await {
            warn!(busy = self.shared.busy(); "drain timed out, answering the remaining requests");
            self.shared.cut_off();
            self.is_idle_by(begun, self.shared.settings.shutdown).await;
        }
        self.closing.cancel();
        let left = self.shared.settings.shutdown.saturating_sub(begun.elapsed()).max(LAST_BYTES);
        if timeout(left, join_all(self.handles.iter().map(|handle| handle.stop(true)))).await.is_err() {
            warn!("some clients did not read their answers in time");
        }
        info!(ms = begun.elapsed().as_millis() as u64; "drained");
    }

    async fn is_idle_by(&self, begun: Instant, most: Duration) -> bool {
        let least = LAST_REQUESTS.min(most);
        while begun.elapsed() < least || !self.shared.is_idle() && begun.elapsed() < most {
            actix_rt::time::sleep(DRAIN_LOOK).await;
        }
        self.shared.is_idle()
    }
}

/// Connections of each worker. Together they have `most` at most, and miss it by less than their number; but one each, so
/// there are as many as workers if `most` is less. A worker that has its share takes on no more, whatever others have left.
fn connections_of_each(most: usize, workers: usize) -> usize {
    (most / workers.max(1)).max(1)
}

struct Listener {
    socket: TcpListener,
    address: SocketAddr,
}

impl Listener {
    fn bind(address: IpAddr, port: u16) -> Result<Self, StartError> {
        let wanted = SocketAddr::new(address, port);
        let failed = |cause| StartError::Listen { address: wanted, cause };
        let socket = TcpListener::bind(wanted).map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        Ok(Listener { socket, address })
    }
}

/// Serves the routes of `app`, which is called once for each worker, on its thread.
fn serve<A, B>(
    listener: Listener,
    workers: usize,
    tls: Option<Arc<ServerTls>>,
    shared: &HttpState,
    closing: &CancellationToken,
    app: impl Fn() -> A + Send + Clone + 'static,
) -> Result<ServerHandle, StartError>
where
    A: ServiceFactory<
            Request,
            Config = AppConfig,
            Response = ServiceResponse<B>,
            Error = actix_web::Error,
            InitError = (),
            Service: 'static,
            Future: 'static,
        > + 'static,
    B: MessageBody + 'static,
{
    let settings = &shared.settings;
    let patience =
        ConnectionTimeouts { head: settings.head_timeout, answer: settings.body_timeout, idle: settings.keep_alive };
    let (address, last_call) = (listener.address, closing.clone());
    let (readiness, admission) = (shared.pipeline.readiness.clone(), shared.pipeline.admission.clone());
    let places = Places::within(admission.limits().1);
    let lingering = super::linger::places(shared.settings.max_connections);
    let common = Common { patience, metrics: shared.metrics.clone(), places, lingering };
    let server = ActixServer::build()
        .workers(workers)
        .max_concurrent_connections(connections_of_each(shared.settings.max_connections, workers))
        .shutdown_timeout(shared.settings.shutdown.as_secs())
        // The daemon handles signals: actix would close the listener before the drain.
        .disable_signals()
        .listen("http", listener.socket, move || {
            let (last_call, tls, ending) = (last_call.clone(), tls.clone(), last_call.clone());
            let (common, readiness, admission) = (common.clone(), readiness.clone(), admission.clone());
            let http = HttpService::build()
                .graceful_shutdown_signal(move || last_call_on(Instant::now(), last_call.clone(), readiness.clone()))
                // The stream itself sees to the time of a head and between requests, and to what is unread when a
                // connection ends.
                .keep_alive(KeepAlive::Os)
                .client_request_timeout(Duration::ZERO)
                .on_connect_ext(|stream: &Stream, data| {
                    data.insert(stream.progress());
                })
                .local_addr(address)
                .finish(map_config(app(), |()| AppConfig::default()));
            fn_service(move |io| accept(io, tls.clone(), common.clone(), ending.clone(), admission.permit()))
                .map_init_err(|_: ()| ())
                .and_then(http)
        })
        .map_err(|cause| StartError::Listen { address, cause })?
        .run();
    let handle = server.handle();
    actix_rt::spawn(server);
    Ok(handle)
}

/// The routes of the main port.
fn app(
    shared: &web::Data<HttpState>,
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
    let worker = Worker::new(shared.clone(), pipeline.submitter());
    let (observing, receiving) = (Rc::new(shared.clone()), worker.clone());
    let app = App::new()
        .wrap(from_fn(move |request: ServiceRequest, next: Next<BoxBody>| {
            let worker = receiving.clone();
            observe(observing.clone(), request, async move |request: ServiceRequest| match EventRoute::of(&request) {
                Some(route) => route.answer(&worker, request).await,
                None => next.call(request).await,
            })
        }))
        .service(only(exactly(events::PATH), "POST"))
        .default_service(web::to(not_found));
    let has_all = shared.settings.admin_port.is_none();
    let probes = PROBES.iter().filter(|_| has_all);
    let app = probes.fold(app, |app, (path, probe)| {
        let worker = worker.clone();
        app.service(readable(path, move |request| probe(&worker.shared, &worker.stuck(), request)))
    });
    let app = pages(shared, has_all).fold(app, |app, (path, page)| {
        let worker = worker.clone();
        app.service(readable(path, move |request| page(&worker.shared, &worker.stuck(), request)))
    });
    app.configure(behind_pages(shared, has_all)).into_factory()
}

/// The routes of the port for probes and metrics: on a thread of its own, so it answers even where an actor holds a
/// worker's.
fn admin_app(
    shared: &web::Data<HttpState>,
) -> impl ServiceFactory<
    Request,
    Config = AppConfig,
    Response = ServiceResponse<impl MessageBody + use<>>,
    Error = actix_web::Error,
    InitError = (),
    Service: 'static,
    Future: 'static,
> + use<> {
    let observing = Rc::new(shared.clone());
    let app = App::new()
        .wrap(from_fn(move |request: ServiceRequest, next: Next<BoxBody>| {
            observe(observing.clone(), request, async move |request| next.call(request).await)
        }))
        .default_service(web::to(not_found));
    let app = app.app_data(page::PlainPort);
    let app = PROBES.iter().fold(app, |app, (path, probe)| {
        let shared = shared.clone();
        app.service(readable(path, move |request| {
            probe(&shared, &shared.pipeline.registry.stuck(shared.settings.stall), request)
        }))
    });
    let app = pages(shared, true).fold(app, |app, (path, page)| {
        let shared = shared.clone();
        app.service(readable(path, move |request| {
            page(&shared, &shared.pipeline.registry.stuck(shared.settings.stall), request)
        }))
    });
    app.configure(behind_pages(shared, true)).into_factory()
}

/// A connection as actix-http takes it. Answers are small and must not wait for acknowledgements (`TCP_NODELAY`).
/// A handshake has a request head's time, and none once the drain is over.
async fn accept(
    io: TcpStream,
    tls: Option<Arc<ServerTls>>,
    common: Common,
    ending: CancellationToken,
    permit: Permit,
) -> Result<(Stream, Protocol, Option<SocketAddr>), DispatchError> {
    io.set_nodelay(true)?;
    let peer = io.peer_addr().ok();
    let io = match tls {
        None => Io::Plain(io),
        Some(tls) => {
            let handshake = ending.run_until_cancelled(tls.accept(io, common.patience.head)).await;
            handshake
                .unwrap_or_else(|| Err(io::ErrorKind::UnexpectedEof.into()))
                .inspect_err(|cause| tell_failed(cause, peer))?
        }
    };
    Ok((Stream::new(io, common, peer, permit), Protocol::Http1, peer))
}

/// One who hangs up may only have looked whether somebody listens.
fn tell_failed(cause: &io::Error, peer: Option<SocketAddr>) {
    let peer = peer.map(|peer| peer.to_string()).unwrap_or_default();
    let peer = peer.as_str();
    match cause.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => {
            debug!(peer, cause:% = cause; "client left before the TLS handshake")
        }
        _ => warn!(peer, cause:% = cause; "TLS handshake failed"),
    }
}

/// When an idle connection ends, of those that `born` then. One that is new may not have brought its request yet.
///
/// actix-http asks with whatever happens on a connection, and to hear of the end takes a lock that all connections share. So it
/// is looked for once, and again only while the service drains: before that there is no end.
fn last_call_on(born: Instant, closing: CancellationToken, readiness: Arc<Readiness>) -> impl Future<Output = ()> {
    let mut last_call = Box::pin(async move {
        closing.cancelled_owned().await;
        actix_rt::time::sleep(LAST_REQUESTS.saturating_sub(born.elapsed())).await;
    });
    let mut woken: Option<Waker> = None;
    poll_fn(move |context| {
        let is_waited_for = woken.as_ref().is_some_and(|waker| waker.will_wake(context.waker()));
        if is_waited_for && !readiness.is_draining() {
            return Poll::Pending;
        }
        woken = Some(context.waker().clone());
        last_call.as_mut().poll(context)
    })
}

fn openapi(shared: &HttpState, _: &[ActorKind], _: &HttpRequest) -> HttpResponse {
    shared.openapi.answer(shared.settings.auth.is_open())
}

/// The document is for who posts events too; the pages are for who operates the service.
fn pages(shared: &HttpState, for_operators: bool) -> impl Iterator<Item = (&'static str, Page)> + use<> {
    let are_there = has_pages(shared, for_operators);
    [OPENAPI].into_iter().chain(PAGES.into_iter().filter(move |_| are_there))
}

/// Adds the routes that the pages ask for something, where there are pages.
fn behind_pages(shared: &web::Data<HttpState>, for_operators: bool) -> impl FnOnce(&mut web::ServiceConfig) + use<> {
    let shared = shared.clone();
    move |config| {
        if has_pages(&shared, for_operators) {
            config.configure(page::letters::routes(&shared)).configure(page::key::route(&shared));
            config.configure(page::replicas::routes(&shared));
        }
    }
}

fn has_pages(shared: &HttpState, for_operators: bool) -> bool {
    for_operators && shared.pages.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_share_the_connections_that_are_allowed_and_have_one_each() {
        let together = |most, workers| connections_of_each(most, workers) * workers;
        assert_eq!([together(10_000, 1), together(10_000, 4), together(10, 4), together(7, 3)], [10_000, 10_000, 8, 6]);
        assert_eq!([together(1, 1), together(1, 4), together(3, 4)], [1, 4, 4]);
        for (most, workers) in (1..50).flat_map(|most| (1..20).map(move |workers| (most, workers))) {
            let sum = together(most, workers);
            assert!(sum <= most.max(workers) && (sum > most - workers.min(most) || sum == workers), "{most} {workers}");
        }
    }
}
