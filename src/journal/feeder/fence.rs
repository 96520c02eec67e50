//! What a new holder does before it begins: it takes back what former holders may still have in progress at the cache.
//!
//! A former holder sends nothing any more by its own clock. What it did send may lie in a socket, and would be carried out after
//! what comes next; so its connections at the cache are killed, by the name that they carry.

use std::time::Duration;

use log::{info, warn};
use tokio::time::sleep;

use super::Parts;
use crate::journal::lease::Lease;
use crate::journal::link::{LinkError, args};
use crate::redis::Error;

const FORGET: &str = include_str!("../scripts/forget.lua");

/// For killing the connections of one holder on all servers.
const WITHIN: Duration = Duration::from_secs(3);
/// Between attempts.
const PAUSE: Duration = Duration::from_millis(200);
/// Where connections cannot be killed, what was sent has this time to be carried out.
const GRACE: Duration = Duration::from_secs(2);

/// Returns once nothing of a former holder can take effect any more. While the cache cannot be reached it goes on trying: then
/// nothing could be fed either.
///
/// # Errors
/// The journal's Redis does not answer.
pub async fn take_back(parts: &Parts, lease: &Lease) -> Result<(), LinkError> {
    let shared = &parts.journal.shared;
    for former in &lease.former {
        if let Some(cache) = &shared.cache {
            kill(cache, former).await;
        }
        let keys = &shared.keys;
        let command = args!["EVAL", FORGET, 2_u64, &keys.lease, &keys.former, &parts.journal.shared.holder, former];
        shared.connector.link().one(command).await?;
    }
    Ok(())
}

async fn kill(cache: &crate::redis::Redis, former: &str) {
    let name = crate::journal::connection_name(former);
    let mut is_told = false;
    loop {
        match cache.kill_clients(&name, WITHIN).await {
            Ok(connections) => {
                info!(former, connections; "former holder of the journal's lease has no connections any more");
                return;
            }
            Err(error @ (Error::Refused(_) | Error::WrongType)) => {
                warn!(former, cause:% = error; "connections of the former holder of the journal's lease cannot be killed: what it sent last may land late");
                return sleep(GRACE).await;
            }
            Err(error) if !is_told => {
                warn!(former, cause:% = error; "connections of the former holder of the journal's lease cannot be killed yet");
                is_told = true;
            }
            Err(_) => {}
        }
        sleep(PAUSE).await;
    }
}
