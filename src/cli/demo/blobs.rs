//! The demo's blob server: a handful of samples over real HTTP on a free loopback port.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};

/// What `/slow/` paths wait before they answer.
const SLOWNESS: Duration = Duration::from_millis(400);

pub(super) struct BlobServer {
    pub address: SocketAddr,
    handle: ServerHandle,
}

impl BlobServer {
    pub async fn stop(self) {
        self.handle.stop(false).await;
    }
}

pub(super) fn start() -> io::Result<BlobServer> {
    let server = HttpServer::new(|| App::new().default_service(web::to(serve)))
        .workers(1)
        .disable_signals()
        .bind(("127.0.0.1", 0))?;
    let address = server.addrs().first().copied().ok_or_else(|| io::Error::other("the blob server has no address"))?;
    let server = server.run();
    let handle = server.handle();
    actix_rt::spawn(server);
    Ok(BlobServer { address, handle })
}

async fn serve(request: HttpRequest) -> HttpResponse {
    let json = (CONTENT_TYPE, "application/json");
    match request.path() {
        "/users/42.json" => HttpResponse::Ok().append_header(json).body(&include_bytes!("blobs/user-42.json")[..]),
        "/logos/dot.png" => {
            HttpResponse::Ok().append_header((CONTENT_TYPE, "image/png")).body(&include_bytes!("blobs/dot.png")[..])
        }
        "/catalog.json" => HttpResponse::Ok()
            .append_header(json)
            .append_header((CONTENT_ENCODING, "gzip"))
            .body(&include_bytes!("blobs/catalog.json.gz")[..]),
        "/slow/report.json" => {
            actix_rt::time::sleep(SLOWNESS).await;
            HttpResponse::Ok().append_header(json).body(&include_bytes!("blobs/report.json")[..])
        }
        _ => HttpResponse::NotFound().finish(),
    }
}
