# One image for both binaries: `broker` and `syncer`, as the charts call them.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked --package broker --package syncer

# glibc, because a musl build costs twice the CPU per request; CA certificates, because TLS trusts the system's roots.
FROM debian:bookworm-slim
RUN apt-get update && apt-get install --yes --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/*
COPY --from=build /src/target/release/broker /src/target/release/syncer /usr/local/bin/
USER 65532:65532
