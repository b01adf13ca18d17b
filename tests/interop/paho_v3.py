"""paho-mqtt with MQTT 3.1.1 against a broker: see scenarios.py."""

import paho.mqtt.client as mqtt

from peer import main
from scenarios import SCENARIOS

if __name__ == "__main__":
    main("paho v3.1.1", mqtt.MQTTv311, SCENARIOS)
