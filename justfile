# `just` lists the recipes.

_default:
    @just --list --unsorted

# A daemon to try things out, on 127.0.0.1:7171 and 7172
dev:
    cargo run --release -- serve --dev

# All tests
test:
    cargo test

# What must hold before a commit
ci: fmt lint test doc deny fuzz-smoke

# Formatting
fmt:
    cargo fmt --check

# Clippy, with warnings as errors
lint:
    cargo clippy --all-targets -- -D warnings

# Documentation, with warnings as errors
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --document-private-items

# Licences, advisories and sources of the dependencies
deny:
    cargo deny check

# Every fuzz target for a while
fuzz-smoke seconds="20":
    for target in $(cargo fuzz list); do \
        RUSTC_BOOTSTRAP=1 cargo fuzz run --dev --sanitizer none "$target" -- -max_total_time={{seconds}} || exit 1; \
    done

# The crash suite, longer than in `test`
crash rounds="200":
    FOREBAY_CRASH_ROUNDS={{rounds}} cargo test --release --test crash -- --nocapture

# The daemon beside servers that do less
bench:
    cargo bench --bench ingest

# The pieces: append, commit, replay, decode, Parquet
bench-parts:
    cargo bench --bench parts

# A container image
image:
    docker build -f deploy/Dockerfile -t forebay .
