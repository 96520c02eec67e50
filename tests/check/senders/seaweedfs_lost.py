"""SeaweedFS sends each notification once. What the service has accepted is kept, though it is killed under load; what is lost while
it is down, or refused on the way, `reconcile` brings back: then Redis is the bucket, key by key and byte by byte."""

import concurrent.futures
import os
import re
import socket
import subprocess
import sys
import tempfile
import urllib.request

import redis
from sink import Sink
from weed import ACCESS_KEY, BUCKET, SECRET_KEY, TOKEN, SeaweedFS, at_once, until
from daemon import BINARY, PATIENCE, Daemon

OBJECTS = int(os.environ.get("SEAWEEDFS_OBJECTS", "2000"))
# More than a filer sends at once.
MARKS = 10
# Notifications that must get lost while the service is down.
LOST = 25
ODD = ["sp ace", "pl+us", "a%2Fb", "é/ü", "q?x=1&y", "h#h", "a//b", "(1)!'*~=:@,;$[]", "100%"]
COUNTS = re.compile(r"weed: (\d+) objects, (\d+) in step, (\d+) set, (\d+) deleted, (\d+) already newer, (\d+) not done")


class Redis:
    """`with Redis() as cache`: a server of its own; the cache is its first database, the journal its second."""

    def __enter__(self):
        with socket.socket() as trial:
            trial.bind(("127.0.0.1", 0))
            self.port = trial.getsockname()[1]
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self.process = subprocess.Popen(command, cwd=tempfile.gettempdir(), stdout=subprocess.DEVNULL)
        self.client = redis.Redis(port=self.port)

        def is_there():
            try:
                return self.client.ping()
            except redis.ConnectionError:
                return False

        assert until(is_there), "redis-server did not begin"
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def values(self):
        """All keys but those that hold versions, with their values."""
        keys = [key for key in self.client.scan_iter(count=1000) if not key.startswith(b"rcs:")]
        values = [value for at in range(0, len(keys), 500) for value in self.client.mget(keys[at : at + 500])]
        return {key.decode(): value for key, value in zip(keys, values)}


def store(name, weed, **leaves):
    given = {"kind": "s3", "endpoint": weed.s3, "region": "us-east-1", "access_key_id": ACCESS_KEY, "secret_access_key": SECRET_KEY}
    return {f"STORES_{name.upper()}_{leaf.upper()}": value for leaf, value in {**given, **leaves}.items()}


def settings(weed, cache, port):
    source = {"FORMAT": "seaweedfs", "STORE": "main", "ACCEPT": "journal", "TOKENS": TOKEN}
    return {
        "PORT": str(port), "LOG_LEVEL": "warn", "CACHE_BACKEND": "redis", "REDIS_PORT": str(cache.port), "AUTH_TOKENS": TOKEN,
        "JOURNAL_URL": f"redis://127.0.0.1:{cache.port}/1",
        **{f"SOURCES_WEED_{leaf}": value for leaf, value in source.items()},
        **store("main", weed), **store("wrong", weed, secret_access_key="wrong"),
        **store("unknown", weed, access_key_id="nobody"),
    }


def reconcile(environment, **more):
    """What it counted: objects, in step, set, deleted, already newer, not done."""
    command = [BINARY, "reconcile", "weed", "--bucket", BUCKET, "--delete", "--yes"]
    done = subprocess.run(command, env={**environment, **more}, capture_output=True, text=True, timeout=120, cwd=tempfile.gettempdir())
    return done.returncode, done.stdout + done.stderr


def counts(environment):
    code, told = reconcile(environment)
    found = COUNTS.search(told)
    assert code == 0 and found, told
    return dict(zip(("objects", "in_step", "set", "deleted", "newer", "undone"), map(int, found.groups())))


def metric(daemon, name):
    told = urllib.request.urlopen(f"{daemon.url}/metrics", timeout=PATIENCE).read().decode()
    return float(re.search(rf"^{name} (\S+)", told, re.MULTILINE)[1])


