"""The alerts and the dashboard by Prometheus's own tools: rules are valid and fire on what they are for, /metrics is well-formed in both
formats, traces of sampled requests stand beside the histograms,
and a real Prometheus that scrapes a real daemon has an answer to every query."""

import http.server
import json
import math
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request

from prometheus_client.openmetrics.parser import text_string_to_metric_families

from daemon import PATIENCE, Daemon

HERE = os.path.dirname(os.path.abspath(__file__))
MONITORING = os.path.join(HERE, "../../manifests/monitoring")
RULES = os.path.abspath(os.path.join(MONITORING, "rules.yaml"))
TOKEN = "t"
TRACE = "0af7651916cd43dd8448eb211c80319c"
# Scraped once a second, so that a few seconds of traffic are a rate.
WITHIN = "10s"


# Panels of what this daemon has not: it has no certificate.
WITHOUT_DATA = {"Certificates: time left"}


class Blobs(http.server.BaseHTTPRequestHandler):
    """Has /blob and nothing else, and takes spans."""

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200 if self.path == "/v1/traces" else 404)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def do_GET(self):
        self.send_response(200 if self.path == "/blob" else 404)
        self.send_header("Content-Length", "4")
        self.end_headers()
        self.wfile.write(b"blob")

    def log_message(self, *_):
        pass


def traffic(daemon, blobs):
    """Every type of event, blobs that are there and not, and refusals."""
    entry = lambda key, **rest: {"key": "SET", "value": {"data": {"key": key, **rest}}}
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    daemon.post({**entry("a", value="1"), "time": now}, TOKEN)
    daemon.post(entry("b", url=f"{blobs}/blob"), TOKEN)
    daemon.post(entry("c", url=f"{blobs}/gone"), TOKEN)
    daemon.post([{"key": kind, "value": {"data": "a*"}} for kind in ("GET", "DELETE", "DELETE_PATTERN")], TOKEN)
    daemon.post({"key": "nothing"}, TOKEN)
    daemon.post([], "wrong")
    notify(daemon)
    for path in ("/ready", "/status.json"):
        try:
            daemon.get(path)
        except urllib.error.HTTPError:
            pass


def notify(daemon):
    """An object that was written, and a change that does not matter, as S3 tells of them."""
    place = f"{time.time_ns():x}"
    now = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
    stored = {"bucket": {"name": "photos"}, "object": {"key": "a.jpg", "size": 1, "eTag": "e", "sequencer": place}}
    records = [
        {"eventSource": "aws:s3", "eventTime": now, "eventName": name, "s3": stored}
        for name in ("ObjectCreated:Put", "ObjectTagging:Put")
    ]
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"}
    headers["traceparent"] = f"00-{TRACE}-b7ad6b7169203331-01"
    body = json.dumps({"Records": records}).encode()
    request = urllib.request.Request(f"{daemon.url}/sources/photos", body, headers)
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        answer.read()


def promtool(*arguments, **options):
    subprocess.run(["promtool", *arguments], check=True, timeout=PATIENCE, **options)


