# The image: three static binaries, the command line `belfry`, and the public certificate authorities, nothing else.
# Only these come from the builder, so its digest is what to pin: `--build-arg BASE=rust:1.95-bookworm@sha256:...`, with the
# digest that `docker buildx imagetools inspect rust:1.95-bookworm` prints. The image itself has no base.
ARG BASE=rust:1.95-bookworm
FROM ${BASE} AS build
# librdkafka's TLS, linked statically. The base has it; its newest patches come with this.
RUN apt-get update && apt-get install -y --no-install-recommends libssl-dev pkg-config
WORKDIR /src
COPY . .
RUN cargo build --release --locked -p belfry-operator -p belfry-hub -p belfry-worker -p belfry \
 && mkdir /out && cp target/*/release/belfry-operator target/*/release/belfry-hub target/*/release/belfry-worker \
      target/*/release/belfry /out/ && ln -s belfry /out/kubectl-belfry

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/ /
USER 65532:65532
