//! How a field is called in JSON: as OpenTelemetry's semantic conventions call it, where they do. Text keeps the short name.

/// What stands on a line by itself; a field of such a name gets another.
pub(super) const RESERVED: [&str; 8] = [
    "timestamp",
    "severity_text",
    "severity_number",
    "body",
    "otel.scope.name",
    "service.name",
    "service.version",
    "k8s.cluster.name",
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Name {
    /// The conventions know nothing of it.
    Own,
    As(&'static str),
    /// A text that ends in numbers, with a colon before each, becomes a field a part.
    Parts(&'static [&'static str]),
    /// Every line says so already.
    Said,
}

/// A line has one of those that share a name, at most. A `match` is no search: the compiler tells them apart by length.
pub(super) fn otel(short: &str) -> Name {
    Name::As(match short {
        "method" => "http.request.method",
        "path" => "url.path",
        "status" => "http.response.status_code",
        "bytes_in" => "http.request.body.size",
        "bytes_out" => "http.response.body.size",
        "problem" => "error.type",
        "cause" | "detail" | "reason" => "exception.message",
        "thread" => "thread.name",
        "client" => "client.address",
        "address" => return Name::Parts(&["server.address", "server.port"]),
        "peer" => return Name::Parts(&["network.peer.address", "network.peer.port"]),
        "location" => return Name::Parts(&["code.file.path", "code.line.number", "code.column.number"]),
        "version" => return Name::Said,
        _ => return Name::Own,
    })
}
