//! Brings clients to the point where a scenario begins: connected and subscribed.

use crate::failure::Failure;
use crate::packets::{Dialect, Granted, Identity, describe};
use crate::swarm::{LinkId, Swarm, Talk, Then};
use crate::wire::{self, Frame, put_ack};
use std::time::{Duration, Instant};

/// Connections under way at the same time: less than any listener's backlog.
const AT_ONCE: usize = 256;
/// Filters in one SUBSCRIBE.
const FILTERS_AT_ONCE: usize = 64;
/// The set-up has failed when nothing happens for so long.
const PATIENCE: Duration = Duration::from_secs(20);

/// A client to be.
#[derive(Debug, Clone, Default)]
pub(crate) struct Client {
    pub(crate) identity: Identity,
    pub(crate) filters: Vec<String>,
    pub(crate) qos: u8,
    /// Messages that come during the set-up, as retained ones do, are of no interest; else they are a fault.
    pub(crate) overhears: bool,
}

impl Client {
    /// A client with a clean session and no subscription.
    pub(crate) fn new(client_id: String) -> Self {
        Self { identity: Identity { client_id, ..Identity::default() }, ..Self::default() }
    }

    /// Subscribes to these once connected.
    pub(crate) fn subscribed(mut self, filters: Vec<String>, qos: u8) -> Self {
        self.filters = filters;
        self.qos = qos;
        self
    }
}

/// What all clients together were allowed: the least of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Admission {
    /// The first client's connection; the others follow without gaps.
    pub(crate) first: LinkId,
    pub(crate) receive_maximum: u16,
    pub(crate) alias_maximum: u16,
    /// Clients whose session was there already.
    pub(crate) resumed: usize,
}

struct Handshake {
    dialect: Dialect,
    clients: Vec<Client>,
    /// Per client the filters sent so far.
    sent: Vec<usize>,
    admission: Admission,
    done: usize,
    failure: Option<Failure>,
}

/// Connects and subscribes all `clients` on connections of `swarm`, in their order.
pub(crate) fn establish(
    swarm: &mut Swarm,
    dialect: Dialect,
    clients: Vec<Client>,
) -> Result<Admission, Failure> {
    let total = clients.len();
    let hellos: Vec<_> =
        clients.iter().map(|client| dialect.connect(&client.identity)).collect::<Result<_, _>>()?;
    let mut hellos = hellos.into_iter();
    let mut opened = 0;
    let mut first = None;
    let mut handshake = Handshake {
        dialect,
        sent: vec![0; total],
        clients,
        admission: Admission {
            first: LinkId(0),
            receive_maximum: u16::MAX,
            alias_maximum: u16::MAX,
            resumed: 0,
        },
        done: 0,
        failure: None,
    };
    let mut progress = (0, Instant::now());
    while handshake.done < total {
        for hello in hellos.by_ref().take(AT_ONCE - (opened - handshake.done).min(AT_ONCE)) {
            let id = swarm.open(hello)?;
            handshake.admission.first = *first.get_or_insert(id);
            opened += 1;
        }
        swarm.turn(Some(Duration::from_millis(100)), &mut handshake)?;
        swarm.flush(&mut handshake);
        if let Some(failure) = handshake.failure.take() {
            return Err(failure);
        }
        let sent = handshake.sent.iter().sum::<usize>() + handshake.done;
        if sent != progress.0 {
            progress = (sent, Instant::now());
        } else if progress.1.elapsed() > PATIENCE {
            return Err(Failure::Broker(format!(
                "left {} of {total} clients without an answer for {} s",
                total - handshake.done,
                PATIENCE.as_secs()
            )));
        }
    }
    Ok(handshake.admission)
}

impl Handshake {
    fn advance(&mut self, link: LinkId, frame: &Frame<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
        // Clients of an earlier set-up on the same swarm are none of ours.
        let Some(index) = link.0.checked_sub(self.admission.first.0).map(|index| index as usize) else {
            return Ok(());
        };
        let (Some(client), Some(sent)) = (self.clients.get(index), self.sent.get_mut(index)) else {
            return Ok(());
        };
        match frame.kind() {
            2 => {
                let Granted { session_present, receive_maximum, alias_maximum } =
                    self.dialect.connack(frame)?;
                let admission = &mut self.admission;
                admission.receive_maximum = admission.receive_maximum.min(receive_maximum);
                admission.alias_maximum = admission.alias_maximum.min(alias_maximum);
                admission.resumed += usize::from(session_present);
            }
            9 => {
                self.dialect.suback(frame, client.qos)?;
            }
            3 if client.overhears => {
                if let Some(publish) = wire::publish(frame, self.dialect.is_v5()).filter(|p| p.qos == 1) {
                    put_ack(out, 0x40, publish.id);
                }
                return Ok(());
            }
            _ => {
                return Err(Failure::Broker(format!(
                    "sent {} during the set-up",
                    describe(frame, self.dialect)
                )));
            }
        }
        match client.filters.get(*sent..) {
            None | Some([]) => self.done += 1,
            Some(rest) => {
                let batch = rest.get(..FILTERS_AT_ONCE).unwrap_or(rest);
                *sent += batch.len();
                out.extend_from_slice(&self.dialect.subscribe(1, batch, client.qos)?);
            }
        }
        Ok(())
    }
}

impl Talk for Handshake {
    fn frame(&mut self, link: LinkId, frame: &Frame<'_>, out: &mut Vec<u8>) -> Then {
        if let Err(failure) = self.advance(link, frame, out) {
            self.failure.get_or_insert(failure);
        }
        Then::GoOn
    }

    fn lost(&mut self, link: LinkId, why: &str) {
        let why = format!("lost connection {} during the set-up: {why}", link.0);
        self.failure.get_or_insert(Failure::Broker(why));
    }
}
