# The commands of a working day. `make run` and `make test` are the README's.

SHELL := /bin/bash
.PHONY: run test fuzz fuzz-coverage sanitize build install deb test-deb debug bench bench-peers bench-against bench-crowds bench-chat bench-edge test-rolling test-tls lint format clean deps test-deps

BINARY := .build/release/martlet

run: build
	$(BINARY) serve

build: deps
	swift build -c release --product martlet

debug: deps
	swift build

test: test-deps
	scripts/test

# Ten million inputs for every parser of outside bytes; takes minutes.
fuzz: deps
	MARTLET_TEST_FUZZ_INPUTS=10000000 swift test -c release -Xswiftc -enable-testing \
	  --scratch-path .build/fuzz --filter FuzzTests

# ThreadSanitizer and AddressSanitizer over Swift's tests and a part of the acceptance tests.
sanitize: test-deps
	scripts/sanitize

# Those parsers, with a fuzzer that is guided by what an input reaches: make fuzz-coverage SECONDS=600
SECONDS ?= 60
fuzz-coverage: deps
	scripts/fuzz $(SECONDS)

bench: test-deps
	swift build -c release
	scripts/bench

bench-peers: deps
	scripts/install-deps --bench
	swift build -c release
	scripts/bench --peers

# This release beside an earlier one: make bench-against BEFORE=/path/to/its/martlet
bench-against: deps
	swift build -c release
	scripts/bench --against $(BEFORE) --rounds 10 --seconds 2

# What crowds and many rooms cost; also of other binaries: make bench-crowds OF="this=... before=..."
bench-crowds: test-deps
	swift build -c release --product martlet
	.build/venv/bin/python Tests/Benchmarks/crowds.py $(OF)

# Pages of a room of a million messages, the search among them, the list of 5,000 rooms: make bench-chat ROWS="pages search rooms"
bench-chat: test-deps
	swift build -c release --product martlet
	.build/venv/bin/python Tests/Benchmarks/chat.py $(ROWS)

# HTTP, TLS, a gigabyte down and up, beside nginx.
bench-edge: test-deps
	scripts/install-deps --bench
	swift build -c release
	.build/venv/bin/python Tests/Benchmarks/edge.py

# A node of an earlier release beside one of this, on one Postgres: make test-rolling BEFORE=/path/to/its/martlet
test-rolling: test-deps
	swift build -c release --product martlet
	.build/venv/bin/python Tests/Acceptance/rolling.py $(BEFORE)

# A thousand connections of curl, openssl and Chromium with TLS, to a server under AddressSanitizer.
test-tls: test-deps
	scripts/install-deps --browser
	swift build --sanitize=address --scratch-path .build/asan --product martlet
	.build/venv/bin/python Tests/Acceptance/tls_mix.py .build/asan/debug/martlet

# The binary, the unit and the example configuration, for a system without packages: make install PREFIX=/usr DESTDIR=...
PREFIX ?= /usr/local
install: build
	install -D $(BINARY) $(DESTDIR)$(PREFIX)/bin/martlet
	install -D -m 644 deploy/martlet.conf $(DESTDIR)$(PREFIX)/share/martlet/martlet.conf
	install -D -m 644 deploy/nginx.conf $(DESTDIR)$(PREFIX)/share/martlet/nginx.conf
	install -D -m 644 deploy/grafana.json $(DESTDIR)$(PREFIX)/share/martlet/grafana.json
	install -d $(DESTDIR)$(PREFIX)/lib/systemd/system
	sed 's#/usr/bin/martlet#$(PREFIX)/bin/martlet#' deploy/martlet.service > $(DESTDIR)$(PREFIX)/lib/systemd/system/martlet.service

# A package for Debian 12: .build/deb/martlet_*.deb
deb: build
	scripts/install-deps --deb
	scripts/deb

# The package in a clean Debian without Swift, under the unit's restrictions; needs root.
test-deb: deb
	.build/venv/bin/python Tests/Acceptance/package.py

lint: test-deps
	scripts/check

format:
	swift format --in-place --recursive Sources Tests Package.swift

clean:
	rm -rf .build

deps:
	@scripts/install-deps

test-deps:
	@scripts/install-deps --tests
