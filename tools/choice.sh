# Sourced by tools/bootstrap: which TFX this machine gets, and with it which Python and pinned set.
#
# TFX 1.21 where it runs, which is glibc 2.39 or newer and Python 3.11 to 3.13; else TFX 1.16, on
# Python 3.10. ENCORE_TFX=1.16 or 1.21 overrules that, ENCORE_PYTHON=/path/to/python names the
# interpreter and thereby the TFX. Sets TFX, PYTHON and WHY; needs GLIBC, UV_CANDIDATES and fail.

# ml-metadata and TensorFlow Data Validation of TFX 1.21 are published for manylinux_2_39.
TFX121_GLIBC=2.39

# The Pythons of a TFX, the preferred first.
pythons_of() {
    case $1 in
        1.21) echo 3.13 3.12 3.11 ;;
        1.16) echo 3.10 ;;
    esac
}

# set_of TFX MODE: the file of pins in requirements/.
set_of() {
    case "$1 $2" in
        "1.21 run") echo tfx121-py311-py313.txt ;;
        "1.21 dev") echo dev-py311-py313.txt ;;
        "1.16 run") echo tfx116-py310.txt ;;
        "1.16 dev") echo dev-py310.txt ;;
    esac
}

# interpreter COMMAND VERSION...: the program behind COMMAND, when that is an ordinary 64-bit CPython
# of one of the versions and really starts. A free-threaded one is not: it has no packages.
interpreter() {
    local command=$1
    shift
    "$command" -c '
import struct, sys
fits = "%d.%d" % sys.version_info[:2] in sys.argv[1:] and "t" not in sys.abiflags
if not fits or sys.implementation.name != "cpython" or struct.calcsize("P") != 8:
    sys.exit(1)
print(getattr(sys, "_base_executable", None) or sys.executable)' "$@" 2>/dev/null
}

# Where a Python VERSION may be. A pyenv shim answers only for versions that are selected, so those
# are tried by path, newest first, and only where the pattern matched something.
python_candidates() {
    local version=$1 pyenv_root
    echo "python$version"
    for pyenv_root in "${PYENV_ROOT:-}" "$(pyenv root 2>/dev/null)" "${HOME:-}/.pyenv"; do
        [ -z "$pyenv_root" ] ||
            ls -d "$pyenv_root/versions/$version"*/bin/python"$version" 2>/dev/null | sort -rV
    done
    echo python3
    echo "/usr/bin/python$version"
    echo "/usr/local/bin/python$version"
}

# find_python VERSION...: sets PYTHON, to nothing where there is none.
find_python() {
    local version candidate
    for version in "$@"; do
        while read -r candidate; do
            if PYTHON=$(interpreter "$candidate" "$version"); then return 0; fi
        done < <(python_candidates "$version")
        # uv knows the ones that it installed itself.
        for candidate in "${UV_CANDIDATES[@]}"; do
            candidate=$("$candidate" python find --system --no-python-downloads "$version" 2>/dev/null) ||
                continue
            if PYTHON=$(interpreter "$candidate" "$version"); then return 0; fi
        done
    done
    PYTHON=""
    return 1
}

runs_tfx121() { version_at_least "$GLIBC" "$TFX121_GLIBC"; }

# tfx_of_python COMMAND: the TFX that runs on this interpreter.
tfx_of_python() {
    local tfx
    for tfx in 1.21 1.16; do
        # Several words on purpose.
        # shellcheck disable=SC2046
        if PYTHON=$(interpreter "$1" $(pythons_of "$tfx")); then
            TFX=$tfx
            return 0
        fi
    done
    return 1
}

