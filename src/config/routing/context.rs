//! How a tenant keeps its customers' context documents: from raw values to what the desk wants.

use std::collections::HashMap;
use std::time::Duration;

use toml::Spanned;

use super::Resolve;
use super::raw::{RawContext, RawField};
use crate::config::raw::Measured;
use crate::desk::{ContextRules, FieldTtl};

/// Each is tried for each field that is written.
const MAX_FIELDS: usize = 64;
const MAX_PATTERN_BYTES: usize = 128;
/// A document is read and written in one go on its shard.
const MAX_DOCUMENT: u64 = 1 << 20;
/// How long transcripts are kept behind the end of their conversations if the file does not say.
const TRANSCRIPT_KEEP: Duration = Duration::from_hours(7 * 24);
const MAX_TTL: Duration = Duration::from_hours(3650 * 24);

impl Resolve<'_> {
    pub(super) fn context(&mut self, raw: &RawContext) -> ContextRules {
        let default = ContextRules::default();
        ContextRules {
            max_bytes: self.values.size(
                "tenant.context.max_bytes",
                &raw.max_bytes,
                default.max_bytes,
                1024..=MAX_DOCUMENT,
            ),
            ttl_ms: self.ttl("tenant.context.ttl", &raw.ttl),
            fields: raw.field.as_ref().map_or(default.fields, |fields| self.fields(fields)),
        }
    }

    fn fields(&mut self, raw: &[Spanned<RawField>]) -> Vec<FieldTtl> {
        let mut lines = HashMap::new();
        let fields = self.values.at_most("tenant.context.field", raw, MAX_FIELDS, "patterns");
        fields.iter().filter_map(|field| self.field(field, &mut lines)).collect()
    }

    /// `lines` are those of the patterns that were there before.
    fn field(&mut self, raw: &Spanned<RawField>, lines: &mut HashMap<String, u32>) -> Option<FieldTtl> {
        let (table, raw) = (raw.span(), raw.get_ref());
        if raw.ttl.is_none() {
            self.missing(&table, "tenant.context.field.ttl", "e.g. \"30m\"");
        }
        let ttl_ms = self.ttl("tenant.context.field.ttl", &raw.ttl);
        let (key, example) = ("tenant.context.field.match", "e.g. \"session*\"");
        let Some(pattern) = &raw.matches else {
            self.missing(&table, key, example);
            return None;
        };
        let (span, pattern) = (pattern.span(), pattern.get_ref());
        if pattern.is_empty() || pattern.len() > MAX_PATTERN_BYTES {
            let wrong = format!("{} bytes", pattern.len());
            self.values.problem(&span, key, wrong, format!("1 to {MAX_PATTERN_BYTES}, {example}"));
            return None;
        }
        if let Some(first) = lines.get(pattern) {
            let wrong = format!("\"{pattern}\" is there twice");
            self.values.problem(&span, key, wrong, format!("the first is in line {first}"));
            return None;
        }
        lines.insert(pattern.clone(), self.values.source.line(span.start));
        Some(FieldTtl { pattern: pattern.clone(), ttl_ms })
    }

    /// How long transcripts are kept, in milliseconds; `None`: for ever, as "0s" says.
    pub(super) fn transcript_keep(&mut self, raw: &Measured) -> Option<u64> {
        let range = Duration::ZERO..=MAX_TTL;
        let keep = self.values.duration("tenant.transcript.keep", raw, TRANSCRIPT_KEEP, range);
        u64::try_from(keep.as_millis()).ok().filter(|ms| *ms > 0)
    }

    /// Milliseconds; `None`: never, as "0s" says too.
    fn ttl(&mut self, key: &str, raw: &Measured) -> Option<u64> {
        let ttl = self.values.duration(key, raw, Duration::ZERO, Duration::ZERO..=MAX_TTL);
        u64::try_from(ttl.as_millis()).ok().filter(|ms| *ms > 0)
    }
}
