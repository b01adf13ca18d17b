//! When a group is open.

/// Opening hours in a tenant's time zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hours {}
