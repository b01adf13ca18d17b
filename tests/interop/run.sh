#!/bin/sh
# Foreign clients against a broker: paho-mqtt and MQTT.js, pinned, installed under the target folder.
#
#   tests/interop/run.sh                        builds and starts Switchboard on a free port
#   SWITCHBOARD_BIN=… tests/interop/run.sh      starts this binary instead
#   SWITCHBOARD_TEST_ADDR=host:port … --no-desk takes a broker that runs already, here one without a desk
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
work=${CARGO_TARGET_DIR:-$root/target}/interop
mkdir -p "$work"

# --- clients -----------------------------------------------------------------------------------------------------
if ! cmp -s "$here/requirements.txt" "$work/venv/requirements.txt"; then
    rm -rf "$work/venv"
    python3 -m venv "$work/venv"
    "$work/venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"
    cp "$here/requirements.txt" "$work/venv/requirements.txt"
fi
if ! cmp -s "$here/package-lock.json" "$work/npm/package-lock.json" || [ ! -d "$work/npm/node_modules/mqtt" ]; then
    mkdir -p "$work/npm"
    cp "$here/package.json" "$here/package-lock.json" "$work/npm/"
    npm --prefix "$work/npm" ci --silent --no-audit --no-fund
fi
# A module finds its packages from where it lies.
cp "$here/mqttjs.mjs" "$here/agent.mjs" "$work/npm/"

# --- broker ------------------------------------------------------------------------------------------------------
broker=
finish() {
    if [ -n "$broker" ]; then
        kill "$broker" 2>/dev/null || true
        wait "$broker" 2>/dev/null || true
    fi
}
trap finish EXIT INT TERM

# start OPTION…: a broker on a free port.
start() {
    finish
    free='import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
    port=$(python3 -c "$free")
    http=$(python3 -c "$free")
    (
        cd "$root"
        exec "$SWITCHBOARD_BIN" serve --set "listener.tcp.bind=$host:$port" --set "http.bind=$host:$http" "$@"
    ) >"$work/broker.log" 2>&1 &
    broker=$!
    await
}

# await: the broker lets clients in.
await() {
    if ! python3 - "$host" "$port" <<'PYTHON'
import socket, sys, time
until = time.monotonic() + 20
while time.monotonic() < until:
    try:
        socket.create_connection((sys.argv[1], int(sys.argv[2])), 1).close()
        sys.exit(0)
    except OSError:
        time.sleep(0.05)
sys.exit(1)
PYTHON
    then
        echo "no broker at $host:$port" >&2
        [ -z "$broker" ] || cat "$work/broker.log" >&2
        exit 1
    fi
}

if [ -n "${SWITCHBOARD_TEST_ADDR:-}" ]; then
    host=${SWITCHBOARD_TEST_ADDR%:*}
    port=${SWITCHBOARD_TEST_ADDR##*:}
    await
else
    host=127.0.0.1
    if [ -z "${SWITCHBOARD_BIN:-}" ]; then
        (cd "$root" && cargo build --quiet --bin switchboard)
        SWITCHBOARD_BIN=${CARGO_TARGET_DIR:-$root/target}/debug/switchboard
    fi
    start
fi

# --- scenarios ---------------------------------------------------------------------------------------------------
status=0
python=$work/venv/bin/python
PYTHONDONTWRITEBYTECODE=1 "$python" "$here/paho_v3.py" --host "$host" --port "$port" "$@" || status=1
PYTHONDONTWRITEBYTECODE=1 "$python" "$here/paho_v5.py" --host "$host" --port "$port" "$@" || status=1
node "$work/npm/mqttjs.mjs" --host "$host" --port "$port" "$@" || status=1
if [ -n "$broker" ]; then
    # A desk with conversations: its rules are not those of the scenarios before.
    start --set "desk.routing=$here/routing.toml"
    PYTHONDONTWRITEBYTECODE=1 "$python" "$here/desk.py" "$host" "$port" "$work/npm/agent.mjs" || status=1
fi
[ $status -eq 0 ] || { [ -z "$broker" ] || tail -n 50 "$work/broker.log" >&2; }
exit $status
