//! A second reader of what the broker sends: `mqttbytes`, where it is right, must agree with `wire`.

use bytes::BytesMut;

use super::raw::hex;
use super::wire::{Packet, Version};

/// Reads the frame again with `mqttbytes`, where that can, and compares.
pub fn second_opinion(frame: &[u8], ours: &Packet, version: Version) -> Result<(), String> {
    let beyond = match ours {
        Packet::Publish(p) => p.properties.subscription_ids().len() > 2,
        Packet::Disconnect(_) | Packet::Auth(_) => true,
        _ => false,
    };
    if beyond {
        return Ok(());
    }
    let theirs = if version.is_v5() { seen_by_v5(frame)? } else { seen_by_v4(frame)? };
    if theirs == seen_by_us(ours) {
        Ok(())
    } else {
        Err(format!("mqttbytes reads {theirs}, this reader {}", seen_by_us(ours)))
    }
}

fn seen_by_us(packet: &Packet) -> String {
    match packet {
        Packet::ConnAck(p) => format!("connack {} {}", p.session_present, p.code),
        Packet::Publish(p) => {
            seen_publish(p.dup, p.qos, p.retain, &p.topic, p.id, &p.payload, p.properties.user().len())
        }
        Packet::PubAck(p) => format!("puback {} {}", p.id, p.reason),
        Packet::PubRec(p) => format!("pubrec {} {}", p.id, p.reason),
        Packet::PubRel(p) => format!("pubrel {} {}", p.id, p.reason),
        Packet::PubComp(p) => format!("pubcomp {} {}", p.id, p.reason),
        Packet::SubAck(p) => format!("suback {} {}", p.id, p.codes.len()),
        Packet::UnsubAck(p) => format!("unsuback {} {}", p.id, p.codes.len()),
        Packet::PingResp => "pingresp".to_owned(),
        Packet::Disconnect(_) | Packet::Auth(_) => String::new(),
    }
}

fn seen_publish(
    dup: bool,
    qos: u8,
    retain: bool,
    topic: &str,
    id: u16,
    payload: &[u8],
    user: usize,
) -> String {
    format!("publish {dup} {qos} {retain} {topic} {id} {} user {user}", hex(payload))
}

fn seen_by_v4(frame: &[u8]) -> Result<String, String> {
    use mqttbytes::v4::Packet as P;
    let mut stream = BytesMut::from(frame);
    let packet = mqttbytes::v4::read(&mut stream, frame.len()).map_err(|e| format!("mqttbytes: {e}"))?;
    Ok(match packet {
        P::ConnAck(p) => format!("connack {} {}", p.session_present, p.code as u8),
        P::Publish(p) => seen_publish(p.dup, p.qos as u8, p.retain, &p.topic, p.pkid, &p.payload, 0),
        P::PubAck(p) => format!("puback {} 0", p.pkid),
        P::PubRec(p) => format!("pubrec {} 0", p.pkid),
        P::PubRel(p) => format!("pubrel {} 0", p.pkid),
        P::PubComp(p) => format!("pubcomp {} 0", p.pkid),
        P::SubAck(p) => format!("suback {} {}", p.pkid, p.return_codes.len()),
        P::UnsubAck(p) => format!("unsuback {} 0", p.pkid),
        P::PingResp => "pingresp".to_owned(),
        other => format!("{other:?}"),
    })
}

fn seen_by_v5(frame: &[u8]) -> Result<String, String> {
    use mqttbytes::v5::Packet as P;
    let mut stream = BytesMut::from(frame);
    let packet = mqttbytes::v5::read(&mut stream, frame.len()).map_err(|e| format!("mqttbytes: {e}"))?;
    Ok(match packet {
        P::ConnAck(p) => format!("connack {} {}", p.session_present, p.code as u8),
        P::Publish(p) => {
            let user = p.properties.as_ref().map_or(0, |properties| properties.user_properties.len());
            seen_publish(p.dup, p.qos as u8, p.retain, &p.topic, p.pkid, &p.payload, user)
        }
        P::PubAck(p) => format!("puback {} {}", p.pkid, p.reason as u8),
        P::PubRec(p) => format!("pubrec {} {}", p.pkid, p.reason as u8),
        P::PubRel(p) => format!("pubrel {} {}", p.pkid, p.reason as u8),
        P::PubComp(p) => format!("pubcomp {} {}", p.pkid, p.reason as u8),
        P::SubAck(p) => format!("suback {} {}", p.pkid, p.return_codes.len()),
        P::UnsubAck(p) => format!("unsuback {} {}", p.pkid, p.reasons.len()),
        P::PingResp => "pingresp".to_owned(),
        other => format!("{other:?}"),
    })
}
