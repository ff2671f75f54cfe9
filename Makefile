# `make demo` and `make test` are the README's two commands.
.PHONY: cluster-up cluster-down test-cluster kind-up kind-down test-kind generate generated demo test buildkit check fmt clippy docs deny bench bench-cluster bench-codespace bench-docker bench-kind

demo:
	cargo build --locked --bin envctl --example platform
	examples/platform/demo.sh

check: fmt clippy test buildkit docs deny generated

fmt:
	cargo fmt --check

clippy:
	cargo clippy --locked --all-targets -- -D warnings
	cargo clippy --locked --no-default-features --lib -- -D warnings

test:
	cargo test --locked --no-fail-fast

# What the feature changes. Another set of features is another build of what depends on them, so it is only these.
buildkit:
	cargo clippy --locked --features buildkit --lib --bin envctl --test docker -- -D warnings
	cargo test --locked --features buildkit --test docker builds

docs:
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --lib --document-private-items

deny:
	@if command -v cargo-deny >/dev/null; then cargo deny --locked check; else echo "cargo-deny is not installed: skipped"; fi

# Medians and ratios of one run; what they were is recorded in benches/README.md.
bench:
	cargo build --locked --release --bin envctl --examples --bench envctl
	cargo bench --locked --bench envctl

# `envctl up` beside kubectl on the real cluster (`make cluster-up`, as root).
bench-cluster:
	cargo build --locked --release --bin envctl --example hello
	cargo bench --locked --bench cluster

# Five containers of the embedded cluster beside docker compose, in the engine of `make kind-up`.
COMPOSE ?= docker-compose
bench-docker:
	cargo build --locked --release --bin envctl
	eval "$$(tests/kind/run env)" && benches/docker.sh target/release/envctl "$(COMPOSE)"

# `envctl up` on kind beside kind and kubectl, in the engine of `make kind-up`.
bench-kind:
	cargo build --locked --release --bin envctl
	eval "$$(tests/kind/run env)" && benches/kind.sh target/release/envctl

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

# A Docker engine with the kind CLI and a node image of this machine's own (tests/kind/README.md); as root.
kind-up:
	tests/kind/run up

kind-down:
	tests/kind/run down

# `cluster: kind` for real, and the scenes of `test-cluster` through it, between the two.
test-kind: kind-up
	cargo test --locked --no-fail-fast --test kind --test parity; result=$$?; tests/kind/run down; exit $$result

# The same scenes on the embedded cluster, on the real one (`make cluster-up`) and on kind (`make kind-up`), compared. They wait more than they work.
test-cluster:
	cargo test --locked --test parity -- --test-threads 6
