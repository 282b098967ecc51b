# skiff in a container, for those who run it through docker-compose.yml.
# `local` takes a binary that was built on this machine (cargo build --release) and needs no registry;
# `source`, the default, builds it and needs the official Rust image.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release && cp target/*/release/skiff /skiff

FROM scratch AS local
ARG BINARY=target/x86_64-unknown-linux-gnu/release/skiff
COPY ${BINARY} /skiff
ENV HOME=/data
ENTRYPOINT ["/skiff"]
CMD ["up"]

FROM scratch AS source
COPY --from=build /skiff /skiff
ENV HOME=/data
ENTRYPOINT ["/skiff"]
CMD ["up"]
