//! Who a client is, and what it may: asked at the door, for subscriptions, messages and wills.
//!
//! The core decides nothing of who somebody is: it asks for it by an effect, and goes on with CONNECT when the answer is
//! there. With neither logins nor rules all of this costs a message one test.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;
use std::sync::Arc;

use sha1::{Digest, Sha1};
use zeroize::Zeroizing;

use super::publish::Refused;
use super::{Core, End};
use crate::auth::acl::{Rights, Subject};
use crate::auth::{Denied, Principal, Verdict};
use crate::metrics::{CloseReason, PublishRefusal};
use crate::protocol::{Connect, Publish, ReasonCode};
use crate::session::Phase;

/// How far a connection has come with who its client is.
#[derive(Debug, Clone, Default)]
pub enum Admission {
    /// Nobody has been asked.
    #[default]
    Unasked,
    /// The answer is under way.
    Asked,
    /// It may come in, as this client if it has shown that it is one.
    Admitted(Option<Arc<Principal>>),
    /// It may not.
    Refused(Denied),
}

impl Admission {
    /// Who it has shown to be.
    pub fn principal(&self) -> Option<&Arc<Principal>> {
        match self {
            Self::Admitted(principal) => principal.as_ref(),
            _ => None,
        }
    }
}

/// A client wants to come in: who is it?
pub struct Question {
    /// Slab key of its connection.
    pub connection: u32,
    /// Tells connections apart that had the same key.
    pub number: u32,
    /// Where it came in.
    pub listener: u16,
    /// User Name of CONNECT.
    pub user: Option<Box<str>>,
    /// Password of CONNECT.
    pub password: Option<Zeroizing<Vec<u8>>>,
    /// Milliseconds since the epoch.
    pub now_ms: u64,
}

impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Question").field("connection", &self.connection).finish_non_exhaustive()
    }
}

/// Connections that end when what let them in does.
#[derive(Debug, Default)]
pub(super) struct Expiring(BinaryHeap<Reverse<(u64, u32)>>);

/// What a session belongs to: nobody, or a number made of tenant and user name.
pub(super) fn owner(principal: Option<&Principal>) -> u64 {
    let Some(principal) = principal else { return 0 };
    let digest = Sha1::new()
        .chain_update(&*principal.tenant)
        .chain_update([0])
        .chain_update(&*principal.user)
        .finalize();
    // Nobody finds another name with the same number by trying, short of 2^63 of them.
    digest.first_chunk().map_or(1, |first| u64::from_be_bytes(*first).max(1))
}

impl Core {
    /// Whether clients have rights that are fewer than all.
    #[inline]
    pub(super) fn guarded(&self) -> bool {
        self.guarded
    }

    /// Whether a client may come in, as far as that is known. `None`: somebody has to be asked first.
    pub(super) fn admission(&mut self, key: u32, connect: &Connect<'_>) -> Option<Result<(), Denied>> {
        let now_ms = self.clients.now.unix;
        let client = self.clients.connections.get_mut(key as usize)?;
        let listener = client.link.listener;
        let anonymous = self.exchange.settings.listener(listener).is_some_and(|l| l.allow_anonymous);
        match &client.admission {
            Admission::Admitted(None) if !anonymous => Some(Err(Denied::Unknown)),
            Admission::Admitted(_) => Some(Ok(())),
            Admission::Refused(denied) => Some(Err(*denied)),
            Admission::Asked => None,
            Admission::Unasked if !self.exchange.access.asks(listener) => {
                client.admission = Admission::Admitted(None);
                Some(if anonymous { Ok(()) } else { Err(Denied::Unknown) })
            }
            Admission::Unasked => {
                client.admission = Admission::Asked;
                self.effects.ask.push(Question {
                    connection: key,
                    number: client.link.timer,
                    listener,
                    user: connect.username.map(Into::into),
                    password: connect.password.map(|password| Zeroizing::new(password.to_vec())),
                    now_ms,
                });
                None
            }
        }
    }

