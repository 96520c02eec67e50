#!/usr/bin/env bash
# Azurite 3.35.0 (npm): a request signed by Shared Key that has both `Date` and `x-ms-date`.
# Expected: `x-ms-date` counts, and the line of `Date` in the string to sign is empty ("Authorize with Shared Key" of Azure's REST API).
# Seen: Azurite signs the value of `Date` too. A client whose HTTP library adds a `Date` by itself is let in by Azure, and refused by
# Azurite with 403 AuthorizationFailure, unless it leaves `x-ms-date` out.
set -euo pipefail
folder=$(mktemp -d)
trap 'kill "${server:-}" 2>/dev/null || true; rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --no-audit --no-fund azurite@3.35.0
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
node node_modules/azurite/dist/src/blob/main.js --blobHost 127.0.0.1 --blobPort "$port" --silent --disableTelemetry &
server=$!
python3 - "$port" <<'PYTHON'
import base64, email.utils, hashlib, hmac, http.client, sys, time

port, account = int(sys.argv[1]), "devstoreaccount1"
key = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
now = email.utils.formatdate(usegmt=True)


def status(date_is_signed):
    headers = {"x-ms-date": now, "x-ms-version": "2021-12-02", "Date": now}
    own = f"x-ms-date:{now}\nx-ms-version:2021-12-02\n"
    lines = ["GET", "", "", "", "", "", now if date_is_signed else "", "", "", "", "", ""]
    text = "\n".join(lines) + f"\n{own}/{account}/{account}/\ncomp:list"
    signature = hmac.new(base64.b64decode(key), text.encode(), hashlib.sha256).digest()
    headers["Authorization"] = f"SharedKey {account}:{base64.b64encode(signature).decode()}"
    for _ in range(100):
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            connection.request("GET", f"/{account}/?comp=list", headers=headers)
            return connection.getresponse().status
        except ConnectionRefusedError:
            time.sleep(0.2)


as_documented, with_date = status(False), status(True)
print(f"signed as documented: {as_documented}; with Date in its line: {with_date}")
sys.exit(0 if (as_documented, with_date) == (403, 200) else 1)
PYTHON
