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
cp "$here/mqttjs.mjs" "$here/agent.mjs" "$here/doors.mjs" "$work/npm/"

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

    # Every door, with a certificate of an authority made here, and one user.
    sh "$here/certificates.sh" "$work/doors"
    echo secret | "$SWITCHBOARD_BIN" passwd op --role operator >"$work/doors/users.toml"
    tls=$(python3 -c "$free") ws=$(python3 -c "$free") wss=$(python3 -c "$free")
    pair="{ certificate = '$work/doors/server.pem', key = '$work/doors/server.key' }"
    start --set "auth.users=$work/doors/users.toml" \
        --set "listener.tls={ bind = '$host:$tls', authentication = ['users'], allow_anonymous = false, tls = $pair }" \
        --set "listener.ws={ bind = '$host:$ws', authentication = ['users'], allow_anonymous = false, websocket = {} }" \
        --set "listener.wss={ bind = '$host:$wss', authentication = ['users'], allow_anonymous = false, websocket = {}, tls = $pair }"
    node "$work/npm/doors.mjs" localhost "$work/doors/ca.pem" \
        "mqtts://localhost:$tls" "ws://localhost:$ws/mqtt" "wss://localhost:$wss/mqtt" || status=1
    PYTHONDONTWRITEBYTECODE=1 "$python" "$here/doors.py" localhost "$work/doors/ca.pem" "$tls" "$ws" "$wss" || status=1
    # What is not spoken: versions before 1.2, and what has no forward secrecy.
    for refused in "-tls1" "-tls1_1" "-tls1_2 -cipher AES128-SHA" "-tls1_2 -cipher ECDHE-ECDSA-AES128-SHA"; do
        # shellcheck disable=SC2086
        if openssl s_client -connect "localhost:$tls" $refused </dev/null 2>&1 | grep -q "Cipher is [A-Z]"; then
            echo "openssl s_client $refused: a handshake was made" >&2
            status=1
        fi
    done
    for spoken in -tls1_2 -tls1_3; do
        openssl s_client -connect "localhost:$tls" $spoken -verify_return_error -verify_hostname localhost \
            -CAfile "$work/doors/ca.pem" </dev/null >"$work/s_client.log" 2>&1 || { cat "$work/s_client.log" >&2; status=1; }
    done
fi
[ $status -eq 0 ] || { [ -z "$broker" ] || tail -n 50 "$work/broker.log" >&2; }
exit $status