    /// The answer to a question: CONNECT is looked at again.
    pub fn answered(&mut self, connection: u32, number: u32, verdict: Verdict) {
        let Some(client) = self.clients.connections.get_mut(connection as usize) else { return };
        if client.link.timer != number || !matches!(client.admission, Admission::Asked) {
            return;
        }
        client.admission = match verdict {
            Verdict::Known(principal) => Admission::Admitted(Some(Arc::new(principal))),
            Verdict::Anonymous => Admission::Admitted(None),
            Verdict::Denied(denied) => Admission::Refused(denied),
        };
        self.effects.resume.push(connection);
    }

    /// What another shard has found out of a connection that it hands over.
    pub fn admit(&mut self, key: u32, admission: Admission) {
        if let Some(client) = self.clients.connections.get_mut(key as usize) {
            client.admission = admission;
        }
    }

    /// Who is connected here.
    pub(super) fn principal(&self, key: u32) -> Option<&Arc<Principal>> {
        self.clients.connections.get(key as usize)?.admission.principal()
    }

    /// A client has come in: what it may from now on, and until when.
    pub(super) fn grant(&mut self, key: u32, client_id: &str) {
        if !self.guarded {
            return;
        }
        let Some(client) = self.clients.connections.get_mut(key as usize) else { return };
        let principal = client.admission.principal().map(|principal| &**principal);
        client.rights = self.exchange.access.acl.compile(&Subject { client_id, principal });
        if let Some(ends) = principal.and_then(|principal| principal.expires_at) {
            self.expiring.0.push(Reverse((ends, key)));
        }
    }

    /// What a client may.
    pub(super) fn rights(&self, key: u32) -> Rights {
        self.clients.connections.get(key as usize).map_or_else(Rights::open, |client| client.rights.clone())
    }

    /// Whether a client may publish this.
    #[inline]
    pub(super) fn may_publish(&self, key: u32, topic: &str, publish: &Publish<'_>) -> Result<(), Refused> {
        if !self.guarded {
            return Ok(());
        }
        let allowed = self.clients.connections.get(key as usize).is_some_and(|client| {
            let rights = &client.rights;
            // The desk answers there itself: that is no way to send what the client could not, to whom it could not.
            let answer = publish.properties.response_topic.filter(|_| topic.starts_with("cs/"));
            rights.may_publish(topic, publish.qos as u8, publish.retain)
                && answer.is_none_or(|answer| rights.may_receive(answer))
        });
        if allowed {
            Ok(())
        } else {
            Err(Refused::new(ReasonCode::NOT_AUTHORIZED, PublishRefusal::NotAuthorized))
        }
    }

    /// Ends connections whose token is over.
    pub(super) fn end_expired(&mut self) {
        let now = self.clients.now.unix;
        while let Some(Reverse((ends, key))) =
            self.expiring.0.peek().copied().filter(|Reverse((at, _))| *at <= now)
        {
            self.expiring.0.pop();
            let Some(client) = self.clients.connections.get(key as usize) else { continue };
            // The key may be another's by now.
            let same = client.admission.principal().is_some_and(|one| one.expires_at == Some(ends));
            if same && client.link.phase == Phase::Open {
                let code = ReasonCode::MAXIMUM_CONNECT_TIME;
                self.end(key, End::new(CloseReason::Expired, code, "the token has expired"));
            }
        }
    }

    /// Takes from a session that is resumed what its client may not have any more.
    pub(super) fn recheck(&mut self, key: u32, session: u32) {
        if !self.guarded {
            return;
        }
        let rights = self.rights(key);
        let Some(target) = self.clients.sessions.get(session as usize) else { return };
        let plain = target.filters.iter().cloned();
        let shared = target.memberships.iter().flat_map(|all| all.iter().map(|one| one.filter.clone()));
        let lost: Vec<Arc<str>> =
            plain.chain(shared).filter(|filter| rights.may_subscribe(filter).is_none()).collect();
        for filter in lost {
            self.remove_subscription(session, &filter);
        }
    }
}
