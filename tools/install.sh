#!/bin/sh
# Install the project with the given extras into .venv, at the versions of constraints.txt:
#
#     tools/install.sh dev,browser
#
# uv takes a tenth of pip's time; if it is not on the PATH, it is fetched for this one installation. pip installs if uv
# cannot be fetched or fails, and if pip is configured for an index of packages other than pypi.org.
set -eu

python=.venv/bin/python
project=".[$1]"
pip() { "$python" -m pip --disable-pip-version-check "$@"; }

install_with_uv() {
  if pip config list | grep -Eq '[.:]index-url='; then
    return 1
  fi
  if command -v uv >/dev/null; then
    uv=uv
  else
    fetched=$(mktemp -d)
    trap 'rm -rf "$fetched"' EXIT
    pip install --quiet --no-compile --target "$fetched" uv==0.13.9 || return
    uv=$fetched/bin/uv
  fi
  "$uv" pip install --quiet --python "$python" --constraints constraints.txt --editable "$project"
}

echo "Installing the packages into .venv" >&2
if ! install_with_uv; then
  echo "Without uv: pip installs them, which takes some minutes" >&2
  pip install --quiet --no-compile --constraint constraints.txt --editable "$project"
fi
