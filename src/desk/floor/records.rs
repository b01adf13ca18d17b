//! What is stored of conversations and agents, and how they come back.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use ulid::Ulid;

use super::agent::Show;
use super::changes::{Phase, Reason};
use super::conversation::{Opening, Refused, Transfer};
use super::{Floor, Wrong};
use crate::desk::model::InputsRecord;

/// The form of all records.
const FORM: u8 = 1;

/// What cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// It is not what this version writes.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// A later version has written it.
    #[error("a record of form {0}, and this version reads {FORM}")]
    Form(u8),
    /// Its id is none.
    #[error("its id is no ULID: {0}")]
    Id(ulid::DecodeError),
    /// No group takes conversations any more.
    #[error(transparent)]
    Wrong(#[from] Wrong),
}

/// What has come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restored {
    /// As it was.
    Whole,
    /// Its group is gone: it is in another one.
    Moved,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConversationRecord {
    v: u8,
    /// A ULID.
    id: String,
    customer: Arc<str>,
    group: Arc<str>,
    phase: Phase,
    ver: u32,
    #[serde(default, skip_serializing_if = "is_zero")]
    priority: u16,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    skills: Vec<Arc<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    language: Option<Arc<str>>,
    weight: u16,
    arrived: u64,
    queued_at: u64,
    #[serde(default, skip_serializing_if = "is_none_done")]
    step: usize,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    added: Vec<Arc<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    agent: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    previous: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    transfer: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    refused: Vec<(Arc<str>, u64)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    wrapup_until: Option<u64>,
    preview: Arc<str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    inputs: Option<InputsRecord>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AgentRecord {
    v: u8,
    name: Arc<str>,
    show: Show,
    groups: Vec<Arc<str>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    skills: Vec<(Arc<str>, u8)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    languages: Vec<Arc<str>>,
    capacity: u16,
    #[serde(default)]
    bot: bool,
    #[serde(default, rename = "inattentive")]
    aside: bool,
    ver: u32,
}

// What `skip_serializing_if` calls is given references.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(number: &u16) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_none_done(step: &usize) -> bool {
    *step == 0
}

impl Floor {
    fn agent_name(&self, key: u32) -> Option<Arc<str>> {
        self.agents.get(key as usize).map(|agent| agent.name.clone())
    }

    /// A conversation as it is stored.
    pub fn conversation_record(&self, key: u32, out: &mut Vec<u8>) {
        let Some(c) = self.conversations.get(key as usize) else { return };
        let record = ConversationRecord {
            v: FORM,
            id: Ulid(c.id).to_string(),
            customer: c.customer.clone(),
            group: self.group_name(c.group),
            phase: c.phase,
            ver: c.ver,
            priority: c.priority,
            skills: c.skills.to_vec(),
            language: c.language.clone(),
            weight: c.weight,
            arrived: c.arrived,
            queued_at: c.queued_at,
            step: c.step,
            added: c.added.iter().map(|group| self.group_name(*group)).collect(),
            agent: c.agent.and_then(|agent| self.agent_name(agent)),
            previous: c.previous.clone(),
            transfer: match c.transfer {
                Some(Transfer::Group(group)) => Some(self.group_name(group)),
                Some(Transfer::Agent(_)) | None => None,
            },
            refused: c
                .refused
                .iter()
                .filter_map(|refused| Some((self.agent_name(refused.agent)?, refused.until)))
                .collect(),
            wrapup_until: (c.phase == Phase::Wrapup).then_some(c.wrapup_until),
            preview: c.preview.clone(),
            inputs: c.inputs.as_ref().map(|inputs| self.fields.record(inputs)),
        };
        // Nothing of it can fail: the keys are strings and no number is infinite.
        let _ = serde_json::to_writer(out, &record);
    }

    /// An agent as it is stored.
    pub fn agent_record(&self, key: u32, out: &mut Vec<u8>) {
        let Some(agent) = self.agents.get(key as usize) else { return };
        let record = AgentRecord {
            v: FORM,
            name: agent.name.clone(),
            show: agent.declared,
            groups: agent.groups.iter().map(|group| self.group_name(*group)).collect(),
            skills: agent.skills.clone(),
            languages: agent.languages.clone(),
            capacity: agent.capacity,
            bot: agent.bot,
            aside: agent.aside,
            ver: agent.ver,
        };
        let _ = serde_json::to_writer(out, &record);
    }

