//! What the routes of all ports are made of.

use std::future::ready;

use actix_web::guard::fn_guard;
use actix_web::{HttpRequest, HttpResponse, Resource, web};

use super::body;
use super::request::reject;
use crate::event::rejection::Rejection;

/// A path that is read, and answered at once.
pub fn readable(path: &'static str, answer: impl Fn(&HttpRequest) -> HttpResponse + Clone + 'static) -> Resource {
    readable_async(path, move |request| ready(answer(&request)))
}

/// A path that is read.
pub fn readable_async<F: Future<Output = HttpResponse> + 'static>(
    path: &'static str,
    handler: impl Fn(HttpRequest) -> F + Clone + 'static,
) -> Resource {
    only(exactly(path).route(web::get().to(handler.clone())).route(web::head().to(handler)), "GET, HEAD")
}

/// A path as it is sent: actix undoes percent-encoding before it compares.
pub fn exactly(path: &'static str) -> Resource {
    web::resource(path).guard(fn_guard(move |context| context.head().uri.path() == path))
}

/// The answer where there is no route.
pub async fn not_found(request: HttpRequest, payload: web::Payload) -> HttpResponse {
    refuse(request, payload, Rejection::NotFound).await
}

async fn refuse(request: HttpRequest, mut payload: web::Payload, why: Rejection) -> HttpResponse {
    body::skim(&mut payload).await;
    reject(&request, &why, "")
}

/// A path with other methods than these refused; `allow` names them.
pub fn only(resource: Resource, allow: &'static str) -> Resource {
    let refuse = move |request, payload| refuse(request, payload, Rejection::MethodNotAllowed { allow });
    resource.default_service(web::to(refuse))
}
