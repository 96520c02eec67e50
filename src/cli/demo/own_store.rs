//! The demo's own store, where no SeaweedFS is: it keeps objects in memory and notifies in the words of S3 about each change.
//! It does not look at signatures.

use std::collections::BTreeMap;
use std::io;
use std::net::TcpListener;
use std::sync::{Mutex, PoisonError};

use actix_web::dev::ServerHandle;
use actix_web::http::Method;
use actix_web::http::header::ETAG;
use actix_web::web::{Bytes, Data, to};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer};
use serde_json::json;

use super::bucket::BUCKET;

pub(super) struct OwnStore(ServerHandle);

struct Kept {
    changes: Mutex<Changes>,
    /// Where each change is posted.
    notified: String,
    token: String,
}

#[derive(Default)]
struct Changes {
    count: u64,
    /// With the number of the change that made them, which is their entity tag.
    objects: BTreeMap<String, (u64, Bytes)>,
}

impl OwnStore {
    pub fn start(listener: TcpListener, notified: &str, token: &str) -> io::Result<OwnStore> {
        let (notified, token) = (notified.to_owned(), token.to_owned());
        let kept = Data::new(Kept { changes: Mutex::default(), notified, token });
        let server = HttpServer::new(move || App::new().app_data(kept.clone()).default_service(to(answer)));
        let server = server.workers(1).disable_signals().listen(listener)?.run();
        let handle = server.handle();
        actix_rt::spawn(server);
        Ok(OwnStore(handle))
    }

    pub async fn stop(self) {
        self.0.stop(false).await;
    }
}

async fn answer(request: HttpRequest, body: Bytes, kept: Data<Kept>) -> HttpResponse {
    let Some(name) = request.path().strip_prefix('/').and_then(|path| path.strip_prefix(BUCKET)) else {
        return HttpResponse::NotFound().finish();
    };
    let Some(name) = name.strip_prefix('/').filter(|name| !name.is_empty()) else {
        return HttpResponse::Ok().finish();
    };
    let mut changes = kept.changes.lock().unwrap_or_else(PoisonError::into_inner);
    match *request.method() {
        Method::PUT => {
            changes.count += 1;
            let count = changes.count;
            let size = body.len();
            changes.objects.insert(name.to_owned(), (count, body));
            tell(&kept, "ObjectCreated:Put", name, count, size);
            HttpResponse::Ok().append_header((ETAG, tag(count))).finish()
        }
        Method::DELETE => {
            changes.count += 1;
            if changes.objects.remove(name).is_some() {
                tell(&kept, "ObjectRemoved:Delete", name, changes.count, 0);
            }
            HttpResponse::NoContent().finish()
        }
        _ => match changes.objects.get(name) {
            Some((count, body)) => HttpResponse::Ok().append_header((ETAG, tag(*count))).body(body.clone()),
            None => HttpResponse::NotFound().finish(),
        },
    }
}

fn tag(count: u64) -> String {
    format!("\"{count:032x}\"")
}

/// Posts it while the store answers, once: the demo shows what is missing then.
fn tell(kept: &Kept, event: &str, name: &str, count: u64, size: usize) {
    let object =
        json!({"key": name, "size": size, "eTag": format!("{count:032x}"), "sequencer": format!("{count:016X}")});
    let record = json!({"eventName": event, "s3": {"bucket": {"name": BUCKET}, "object": object}});
    let request =
        awc::Client::default().post(&kept.notified).bearer_auth(&kept.token).send_json(&json!({"Records": [record]}));
    actix_rt::spawn(request);
}
