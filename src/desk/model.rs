//! A model's opinion of an agent for a conversation.

/// A model that scores.
#[derive(Debug)]
pub struct Scorer {}
