//! The daemon once it runs: what signals and changed settings do to it, up to its end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_rt::task::spawn_blocking;
use log::{LevelFilter, info, warn};
use tokio::sync::mpsc::Receiver;

use super::{pipeline_settings, sources};
use crate::cli::auth_reload::AuthReload;
use crate::cli::keys::KeyClient;
use crate::cli::reload::Following;
use crate::cli::reload::settings::SettingsChange;
use crate::cli::signals::{SignalRequest, Signals};
use crate::http::HttpServer;
use crate::journal::Feeding;
use crate::pipeline::Pipeline;
use crate::telemetry::logging;
use crate::telemetry::spans::Tracer;

/// What a program ended by a signal is expected to say, less the signal's number.
const KILLED: i32 = 128;
/// For the journal's feeder to finish what it handed over and to give its lease back, if the drain leaves so much.
const LEASE_BACK: Duration = Duration::from_secs(12);
/// For the spans of the last requests to reach the collector, if the drain leaves so much.
const LAST_SPANS: Duration = Duration::from_secs(2);

/// The running daemon.
pub struct Daemon {
    /// Where events are accepted: with `port = 0` the port that the system gave.
    pub address: SocketAddr,
    pub(super) server: HttpServer,
    pub(super) pipeline: Pipeline,
    /// None: there is no journal.
    pub(super) feeding: Option<Feeding>,
    /// None: no spans are exported.
    pub(super) tracer: Option<Tracer>,
    pub(super) auth_reload: Arc<AuthReload>,
    pub(super) keys: Arc<KeyClient>,
    /// How long the drain may take, all in all (`http.shutdown_seconds`).
    pub(super) shutdown: Duration,
    pub(super) level: LevelFilter,
    pub(super) following: Following,
    pub(super) changes: Receiver<SettingsChange>,
}

impl Daemon {
    /// Serves until a signal, and drains; a second signal ends the process at once.
    pub async fn run(mut self, mut signals: Signals) {
        let number = loop {
            tokio::select! {
                asked = signals.next() => match asked {
                    SignalRequest::ToStop(number) => break number,
                    SignalRequest::ToReadAgain => {
                        info!("SIGHUP: reloading the settings");
                        self.following.look();
                    }
                },
                Some(change) = self.changes.recv() => self.adopt(&change),
            }
        };
        info!(signal = number; "stop signal received");
        tokio::select! {
            () = self.stop() => {}
            number = asked_again(&mut signals) => {
                warn!(signal = number; "second stop signal, exiting at once");
                logging::flush();
                std::process::exit(KILLED + number)
            }
        }
    }

    /// Drains and ends it.
    pub async fn stop(self) {
        let Daemon { server, feeding, tracer, shutdown, .. } = self;
        let begun = Instant::now();
        let gives_back = async {
            if let Some(mut feeding) = feeding {
                feeding.stop(LEASE_BACK.min(shutdown)).await;
            }
        };
        tokio::join!(server.drain(), gives_back);
        let last = LAST_SPANS.min(shutdown.saturating_sub(begun.elapsed()));
        if let Some(tracer) = tracer
            && !spawn_blocking(move || tracer.end(last)).await.is_ok_and(|exported| exported)
        {
            let cause = "the service ends";
            warn!(cause; "spans cannot be exported");
        }
    }

    /// Has new settings take effect. Those that are not live are the old ones.
    fn adopt(&mut self, SettingsChange { config, settings }: &SettingsChange) {
        self.auth_reload.adopt_settings(&config.auth);
        let pipeline = pipeline_settings(config);
        self.pipeline.adopt(&pipeline);
        self.keys.adopt(&pipeline.blob.allowed_hosts);
        self.server.adopt_sources(sources(config));
        self.server.adopt_lines_one_in(config.log_requests_one_in);
        // Told at the level that lets more through.
        if config.log_level > self.level {
            logging::set_level(config.log_level);
        }
        info!(settings = settings.as_str(); "settings have changed");
        logging::set_level(config.log_level);
        self.level = config.log_level;
    }
}

/// The next signal to stop, while the daemon drains.
async fn asked_again(signals: &mut Signals) -> i32 {
    loop {
        match signals.next().await {
            SignalRequest::ToStop(number) => return number,
            SignalRequest::ToReadAgain => info!("SIGHUP ignored: the service is draining"),
        }
    }
}
