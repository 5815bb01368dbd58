#!/bin/sh
# Makes a virtual environment for the tests: setup.sh FOLDER REQUIREMENTS. Does nothing when it is up to date.
set -eu
folder=$1 requirements=$2
stamp=$folder/.installed

[ -x "$folder/bin/python" ] && cmp -s "$requirements" "$stamp" && exit 0
python=$("$(dirname "$0")/python.sh")
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
