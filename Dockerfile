# Builds the server and puts it on a small Debian: docker build -t martlet .
FROM swift:6.2-bookworm AS build
WORKDIR /src
COPY scripts/install-deps scripts/install-deps
RUN scripts/install-deps && rm -rf /var/lib/apt/lists/*
COPY Package.swift openapi.yaml ./
COPY Sources Sources
COPY Tests Tests
RUN swift build -c release --product martlet

FROM debian:bookworm-slim
RUN apt-get update -q \
 && apt-get install -y -q --no-install-recommends \
      ca-certificates libarchive13 libbrotli1 libhiredis0.14 libpq5 libsodium23 libsqlite3-0 libssl3 libutf8proc2 libuv1 zlib1g \
 && rm -rf /var/lib/apt/lists/* \
 && adduser --system --group --no-create-home --home /var/lib/martlet martlet \
 && install -d -m 0700 -o martlet -g martlet /var/lib/martlet
COPY --from=build /src/.build/release/martlet /usr/bin/martlet
USER martlet
# Outside the container the port is reachable only if it is published.
ENV MARTLET_DATA=/var/lib/martlet MARTLET_LISTEN=0.0.0.0:8080
VOLUME /var/lib/martlet
EXPOSE 8080
STOPSIGNAL SIGTERM
ENTRYPOINT ["martlet"]
CMD ["serve"]
