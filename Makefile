# `make demo` and `make test` are the README's two commands.
.PHONY: check fmt clippy test docs deny generate bench

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
