"""What stands between a producer that sends each notification once, and the daemon."""

import http.client
import http.server
import json
import threading
import urllib.parse

from weed import PATIENCE


class Sink:
    """`with Sink(port) as sink`: hands on what is delivered to `/sources/…` to the daemon on this port. Where nobody is there, the
    connection is closed without an answer. If `fails_every` is set, one of so many deliveries is answered 503 and not handed on."""

    def __init__(self, port):
        self.port, self.fails_every = port, None
        self.changed = threading.Condition()
        self.seen, self.under_way, self.refused, self.unheard = 0, 0, 0, 0
        self.seen_paths = set()
        # The paths of notifications that nobody has accepted.
        self.lost = set()

    def __enter__(self):
        self.server = Server(("127.0.0.1", 0), Deliveries)
        self.server.sink = self
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def wait_for(self, condition, patience=PATIENCE):
        with self.changed:
            return self.changed.wait_for(condition, patience)

    def deliver(self, path, headers, body):
        """The status of the answer, or None if there is none."""
        with self.changed:
            self.seen += 1
            self.under_way += 1
            is_refused = self.fails_every is not None and self.seen % self.fails_every == 0
            self.changed.notify_all()
        status = None
        try:
            status = 503 if is_refused else self.hand_on(path, headers, body)
        finally:
            with self.changed:
                self.under_way -= 1
                self.refused += is_refused
                self.unheard += status is None
                paths = named(body)
                if status is None or status >= 300:
                    self.lost |= paths
                self.seen_paths |= paths
                self.changed.notify_all()
        return status

    def hand_on(self, path, headers, body):
        daemon = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            daemon.request("POST", path, body, headers)
            answer = daemon.getresponse()
            answer.read()
            return answer.status
        except (OSError, http.client.HTTPException):
            return None
        finally:
            daemon.close()


def named(body):
    """The paths that a notification of SeaweedFS tells of."""
    event = json.loads(body)
    message = event.get("message") or {}
    new = message.get("new_entry") or {}
    paths = {event["key"]}
    if message.get("new_parent_path") and new.get("name"):
        paths.add(f"{message['new_parent_path']}/{new['name']}")
    return paths


class Deliveries(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name: self.headers[name] for name in ("Content-Type", "Authorization") if name in self.headers}
        status = self.server.sink.deliver(self.path, headers, body)
        if status is None:
            self.close_connection = True
            return
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        """A producer that hangs up is no fault of ours."""
