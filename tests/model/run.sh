#!/bin/sh
# Our evaluation of models against XGBoost's own: it trains, saves and predicts, we read and predict the same.
#
#   tests/model/run.sh [requirements.txt]       with other packages than the pinned ones
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
work=${CARGO_TARGET_DIR:-$root/target}/model
requirements=${1:-$here/requirements.txt}
mkdir -p "$work"

if ! cmp -s "$requirements" "$work/venv/requirements.txt"; then
    rm -rf "$work/venv"
    python3 -m venv "$work/venv"
    "$work/venv/bin/pip" install --quiet --disable-pip-version-check -r "$requirements"
    cp "$requirements" "$work/venv/requirements.txt"
fi

rm -rf "$work/models"
mkdir "$work/models"
"$work/venv/bin/python" "$here/train.py" "$work/models"
cd "$root"
SWITCHBOARD_MODELS="$work/models" cargo test --quiet --test model_xgboost -- --ignored --nocapture
