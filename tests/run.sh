#!/usr/bin/env bash
# Runs every test. Installs what the tests need when it is missing; exits 0 only if all passed.
#
#   tests/run.sh                 everything
#   tests/run.sh NAME...         the tests whose path contains one of the names, as `cargo test`
#   tests/run.sh --setup         install only
#   tests/run.sh --compiler      install a C compiler only (needed to build the TLS library)
#   tests/run.sh --env           print the environment for a `cargo test` by hand, as exports
set -euo pipefail
exec </dev/null
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}"
export CARGO_NET_RETRY="${CARGO_NET_RETRY:-5}"
ENV_DIR="$CARGO_TARGET_DIR/test-env"

say() { printf 'tests/run.sh: %s\n' "$*" >&2; }
die() {
    say "$*"
    exit 1
}

# Package mirrors fail now and then; one failure is not an answer.
retry() {
    local try
    for try in 1 2 3 4; do
        if "$@" >"$ENV_DIR/install.log" 2>&1; then return 0; fi
        say "try $try of 4 failed: $*"
        sleep $((try * 3))
    done
    cat "$ENV_DIR/install.log" >&2
    return 1
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo -n "$@"
    else
        say "not root and no sudo, cannot run: $*"
        return 1
    fi
}

apt_updated=
apt_install() {
    command -v apt-get >/dev/null || die "please install by hand (no apt-get here): $*"
    say "installing: $*"
    if [ -z "$apt_updated" ]; then
        # An unreachable extra source must not stop us when Debian's own lists came through.
        retry as_root apt-get update || say "apt-get update had errors; going on"
        apt_updated=1
    fi
    retry as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y --no-install-recommends "$@" || die "could not install: $*"
}

find_chromium() {
    local name
    for name in chromium chromium-browser google-chrome; do
        command -v "$name" && return 0
    done
    return 1
}

find_python() {
    local name
    for name in python3.11 python3; do
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 9))' 2>/dev/null; then
            command -v "$name"
            return 0
        fi
    done
    return 1
}

find_redis() {
    local name
    for name in redis-server valkey-server; do
        command -v "$name" && return 0
    done
    return 1
}

compiler() {
    local missing=()
    command -v cc >/dev/null || missing+=(gcc libc6-dev)
    command -v make >/dev/null || missing+=(make)
    [ "${#missing[@]}" = 0 ] || apt_install "${missing[@]}"
}

system_packages() {
    local missing=()
    find_chromium >/dev/null || missing+=(chromium)
    if ! find_python >/dev/null; then
        missing+=(python3 python3-venv)
    elif ! "$(find_python)" -c 'import ensurepip, venv' 2>/dev/null; then
        missing+=(python3-venv)
    fi
    command -v node >/dev/null || missing+=(nodejs)
    command -v npm >/dev/null || missing+=(npm)
    command -v curl >/dev/null || missing+=(curl)
    [ "${#missing[@]}" = 0 ] || apt_install "${missing[@]}"
}

# A folder is finished when it holds the checksum of what it was made from.
fresh() { [ "$(cat "$1/.made-from" 2>/dev/null)" = "$2" ]; }

python_env() {
    local want python
    python=$(find_python) || die "no Python 3.9 or newer"
    want="$(cksum <tests/requirements.txt) $python"
    fresh "$ENV_DIR/python" "$want" && return
    say "making the Python environment"
    rm -rf "$ENV_DIR/python"
    retry "$python" -m venv "$ENV_DIR/python" || die "could not make a Python environment"
    retry "$ENV_DIR/python/bin/python" -m pip install --quiet --disable-pip-version-check \
        --only-binary :all: -r tests/requirements.txt || die "could not install tests/requirements.txt"
    printf '%s' "$want" >"$ENV_DIR/python/.made-from"
}

