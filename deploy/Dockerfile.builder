# Makes the `rootfs` build context of deploy/Dockerfile from the sources, in a container. It needs a base image and the crates'
# registry. NOT BUILT by .ci/run, which has no registry of images: .ci/run builds the binary on the machine and then builds
# deploy/Dockerfile itself. Kept beside it for those who want one command and no Rust:
#
#   docker build --file deploy/Dockerfile.builder --output type=local,dest=target/rootfs .
#   docker build --file deploy/Dockerfile --target cpu --build-context rootfs=target/rootfs deploy/image
#
# Build arguments:
#   REVISION  what `shardfuse --version` names, such as the commit and its date (the checkout's .git is left out)
#   RUST      the tag of the official Rust image; its Debian decides which glibc the image carries

ARG RUST=1.95-slim-bookworm
FROM docker.io/library/rust:${RUST} AS builder
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends binutils ca-certificates cmake g++ make \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
ARG REVISION=""
RUN SHARDFUSE_REVISION="${REVISION}" cargo build --release --locked && deploy/image/rootfs.sh target/release/shardfuse /rootfs

FROM scratch
COPY --from=builder /rootfs /
