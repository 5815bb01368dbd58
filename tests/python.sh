#!/bin/sh
# Prints the Python that the tests run with: Debian's own where it is new enough, or else the one of Debian 13, which is
# laid into .cache with the libraries that it was linked with. One that pyenv compiles would do, but has none of the
# compiler's optimisations, is slower by 40 %, and Ansible is what the tests spend most of the processor on.
set -eu
tree=$(realpath "$(dirname "$0")/..")/.cache/python
python=$tree/usr/bin/python3

suitable() {
    "$1" -c 'import sys; sys.exit(not (3, 12) <= sys.version_info < (3, 14))' 2>/dev/null
}

suitable /usr/bin/python3 && echo /usr/bin/python3 && exit
suitable "$python" && echo "$python" && exit
echo "Fetching the Python of Debian 13, once" >&2
apt-get update -qq && apt-get install -y -qq --no-install-recommends mmdebstrap patchelf >/dev/null
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' | head -n 1)
archive="deb ${mirror:-http://deb.debian.org/debian} trixie main"
rm -rf "$tree"
mkdir -p "$tree"
mmdebstrap --quiet --variant=extract --include=python3-venv trixie "$tree" "$archive"
# What Python was told of pip when it was compiled.
sed -i "s#'/usr/share/python-wheels#'$tree/usr/share/python-wheels#" "$tree"/usr/lib/python3.*/_sysconfigdata_*.py
libraries=$(dirname "$tree"/usr/lib/*/libc.so.6)
loader=$(find "$libraries" -name 'ld-linux-*')
"$loader" --library-path "$libraries" "$python" -m compileall -qq "$tree/usr/lib"
# Only now can it be run by itself: where this was interrupted before, it is fetched anew.
patchelf --set-interpreter "$loader" --force-rpath --set-rpath "$libraries" "$(realpath "$python")"
echo "$python"
