//! `GET /replicas.json`: all replicas, as this one finds them, for the table on its page.
//!
//! The others are asked while somebody looks, never more than once a second for each token, and only at the URLs of
//! `http.peers`: nothing that a request says leads anywhere. They get the token that the reader showed here, once this replica
//! has accepted it, and judge it by themselves. So nobody reads more than at each replica itself, no token goes to a place that
//! the operator did not name, and there is no secret of the replicas to be kept. One that does not answer is a row with the
//! reason.

use std::sync::Arc;

use actix_web::http::header::{AUTHORIZATION, CACHE_CONTROL};
use actix_web::web::{Data, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};

use super::html::guarded;
use super::peers::ReplicaTable;
use super::{admit, replica};
use crate::event::rejection::Rejection;
use crate::event::rights::Access;
use crate::http::request::reject;
use crate::http::routes::{readable, readable_async};
use crate::http::state::HttpState;

/// Adds the routes: for who looks at the page, and for other replicas.
pub fn routes(shared: &Data<HttpState>) -> impl FnOnce(&mut ServiceConfig) + use<> {
    let shared = shared.clone();
    move |config| {
        let own = shared.clone();
        config.service(readable("/replica.json", move |request| replica::show(&own, request)));
        config.service(readable_async("/replicas.json", move |request| show(shared.clone(), request)));
    }
}

async fn show(shared: Data<HttpState>, request: HttpRequest) -> HttpResponse {
    let _busy = shared.others.enter();
    match table(&shared, &request).await {
        Ok(table) => guarded().insert_header((CACHE_CONTROL, "no-store")).json(&*table),
        Err(why) => reject(&request, &why, ""),
    }
}

async fn table(shared: &HttpState, request: &HttpRequest) -> Result<Arc<ReplicaTable>, Rejection> {
    let rights = admit(shared, request, Access::Read)?;
    let pages = shared.pages.as_ref().ok_or(Rejection::NotFound)?;
    let peers = shared.settings.peers.as_ref().ok_or(Rejection::NotFound)?;
    let sees_all = rights.is_none_or(|rights| !rights.has_prefixes());
    let accepted = request.headers().get(AUTHORIZATION).filter(|_| !shared.settings.auth.is_open());
    let token = accepted.and_then(|header| header.to_str().ok()).map(str::to_owned);
    let round = pages.rounds.of(&token);
    let mut round = round.lock().await;
    if !round.is_fresh() {
        let peers = peers.ask(token).await;
        round.take_in(replica::state(shared, pages, sees_all), peers);
    }
    Ok(round.table.clone())
}
