#!/bin/sh
# Gives this checkout its Python environment: .venv, a link to a folder in the cache that is named by the hash of
# requirements.lock. Needs Python 3.11 or newer and the package index; where Debian's Python lacks venv, root to add it.
# Does nothing (20 ms) when all is there. A run that is cut short leaves nothing that the next one trusts.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd -P)
cache=${LLM_RELEASE_BENCH_CACHE:-$HOME/.cache/llm-release-bench}
uv_version=0.13.8
uv=$cache/uv/$uv_version
key=$(sha256sum "$root/requirements.lock" | cut -c1-12)
venv=$cache/venv/$key
unset PYTHONDONTWRITEBYTECODE PYTHONPATH PYTHONHOME VIRTUAL_ENV

say() { echo "bootstrap: $*" >&2; }
die() { say "$*"; exit 1; }

complete() { [ -f "$venv/.complete" ] && [ -x "$venv/bin/python" ]; }

linked() { [ "$(readlink "$root/.venv" 2>/dev/null)" = "$venv" ]; }

link() {
    if [ -e "$root/.venv" ] && [ ! -L "$root/.venv" ]; then
        die ".venv is not a link of ours. Next: move it away."
    fi
    ln -s "$venv" "$root/.venv.$$" && mv -fT "$root/.venv.$$" "$root/.venv"
}

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

has_venv() { "$1" -c 'import ensurepip, venv' 2>/dev/null; }

find_python() { # 3.11 first: the lock was made for it
    for candidate in ${PYTHON:-} python3.11 /usr/bin/python3.11 python3 python3.12 python3.13; do
        if new_enough "$candidate"; then
            python=$candidate
            has_venv "$candidate" && return
        fi
    done
    [ -n "${python:-}" ] || die "no Python 3.11 or newer. Next: apt-get install python3"
    say "$python has no venv module: installing Debian's python3-venv"
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qqy --no-install-recommends python3-venv; } >&2 \
        || die "could not install it. Next: as root, apt-get install python3-venv"
    python=/usr/bin/python3
    has_venv "$python" || die "$python still has no venv module. Next: set PYTHON to one that has."
}

get_uv() {
    [ -x "$uv/bin/uv" ] && return
    say "getting uv $uv_version"
    draft=$uv.draft
    trap 'rm -rf "$draft"' EXIT
    rm -rf "$draft"
    "$python" -m venv "$draft/seed"
    "$draft/seed/bin/python" -m pip install -q --disable-pip-version-check --no-deps --target "$draft/tool" "uv==$uv_version"
    rm -rf "$uv"
    mv -T "$draft/tool" "$uv"
}

build() {
    say "building .venv from requirements.lock (about 1 min, 2.2 GB)"
    rm -rf "$venv"
    "$uv/bin/uv" venv -q --python "$python" "$venv"
    # Compiled here and now: without bytecode every Airflow task would compile its imports, 3 s a task.
    "$uv/bin/uv" pip install -q --compile-bytecode --python "$venv/bin/python" -r "$root/requirements.lock"
    touch "$venv/.complete"
}

[ "${1:-}" = lock ] || { complete && linked && exit 0; }
mkdir -p "$cache/venv" "$cache/uv"
exec 9>"$cache/venv/.lock"
flock 9
if [ "${1:-}" = lock ]; then
    find_python
    get_uv
    cd "$root"
    "$uv/bin/uv" pip compile -q --python-version 3.11 requirements-dev.txt -o requirements.lock
    exit 0
fi
if ! complete; then
    find_python
    get_uv
    build
fi
linked || link
say "ready: $("$root/.venv/bin/python" --version)"
