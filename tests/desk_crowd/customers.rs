//! Customers, and one who watches.

use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};

use super::peer::Peer;
use super::{FINISH, RUN, STOP, World, customer_name, lasts};
use crate::dialogue::{Packet, Version, connect, v5};

/// Writes messages with ids of its own, each again until it is acknowledged, and notes what comes down.
pub fn customer(number: usize, world: &Arc<World>, seed: u64) {
    let name = customer_name(number);
    let version = if number % 4 < 2 { Version::V5 } else { Version::V311 };
    let hello = connect(version, &name);
    let mut peer = Peer::new(world, if lasts(number) { hello.persistent() } else { hello }, seed);
    let up = format!("customer/{name}/up");
    let window = if number.is_multiple_of(3) { 4 } else { 1 };
    // By packet id, in the order in which they were written.
    let mut under_way: Vec<(u16, String, String)> = Vec::new();
    let mut last = None;
    while world.phase() != STOP {
        if peer.stream.is_none() {
            let Some(present) = peer.connect(lasts(number)) else { continue };
            if !present || !peer.promised {
                peer.subscribe(&[&format!("customer/{name}/down")]);
            }
            for (packet, _, payload) in &under_way {
                peer.say(&up, payload, *packet);
            }
        }
        let finishes = world.phase() == FINISH;
        while peer.promised && last.is_none() && (finishes || under_way.len() < window) {
            let (packet, id) = (peer.next_id(), peer.ulid());
            let payload = json!({"id": id, "body": format!("{name} {packet}")}).to_string();
            world.note(|book| book.written.insert(id.clone()));
            peer.say(&up, &payload, packet);
            under_way.push((packet, id.clone(), payload));
            last = finishes.then_some(id);
        }
        peer.flush();
        while let Some(packet) = peer.packet() {
            match packet {
                Packet::SubAck(_) => {
                    peer.promised = true;
                    world.note(|book| book.subscribed[number] = Some(Instant::now()));
                }
                Packet::PubAck(ack) => {
                    let at = under_way.iter().position(|(packet, ..)| *packet == ack.id).unwrap();
                    let (_, id, _) = under_way.remove(at);
                    world.note(|book| {
                        if ack.reason >= 0x80 {
                            book.faults.push(format!("{name}: {id} is refused with {:#04x}", ack.reason));
                        } else {
                            book.acked[number].insert(id);
                        }
                    });
                }
                Packet::Publish(publish) => {
                    let m: Value = serde_json::from_slice(&publish.payload).unwrap();
                    world.note(|book| {
                        book.saw(&name, &m);
                        if !book.down[number].insert(m["id"].as_str().unwrap().to_owned()) {
                            book.again += 1;
                        }
                    });
                }
                other => panic!("{name}: {other:?}"),
            }
            if world.phase() == RUN && under_way.len() < window {
                break;
            }
        }
        peer.flush();
        if let Some(id) = last.as_ref().filter(|_| under_way.is_empty()) {
            world.note(|book| book.last.insert(number, id.clone()));
        }
    }
}

/// Notes events, messages and states, in one session.
pub fn watch(world: &Arc<World>, seed: u64) {
    let mut peer = Peer::new(world, v5("watcher").persistent(), seed);
    while world.phase() != STOP {
        if peer.stream.is_none() {
            if peer.connect(true).is_none() {
                continue;
            }
            if !peer.promised {
                peer.subscribe(&["conversation/+/events", "conversation/+/messages", "customer/+/state"]);
            }
        }
        peer.flush();
        while let Some(packet) = peer.packet() {
            match packet {
                Packet::SubAck(_) => {
                    peer.promised = true;
                    world.note(|book| book.watched = true);
                }
                Packet::Publish(publish) => {
                    let (topic, kind) = publish.topic.rsplit_once('/').unwrap();
                    let value = serde_json::from_slice(&publish.payload).unwrap_or(Value::Null);
                    world.note(|book| match kind {
                        "events" => book.event(value),
                        "messages" => book.saw("watcher", &value),
                        _ => {
                            let customer = topic.rsplit_once('/').unwrap().1.to_owned();
                            book.states.insert(customer, value);
                        }
                    });
                }
                other => panic!("watcher: {other:?}"),
            }
            if peer.unread.is_empty() {
                peer.flush();
            }
        }
    }
}
