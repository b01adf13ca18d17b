#!/usr/bin/env bash
# Counts the instructions of a delivery with callgrind and fails if a scene takes more than 5 % more than accepted.
#
#   tests/guard/run.sh            compares with tests/guard/baseline.json
#   tests/guard/run.sh --accept   rewrites it
#
# Needs valgrind. Installs the runner that belongs to the gungraun of Cargo.lock under the target folder.
set -euo pipefail
cd "$(dirname "$0")/../.."

here=tests/guard
target=${CARGO_TARGET_DIR:-$PWD/target}
tools=$target/tools
export PATH="$tools/bin:$PATH"
# Hash tables seeded at random would make a scene of many topics vary by some 0.01 %; ahash takes fixed seeds under
# this name.
export RUSTFLAGS="--cfg fuzzing"

accept=()
case ${1:-} in
'') ;;
--accept) accept=(--accept) ;;
*)
    sed -n '2,6s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac

# Runner and benchmark are built at the same time: each has stretches that keep one core alone busy.
version=$(sed -n '/^name = "gungraun-runner"$/{n;s/.*"\(.*\)"/\1/p}' Cargo.lock)
install=
if [ "$(gungraun-runner --version 2>/dev/null | sed -n '1s/.* //p')" != "$version" ]; then
    # It only starts valgrind and reads what that wrote: not worth optimising.
    RUSTFLAGS='' CARGO_TARGET_DIR=$tools/build CARGO_PROFILE_DEV_DEBUG=false CARGO_PROFILE_DEV_PANIC=abort \
        CARGO_PROFILE_DEV_DEBUG_ASSERTIONS=false cargo install gungraun-runner --quiet --locked --debug --version "=$version" --root "$tools" &
    install=$!
fi
cargo bench --quiet --locked --profile guard --bench guard --bench guard-verdict --no-run
[ -z "$install" ] || wait "$install"

counts=$target/guard.json
cargo bench --quiet --locked --profile guard --bench guard -- --output-format=json >"$counts"
cargo bench --quiet --locked --profile guard --bench guard-verdict -- "${accept[@]}" "$here/baseline.json" "$counts"
