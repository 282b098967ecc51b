# skiff in a container, for those who run it through docker-compose.yml.
# `local` takes a binary that was built on this machine (cargo build --release) and needs no registry;
# `source`, the default, builds it and needs the official Rust image.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release && cp target/*/release/skiff /skiff

# Not /skiff: by that path skiff is called in its own image, where the word after it is a role (`/skiff pause` is a sandbox).
FROM scratch AS local
ARG BINARY=target/x86_64-unknown-linux-gnu/release/skiff
COPY ${BINARY} /bin/skiff
ENV HOME=/data
ENTRYPOINT ["/bin/skiff"]
CMD ["up"]

FROM scratch AS source
COPY --from=build /skiff /bin/skiff
ENV HOME=/data
ENTRYPOINT ["/bin/skiff"]
CMD ["up"]
