//! TLS at both ends: towards clients, and towards backends.
//!
//! `files` turns certificates and keys into what the library needs, `accept` meets clients, `connect` calls
//! backends, and `stream` is what either leaves behind: a connection that the rest reads and writes.

pub mod accept;
pub mod connect;
pub mod files;
pub mod stream;

pub use accept::{Arrival, Complaints, Terminator, is_hello};
pub use files::{Part, Unusable};
pub use stream::{Reader, Stream, Writer};
