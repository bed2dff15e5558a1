# docker build --build-arg VERSION=1.0.0 --tag cohere_exporter .
ARG BUILDER_IMAGE=docker.io/library/golang:1.26.8
ARG RUNTIME_IMAGE=gcr.io/distroless/static-debian12:nonroot

# Go cross-compiles, so the builder always runs on the machine's own platform.
FROM --platform=$BUILDPLATFORM ${BUILDER_IMAGE} AS build
ENV CGO_ENABLED=0 GOFLAGS=-buildvcs=false GOTOOLCHAIN=local GOMODCACHE=/cache/mod GOCACHE=/cache/build
WORKDIR /src

COPY go.mod go.sum ./
RUN --mount=type=cache,target=/cache/mod \
    go mod download

COPY . .
ARG TARGETOS=linux
ARG TARGETARCH
ARG VERSION=unreleased
ARG REVISION=unknown
ARG BRANCH=unknown
ARG BUILD_DATE
RUN --mount=type=cache,target=/cache/mod --mount=type=cache,target=/cache/build \
    v=github.com/prometheus/common/version && \
    GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -o /out/cohere_exporter -ldflags "-s -w \
        -X $v.Version=$VERSION -X $v.Revision=$REVISION -X $v.Branch=$BRANCH -X $v.BuildDate=$BUILD_DATE" .

FROM ${RUNTIME_IMAGE}
ARG RUNTIME_IMAGE
ARG VERSION=unreleased
ARG REVISION=unknown
ARG BUILD_DATE
LABEL org.opencontainers.image.title="cohere_exporter" \
      org.opencontainers.image.description="Prometheus exporter for Cohere embed jobs and batches" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.created="$BUILD_DATE" \
      org.opencontainers.image.base.name="$RUNTIME_IMAGE"

# The API is HTTPS: a runtime image without certificates of its own, such as scratch, works too.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /src/LICENSE /LICENSE
COPY --from=build /out/cohere_exporter /bin/cohere_exporter

# By number, so that Kubernetes can tell that it is not root.
USER 65532:65532
EXPOSE 10110
ENTRYPOINT ["/bin/cohere_exporter"]
