# Everything a person or CI calls. `make demo` needs a Rust toolchain with a C compiler and nothing else;
# `make test` needs redis-server too, `make bench` the peers; both install them where they may.
CARGO ?= cargo
# How long each fuzz target runs, in seconds.
SECONDS_EACH ?= 60

.PHONY: demo test test-long lint doc bench bench-quick fuzz redis peers help

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

demo: ## a whole flash sale on this machine
	@echo "building; usually a few minutes on two cores"
	$(CARGO) build --quiet --profile demo
	target/demo/penstock demo

test: redis lint doc ## everything that CI runs
	$(CARGO) test --profile ci

test-long: redis ## the same tests with many more generated cases, and bodies of 1 GiB
	PROPTEST_CASES=20000 PENSTOCK_TEST_LONG=1 $(CARGO) test --profile ci

lint: ## formatting and clippy, warnings are errors
	$(CARGO) fmt --check
	$(CARGO) clippy --profile ci --all-targets -- -D warnings

doc: ## the pages of the code, warnings are errors
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --profile ci --no-deps

bench: peers ## CPU a request beside nginx, HAProxy, Varnish and a bare loop; about 20 minutes
	$(CARGO) bench --bench peers

bench-quick: peers ## its telling rows in two minutes
	$(CARGO) bench --bench peers -- --quick

fuzz: ## every fuzz target for SECONDS_EACH seconds
	SECONDS_EACH=$(SECONDS_EACH) fuzz/run

# RUNLEVEL=1: the tests start servers of their own, the package's need not run.
redis:
	@command -v redis-server >/dev/null && exit 0; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "installing redis-server"; \
		export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1; \
		apt-get -qq update && apt-get -qq install -y --no-install-recommends redis-server >/dev/null; \
	else \
		echo "the tests need redis-server: sudo apt-get install redis-server (macOS: brew install redis)" >&2; \
		exit 1; \
	fi

# The same for what Penstock is compared with; the bench says what is missing where it may not install.
peers:
	@if ! command -v nginx >/dev/null || ! command -v haproxy >/dev/null || ! command -v varnishd >/dev/null; then \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			echo "installing nginx-light, haproxy and varnish"; \
			export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1; \
			apt-get -qq update && apt-get -qq install -y --no-install-recommends nginx-light haproxy varnish >/dev/null; \
		fi; \
	fi
