# syntax=docker/dockerfile:1

# The same Debian as the final image, for the same libc. Not the slim one: jemalloc is built with make.
FROM rust:1.95-trixie@sha256:f49565f188ee00bc2a18dd418183f2c5f23ef7d6e691890517ed341a598f67c3 AS build
WORKDIR /build
# A panic's place is in the log without symbols.
ENV CARGO_PROFILE_RELEASE_STRIP=symbols
# Many arm64 kernels have pages of 64 KiB, and jemalloc would end at its start on larger ones than it was built for.
ENV AARCH64_UNKNOWN_LINUX_GNU_JEMALLOC_SYS_WITH_LG_PAGE=16

# How jemalloc is built everywhere, and how a release is built.
COPY .cargo .cargo
COPY .ci/release .ci/

# Dependencies alone, with an empty crate in our place: this layer stays until Cargo.lock changes.
COPY Cargo.toml Cargo.lock ./
RUN mkdir src \
    && echo 'fn main() {}' > src/main.rs \
    && touch src/lib.rs \
    && .ci/release counting \
    && rm -r src

COPY .ci/install-missing .ci/release-load .ci/
COPY tests/check/daemon.py tests/check/
COPY config config
COPY src src
# Cargo goes by modification times, and those of the sources may be older than the empty crate's.
RUN find src -name '*.rs' -exec touch {} + && .ci/release

# glibc, libgcc and nothing else: no shell, no package manager. Certificates are compiled in.
FROM gcr.io/distroless/cc-debian13:nonroot@sha256:54df941ed0d06a1bd95ef5e0ce391fd8d9f94b64782dc9a60062727849ee3f97
# Settings are looked for in config/default.toml of the working directory.
WORKDIR /app
COPY --from=build /build/config config
COPY --from=build /build/target/optimized/release/redis-cache-sync redis-cache-sync

# A number, so that Kubernetes can tell that it is not root.
USER 65532:65532
EXPOSE 8080
# Liveness: a service that waits for Redis is healthy. Kubernetes has probes of its own.
HEALTHCHECK --interval=10s --timeout=4s --start-period=5s CMD ["/app/redis-cache-sync", "healthcheck"]
ENTRYPOINT ["/app/redis-cache-sync"]

# Last: they differ from build to build, and nothing that could be kept stands behind them.
ARG VERSION=dev
ARG REVISION=unknown
ARG CREATED=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.title="redis-cache-sync" \
      org.opencontainers.image.description="Keeps Redis in step with blob storage: receives events over HTTP, fetches the blobs that they name, writes Redis in order" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.source="$SOURCE" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.created="$CREATED"
