//! RESP: finding commands and replies in byte streams without copying them, and the
//! transactions in which log entries travel to a backend.

pub mod args;
pub mod copy;
pub mod decode;
pub mod encode;
pub mod expiry;
pub mod flush;
pub mod reply;
mod script;
pub mod tail;
pub mod transaction;
pub mod trial;
pub mod value;

pub use args::{Args, Span};
pub use copy::Copier;
pub use decode::{Decoder, Frame, Limits, ProtocolError, each_command};
pub use reply::{ReplyError, Scanner, is_environment_error};
pub use transaction::{Framer, Outcome, Reserved, TransactionReader};
pub use value::Value;
