"""paho-mqtt through every door: TLS, WebSocket and secure WebSocket, with a login and with wrong ones.

    python doors.py HOST CA TLS_PORT WS_PORT WSS_PORT
"""

import queue
import ssl
import sys

import paho.mqtt.client as mqtt


def connect(host, port, ca, transport, secure, version, user, password):
    """The reason code of CONNACK, and the client."""
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, transport=transport, protocol=version)
    if secure:
        client.tls_set(ca, tls_version=ssl.PROTOCOL_TLS_CLIENT)
    if transport == "websockets":
        client.ws_set_options(path="/mqtt")
    client.username_pw_set(user, password)
    answers, heard = queue.Queue(), queue.Queue()
    client.on_connect = lambda _c, _u, _f, reason, _p: answers.put(reason)
    client.on_subscribe = lambda _c, _u, _m, reasons, _p: answers.put(reasons[0])
    client.on_message = lambda _c, _u, message: heard.put(message.payload)
    client.connect(host, port)
    client.loop_start()
    return answers.get(timeout=10), client, answers, heard


def main():
    host, ca = sys.argv[1:3]
    tls, ws, wss = (int(port) for port in sys.argv[3:6])
    doors = [(tls, "tcp", True), (ws, "websockets", False), (wss, "websockets", True)]
    for port, transport, secure in doors:
        for version in (mqtt.MQTTv311, mqtt.MQTTv5):
            door = (host, port, ca, transport, secure, version)
            reason, client, answers, heard = connect(*door, "op", "secret")
            assert not reason.is_failure, (door, reason)
            client.subscribe("doors/paho", 2)
            assert not answers.get(timeout=10).is_failure, door
            said = bytes(range(256)) * 500
            client.publish("doors/paho", said, qos=2)
            assert heard.get(timeout=10) == said, door
            client.disconnect()
            client.loop_stop()
            for user, password in (("op", "wrong"), ("nobody", "secret")):
                reason, client, _, _ = connect(*door, user, password)
                assert reason.is_failure, (door, user, reason)
                client.disconnect()
                client.loop_stop()
    print(f"paho: {len(doors)} doors of {host}")


main()