# Refuses what was asked for and cannot be, before anything is looked for.
check_wishes() {
    case ${ENCORE_TFX:-} in
        "" | 1.16) ;;
        1.21)
            runs_tfx121 || fail "ENCORE_TFX=1.21, but TFX 1.21 needs glibc $TFX121_GLIBC or newer; this system has $GLIBC." \
                "Unset ENCORE_TFX to get TFX 1.16 here, or use Debian 13, Ubuntu 24.04 or newer, or a root of one:" \
                "  tools/debian13 make run"
            ;;
        *) fail "ENCORE_TFX=$ENCORE_TFX is not a version that we pin; valid: 1.16, 1.21, or unset for the machine's own" ;;
    esac
}

choose_by_interpreter() {
    tfx_of_python "$ENCORE_PYTHON" ||
        fail "ENCORE_PYTHON=$ENCORE_PYTHON is not a 64-bit CPython that starts, of 3.10 (TFX 1.16) or 3.11 to 3.13 (TFX 1.21);" \
            "unset it or correct it."
    if [ "$TFX" != "${ENCORE_TFX:-$TFX}" ]; then
        fail "ENCORE_PYTHON=$ENCORE_PYTHON runs TFX $TFX, and ENCORE_TFX=$ENCORE_TFX asks for another; unset one of them."
    fi
    if [ "$TFX" = 1.21 ] && ! runs_tfx121; then
        fail "ENCORE_PYTHON=$ENCORE_PYTHON needs TFX 1.21, and that needs glibc $TFX121_GLIBC or newer; this system has $GLIBC." \
            "Unset it, or name a Python 3.10, on which TFX 1.16 runs here."
    fi
    WHY="as ENCORE_PYTHON=$ENCORE_PYTHON needs"
}

# Sets TFX, PYTHON and WHY; where no Python will do, PYTHON is empty and 1 is returned.
choose() {
    check_wishes
    if [ -n "${ENCORE_PYTHON:-}" ]; then
        choose_by_interpreter
        return 0
    fi
    if [ -n "${ENCORE_TFX:-}" ]; then
        TFX=$ENCORE_TFX WHY="as ENCORE_TFX=$ENCORE_TFX asks"
    elif ! runs_tfx121; then
        TFX=1.16 WHY="as this system's glibc, $GLIBC, is older than the $TFX121_GLIBC that TFX 1.21 needs"
    else
        TFX=1.21 WHY="the newest; glibc $GLIBC and this Python run it"
    fi
    # shellcheck disable=SC2046
    if find_python $(pythons_of "$TFX"); then return 0; fi
    if [ -z "${ENCORE_TFX:-}" ] && [ "$TFX" = 1.21 ] && find_python 3.10; then
        TFX=1.16 WHY="as no Python 3.11 to 3.13 was found here, which TFX 1.21 needs"
        return 0
    fi
    return 1
}

# The ways to a Python for the TFX that was chosen. Needs UV.
fail_without_python() {
    local wanted=3.10 named="3.10" hints=()
    if [ "$TFX" = 1.21 ]; then wanted=3.13 named="3.11, 3.12 or 3.13"; fi
    if command -v pyenv >/dev/null 2>&1; then hints=("  - with pyenv, which is here:   pyenv install $wanted"); fi
    hints+=("  - with uv:              $UV python install $wanted")
    if [ "$TFX" = 1.21 ]; then
        hints+=("  - Debian 13, Ubuntu 24.04:  apt install python3 python3-dev python3-venv"
            "A Python 3.10 will do as well: TFX 1.16 runs on it.")
    else
        hints+=("  - Debian 12, pyenv:     apt install build-essential libssl-dev libffi-dev zlib1g-dev libbz2-dev liblzma-dev libsqlite3-dev, then pyenv install 3.10"
            "  - Ubuntu 22.04:         apt install python3.10 python3.10-dev python3.10-venv")
    fi
    fail "Python $named was not found, and TFX $TFX runs on no other. That version was taken $WHY." \
        "Looked on PATH, in pyenv's versions, and among uv's. Install it in one of these ways, then run this again:" \
        "${hints[@]}" \
        "If it is somewhere else: ENCORE_PYTHON=/path/to/python$wanted make run"
}
