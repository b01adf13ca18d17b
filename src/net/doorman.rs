//! Finds out who clients are, on threads of its own: checking a password takes tens of milliseconds, by design.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Weak};
use std::thread::Builder;

use parking_lot::Mutex;

use super::Loops;
use crate::auth::{Access, Credentials, Denied, Verdict, authenticate};
use crate::shard::ShardId;
use crate::shard::access::Question;

/// Clients that may wait for their turn. A password takes some 20 ms: more would not be answered before they give up.
const MOST_WAITING: usize = 4096;

/// Who waits, and where its answer goes.
struct Asked {
    shard: ShardId,
    question: Question,
    certificate: Option<Box<str>>,
}

/// Takes questions.
#[derive(Debug)]
pub struct Doorman {
    to: SyncSender<Asked>,
}

/// What a doorman's threads take.
#[derive(Clone)]
pub struct Waiting(Arc<Mutex<Receiver<Asked>>>);

impl std::fmt::Debug for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Waiting")
    }
}

impl Doorman {
    /// A doorman whose threads are still to be started, with [`work`].
    pub fn new() -> (Self, Waiting) {
        let (to, from) = sync_channel(MOST_WAITING);
        (Self { to }, Waiting(Arc::new(Mutex::new(from))))
    }

    /// Has a question answered. The question itself comes back if too many wait.
    pub(super) fn ask(
        &self,
        shard: ShardId,
        question: Question,
        certificate: Option<Box<str>>,
    ) -> Result<(), Question> {
        self.to.try_send(Asked { shard, question, certificate }).map_err(|refused| match refused {
            TrySendError::Full(asked) | TrySendError::Disconnected(asked) => asked.question,
        })
    }
}

/// Starts `threads` that answer for as long as the loops are there.
pub fn work(waiting: &Waiting, threads: usize, loops: &Arc<Loops>, access: &Arc<Access>) -> io::Result<()> {
    for number in 0..threads {
        let (waiting, loops, access) = (waiting.clone(), Arc::downgrade(loops), access.clone());
        Builder::new().name(format!("door-{number}")).spawn(move || answer(&waiting, &loops, &access))?;
    }
    Ok(())
}

fn answer(waiting: &Waiting, loops: &Weak<Loops>, access: &Access) {
    loop {
        // One waits for the next question, the others for it.
        let Ok(Asked { shard, question, certificate }) = waiting.0.lock().recv() else { return };
        let shown = Credentials {
            user: question.user.as_deref(),
            password: question.password.as_ref().map(|password| password.as_slice()),
            certificate: certificate.as_deref(),
        };
        let chain = access.chains.get(usize::from(question.listener));
        let verdict = chain
            .map_or(Verdict::Denied(Denied::Unknown), |chain| authenticate(chain, &shown, question.now_ms));
        let Some(loops) = loops.upgrade() else { return };
        if let Some(reach) = loops.reach.get(usize::from(shard)) {
            reach.verdicts.lock().push((question.connection, question.number, verdict));
            reach.wake();
        }
    }
}
