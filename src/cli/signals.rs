//! Signals that ask a daemon for something, and end nothing by themselves once they are listened to.
//!
//! SIGHUP is listened to before anything else is done, so it ends the process in no phase: what comes during the start is
//! answered after it.

use std::io;

use actix_rt::signal::unix::{Signal, SignalKind, signal};

/// SIGTERM and SIGINT, and SIGHUP if that was asked for.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Option<Signal>,
}

/// What a signal asks for.
pub enum SignalRequest {
    /// With the signal's number.
    ToStop(i32),
    ToReadAgain,
}

/// SIGHUP, from the moment on that it was made.
pub struct HangUp(Signal);

impl HangUp {
    /// Must be called within an actix system.
    pub fn listen() -> io::Result<Self> {
        signal(SignalKind::hangup()).map(HangUp)
    }
}

impl Signals {
    /// Without `hang_up`, SIGHUP does what it always did. Must be called within an actix system.
    pub fn listen(hang_up: Option<HangUp>) -> io::Result<Self> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: hang_up.map(|HangUp(signal)| signal),
        })
    }

    /// Waits for one.
    pub async fn next(&mut self) -> SignalRequest {
        let hang_up = async {
            match &mut self.hang_up {
                Some(signal) => signal.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.terminate.recv() => SignalRequest::ToStop(SignalKind::terminate().as_raw_value()),
            _ = self.interrupt.recv() => SignalRequest::ToStop(SignalKind::interrupt().as_raw_value()),
            _ = hang_up => SignalRequest::ToReadAgain,
        }
    }
}
