//! Why a server could not be connected, in words for the one who has to mend it. No secret and no text of the server's is
//! among them.

use std::io;

use rustls::{AlertDescription, CertificateError, Error as TlsError, PeerMisbehaved};

use super::error_code::{Code, Hint};

/// Names that a certificate is for, as far as a message shows them.
const MAX_NAMES: usize = 4;

/// Why bytes did not get through.
#[derive(Debug)]
pub(crate) enum TransportError {
    /// The peer has closed the connection.
    Closed,
    /// The reply is none of the Redis protocol, or beyond a limit.
    Malformed,
    /// Not answered in time.
    TimedOut,
    Io(io::Error),
}

impl TransportError {
    /// Whether the peer has ended the connection, in whatever way.
    pub(crate) fn is_closed(&self) -> bool {
        use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
        match self {
            TransportError::Closed => true,
            TransportError::Io(error) => {
                tls_error(error).is_none() && matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
            }
            TransportError::Malformed | TransportError::TimedOut => false,
        }
    }
}

/// What an error of the socket says; that of TLS, if it is one.
pub(crate) fn of_io(error: &io::Error) -> String {
    match tls_error(error) {
        Some(error) => of_tls(error),
        None => error.kind().to_string(),
    }
}

fn tls_error(error: &io::Error) -> Option<&TlsError> {
    error.get_ref()?.downcast_ref()
}

/// Why a handshake failed.
pub(crate) fn of_handshake(error: &io::Error) -> String {
    match tls_error(error) {
        Some(error) => of_tls(error),
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            "it closed the connection during the TLS handshake: is this a TLS port?".to_owned()
        }
        None => format!("the TLS handshake ended: {}", error.kind()),
    }
}

fn of_tls(error: &TlsError) -> String {
    match error {
        TlsError::InvalidCertificate(error) => of_certificate(error),
        TlsError::AlertReceived(alert) => of_alert(*alert),
        TlsError::InvalidMessage(_) | TlsError::PeerMisbehaved(PeerMisbehaved::IllegalMiddleboxChangeCipherSpec) => {
            "its answer is not TLS: is this a port without TLS? (redis.tls, or rediss:// in redis.url)".to_owned()
        }
        error => format!("the TLS handshake failed: {error}"),
    }
}

fn of_certificate(error: &CertificateError) -> String {
    match error {
        CertificateError::UnknownIssuer => {
            "no trusted authority signed its certificate (redis.tls_ca names the authorities; unset: the usual ones)"
                .to_owned()
        }
        CertificateError::NotValidForName => "its certificate is for another name".to_owned(),
        CertificateError::NotValidForNameContext { expected, presented } => {
            let names: Vec<&str> = presented.iter().take(MAX_NAMES).map(|name| name.as_str()).collect();
            let names = if names.is_empty() { "no name at all".to_owned() } else { names.join(", ") };
            format!("its certificate is for another name than {}: for {names}", expected.to_str())
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "its certificate has expired".to_owned(),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet: is the clock of this machine right?".to_owned()
        }
        CertificateError::Revoked => "its certificate has been revoked".to_owned(),
        error => format!("its certificate cannot be used: {error}"),
    }
}

fn of_alert(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::CertificateRequired => {
            "it asks for a client certificate (redis.tls_cert, redis.tls_key)".to_owned()
        }
        AlertDescription::UnknownCA | AlertDescription::BadCertificate | AlertDescription::CertificateUnknown => {
            format!("it rejected the client certificate (TLS alert {alert:?})")
        }
        AlertDescription::ProtocolVersion => "it speaks neither TLS 1.2 nor TLS 1.3".to_owned(),
        alert => format!("it refused the TLS handshake (alert {alert:?})"),
    }
}

/// What something that is no reply of Redis looks like.
pub(crate) fn of_no_redis(bytes: &[u8]) -> &'static str {
    match bytes {
        [0x15 | 0x16, 3, ..] => "it speaks TLS on this port: set redis.tls, or rediss:// in redis.url",
        [b'H', b'T', b'T', b'P', b'/', ..] => "it speaks HTTP, not the Redis protocol: is this a Redis port?",
        _ => "the reply is not the Redis protocol: is this a Redis port?",
    }
}

/// An error that Redis answers to whatever it is asked first, or to a login.
pub(crate) fn of_refusal(code: &Code) -> String {
    let word = code.as_str();
    match (word, code.hint()) {
        (_, Some(Hint::ManyClients)) => "it has reached its limit of clients (maxclients)".to_owned(),
        (_, Some(Hint::NoPassword)) => "it has no password: leave out redis.password".to_owned(),
        (_, Some(Hint::NoDatabase)) => "it has no such database (redis.db)".to_owned(),
        (_, Some(Hint::OneDatabase)) => "as a node of a cluster it has only database 0 (redis.db)".to_owned(),
        ("DENIED", _) => "it is in protected mode and accepts only its own machine (DENIED)".to_owned(),
        ("WRONGPASS", _) => {
            "it refused the login: the user or the password is wrong, or the user is disabled (WRONGPASS)".to_owned()
        }
        ("NOAUTH", _) => NO_CREDENTIALS.to_owned(),
        ("LOADING", _) => "it is still loading its data (LOADING)".to_owned(),
        _ => format!("it answered {word}"),
    }
}

/// What connecting fails with where credentials are missing.
pub(crate) const NO_CREDENTIALS: &str = "it asks for a password (NOAUTH)";
