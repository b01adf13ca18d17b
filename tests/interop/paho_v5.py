"""paho-mqtt with MQTT 5 against a broker: the common scenarios and what only MQTT 5 has."""

import paho.mqtt.client as mqtt
import snappy
from paho.mqtt.packettypes import PacketTypes

from peer import Peer, check, properties, unique
from peer import main
from scenarios import SCENARIOS


def carries_properties():
    topic = unique("properties")
    receiver, sender = Peer(unique("receiver")), Peer(unique("sender"))
    receiver.subscribe(topic, 1)
    sender.publish(
        topic,
        "{}",
        qos=1,
        UserProperty=[("b", "2"), ("a", "1"), ("b", "1"), ("客户", "名字")],
        ResponseTopic="reply/here",
        CorrelationData=b"\x00\x01\xff",
        ContentType="application/json",
        PayloadFormatIndicator=1,
        MessageExpiryInterval=600,
    )
    got = receiver.expect(topic, "{}").properties
    check(got.UserProperty == [("b", "2"), ("a", "1"), ("b", "1"), ("客户", "名字")], f"{got}")
    check(got.ResponseTopic == "reply/here", f"{got}")
    check(got.CorrelationData == b"\x00\x01\xff", f"{got}")
    check(got.ContentType == "application/json", f"{got}")
    check(got.PayloadFormatIndicator == 1, f"{got}")
    check(590 <= got.MessageExpiryInterval <= 600, f"{got}")
    receiver.disconnect()
    sender.disconnect()


def answers_requests():
    asked, answer = unique("asked"), unique("answer")
    service, asker = Peer(unique("service")), Peer(unique("asker"))
    service.subscribe(asked, 1)
    asker.subscribe(answer, 1)
    asker.publish(asked, "?", qos=1, ResponseTopic=answer, CorrelationData=b"7")
    request = service.expect(asked, "?")
    service.publish(request.properties.ResponseTopic, "!", qos=1, CorrelationData=request.properties.CorrelationData)
    check(asker.expect(answer, "!").properties.CorrelationData == b"7", "other correlation data")
    service.disconnect()
    asker.disconnect()


def accepts_topic_aliases():
    topic = unique("alias")
    receiver, sender = Peer(unique("receiver")), Peer(unique("sender"))
    check(sender.connack.TopicAliasMaximum >= 1, "no aliases offered")
    receiver.subscribe(topic, 1)
    sender.publish(topic, "set", qos=1, TopicAlias=1)
    for turn in range(10):
        sender.publish("", str(turn), qos=1, TopicAlias=1)
    receiver.expect(topic, "set")
    for turn in range(10):
        receiver.expect(topic, str(turn))
    receiver.disconnect()
    sender.disconnect()


def obeys_subscription_options():
    topic = unique("options")
    sender = Peer(unique("sender"))
    sender.publish(topic, "kept", qos=1, retain=True)
    peer = Peer(unique("peer"))
    peer.subscribe(topic, 1, noLocal=True, retainAsPublished=True, retainHandling=2, identifier=77)
    peer.publish(topic, "my own", qos=1)
    sender.publish(topic, "another's", qos=1, retain=True)
    got = peer.expect(topic, "another's")
    check(got.retain, "the retain flag was not kept")
    check(got.properties.SubscriptionIdentifier == [77], f"{got.properties}")
    sender.publish(topic, b"", qos=1, retain=True)
    peer.disconnect()
    sender.disconnect()


def delays_wills():
    topic, name = unique("delay"), unique("mortal")
    watcher = Peer(unique("watcher"))
    watcher.subscribe(topic, 1)
    will = {
        "topic": topic,
        "payload": "late",
        "qos": 1,
        "properties": properties(PacketTypes.WILLMESSAGE, WillDelayInterval=1, UserProperty=("why", "lost")),
    }
    Peer(name, expiry=60, will=will).vanish()
    got = watcher.expect(topic, "late")
    check(got.properties.UserProperty == [("why", "lost")], f"{got.properties}")
    watcher.disconnect()


def compresses():
    topic, text = unique("compressed"), "您好, where is my parcel? " * 100
    mark, block = ("content-encoding", "snappy"), snappy.compress(text.encode())
    accepts = Peer(unique("accepts"), connect={"UserProperty": ("accept-encoding", "snappy")})
    plain = Peer(unique("plain"))
    for peer in (accepts, plain):
        peer.subscribe(topic, 1)
    plain.publish(topic, block, qos=1, retain=True, UserProperty=[("a", "1"), mark])
    late = Peer(unique("late"))
    late.subscribe(topic, 1)
    for peer in (plain, late):
        check(peer.expect(topic, text).properties.UserProperty == [("a", "1")], "not all of it was expanded")
    got = accepts.receive()
    check(got.properties.UserProperty == [("a", "1"), mark], f"{got.properties}")
    check(got.payload == block and snappy.decompress(got.payload).decode() == text, "other bytes")
    plain.publish(topic, b"", qos=1, retain=True)
    for peer in (accepts, plain, late):
        peer.disconnect()


def assigns_client_ids():
    peer = Peer("")
    check(peer.connack.AssignedClientIdentifier, "no assigned client identifier")
    peer.disconnect()


ONLY_5 = [
    carries_properties,
    answers_requests,
    accepts_topic_aliases,
    obeys_subscription_options,
    delays_wills,
    compresses,
    assigns_client_ids,
]

if __name__ == "__main__":
    main("paho v5", mqtt.MQTTv5, SCENARIOS + ONLY_5)