def exemplars(daemon):
    """Of /metrics as OpenMetrics, as the parser of Prometheus's own client for Python reads it: families that have one, and traces."""
    request = urllib.request.Request(f"{daemon.url}/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        assert answer.headers["Content-Type"].startswith("application/openmetrics-text"), answer.headers["Content-Type"]
        families = list(text_string_to_metric_families(answer.read().decode()))
    assert len(families) > 30, families
    samples = [(family.name, sample.exemplar) for family in families for sample in family.samples if sample.exemplar]
    return {name for name, _ in samples}, {exemplar.labels["trace_id"] for _, exemplar in samples}


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


class Prometheus:
    """Scrapes one target, with the rules."""

    def __init__(self, target):
        self.target, self.url = target, f"http://127.0.0.1:{free_port()}"

    def __enter__(self):
        self.directory = tempfile.TemporaryDirectory()
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [RULES],
            "scrape_configs": [{"job_name": "redis-cache-sync", "static_configs": [{"targets": [self.target]}]}],
        }
        path = os.path.join(self.directory.name, "prometheus.yml")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(config, file)
        command = ["prometheus", f"--config.file={path}", f"--storage.tsdb.path={self.directory.name}/data"]
        command += [f"--web.listen-address={self.url.removeprefix('http://')}", "--log.level=error", "--enable-feature=exemplar-storage"]
        self.process = subprocess.Popen(command)
        return self

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(PATIENCE)
        finally:
            self.process.kill()
            self.directory.cleanup()

    def ask(self, path, **parameters):
        """The data of an answer; a query that is not understood is an error."""
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
                answer = json.load(answer)
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from error
        assert answer["status"] == "success" and not answer.get("warnings"), f"{parameters}: {answer}"
        return answer["data"]

    def is_there(self):
        assert self.process.poll() is None, "prometheus has ended"
        try:
            return bool(self.ask("query", query='up == 1')["result"])
        except (urllib.error.URLError, ConnectionError):
            return False

    def has_data(self, query):
        return any(not math.isnan(float(sample["value"][1])) for sample in self.ask("query", query=query)["result"])


def queries():
    """Those of the dashboard's panels, with their titles."""
    with open(os.path.join(MONITORING, "dashboard.json"), encoding="utf-8") as file:
        panels = json.load(file)["panels"]
    for panel in panels:
        for target in panel.get("targets", []):
            query = target["expr"].replace("$__rate_interval", WITHIN)
            yield panel["title"], query.replace("$cluster", ".*").replace("$instance", ".*")


def main():
    promtool("check", "rules", RULES)
    promtool("test", "rules", os.path.join(HERE, "alerts.yaml"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Blobs)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    blobs = f"http://127.0.0.1:{server.server_port}"
    settings = {"FETCH_ALLOWED_HOSTS": "127.0.0.1", "AUTH_TOKENS": TOKEN, "CLUSTER": "check", "FETCH_ATTEMPTS": "1"}
    settings |= {"SOURCES_PHOTOS_FORMAT": "s3", "SOURCES_PHOTOS_VALUE": "facts", "TRACES_ENDPOINT": blobs}
    with Daemon(**settings) as daemon:
        traffic(daemon, blobs)
        with urllib.request.urlopen(f"{daemon.url}/metrics", timeout=PATIENCE) as metrics:
            promtool("check", "metrics", input=metrics.read())
        families, traces = exemplars(daemon)
        assert families == {"cache_sync_request_duration_seconds", "cache_sync_event_delay_seconds"}, families
        assert traces == {TRACE}, traces
        with Prometheus(daemon.url.removeprefix("http://")) as prometheus:
            wanted = [(title, query) for title, query in queries() if title not in WITHOUT_DATA]
            end, missing, count = time.monotonic() + 2 * PATIENCE, wanted, len(wanted)
            while missing or not prometheus.is_there():
                assert time.monotonic() < end, f"no data for {missing}"
                traffic(daemon, blobs)
                if prometheus.is_there():
                    missing = [(title, query) for title, query in missing if not prometheus.has_data(query)]
                time.sleep(0.2)
            kept = prometheus.ask("query_exemplars", query="cache_sync_event_delay_seconds_bucket", start=0, end=time.time())
            assert kept and kept[0]["exemplars"][0]["labels"]["trace_id"] == TRACE, kept
            groups = prometheus.ask("rules")["groups"]
            rules = [rule for group in groups for rule in group["rules"]]
            wrong = [rule for rule in rules if rule["health"] != "ok"]
            assert rules and not wrong, f"rules that cannot be evaluated: {wrong}"
    print(f"a Prometheus has data for {count} queries of the dashboard, and evaluates {len(rules)} alerts")


if __name__ == "__main__":
    sys.exit(main())
