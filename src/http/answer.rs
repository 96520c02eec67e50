//! How the text of an answer becomes a response: whole, or in pieces that are made while it is sent.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, MessageBody};
use actix_web::{HttpResponse, HttpResponseBuilder};
use bytes::Bytes;

use crate::event::wire::{Text, TextPieces};

/// The response with this body.
pub fn with_text(mut response: HttpResponseBuilder, text: Text) -> HttpResponse {
    match text.into_whole() {
        Ok(whole) => response.body(whole),
        Err(pieces) => response.body(InPieces(pieces)),
    }
}

/// actix-http asks for the next piece when most of the last has been taken by the socket.
struct InPieces(TextPieces);

impl MessageBody for InPieces {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.0.length())
    }

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Infallible>>> {
        Poll::Ready(self.0.next().map(Ok))
    }
}
