#!/bin/sh
# Sets up a development checkout: system packages where they are missing, a virtual environment in .venv with the
# pinned dependencies. Run by `make`; safe to run again.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python3.11}
command -v "$python" >/dev/null || python=python3
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "setup: $python is $("$python" -V 2>&1), and 3.11 or newer is needed: install python3.11 or set PYTHON" >&2
    exit 1
}

missing=
command -v redis-server >/dev/null || missing="$missing redis-server"
[ -n "${NONESUCH_FASHION_MNIST:-}" ] || [ -d /usr/share/datasets/fashion-mnist ] || missing="$missing dataset-fashion-mnist"
"$python" -c 'import ensurepip, venv' 2>/dev/null || missing="$missing python3-venv"
if [ -n "$missing" ]; then
    as_root=
    [ "$(id -u)" = 0 ] || as_root="sudo"
    if command -v apt-get >/dev/null && { [ -z "$as_root" ] || command -v sudo >/dev/null; }; then
        echo "setup: installing$missing"
        $as_root apt-get update -q >/dev/null
        # shellcheck disable=SC2086
        DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -q --no-install-recommends $missing >/dev/null
    else
        echo "setup: install these first:$missing" >&2
        exit 1
    fi
fi

[ -x .venv/bin/python ] || "$python" -m venv .venv
echo "setup: installing the pinned Python packages into .venv"
.venv/bin/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[all,dev]'
touch .venv/.ready
