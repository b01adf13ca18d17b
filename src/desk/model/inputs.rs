//! What a tenant's models are told of a conversation whoever answers it: taken once, when it is opened, and kept with it,
//! so that it is scored alike for as long as it lasts and after a restart.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::features::{self, FeatureSource};
use super::{Features, Scorer};
use crate::desk::json::Context;

/// See the module. `now.*` is the time of opening.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Inputs {
    /// `message.size`, in bytes; `None`: nothing was written yet.
    pub size: Option<u32>,
    /// `message.length`, in characters; `None`: it is no text.
    pub length: Option<u32>,
    /// `now.hour`
    pub hour: u8,
    /// `now.weekday`
    pub weekday: u8,
    /// The values of the tenant's [`Fields`], in their order.
    pub customer: Box<[Option<f32>]>,
}

/// [`Inputs`] as they are stored: the customer's fields by name, because another file may name others.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::desk) struct InputsRecord {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    size: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    length: Option<u32>,
    hour: u8,
    weekday: u8,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    customer: Vec<(Box<str>, f32)>,
}

/// The fields of customers' context documents that any model of a tenant looks at: a conversation may go from one group
/// to another.
#[derive(Debug, Clone, Default)]
pub struct Fields {
    /// Sorted, each once.
    names: Arc<[Box<str>]>,
    /// Whether there is any model.
    any: bool,
}

fn named(scorer: &Scorer) -> impl Iterator<Item = &str> {
    scorer.features.iter().filter_map(|source| match source {
        FeatureSource::Customer(field) => Some(&**field),
        _ => None,
    })
}

#[expect(clippy::cast_precision_loss, reason = "a model works with 32 bits")]
fn float(number: u32) -> f32 {
    number as f32
}

impl Inputs {
    /// Tells a model of the conversation; `customer` is [`Fields::pick`]'s.
    pub(in crate::desk) fn features<'a>(&self, customer: &'a [Option<f32>]) -> Features<'a> {
        Features {
            message_size: self.size.map(float),
            message_length: self.length.map(float),
            hour: Some(self.hour.into()),
            weekday: Some(self.weekday.into()),
            customer,
            ..Features::default()
        }
    }
}

impl Fields {
    /// What these models look at.
    pub fn of<'s>(scorers: impl IntoIterator<Item = &'s Scorer>) -> Self {
        let mut any = false;
        let scorers = scorers.into_iter().inspect(|_| any = true);
        let mut names: Vec<Box<str>> =
            scorers.flat_map(|scorer| named(scorer).map(Box::from).collect::<Vec<_>>()).collect();
        names.sort_unstable();
        names.dedup();
        Self { names: names.into(), any }
    }

    /// Whether there is any model: without, nobody need be told anything.
    pub fn any(&self) -> bool {
        self.any
    }

    /// Their values in a customer's document.
    pub fn read(&self, context: Option<&Context>) -> Box<[Option<f32>]> {
        self.names.iter().map(|name| context.and_then(|context| features::field(context, name))).collect()
    }

    /// Where the fields of one of the models are.
    pub(in crate::desk) fn columns(&self, scorer: &Scorer) -> Box<[u16]> {
        let at = |name: &str| self.names.binary_search_by(|known| (**known).cmp(name));
        named(scorer).map(|name| at(name).map_or(u16::MAX, |at| at as u16)).collect()
    }

    /// The values that a model wants, whose columns these are, for [`Inputs::features`].
    pub(in crate::desk) fn pick(
        columns: &[u16],
        customer: &[Option<f32>],
    ) -> [Option<f32>; Scorer::MAX_FEATURES] {
        let mut values = [None; Scorer::MAX_FEATURES];
        for (value, column) in values.iter_mut().zip(columns) {
            *value = customer.get(usize::from(*column)).copied().flatten();
        }
        values
    }

    pub(in crate::desk) fn record(&self, inputs: &Inputs) -> InputsRecord {
        let values = self.names.iter().zip(&inputs.customer);
        InputsRecord {
            size: inputs.size,
            length: inputs.length,
            hour: inputs.hour,
            weekday: inputs.weekday,
            customer: values.filter_map(|(name, value)| Some((name.clone(), (*value)?))).collect(),
        }
    }

    pub(in crate::desk) fn restore(&self, record: &InputsRecord) -> Inputs {
        let value = |name: &str| record.customer.iter().find(|(known, _)| **known == *name).map(|(_, v)| *v);
        let customer = self.names.iter().map(|name| value(name)).collect();
        let InputsRecord { size, length, hour, weekday, .. } = *record;
        Inputs { size, length, hour, weekday, customer }
    }
}
