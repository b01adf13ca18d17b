"""Customers in paho and agents in MQTT.js hold conversations through the desk, in MQTT 3.1.1 and 5."""

import json
import subprocess
import sys

import paho.mqtt.client as mqtt

from peer import Peer, check, unique

PREFIX = "cs/1/main/"


class Agent:
    """A process of its own; its lines are what it has to say."""

    def __init__(self, script, name, version):
        host, port = Peer.address
        command = ["node", script, host, str(port), name, str(version)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def line(self):
        text = self.process.stdout.readline()
        check(text, "the agent has ended")
        line = json.loads(text)
        check("wrong" not in line, f"the agent saw {line}")
        return line

    def stop(self):
        self.process.terminate()
        self.process.wait()


def talk(customer, name, count):
    """A whole conversation; the state that it ended in."""
    customer.subscribe(f"{PREFIX}customer/{name}/#", 1)
    up, down = f"{PREFIX}customer/{name}/up", f"{PREFIX}customer/{name}/down"
    for number in range(count):
        customer.publish(up, f"message {number}", qos=1)
    replies = []
    while len(replies) < count:
        message = customer.receive()
        if message.topic == down:
            replies.append(json.loads(message.payload))
    bodies = [reply["body"] for reply in replies]
    check(bodies == [f"re: message {number}" for number in range(count)], f"{bodies}")
    seqs = [reply["seq"] for reply in replies]
    check(seqs == sorted(set(seqs)), f"{seqs}")
    customer.publish(up, "bye", qos=1)
    while True:
        message = customer.receive()
        if message.topic.endswith("/state") and message.payload:
            state = json.loads(message.payload)
            if state["state"] == "closed":
                return state


def main(script):
    agents = [Agent(script, unique("agent"), version) for version in (4, 5)]
    for agent in agents:
        check("ready" in agent.line(), "the agent is not ready")
    for version in (mqtt.MQTTv311, mqtt.MQTTv5):
        name = unique("customer")
        Peer.protocol = version
        customer = Peer(unique("client"))
        state = talk(customer, name, 20)
        customer.disconnect()
        print(f"ok   paho {version} customer, MQTT.js agent: conversation {state['conversation']}")
    for agent in agents:
        agent.stop()


if __name__ == "__main__":
    Peer.address = (sys.argv[1], int(sys.argv[2]))
    main(sys.argv[3])
