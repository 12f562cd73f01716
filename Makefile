# The commands of a working day. `make run` and `make test` are the README's.

SHELL := /bin/bash
.PHONY: run test build debug bench bench-peers lint format clean deps test-deps

BINARY := .build/release/martlet

run: build
	$(BINARY) serve

build: deps
	swift build -c release --product martlet

debug: deps
	swift build

test: test-deps
	scripts/test

bench: deps
	swift build -c release
	scripts/bench

bench-peers: deps
	scripts/install-deps --bench
	swift build -c release
	scripts/bench --peers

lint: deps
	scripts/check

format:
	swift format --in-place --recursive Sources Tests Package.swift

clean:
	rm -rf .build

deps:
	@scripts/install-deps

test-deps:
	@scripts/install-deps --tests
