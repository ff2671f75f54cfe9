# `make demo` and `make test` are the README's two commands.
.PHONY: demo test check fmt clippy docs deny bench

demo:
	cargo build --locked --bin envctl --example platform
	examples/platform/demo.sh

check: fmt clippy test docs deny

fmt:
	cargo fmt --check

clippy:
	cargo clippy --locked --all-targets -- -D warnings
	cargo clippy --locked --no-default-features --lib -- -D warnings

test:
	cargo test --locked

docs:
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --lib

deny:
	@if command -v cargo-deny >/dev/null; then cargo deny --locked check; else echo "cargo-deny is not installed: skipped"; fi

# Medians and ratios of one run; what they were is recorded in benches/README.md.
bench:
	cargo build --locked --release --examples
	cargo bench --locked --bench envctl
