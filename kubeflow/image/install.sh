#!/bin/sh
# Runs in the builder stage of the Containerfile.
#
#   install.sh packages ENV          makes the environment ENV from /build/requirements.txt
#   install.sh bytecode ENV          compiles it, since nobody may write there later
#   install.sh ourselves ENV FOLDER  puts our own package below FOLDER, laid out to be copied over /
set -eu

UV=/build/uv/bin/uv
export UV_CACHE_DIR=/var/cache/uv UV_LINK_MODE=copy UV_NO_PROGRESS=1

# uv and pip look where the machine that builds looks, if it says so by secrets.
configure() {
    if [ -f /run/secrets/ca ]; then export SSL_CERT_FILE=/run/secrets/ca PIP_CERT=/run/secrets/ca; fi
    if [ -f /run/secrets/pip ]; then
        while IFS= read -r setting; do export "${setting?}"; done </run/secrets/pip
    fi
    export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
    python3 -m pip config list >/build/settings
    eval "$(python3 /build/pip_settings.py </build/settings)"
    rm /build/settings
}

# Taken without a look at the times of the files, which a registry may change.
bytecode() {
    python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash "$@" >/build/compile.log || true
}

case $1 in
    packages)
        configure
        python3 -m venv /build/uv
        /build/uv/bin/python -m pip install --quiet --only-binary :all: --require-hashes -r /build/uv.txt
        "$UV" venv --quiet --no-project --python "$(command -v python3)" "$2"
        "$UV" pip sync --quiet --python "$2/bin/python" --require-hashes \
            --build-constraints /build/build.txt /build/requirements.txt
        ;;
    bytecode)
        bytecode "$2"/lib/python3*/site-packages
        ;;
    ourselves)
        "$UV" pip install --quiet --python "$2/bin/python" --prefix "$3$2" \
            --no-deps --no-build-isolation --offline /build/source
        bytecode -s "$3" "$3$2"/lib/python3*/site-packages
        # uv's, which anybody might write to.
        rm -f "$2/.lock" "$3$2/.lock"
        ;;
    *)
        echo "install.sh: unknown step '$1'; valid: packages, bytecode, ourselves" >&2
        exit 2
        ;;
esac
