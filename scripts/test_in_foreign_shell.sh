#!/usr/bin/env bash
# Runs the tests in a shell whose surroundings are somebody else's: another active virtual
# environment, a temporary folder with a long path and a blank in it, a narrow terminal, the C
# locale, another time zone, a dead proxy, settings of the hosted service and of the engine,
# another user than root, busy processors, and (where pytest-randomly is installed) random order.
#
#   scripts/test_in_foreign_shell.sh [PYTEST ARGUMENT ...]      PYTHON names the interpreter
#
# It works on a copy of the checkout, so what it runs cannot write into yours.
set -euo pipefail
checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=$(realpath -s "$(command -v "${PYTHON:-python}")")

work=$(mktemp -d -t foreign.XXXXXX)
busy=()
trap 'kill "${busy[@]}" 2>/dev/null || true; rm -rf "$work"' EXIT

git clone --quiet --shared "$checkout" "$work/checkout"
git -C "$checkout" diff HEAD --binary | git -C "$work/checkout" apply --allow-empty

temporary="$work/a folder whose name is long $(printf 'x%.0s' {1..120})"
temporary="${temporary:0:120}"
mkdir -p "$temporary" "$work/home" "$work/foreign/bin"
"$python" -m venv --without-pip "$work/foreign"

as_user=()
if [ "$(id -u)" -eq 0 ]; then
    as_user=(setpriv --reuid=65534 --regid=65534 --clear-groups)
    if ! "${as_user[@]}" "$python" -c 'import subprocess, sys; subprocess.run([sys.executable, "-V"])'; then
        echo "$python cannot be run by another user: name one that can in PYTHON." >&2
        exit 2
    fi
    chown -R 65534:65534 "$work"
fi
for _ in $(seq "$(nproc)"); do
    nice -n 5 bash -c 'while :; do :; done' &
    busy+=("$!")
done

proxy=http://user:secret@127.0.0.1:9
cd "$work/checkout"
env -i \
    HOME="$work/home" PATH="$work/foreign/bin:$PATH" VIRTUAL_ENV="$work/foreign" \
    CONDA_PREFIX="$work/foreign" TMPDIR="$temporary" \
    COLUMNS=60 LINES=20 TERM=dumb LANG=C LC_ALL=C TZ=Asia/Kolkata \
    http_proxy="$proxy" https_proxy="$proxy" HTTP_PROXY="$proxy" HTTPS_PROXY="$proxy" ALL_PROXY="$proxy" \
    OPENAI_API_KEY=sk-foreign OPENAI_BASE_URL=http://127.0.0.1:9/v1 OPENAI_API_BASE=http://127.0.0.1:9/v1 \
    OPENAI_ORG_ID=org-foreign OPENAI_ORGANIZATION=org-foreign OPENAI_PROJECT_ID=proj-foreign \
    OPENAI_ADMIN_KEY=sk-admin OPENAI_LOG=debug OPENAI_CUSTOM_HEADERS="X-Foreign: 1" \
    OPENAI_API_VERSION=2024-02-01 AZURE_OPENAI_ENDPOINT=http://127.0.0.1:9 AZURE_OPENAI_API_KEY=foreign \
    TUNESMITH_API_KEY=foreign TUNESMITH_BASE_URL=http://127.0.0.1:9/v1 TUNESMITH_HOME="$work/home/state" \
    TUNESMITH_ORG_ID=org-foreign TUNESMITH_PROJECT_ID=proj-foreign TUNESMITH_ADMIN_KEY=foreign \
    TUNESMITH_LOG=debug TUNESMITH_CUSTOM_HEADERS="X-Foreign: 2" \
    TUNESMITH_DATABASE_URL="sqlite:///$work/home/foreign.db" \
    PYTHONPATH="$work/checkout/src" PYTHONDONTWRITEBYTECODE=1 OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" \
    "${as_user[@]}" "$python" -m pytest -n auto --dist loadfile -p no:cacheprovider "$@"
