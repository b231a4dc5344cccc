# Everything a person or CI calls. `make demo` and `make test` need a Rust toolchain and nothing else.
CARGO ?= cargo

.PHONY: demo test test-long lint doc

demo: ## a whole flash sale on this machine
	@echo "building; usually a few minutes on two cores"
	$(CARGO) build --quiet --profile demo
	target/demo/penstock demo

test: lint doc ## everything that CI runs
	$(CARGO) test --profile ci

test-long: ## the same with many more generated cases
	PROPTEST_CASES=20000 $(CARGO) test --profile ci

lint:
	$(CARGO) fmt --check
	$(CARGO) clippy --profile ci --all-targets -- -D warnings

doc:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --profile ci --no-deps
