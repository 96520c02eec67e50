//! What the routes of all ports are made of.

use std::future::ready;
use std::rc::Rc;

use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::guard::fn_guard;
use actix_web::http::Method;
use actix_web::{HttpRequest, HttpResponse, Resource, web};

use super::request::reject;
use super::worker::Worker;
use super::{body, events, notifications, sources};
use crate::event::rejection::Rejection;

/// What brings events. It is told by its path before there is a look at the routes: the way through actix-web's costs as much
/// as to read an event.
pub enum EventRoute {
    Events,
    Notification,
}

impl EventRoute {
    /// None: the request is for the routes.
    pub fn of(request: &ServiceRequest) -> Option<Self> {
        let path = request.uri().path();
        if path == events::PATH && request.method() == Method::POST {
            return Some(EventRoute::Events);
        }
        sources::name(path).map(|_| EventRoute::Notification)
    }

    pub async fn answer(
        self,
        worker: &Rc<Worker>,
        mut request: ServiceRequest,
    ) -> Result<ServiceResponse, actix_web::Error> {
        let mut payload = request.extract::<web::Payload>().await?;
        let (request, _) = request.into_parts();
        // Boxed: they are large, and actix-http moves what it waits for.
        let response = match self {
            EventRoute::Events => Box::pin(events::post(worker, &request, &mut payload)).await,
            EventRoute::Notification => Box::pin(notifications::handle(worker, &request, &mut payload)).await,
        };
        Ok(ServiceResponse::new(request, response))
    }
}

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
