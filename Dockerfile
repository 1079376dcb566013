# syntax=docker/dockerfile:1

FROM --platform=$BUILDPLATFORM golang:1.26.8-alpine AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY cmd cmd
COPY internal internal
COPY migrations migrations
ARG VERSION=unknown TARGETOS TARGETARCH
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -trimpath -ldflags "-s -w -X main.version=$VERSION" -o /out/ferry ./cmd/ferry
RUN echo 'ferry:x:65532:65532:ferry:/:/ferry' > /out/passwd

FROM scratch
# To trust PowerSync's, the identity provider's and the database's certificates.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/passwd /etc/passwd
COPY LICENSE /LICENSE
COPY --from=build /out/ferry /ferry
USER 65532:65532
EXPOSE 6060
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD ["/ferry", "healthcheck"]
ENTRYPOINT ["/ferry"]
CMD ["serve"]
