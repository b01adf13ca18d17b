//! Every metric as a typed field.
