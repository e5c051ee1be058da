# `just` lists the recipes.

_default:
    @just --list --unsorted

# Run a daemon for development on 127.0.0.1:7171 and 7172
dev:
    cargo run --release -- serve --dev

# Run all tests
test:
    cargo test

# Everything that must pass before a commit
ci: fmt lint test doc deny fuzz-smoke

# Check the formatting
fmt:
    cargo fmt --check

# Run Clippy, with warnings as errors
lint:
    cargo clippy --all-targets -- -D warnings

# Build the documentation, with warnings as errors
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --document-private-items

# Check licences, advisories and sources of the dependencies
deny:
    cargo deny check

# Run every fuzz target for some seconds
fuzz-smoke seconds="20":
    for target in $(cargo fuzz list); do \
        RUSTC_BOOTSTRAP=1 cargo fuzz run --dev --sanitizer none "$target" -- -max_total_time={{seconds}} || exit 1; \
    done

# Run the crash tests, for more rounds than in `test`
crash rounds="200":
    FOREBAY_CRASH_ROUNDS={{rounds}} cargo test --release --test crash -- --nocapture

# Compare the daemon with servers that do less
bench:
    cargo bench --bench ingest

# Benchmark the parts: append, commit, replay, decode, Parquet
bench-parts:
    cargo bench --bench parts

# Build the container image
image:
    docker build -f deploy/Dockerfile -t forebay .
