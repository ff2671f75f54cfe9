# `make demo` and `make test` are the README's two commands.
.PHONY: cluster-up cluster-down generate generated demo test check fmt clippy docs deny bench bench-codespace

demo:
	cargo build --locked --bin envctl --example platform
	examples/platform/demo.sh

check: fmt clippy test docs deny generated

fmt:
	cargo fmt --check

clippy:
	cargo clippy --locked --all-targets -- -D warnings
	cargo clippy --locked --no-default-features --lib -- -D warnings

test:
	cargo test --locked

docs:
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --lib --document-private-items

deny:
	@if command -v cargo-deny >/dev/null; then cargo deny --locked check; else echo "cargo-deny is not installed: skipped"; fi

# Medians and ratios of one run; what they were is recorded in benches/README.md.
bench:
	cargo build --locked --release --bin envctl --examples --bench envctl
	cargo bench --locked --bench envctl

# envs/codespace.yaml against a script that starts the same programs; needs PostgreSQL and python3-venv.
bench-codespace:
	cargo build --locked --release --bin envctl
	benches/codespace.sh target/release/envctl

# The checked-in Kubernetes tables; KUBERNETES_FACTS is the folder that tools/schema-gen reads.
KUBERNETES_FACTS ?= ../shared/kubernetes-1.36
TABLES = src/embedded/apiserver/schema/generated.rs
SCHEMA_GEN = cargo run --locked -q --no-default-features --features generate --bin schema-gen -- $(KUBERNETES_FACTS) $(TABLES)

generate:
	$(SCHEMA_GEN)

# Only where the folder exists: the built project doesn't need it.
generated:
	@if test -d $(KUBERNETES_FACTS); then $(SCHEMA_GEN) --check; else echo "$(KUBERNETES_FACTS) is absent: generated tables not compared"; fi

# Real Kubernetes as plain processes (tests/cluster/README.md); as root.
cluster-up:
	tests/cluster/run up

cluster-down:
	tests/cluster/run down
