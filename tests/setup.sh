#!/bin/sh
# Makes a virtual environment for the tests: setup.sh FOLDER REQUIREMENTS. Does nothing when it is up to date.
set -eu
folder=$1 requirements=$2
stamp=$folder/.installed

suitable() {
    "$1" -c 'import sys; sys.exit(not (3, 12) <= sys.version_info < (3, 14))' 2>/dev/null
}

# Names on the PATH first, then what pyenv has: its shims of versions that are not active only fail.
find_python() {
    for name in python3.13 python3.12 python3; do
        suitable "$name" && command -v "$name" && return
    done
    if command -v pyenv >/dev/null; then
        for version in $(pyenv versions --bare | sort -rV); do
            candidate=$(pyenv prefix "$version")/bin/python3
            suitable "$candidate" && echo "$candidate" && return
        done
    fi
    echo "Python 3.12 or 3.13 is needed (Debian 13 has it) and was not found." >&2
    return 1
}

cmp -s "$requirements" "$stamp" && exit 0
# The one that an environment was made of: the first on the PATH may belong to the folder that is about to go.
python=$("$(find_python)" -c 'import sys; print("{0}/bin/python{1.major}.{1.minor}".format(sys.base_prefix, sys.version_info))')
if ! "$python" -c 'import ensurepip' 2>/dev/null; then
    apt-get update -qq && apt-get install -y -qq --no-install-recommends python3-venv
fi
echo "Setting up $folder with $("$python" --version), once" >&2
rm -rf "$folder"
"$python" -m venv "$folder"
"$folder/bin/pip" install --quiet --disable-pip-version-check --no-compile -r "$requirements"
# Ansible compiles what is in collections for itself, each time, and they are most of what there is. Some packages
# bring templates that are no Python, and are none the worse for it.
"$folder/bin/python" -m compileall -qq -j 0 -x /ansible_collections/ "$folder/lib" || true
cp "$requirements" "$stamp"
