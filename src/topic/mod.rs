//! Topic names, filters and indexes.
