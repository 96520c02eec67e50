//! Where the daemon of these settings answers probes.
//!
//! This is for a daemon that runs already: it goes on with the settings that it has, so whatever else is wrong in its files by now
//! says nothing of it.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use super::effective::Effective;
use super::fault::{SettingFault, SettingFaults};
use super::layers::Layers;
use super::tls::TlsFiles;
use super::{Args, cross_checks};

/// The settings that decide where the daemon answers probes.
const LISTENER: [&str; 5] = ["port", "admin_port", "bind", "http.tls_cert", "http.tls_key"];

/// Where probes are answered.
#[derive(Debug)]
pub struct ProbeAddress {
    /// The address that the daemon binds to (`bind`).
    pub bind: IpAddr,
    /// The port of the probes: `admin_port`, or without one `port`. 0: a free one, which only the daemon knows.
    pub port: u16,
    /// The listener's certificate and key, not yet read; None: plain HTTP.
    pub tls: Option<TlsFiles>,
    /// Faults of other settings, and files that cannot be read. What such a file says of the listener is missing from this address.
    pub other_faults: Vec<SettingFault>,
}

/// Where the settings say that probes are answered. Files that they name are not read.
///
/// # Errors
/// Unknown flags, and faults of the settings that say where the daemon listens.
pub fn probe_address(mut args: Args) -> Result<ProbeAddress, SettingFaults> {
    let mut faults = std::mem::take(&mut args.faults);
    let (settings, _, found) = Layers::of(args).merge();
    let (own, other_faults): (Vec<_>, Vec<_>) = found.into_iter().partition(is_of_listener);
    faults.extend(own);
    cross_checks::check_listener(&settings, &mut faults);
    if faults.is_empty() { Ok(address(&settings, other_faults)) } else { Err(SettingFaults(faults)) }
}

fn is_of_listener(fault: &SettingFault) -> bool {
    match fault {
        // The fault may name the group (`http`), if that is not a table.
        SettingFault::BadValue { setting, .. } => LISTENER.iter().any(|own| own.starts_with(setting.as_str())),
        _ => false,
    }
}

fn address(settings: &Effective, other_faults: Vec<SettingFault>) -> ProbeAddress {
    let port = |path| settings.number(path).and_then(|port| u16::try_from(port).ok());
    let file = |path| settings.text(path).map(PathBuf::from);
    let admin_port = port("admin_port");
    // The admin port always speaks plain HTTP.
    let files = file("http.tls_cert").zip(file("http.tls_key")).filter(|_| admin_port.is_none());
    ProbeAddress {
        bind: settings.text("bind").and_then(|bind| bind.parse().ok()).unwrap_or(Ipv4Addr::UNSPECIFIED.into()),
        port: admin_port.or(port("port")).unwrap_or_default(),
        tls: files.map(|(cert, key)| TlsFiles { cert, key, client_ca: None }),
        other_faults,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> (String, bool) {
        let mut layers = Layers::new();
        layers.add_pairs(pairs);
        let ProbeAddress { bind, port, tls, .. } = address(&layers.merge().0, Vec::new());
        (format!("{bind} {port}"), tls.is_some())
    }

    #[test]
    fn it_is_where_the_settings_have_the_daemon_listen() {
        assert_eq!(of(&[]), ("0.0.0.0 8080".to_owned(), false));
        assert_eq!(of(&[("bind", "::"), ("port", "81")]), (":: 81".to_owned(), false));
        let tls = [("http.tls_cert", "c"), ("http.tls_key", "k"), ("port", "0")];
        assert_eq!(of(&tls), ("0.0.0.0 0".to_owned(), true));
        assert_eq!(of(&[&tls[..], &[("admin_port", "82")]].concat()), ("0.0.0.0 82".to_owned(), false));
    }
}