    /// Brings an agent back: before the conversations. It counts as one whose connection has just been lost.
    ///
    /// # Errors
    /// [`RecordError`]: it cannot be read.
    pub fn restore_agent(&mut self, now: u64, record: &[u8]) -> Result<(), RecordError> {
        self.now = self.now.max(now);
        let record: AgentRecord = serde_json::from_slice(record)?;
        if record.v != FORM {
            return Err(RecordError::Form(record.v));
        }
        let key = self.new_agent(&record.name);
        let mut groups: Vec<u16> =
            record.groups.iter().filter_map(|name| self.places.get(name)).copied().collect();
        groups.sort_unstable();
        let Some(agent) = self.agents.get_mut(key as usize) else { return Ok(()) };
        agent.declared = record.show;
        agent.groups = groups;
        agent.skills = record.skills;
        agent.languages = record.languages;
        agent.capacity = record.capacity;
        agent.bot = record.bot;
        agent.aside = record.aside;
        agent.ver = record.ver;
        agent.lost_at = (record.show != Show::Offline).then_some(self.now);
        self.place_agent(key);
        self.reseat(key);
        Ok(())
    }

    /// Brings a conversation back, as it was announced; an offer that was under way is made again.
    ///
    /// # Errors
    /// [`RecordError`]: it cannot be read, or no group takes it.
    pub fn restore_conversation(&mut self, now: u64, record: &[u8]) -> Result<Restored, RecordError> {
        self.now = self.now.max(now);
        let record: ConversationRecord = serde_json::from_slice(record)?;
        if record.v != FORM {
            return Err(RecordError::Form(record.v));
        }
        let known = self.places.get(&record.group).copied();
        let group = known.or((!self.queues.is_empty()).then_some(0)).ok_or(Wrong::NoGroup)?;
        let key = self.admit(
            Opening {
                conversation: Ulid::from_string(&record.id).map_err(RecordError::Id)?.0,
                customer: record.customer.clone(),
                group: record.group.clone(),
                priority: record.priority,
                skills: record.skills.clone(),
                language: record.language.clone(),
                weight: record.weight,
                previous: record.previous.clone(),
                preview: record.preview.clone(),
                arrived: record.arrived,
                inputs: record.inputs.as_ref().map(|inputs| Box::new(self.fields.restore(inputs))),
            },
            group,
        );
        let agent = record.agent.as_ref().map(|name| self.known_agent(name));
        let refused: Vec<Refused> = record
            .refused
            .iter()
            .map(|(name, until)| Refused { agent: self.known_agent(name), until: *until })
            .collect();
        let added: Vec<u16> = record.added.iter().filter_map(|name| self.places.get(name)).copied().collect();
        let transfer = record.transfer.as_ref().and_then(|name| self.places.get(name)).copied();
        if let Some(c) = self.conversations.get_mut(key as usize) {
            c.phase = record.phase;
            c.ver = record.ver;
            c.queued_at = record.queued_at;
            c.step = record.step;
            c.agent = agent;
            c.refused.extend(refused);
            c.added.extend(added);
            c.transfer = transfer.map(Transfer::Group);
            c.wrapup_until = record.wrapup_until.unwrap_or(u64::MAX);
        }
        self.resettle(key, agent);
        Ok(if known.is_some() { Restored::Whole } else { Restored::Moved })
    }

    /// An agent that a conversation names: it is there, or was forgotten.
    fn known_agent(&mut self, name: &str) -> u32 {
        self.agent_keys.get(name).copied().unwrap_or_else(|| self.new_agent(name))
    }

    /// Puts a conversation that has come back where it was.
    fn resettle(&mut self, key: u32, agent: Option<u32>) {
        let Some(c) = self.conversations.get(key as usize) else { return };
        let (phase, weight, transfers) = (c.phase, c.weight, c.transfer.is_some());
        if let Some(agent) = agent.and_then(|agent| self.agents.get_mut(agent as usize)) {
            agent.holds.insert(key);
            agent.used += u32::from(weight);
            let offline = agent.declared == Show::Offline;
            let grace = self.conversations.get(key as usize).map(|c| self.settings(c.group).grace_ms);
            if let Some(c) =
                self.conversations.get_mut(key as usize).filter(|c| offline && c.phase != Phase::Wrapup)
            {
                c.orphan_at = self.now + grace.unwrap_or(0);
            }
        }
        if let Some(agent) = agent {
            self.reseat(agent);
        }
        match phase {
            Phase::Offered => {
                self.shift(key, Phase::Queued, Reason::Restarted);
                self.enqueue(key, false);
            }
            Phase::Queued | Phase::New => self.enqueue(key, true),
            Phase::Transferring if transfers => self.enqueue(key, false),
            // It was offered to one agent, who may not come back.
            Phase::Transferring => self.shift(key, Phase::Assigned, Reason::TransferFailed),
            _ => {}
        }
        // Nobody is there yet.
        self.seeking.clear();
        self.touch(key);
        self.rearm(key);
    }
}
