//! Who a client is, and what it may.
//!
//! Pure: what files hold is given to it, and the time too. Whoever asks somebody else (an HTTP service) stands outside.

pub mod acl;
mod principal;

pub use principal::{Principal, Role, UnknownRole};
