"""The cache follows a real SeaweedFS by its notifications alone: objects written, overwritten, renamed and deleted by several
clients at once, and in the end what is stored is what its bucket lists."""

import json
import os
import urllib.request

from weed import TOKEN, SeaweedFS, at_once, until
from daemon import PATIENCE, Daemon

OBJECTS = int(os.environ.get("SEAWEEDFS_OBJECTS", "1000"))
# Longer than a filer takes to send what it has, five at a time.
QUIET = 120


def cached(daemon, names):
    held = {}
    for start in range(0, len(names), 500):
        event = json.dumps({"key": "GET", "value": {"data": names[start : start + 500]}}).encode()
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"}
        request = urllib.request.Request(f"{daemon.url}/events", event, headers)
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            for result in json.load(answer)["results"]:
                if result["status"] == "hit":
                    facts = json.loads(result["value"])
                    held[result["key"]] = (facts["size"], facts["etag"])
    return held


def main():
    settings = {"AUTH_TOKENS": TOKEN, "LOG_LEVEL": "error"}
    settings |= {"SOURCES_WEED_FORMAT": "seaweedfs", "SOURCES_WEED_VALUE": "facts"}
    with Daemon(**settings) as daemon, SeaweedFS(f"{daemon.url}/sources/weed") as weed:
        names = [f"d {number % 10}/é+{number}.bin" for number in range(OBJECTS)]
        at_once(weed, names)
        wanted = weed.listed()
        every = ["first", *names, *(f"renamed {name}" for name in names)]

        def differing():
            held = cached(daemon, every)
            return {name: (wanted.get(name), held.get(name)) for name in every if wanted.get(name) != held.get(name)}

        until(lambda: not differing(), QUIET)
        left = differing()
        assert not left, f"{len(left)} of {len(every)} differ: {dict(list(left.items())[:5])}"
        assert len(wanted) > OBJECTS // 2
    print(f"the cache is what SeaweedFS lists: {len(wanted)} objects")


if __name__ == "__main__":
    main()
