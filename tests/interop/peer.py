"""A paho client that can be asked for one thing at a time, and the runner of the scenarios.

Nothing here sleeps: every step waits for what the broker says, at most PATIENCE seconds.
"""

import argparse
import itertools
import queue
import socket
import sys
import threading
import time
import traceback

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

PATIENCE = 10
_count = itertools.count()
_run = f"{int(time.time() * 1000) & 0xFFFFFF:x}"


def unique(name):
    """A name that no other scenario or run uses."""
    return f"{name}-{_run}-{next(_count)}"


def properties(packet, **values):
    """Properties of a packet type, by paho's names; a list gives several of one name."""
    found = Properties(packet)
    for name, value in values.items():
        for one in value if isinstance(value, list) else [value]:
            setattr(found, name, one)
    return found


class Failed(Exception):
    """The broker did something else than the scenario says."""


def check(condition, what):
    if not condition:
        raise Failed(what)


class Peer:
    """One connection. `messages` holds what arrived, in order."""

    address = ("127.0.0.1", 1883)
    protocol = mqtt.MQTTv311

    def __init__(self, name, *, clean=True, expiry=0, will=None, connect=None, **options):
        self.name = name
        self.messages = queue.Queue()
        self._acks = queue.Queue()
        self._connected = threading.Event()
        self._gone = threading.Event()
        self.session_present = None
        self.connack = None
        self.v5 = self.protocol == mqtt.MQTTv5
        arguments = {} if self.v5 else {"clean_session": clean}
        self.client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id=name, protocol=self.protocol, reconnect_on_failure=False, **arguments
        )
        self.client.max_inflight_messages_set(100)
        self.client.on_connect = self._on_connect
        self.client.on_disconnect = lambda *_: self._gone.set()
        self.client.on_message = lambda _client, _data, message: self.messages.put(message)
        self.client.on_subscribe = lambda _c, _d, mid, codes, _p: self._acks.put((mid, codes))
        self.client.on_unsubscribe = lambda _c, _d, mid, codes, _p: self._acks.put((mid, codes))
        if will:
            self.client.will_set(**will)
        if self.v5:
            more = properties(PacketTypes.CONNECT, SessionExpiryInterval=expiry, **(connect or {}))
            self.client.connect(*self.address, keepalive=30, clean_start=clean, properties=more)
        else:
            self.client.connect(*self.address, keepalive=30)
        self.client.loop_start()
        check(self._connected.wait(PATIENCE), f"{name}: no CONNACK")

    def _on_connect(self, _client, _data, flags, reason, answer):
        if reason.is_failure:
            print(f"{self.name}: refused with {reason}", file=sys.stderr)
            return
        self.session_present = flags.session_present
        self.connack = answer
        self._connected.set()

    def subscribe(self, topic, qos=1, **options):
        """Subscribes and waits for SUBACK; returns the first code."""
        if self.v5 and options:
            identifier = options.pop("identifier", None)
            more = properties(PacketTypes.SUBSCRIBE, SubscriptionIdentifier=identifier) if identifier else None
            _, mid = self.client.subscribe(topic, options=SubscribeOptions(qos=qos, **options), properties=more)
        else:
            _, mid = self.client.subscribe(topic, qos)
        return self._ack(mid)

    def unsubscribe(self, topic):
        return self._ack(self.client.unsubscribe(topic)[1])

    def _ack(self, mid):
        got, codes = self._acks.get(timeout=PATIENCE)
        check(got == mid, f"{self.name}: acknowledgement of {got}, not {mid}")
        check(all(not code.is_failure for code in codes), f"{self.name}: refused with {codes}")
        return codes

    def publish(self, topic, payload, qos=0, retain=False, **values):
        """Publishes; above QoS 0 returns when the broker has taken the message."""
        more = properties(PacketTypes.PUBLISH, **values) if values else None
        info = self.client.publish(topic, payload, qos, retain, properties=more)
        info.wait_for_publish(PATIENCE)
        check(info.is_published(), f"{self.name}: {topic} was not acknowledged")

    def receive(self):
        try:
            return self.messages.get(timeout=PATIENCE)
        except queue.Empty:
            raise Failed(f"{self.name}: no message came") from None

    def expect(self, topic, payload):
        message = self.receive()
        wanted = payload.encode() if isinstance(payload, str) else payload
        check(
            (message.topic, message.payload) == (topic, wanted),
            f"{self.name}: {message.topic} {message.payload[:60]!r}, not {topic} {wanted[:60]!r}",
        )
        return message

    def receive_until(self, payload):
        """All messages before the one that says this."""
        found = []
        while (message := self.receive()).payload != payload.encode():
            found.append(message)
        return found

    def disconnect(self):
        self.client.disconnect()
        check(self._gone.wait(PATIENCE), f"{self.name}: not disconnected")
        self.client.loop_stop()

    def vanish(self):
        """Ends the connection without a DISCONNECT."""
        self.client.socket().shutdown(socket.SHUT_RDWR)
        check(self._gone.wait(PATIENCE), f"{self.name}: still connected")
        self.client.loop_stop()


def main(name, protocol, scenarios):
    """Runs the scenarios; one line each. The exit code is the number of those that failed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=1883)
    parser.add_argument("--no-desk", action="store_true", help="the broker has no desk: leave that scenario out")
    arguments = parser.parse_args()
    Peer.address = (arguments.host, arguments.port)
    Peer.protocol = protocol
    failed = 0
    for scenario in scenarios:
        if arguments.no_desk and getattr(scenario, "desk", False):
            print(f"{name}  {scenario.__name__}  skipped", flush=True)
            continue
        try:
            scenario()
            print(f"{name}  {scenario.__name__}  ok", flush=True)
        except Exception:  # a failed step of any kind is a failed scenario
            failed += 1
            print(f"{name}  {scenario.__name__}  FAILED", flush=True)
            traceback.print_exc()
    sys.exit(failed)
