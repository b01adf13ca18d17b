//! What is open to whom, in words: for the log of a start and for `check-config`.

use std::fmt;
use std::net::SocketAddr;

use super::settings::{ListenerSettings, Settings};

/// An open address: what stands there, and who may come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exposure {
    /// `listener tcp` or `http`.
    pub door: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// What is spoken: `MQTT, plain text`.
    pub speaks: &'static str,
    /// Who may come in.
    pub open_to: &'static str,
    /// Whether the operator may not have meant it.
    pub doubtful: bool,
}

impl fmt::Display for Exposure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}: {}; open to {}", self.door, self.address, self.speaks, self.open_to)
    }
}

/// All that `settings` open. `addresses` and `http` say where a running server really listens, for settings
/// that leave the port to the system.
pub fn exposures(
    settings: &Settings,
    addresses: &[(String, SocketAddr)],
    http: Option<SocketAddr>,
) -> Vec<Exposure> {
    let real = |listener: &ListenerSettings| {
        addresses.iter().find(|(name, _)| *name == listener.name).map_or(listener.bind, |(_, real)| *real)
    };
    let mut exposures: Vec<Exposure> =
        settings.listeners.iter().map(|listener| mqtt(listener, real(listener))).collect();
    exposures.extend(settings.http.as_ref().map(|settings| metrics(http.unwrap_or(settings.bind))));
    exposures
}

fn mqtt(listener: &ListenerSettings, address: SocketAddr) -> Exposure {
    let logins = !listener.authentication.is_empty();
    let (open_to, doubtful) = match (listener.allow_anonymous, address.ip().is_loopback()) {
        (true, _) if logins => ("clients with a login, and others without", false),
        (false, _) if logins => ("clients with a login", false),
        (true, true) => ("anyone on this machine, without a login", false),
        (true, false) => ("anyone who can reach this address, without a login", true),
        (false, _) => ("nobody: clients without a login are refused, and there are no logins", true),
    };
    let door = format!("listener {}", listener.name);
    let speaks = match (&listener.websocket, &listener.tls) {
        (None, None) => "MQTT, plain text",
        (None, Some(_)) => "MQTT over TLS",
        (Some(_), None) => "MQTT over WebSocket, plain text",
        (Some(_), Some(_)) => "MQTT over WebSocket and TLS",
    };
    Exposure { door, address, speaks, open_to, doubtful }
}

fn metrics(address: SocketAddr) -> Exposure {
    let (open_to, doubtful) = if address.ip().is_loopback() {
        ("anyone on this machine", false)
    } else {
        ("anyone who can reach this address", true)
    };
    Exposure { door: "http".to_owned(), address, speaks: "metrics and health, plain text", open_to, doubtful }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(settings: &Settings) -> Vec<(String, bool)> {
        exposures(settings, &[], None).iter().map(|e| (e.to_string(), e.doubtful)).collect()
    }

    #[test]
    fn the_defaults_are_open_to_this_machine_only() {
        assert_eq!(
            lines(&Settings::default()),
            [
                (
                    "listener tcp on 127.0.0.1:1883: MQTT, plain text; open to anyone on this machine, without a login"
                        .to_owned(),
                    false
                ),
                (
                    "http on 127.0.0.1:9883: metrics and health, plain text; open to anyone on this machine"
                        .to_owned(),
                    false
                ),
            ]
        );
    }

    #[test]
    fn an_open_door_to_the_network_and_a_shut_one_are_doubtful() {
        let open = ListenerSettings {
            name: "lan".to_owned(),
            bind: SocketAddr::from(([0, 0, 0, 0], 1883)),
            ..ListenerSettings::default()
        };
        let shut = ListenerSettings { allow_anonymous: false, ..ListenerSettings::default() };
        let settings = Settings { listeners: vec![open, shut], http: None, ..Settings::default() };
        assert_eq!(
            lines(&settings),
            [
                (
                    "listener lan on 0.0.0.0:1883: MQTT, plain text; open to anyone who can reach this address, without a login"
                        .to_owned(),
                    true
                ),
                (
                    "listener tcp on 127.0.0.1:1883: MQTT, plain text; open to nobody: clients without a login are refused, and there are no logins"
                        .to_owned(),
                    true
                ),
            ]
        );
    }

    #[test]
    fn a_running_server_shows_the_ports_that_it_got() {
        let settings = Settings::default();
        let addresses = [("tcp".to_owned(), SocketAddr::from(([127, 0, 0, 1], 40_001)))];
        let http = Some(SocketAddr::from(([127, 0, 0, 1], 40_002)));
        let ports: Vec<u16> =
            exposures(&settings, &addresses, http).iter().map(|e| e.address.port()).collect();
        assert_eq!(ports, [40_001, 40_002]);
    }
}
