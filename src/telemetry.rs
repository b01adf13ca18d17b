//! What the program logs: tracing events to standard error, for people or as one JSON object a line.
//!
//! The level comes from the configuration alone, never from the environment: what is logged can be read in one
//! place.

use std::io::{self, IsTerminal};

use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::settings::{LogFormat, LogSettings};
use crate::spelling::suggest;

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// A log level that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// Not one of the levels, by itself or after `target=`.
    #[error("{0:?} is no log level")]
    Level(String),
    /// Not a list of levels and `target=level` at all.
    #[error("{0:?} is no log filter")]
    Syntax(String),
}

impl FilterError {
    /// What would be right.
    pub fn right(&self) -> String {
        match self {
            Self::Level(word) => suggest(word, &LEVELS),
            Self::Syntax(_) => {
                "a level such as info, or a list such as \"warn,switchboard::net=debug\"".into()
            }
        }
    }
}

/// Logging that could not be started: something else in this process logs already.
#[derive(Debug, thiserror::Error)]
#[error("cannot log: {0}")]
pub struct StartError(#[from] tracing_subscriber::util::TryInitError);

/// A filter in the words of `RUST_LOG`: levels and `target=level`, divided by commas.
pub fn filter(text: &str) -> Result<EnvFilter, FilterError> {
    for directive in text.split(',').map(str::trim) {
        // A single word that is no level would be taken for a target and silence everything else.
        let level = directive.rsplit_once('=').map_or(directive, |(_, level)| level);
        if !LEVELS.iter().any(|known| known.eq_ignore_ascii_case(level)) {
            return Err(FilterError::Level(level.to_owned()));
        }
    }
    EnvFilter::try_new(text).map_err(|_| FilterError::Syntax(text.to_owned()))
}

/// Logs to standard error from here on. A level that cannot be used counts as `info`; the configuration has
/// refused it before.
pub fn start(settings: &LogSettings) -> Result<(), StartError> {
    match settings.format {
        LogFormat::Text => text(settings, io::stderr, io::stderr().is_terminal()).try_init()?,
        LogFormat::Json => json(settings, io::stderr).try_init()?,
    }
    Ok(())
}

fn level(settings: &LogSettings) -> EnvFilter {
    filter(&settings.level).unwrap_or_else(|_| EnvFilter::new("info"))
}

fn text<W>(settings: &LogSettings, writer: W, colours: bool) -> impl Subscriber + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    tracing_subscriber::fmt()
        .with_env_filter(level(settings))
        .with_target(false)
        .with_ansi(colours)
        .with_writer(writer)
        .finish()
}

fn json<W>(settings: &LogSettings, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_env_filter(level(settings))
        .with_writer(writer)
        .finish()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Log {
        fn written(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    fn settings(format: LogFormat, level: &str) -> LogSettings {
        LogSettings { format, level: level.to_owned() }
    }

    #[test]
    fn levels_and_lists_are_filters_and_anything_else_is_told() {
        for right in ["off", "info", "WARN", "warn,switchboard::net=debug", "switchboard=trace, error"] {
            assert!(filter(right).is_ok(), "{right}");
        }
        let wrong = |text: &str| filter(text).map(|_| ()).unwrap_err();
        assert_eq!(wrong("wran"), FilterError::Level("wran".to_owned()));
        assert_eq!(wrong("wran").right(), "did you mean \"warn\"?");
        assert_eq!(wrong(""), FilterError::Level(String::new()));
        assert_eq!(wrong("info,net=loud").to_string(), "\"loud\" is no log level");
        assert_eq!(wrong("net[{=info"), FilterError::Syntax("net[{=info".to_owned()));
    }

    #[test]
    fn an_event_is_one_line_of_text() {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = text(&settings(LogFormat::Text, "info"), move || writer.clone(), false);
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(listener = "tcp", "open");
            tracing::debug!("too fine");
        });
        let written = log.written();
        assert!(written.ends_with(" INFO open listener=\"tcp\"\n"), "{written}");
        assert_eq!(written.lines().count(), 1);
    }

    #[test]
    fn an_event_is_one_json_object() {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = json(&settings(LogFormat::Json, "off,switchboard=warn"), move || writer.clone());
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(listener = "tcp", connections = 3, "nearly\nfull");
            tracing::info!("too fine");
        });
        let written = log.written();
        assert_eq!(written.lines().count(), 1, "{written}");
        let event: serde_json::Value = serde_json::from_str(&written).unwrap();
        assert_eq!(event.get("level").unwrap(), "WARN");
        assert_eq!(event.get("message").unwrap(), "nearly\nfull");
        assert_eq!(event.get("listener").unwrap(), "tcp");
        assert_eq!(event.get("connections").unwrap(), 3);
        assert_eq!(event.get("target").unwrap(), "switchboard::telemetry::tests");
        assert!(event.get("timestamp").is_some());
    }
}
