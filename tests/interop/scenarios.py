"""What every version of MQTT must do for paho. `paho_v3.py` and `paho_v5.py` run these, the latter with more."""

import json
import queue

from peer import PATIENCE, Peer, check, unique

COUNT = 100


def connects_cleanly():
    name = unique("clean")
    for _ in range(2):
        peer = Peer(name)
        check(not peer.session_present, "a clean session was there before")
        peer.disconnect()


def resumes_a_session():
    name, topic = unique("resume"), unique("resume")
    peer = Peer(name, clean=False, expiry=600)
    check(not peer.session_present, "a new session was there before")
    peer.subscribe(topic, 2)
    peer.disconnect()
    sender = Peer(unique("sender"))
    # Order is promised among messages of one QoS, and a client hands out QoS 2 only at PUBREL: one after the other.
    levels = [1] * (COUNT // 2) + [2] * (COUNT // 2)
    for turn, qos in enumerate(levels):
        sender.publish(topic, str(turn), qos=qos)
    peer = Peer(name, clean=False, expiry=600)
    check(peer.session_present, "the session was not kept")
    for turn, qos in enumerate(levels):
        check(peer.expect(topic, str(turn)).qos == qos, "another QoS")
    sender.disconnect()
    peer.disconnect()
    Peer(name).disconnect()


def _delivers(qos):
    topic = unique(f"qos{qos}")
    receiver, sender = Peer(unique("receiver")), Peer(unique("sender"))
    receiver.subscribe(topic, qos)
    for turn in range(COUNT):
        sender.publish(topic, str(turn), qos=qos)
    for turn in range(COUNT):
        message = receiver.expect(topic, str(turn))
        check((message.qos, message.retain, message.dup) == (qos, False, False), f"{message.qos} {message.retain}")
    sender.publish(topic, "end", qos=qos)
    receiver.expect(topic, "end")
    receiver.disconnect()
    sender.disconnect()


def delivers_qos_0_in_order():
    _delivers(0)


def delivers_qos_1_in_order():
    _delivers(1)


def delivers_qos_2_in_order():
    _delivers(2)


def retains():
    topic = unique("retain")
    sender = Peer(unique("sender"))
    sender.publish(f"{topic}/a", "kept", qos=1, retain=True)
    sender.publish(f"{topic}/b", "gone", qos=1, retain=True)
    sender.publish(f"{topic}/b", b"", qos=1, retain=True)
    late = Peer(unique("late"))
    late.subscribe(f"{topic}/+", 1)
    check(late.expect(f"{topic}/a", "kept").retain, "not marked retained")
    sender.publish(f"{topic}/c", "live", qos=1, retain=True)
    check(not late.expect(f"{topic}/c", "live").retain, "a live message is marked retained")
    for last in "ac":
        sender.publish(f"{topic}/{last}", b"", qos=1, retain=True)
    late.disconnect()
    sender.disconnect()


def publishes_wills():
    topic = unique("will")
    watcher = Peer(unique("watcher"))
    watcher.subscribe(topic, 1)
    will = {"topic": topic, "payload": "gone", "qos": 1}
    Peer(unique("mortal"), will=will).vanish()
    watcher.expect(topic, "gone")
    Peer(unique("polite"), will=will).disconnect()
    watcher.client.publish(topic, "end", 1)
    watcher.expect(topic, "end")
    watcher.disconnect()


def _with_one_inbox(members):
    """Lets these put their messages into one queue, with who got them."""
    inbox = queue.Queue()
    for member in members:
        member.client.on_message = lambda _client, _data, message, member=member: inbox.put((member, message))
    return inbox


def shares_a_subscription():
    topic, group = unique("shared"), unique("group")
    members = [Peer(unique("member")) for _ in range(3)]
    inbox = _with_one_inbox(members)
    for member in members:
        member.subscribe(f"$share/{group}/{topic}/+", 1)
    sender = Peer(unique("sender"))
    for turn in range(COUNT):
        sender.publish(f"{topic}/{turn}", str(turn), qos=1)
    got = [inbox.get(timeout=PATIENCE) for _ in range(COUNT)]
    numbers = sorted(int(message.payload) for _, message in got)
    check(numbers == list(range(COUNT)), f"each message once: {numbers}")
    check({member for member, _ in got} == set(members), "a member was left out")
    for peer in [*members, sender]:
        peer.disconnect()
    check(inbox.empty(), "a message came twice")


def carries_large_payloads():
    topic = unique("large")
    payload = bytes(range(256)) * (900 * 4)
    receiver, sender = Peer(unique("receiver")), Peer(unique("sender"))
    receiver.subscribe(topic, 1)
    for qos in range(3):
        sender.publish(topic, payload, qos=qos)
        receiver.expect(topic, payload)
    receiver.disconnect()
    sender.disconnect()


def speaks_unicode():
    topic = f"{unique('客服')}/заявка/🙂/naïve"
    receiver, sender = Peer(unique("получатель")), Peer(unique("客户"))
    receiver.subscribe(topic.replace("🙂", "+"), 1)
    sender.publish(topic, "你好, Зоя 🙂", qos=1)
    receiver.expect(topic, "你好, Зоя 🙂")
    receiver.disconnect()
    sender.disconnect()


def unsubscribes():
    topic = unique("unsubscribe")
    receiver, sender = Peer(unique("receiver")), Peer(unique("sender"))
    receiver.subscribe(f"{topic}/a", 1)
    receiver.subscribe(f"{topic}/end", 1)
    receiver.unsubscribe(f"{topic}/a")
    sender.publish(f"{topic}/a", "nobody", qos=1)
    sender.publish(f"{topic}/end", "end", qos=1)
    check(receiver.receive_until("end") == [], "a message after UNSUBACK")
    receiver.disconnect()
    sender.disconnect()


def desk_serves_a_customer():
    """A customer's messages reach one agent of the group, always the same one, whose answer reaches the customer."""
    customer = Peer(unique("customer"))
    customer.subscribe("cs/1/main/customer/42/down", 1)
    agents = [Peer(unique("agent")) for _ in range(3)]
    inbox = _with_one_inbox(agents)
    for agent in agents:
        agent.subscribe("$share/support/cs/1/main/queue/support/messages/+", 1)
    for turn in range(50):
        customer.publish("cs/1/main/customer/42/up", f"message {turn}", qos=1)
    chosen = None
    for turn in range(50):
        agent, message = inbox.get(timeout=PATIENCE)
        chosen = chosen or agent
        check(agent is chosen, f"message {turn} went to another agent")
        check(message.topic == "cs/1/main/queue/support/messages/42", message.topic)
        envelope = json.loads(message.payload)
        check(envelope["v"] == 1, f"{envelope}")
        check(envelope["body"] == f"message {turn}", f"{envelope}")
        check(envelope["from"] == {"role": "customer", "id": "42"}, f"{envelope}")
        check(envelope["type"] == "text" and envelope["id"] and envelope["at"] > 0, f"{envelope}")
    chosen.publish("cs/1/main/customer/42/down", "how can I help?", qos=1)
    customer.expect("cs/1/main/customer/42/down", "how can I help?")
    for peer in [*agents, customer]:
        peer.disconnect()


desk_serves_a_customer.desk = True

SCENARIOS = [
    connects_cleanly,
    resumes_a_session,
    delivers_qos_0_in_order,
    delivers_qos_1_in_order,
    delivers_qos_2_in_order,
    retains,
    publishes_wills,
    shares_a_subscription,
    carries_large_payloads,
    speaks_unicode,
    unsubscribes,
    desk_serves_a_customer,
]
