# Everything a person or CI calls. `make demo` needs a Rust toolchain with a C compiler and nothing else;
# `make test` needs redis-server, valgrind, node and a headless Chromium too, `make bench` the peers; all install them
# where they may.
CARGO ?= cargo
# How long each fuzz target runs, in seconds.
SECONDS_EACH ?= 60
# How many lives of a fleet are simulated.
SEEDS ?= 5000
# What a package is built with.
PROFILE ?= release

.PHONY: demo test test-long sim conformance conformance-newer lint doc instructions bench bench-quick bench-pieces bench-two bench-cache fuzz \
	deb deb-test redis valgrind node browser headless-shell peers help

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

demo: ## a whole flash sale on this machine
	@echo "building; usually a few minutes on two cores"
	$(CARGO) build --quiet --profile demo
	target/demo/penstock demo

test: redis browser lint doc ## everything that CI runs
	$(CARGO) test --profile ci
	$(MAKE) --no-print-directory conformance
	$(MAKE) --no-print-directory instructions

test-long: redis browser ## the same tests with many more generated cases, and bodies of 1 GiB
	PROPTEST_CASES=20000 PENSTOCK_TEST_LONG=1 $(CARGO) test --profile ci

sim: ## SEEDS lives of a fleet through failures, simulated
	SEEDS=$(SEEDS) $(CARGO) test --profile ci --test sim runs:: -- --nocapture

conformance: node ## the public conformance suite for HTTP caches, held to its floor
	$(CARGO) build --profile ci --bin penstock
	tests/conformance/run

conformance-newer: node ## the suite's newer edition, fetched from its repository; needs git and the network
	$(CARGO) build --profile ci --bin penstock
	EDITION=newer tests/conformance/run

lint: ## formatting and clippy, warnings are errors
	$(CARGO) fmt --check
	$(CARGO) clippy --profile ci --all-targets -- -D warnings

doc: ## the pages of the code, warnings are errors
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --profile ci --no-deps

# The profile of the demo has no link-time optimisation, which would take longer to build than all tests do.
instructions: valgrind ## instructions of each kind of request, held to their ceilings
	$(CARGO) bench --profile demo --bench instructions

bench: peers ## CPU a request beside nginx, HAProxy, Varnish and a bare loop; about 20 minutes
	$(CARGO) bench --bench peers

bench-quick: peers ## its telling rows in two minutes
	$(CARGO) bench --bench peers -- --quick

bench-pieces: ## nanoseconds of the pieces of a hot answer
	$(CARGO) bench --bench pieces

bench-cache: ## what a hit, a stored page, a purge and ten million keys cost the cache
	$(CARGO) bench --bench cache

bench-two: ## whether two workers on one page, sale and pool slow each other down
	$(CARGO) bench --bench two

deb: ## a package for Debian, in target/debian; PROFILE=ci for a quick one
	@command -v cargo-deb >/dev/null || $(CARGO) install --locked cargo-deb
	$(CARGO) build --profile $(PROFILE)
	rm -rf target/pages && mkdir -p target/pages
	target/$(PROFILE)/penstock man target/pages/man
	target/$(PROFILE)/penstock completion bash >target/pages/penstock.bash
	target/$(PROFILE)/penstock completion fish >target/pages/penstock.fish
	target/$(PROFILE)/penstock completion zsh >target/pages/_penstock
	$(CARGO) deb --no-build --profile $(PROFILE)

deb-test: deb ## install, upgrade, remove and purge it in a clean Debian 12; needs root
	$(call installed,debootstrap,debootstrap)
	packaging/deb-test "$$(ls -t target/debian/penstock_*.deb | head -1)"

fuzz: ## every fuzz target for SECONDS_EACH seconds
	SECONDS_EACH=$(SECONDS_EACH) fuzz/run

# RUNLEVEL=1: the tests start servers of their own, the package's need not run.
define installed
	@command -v $(1) >/dev/null && exit 0; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "installing $(2)"; \
		export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1; \
		apt-get -qq update && apt-get -qq install -y --no-install-recommends $(2) >/dev/null; \
	else \
		echo "this needs $(1): sudo apt-get install $(2)$(3)" >&2; \
		exit 1; \
	fi
endef

redis:
	$(call installed,redis-server,redis-server, (macOS: brew install redis))

# Any Chromium will do; the one without windows is the smallest.
browser:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || \
	command -v google-chrome >/dev/null || $(MAKE) --no-print-directory headless-shell

headless-shell:
	$(call installed,chromium-headless-shell,chromium-headless-shell, (macOS: put Chrome on the PATH as google-chrome))

# The suite is written in JavaScript. Debian's npm is a package of its own.
node:
	$(call installed,node,nodejs npm, (macOS: brew install node))
	$(call installed,npm,npm)

# Only Linux has it for all processors we build for; elsewhere nothing is counted.
valgrind:
ifeq ($(shell uname),Linux)
	$(call installed,valgrind,valgrind)
endif

# What Penstock is compared with.
peers:
	$(call installed,nginx,nginx-light)
	$(call installed,haproxy,haproxy)
	$(call installed,h2load,nghttp2-client)
	$(call installed,varnishd,varnish)
