#!/bin/sh
# Runs ansible-test sanity on the collection as it would be published, unpacked where ansible-test insists to find it.
set -eu
copy=.cache/sanity/ansible_collections/groundwork/django
rm -rf .cache/sanity
mkdir -p "$copy"
.venv/bin/ansible-galaxy collection build --force --output-path .cache/sanity . >/dev/null
tar -xzf .cache/sanity/groundwork-django-*.tar.gz -C "$copy"
git -C "$copy" init --quiet
git -C "$copy" add --all # what git does not know is not tested

# ansible-test fetches pip's installer from a host of its own; ensurepip brings the same pip along.
shim=$HOME/.ansible/test/cache/get_pip_25_2.py
if [ ! -e "$shim" ] || grep -q 'Stands in for get-pip.py' "$shim"; then
    mkdir -p "$(dirname "$shim")"
    cp tests/get_pip.py "$shim"
fi
version=$(.venv/bin/python -c 'import sys; print("%d.%d" % sys.version_info[:2])')
root=$PWD
cd "$copy"
PATH=$root/.venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    exec ansible-test sanity --python "$version" --color no
