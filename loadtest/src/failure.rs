//! Why a run gives no figures at all. What a broker did wrong while it was measured is not here: that is
//! counted and reported.

use std::io;

/// A run that could not be carried through.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The operating system said no.
    #[error("{doing}: {error}")]
    Io {
        /// What was being done, as "reading /proc/1/stat".
        doing: String,
        /// What the system answered.
        error: io::Error,
    },
    /// The broker refused what the scenario needs, or broke the protocol while it was set up.
    #[error("the broker {0}")]
    Broker(String),
    /// The options do not go together.
    #[error("{0}")]
    Usage(String),
}

impl Failure {
    /// Adds what was being done to an operating system's error.
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |error| Self::Io { doing, error }
    }
}