def quiet(weed, sink, daemon):
    """All notifications have come, and what was accepted of them is done. A filer sends them in turn, a few at once: behind more
    marks than those there is nothing left to come."""
    for mark in range(MARKS):
        weed.put(f"mark-{mark}", b"mark")
        assert sink.wait_for(lambda: f"/buckets/{BUCKET}/mark-{mark}" in sink.seen_paths, 60), "the notifications do not end"
    sink.seen_paths.clear()
    assert sink.wait_for(lambda: sink.under_way == 0)
    assert until(lambda: metric(daemon, "cache_sync_journal_events") == 0), "the journal does not get empty"


def difference(wanted, held):
    return {name for name in wanted.keys() | held.keys() if wanted.get(name) != held.get(name)}


def brought_in_step(weed, cache, sink, daemon, environment, was_empty):
    """What differs once it is quiet was lost, and one `reconcile` is all it takes."""
    quiet(weed, sink, daemon)
    wanted = weed.objects()
    differing = difference(wanted, cache.values())
    lost = {path.removeprefix(f"/buckets/{BUCKET}/") for path in sink.lost}
    # An empty object has a time of whole seconds alone.
    kept = {name.removeprefix("renamed ") for name in was_empty}
    wrong = {name for name in differing - lost if name.removeprefix("renamed ") not in kept}
    assert not wrong, f"accepted, and not in Redis: {sorted(wrong)[:5]}"
    mended = counts(environment)
    assert mended["set"] + mended["deleted"] >= len(differing) and not mended["newer"] + mended["undone"], (mended, differing)
    differing = difference(wanted, cache.values())
    assert not differing, f"{len(differing)} of {len(wanted)} differ: {sorted(differing)[:5]}"
    again = counts(environment)
    assert again == {**again, "objects": len(wanted), "in_step": len(wanted), "set": 0, "deleted": 0, "newer": 0}, again
    return len(wanted), len(lost), mended["set"] + mended["deleted"]


def killed_under_load(weed, sink, environment, daemon, load):
    """Kills the daemon without warning in the middle of the load, and begins another one once some notifications are lost."""
    assert sink.wait_for(lambda: sink.seen >= OBJECTS // 8, 120) and not load.done(), "the load does not come"
    daemon.process.kill()
    daemon.process.wait()
    assert sink.wait_for(lambda: sink.unheard >= LOST, 60), "nothing was lost"
    return Daemon(**environment)


def refused(environment):
    """Credentials that are wrong are said to be, and nothing is changed."""
    for name, cause in (("wrong", "the signature is wrong"), ("unknown", "does not know the access key")):
        code, told = reconcile(environment, SOURCES_WEED_STORE=name)
        assert code == 1 and cause in told and SECRET_KEY not in told, (code, told)


def main():
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        port = trial.getsockname()[1]
    beside = concurrent.futures.ThreadPoolExecutor(1)
    with Sink(port) as sink, Redis() as cache, SeaweedFS(f"{sink.url}/sources/weed") as weed, beside:
        environment = settings(weed, cache, port)
        names = [f"d {number % 10}/é+{number}.bin" for number in range(OBJECTS - len(ODD))] + ODD
        empty = set(names[::50])
        with Daemon(**environment) as daemon:
            load = beside.submit(at_once, weed, names, empty)
            daemon = killed_under_load(weed, sink, environment, daemon, load)
        with daemon:
            # In the middle of the load, beside notifications; what was lost so far is brought back then.
            beside_load = counts(environment)
            load.result()
            after_kill = brought_in_step(weed, cache, sink, daemon, environment, empty)
            assert beside_load["set"] + beside_load["deleted"] + after_kill[2] > 0, (beside_load, after_kill)
            refused(environment)
            sink.fails_every, sink.lost = 3, set()
            at_once(weed, names, seed=100)
            after_refusals = brought_in_step(weed, cache, sink, daemon, environment, set())
            assert sink.refused > OBJECTS // 2 and after_refusals[2] > 0, (sink.refused, after_refusals)
    print(f"beside the load reconcile mended {beside_load['set'] + beside_load['deleted']}")
    for what, (objects, lost, mended) in (("a kill", after_kill), ("a sink that fails every third", after_refusals)):
        print(f"after {what}: {lost} names were lost, reconcile mended {mended}, and Redis is the bucket: {objects} objects")


if __name__ == "__main__":
    main()
