//! `control/explain`: where a message would go, and why. Where a tenant has groups in `assigned` mode, its customer's home
//! applies the rules, because it knows the conversation before, and the floor says who would be asked.

use super::Core;
use super::desk::json_properties;
use super::errands::{Back, Errand, What};
use super::publish::Refused;
use super::threads::key_of;
use crate::desk::{DeskTopic, Explained, Group, Question, QuestionError, Tenant, desk_topic};
use crate::message::{ELSEWHERE, MessageRef, NEVER};
use crate::metrics::PublishRefusal;
use crate::protocol::{PublishProperties, QoS, ReasonCode};

impl Core {
    /// The answer goes to the request's Response Topic.
    pub(super) fn explain(&mut self, tenant: &str, m: &MessageRef<'_>) -> Result<bool, Refused> {
        let exchange = self.exchange.clone();
        let properties = PublishProperties::decode(m.properties).unwrap_or(PublishProperties::EMPTY);
        let Some(response_topic) = properties.response_topic else {
            // Nobody could be answered: to be seen by whoever watches the topic, and by nobody else.
            return Ok(self.pass(&MessageRef { retain: false, ..*m }));
        };
        // The answer takes no way that its asker could not: the desk's own topics have rules of their own.
        self.check_topic(response_topic)?;
        if !matches!(desk_topic(response_topic), None | Some(DeskTopic::Other)) {
            return Err(Refused::new(ReasonCode::TOPIC_NAME_INVALID, PublishRefusal::TopicInvalid));
        }
        let routed = exchange.desk.as_ref().and_then(|desk| Some((desk, desk.routing.tenant(tenant)?)));
        let correlation = properties.correlation_data;
        let asked = self.plain(m);
        let answer = match (routed, Question::parse(tenant, &asked)) {
            (None, _) => {
                QuestionError { field: "tenant", wrong: "no tenant of this name has rules".to_owned() }
                    .to_json()
            }
            (_, Err(error)) => error.to_json(),
            (Some((_, tenant)), Ok(question)) if tenant.has_assigned() => {
                let back =
                    Back { topic: Some(response_topic.into()), correlation: correlation.map(Box::from) };
                let what = What::Explain(Box::new(question), back);
                let errand = Errand { tenant: tenant.name().into(), what };
                return self.send(errand, m.qos != QoS::AtMostOnce).map(|()| true);
            }
            (Some((_, tenant)), Ok(question)) => self.explained(tenant, &question).answer,
        };
        let payload = answer.to_string();
        Ok(self.pass(&MessageRef {
            topic: response_topic,
            payload: payload.as_bytes(),
            properties: &json_properties("application/json", correlation),
            expires_at: NEVER,
            from: ELSEWHERE,
            qos: m.qos,
            retain: false,
            snappy: false,
        }))
    }

    fn explained(&self, tenant: &Tenant, question: &Question) -> Explained {
        let Some(desk) = &self.exchange.desk else { return Explained::default() };
        let now = self.clients.now;
        let context = desk.context(tenant.name(), question.customer(), now);
        let past = self.threads.last(&key_of(tenant.name(), question.customer()));
        let full = |group: &Group| desk.full(tenant, group) || desk.is_full(tenant, group);
        let closed = |group: &Group| !desk.is_open(tenant, group, now);
        tenant.explain(question, context.as_ref(), past, now.unix.cast_signed(), full, closed)
    }

    /// A question has come to its customer's home.
    pub(super) fn explain_at_home(&mut self, tenant: &Tenant, question: &Question, back: Back) {
        let Explained { answer, opening } = self.explained(tenant, question);
        let Some(opening) = opening else { return self.respond(&back, answer.to_string().as_bytes()) };
        let what = What::Prospect(Box::new(opening), answer, back);
        // Nobody waits for it, and there is nothing that could refuse it.
        let _ = self.send(Errand { tenant: tenant.name().into(), what }, false);
    }
}