# node_packages NAME FOLDER: the packages of tests/FOLDER in a folder of their own, by its lock file when
# it has one.
node_packages() {
    local folder="$ENV_DIR/$1" from="tests/$2" how=(install --no-package-lock) want
    want=$(cat "$from"/package*.json | cksum)
    fresh "$folder" "$want" && return
    say "making the Node environment for $from"
    rm -rf "$folder"
    mkdir -p "$folder"
    cp "$from"/package*.json "$folder/"
    [ ! -e "$from/package-lock.json" ] || how=(ci)
    retry npm "${how[@]}" --prefix "$folder" --no-audit --no-fund --ignore-scripts || die "could not install $from/package.json"
    printf '%s' "$want" >"$folder/.made-from"
}

# Debian's redis-tools holds the server, too, under the name of another tool: redis-server adds only
# a link and a service, which would start and take port 6379. Tests start servers of their own.
redis_server() {
    local link="$ENV_DIR/redis/redis-server" checker
    find_redis >/dev/null && return
    "$link" --version >/dev/null 2>&1 && return
    command -v redis-check-rdb >/dev/null || apt_install redis-tools
    checker=$(command -v redis-check-rdb) || die "redis-tools holds no redis-check-rdb"
    mkdir -p "$ENV_DIR/redis"
    ln -sfn "$checker" "$link"
    "$link" --version 2>/dev/null | grep -q 'server v=' && return
    # Packaged otherwise: then with its service.
    rm -f "$link"
    apt_install redis-server
    find_redis >/dev/null || die "redis-server was installed but is not on the PATH"
}

setup() {
    mkdir -p "$ENV_DIR"
    # Two runs on one target folder must not install into each other.
    exec 9>"$ENV_DIR/.lock"
    flock 9
    compiler
    system_packages
    redis_server
    python_env
    node_packages node browser
    node_packages clients clients
    exec 9>&-
    PORTCULLIS_TEST_PYTHON="$ENV_DIR/python/bin/python"
    PORTCULLIS_TEST_NODE="$(command -v node)"
    PORTCULLIS_TEST_NODE_MODULES="$ENV_DIR/node/node_modules"
    PORTCULLIS_TEST_CLIENT_MODULES="$ENV_DIR/clients/node_modules"
    PORTCULLIS_TEST_CHROMIUM="$(find_chromium)"
    PORTCULLIS_TEST_REDIS="$(find_redis || printf '%s' "$ENV_DIR/redis/redis-server")"
    export PORTCULLIS_TEST_PYTHON PORTCULLIS_TEST_NODE PORTCULLIS_TEST_NODE_MODULES \
        PORTCULLIS_TEST_CLIENT_MODULES PORTCULLIS_TEST_CHROMIUM PORTCULLIS_TEST_REDIS
}

run() {
    local scratch status=0
    # Everything that tests write goes here, so that a cut run leaves nothing behind.
    scratch=$(mktemp -d "${TMPDIR:-/tmp}/portcullis-tests.XXXXXX")
    # shellcheck disable=SC2064 # the folder's name is wanted as it is now
    trap "rm -rf '$scratch'" EXIT
    TMPDIR="$scratch" cargo test --locked --no-fail-fast --lib --bins --test it -- "$@" |
        tee "$scratch/tests.log" || status=$?
    # Every fuzz target over its corpus and a few seconds of mutations; a filter means one test.
    if [ "$#" -eq 0 ]; then
        TMPDIR="$scratch" cargo run --locked --manifest-path fuzz/Cargo.toml --bin smoke -- \
            --seconds 2 || status=$?
        # What the program is built from.
        tests/supply-chain.sh check || status=$?
    fi
    # Once more at the end, where a log of many thousand lines is read first.
    [ "$status" = 0 ] || sed -n '/^failures:$/,/^test result:/p' "$scratch/tests.log"
    return "$status"
}

case "${1:-}" in
--compiler)
    mkdir -p "$ENV_DIR"
    compiler
    ;;
--setup) setup ;;
--env)
    setup
    export -p | grep -E ' (PORTCULLIS_TEST_[A-Z_]+|CARGO_TARGET_DIR)='
    ;;
-*) die "unknown option $1; see the head of this file" ;;
*)
    setup
    run "$@"
    ;;
esac
