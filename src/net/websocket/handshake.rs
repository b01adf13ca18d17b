//! The request that turns HTTP into WebSocket [RFC 6455 4.2].

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use httparse::{EMPTY_HEADER, Header, Request, Status};
use sha1::{Digest, Sha1};

use super::Terms;

/// The longest request that is read.
const MOST_BYTES: usize = 8 * 1024;
const MOST_HEADERS: usize = 64;

/// What every server appends to a key [RFC 6455 1.3].
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What MQTT is called there [MQTT-6.0.0-3]; the second is what clients of 3.1 said.
const PROTOCOLS: [&str; 2] = ["mqtt", "mqttv3.1"];

/// What came of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It has not come whole.
    Partial,
    /// It was answered with 101; what follows its `length` bytes are frames.
    Upgraded { length: usize },
    /// It was answered with what is wrong.
    Refused,
}

/// An HTTP status with what is wrong.
type Wrong = (&'static str, &'static str);

const BAD: &str = "400 Bad Request";

/// Reads a request and appends the answer to `wire`.
pub(super) fn answer(bytes: &[u8], terms: &Terms, wire: &mut Vec<u8>) -> Outcome {
    let mut headers = [EMPTY_HEADER; MOST_HEADERS];
    let mut request = Request::new(&mut headers);
    let large: Wrong = ("431 Request Header Fields Too Large", "the request is too long");
    let outcome = match request.parse(bytes) {
        Ok(Status::Complete(length)) if length <= MOST_BYTES => {
            upgrade(&request, terms, wire).map(|()| length)
        }
        Ok(Status::Partial) if bytes.len() < MOST_BYTES => return Outcome::Partial,
        Ok(_) | Err(httparse::Error::TooManyHeaders) => Err(large),
        Err(_) => Err((BAD, "no HTTP request")),
    };
    match outcome {
        Ok(length) => Outcome::Upgraded { length },
        Err((status, why)) => {
            refuse(status, why, wire);
            Outcome::Refused
        }
    }
}

fn upgrade(request: &Request<'_, '_>, terms: &Terms, wire: &mut Vec<u8>) -> Result<(), Wrong> {
    let headers = &*request.headers;
    let path = request.path.unwrap_or_default();
    if request.method != Some("GET") {
        return Err(("405 Method Not Allowed", "WebSocket begins with GET"));
    }
    if path.split_once('?').map_or(path, |(path, _)| path) != terms.path {
        return Err(("404 Not Found", "nothing is here"));
    }
    if request.version != Some(1) || values(headers, "host").count() != 1 {
        return Err((BAD, "HTTP/1.1 with one Host is needed"));
    }
    if !has(headers, "upgrade", "websocket") || !has(headers, "connection", "upgrade") {
        return Err(("426 Upgrade Required", "this is WebSocket"));
    }
    if one(headers, "sec-websocket-version") != Some("13") {
        return Err(("426 Upgrade Required", "version 13 of WebSocket is spoken here"));
    }
    let key = one(headers, "sec-websocket-key").ok_or((BAD, "one Sec-WebSocket-Key is needed"))?;
    if BASE64.decode(key).map_or(0, |key| key.len()) != 16 {
        return Err((BAD, "Sec-WebSocket-Key is no 16 bytes"));
    }
    if let Some(origin) = values(headers, "origin").next()
        && !terms.origins.is_empty()
        && !terms.origins.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin))
    {
        return Err(("403 Forbidden", "no page of this origin may connect"));
    }
    // The client's word is given back, in its spelling.
    let protocol = listed(headers, "sec-websocket-protocol")
        .find(|word| PROTOCOLS.contains(word))
        .ok_or((BAD, "the subprotocol mqtt is needed"))?;
    let accept = BASE64.encode(Sha1::new().chain_update(key).chain_update(GUID).finalize());
    let lines = [
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ",
        &accept,
        "\r\nSec-WebSocket-Protocol: ",
        protocol,
        "\r\n\r\n",
    ];
    wire.extend_from_slice(lines.concat().as_bytes());
    Ok(())
}

fn refuse(status: &str, why: &str, wire: &mut Vec<u8>) {
    let further = if status.starts_with("426") {
        "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    } else if status.starts_with("405") {
        "Allow: GET\r\n"
    } else {
        ""
    };
    let length = why.len() + 1;
    let answer = format!(
        "HTTP/1.1 {status}\r\n{further}Connection: close\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n{why}\n"
    );
    wire.extend_from_slice(answer.as_bytes());
}

fn values<'h>(headers: &'h [Header<'_>], name: &'h str) -> impl Iterator<Item = &'h str> {
    let named = headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name));
    named.filter_map(|header| Some(std::str::from_utf8(header.value).ok()?.trim()))
}

/// The value of a header that is there once.
fn one<'h>(headers: &'h [Header<'_>], name: &'h str) -> Option<&'h str> {
    let mut values = values(headers, name);
    values.next().filter(|_| values.next().is_none())
}

/// The words of all headers of a name.
fn listed<'h>(headers: &'h [Header<'_>], name: &'h str) -> impl Iterator<Item = &'h str> {
    values(headers, name).flat_map(|value| value.split(',')).map(str::trim)
}

fn has(headers: &[Header<'_>], name: &str, wanted: &str) -> bool {
    listed(headers, name).any(|word| word.eq_ignore_ascii_case(wanted))
}
