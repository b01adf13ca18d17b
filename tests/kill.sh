#!/bin/sh
# A long run of tests/kill.rs and tests/desk_kill.rs: kills a broker under load as often as it is told, and checks that all
# that was acknowledged is there, and that the desk takes back nothing that it has announced.
#
#   tests/kill.sh [KILLS [MINUTES]]
#
# Each ends with what its last line says, and both fail if they take longer than they may. Add those lines to
# tests/long_runs.md.
set -eu
cd "$(dirname "$0")/.."
kills=${1:-300}
minutes=${2:-60}
cargo test --locked --release --test kill --test desk_kill --no-run
KILLS=$kills exec timeout "${minutes}m" cargo test --locked --release --test kill --test desk_kill -- --nocapture
