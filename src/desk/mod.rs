//! Rules, groups and desk topics.
