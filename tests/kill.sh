#!/bin/sh
# A long run of tests/kill.rs: kills a broker under load as often as it is told, and checks after each start that all that
# was acknowledged is there.
#
#   tests/kill.sh [KILLS [MINUTES]]
#
# It ends with what the last line says, and fails if it takes longer than it may. Add that line to tests/long_runs.md.
set -eu
cd "$(dirname "$0")/.."
kills=${1:-300}
minutes=${2:-60}
cargo test --locked --release --test kill --no-run
KILLS=$kills exec timeout "${minutes}m" cargo test --locked --release --test kill -- --nocapture
