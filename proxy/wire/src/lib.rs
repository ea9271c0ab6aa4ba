//! What bytes mean: RESP frames, the Redis command table, rewriting, and the framing of
//! log entries for a Redis backend. Knows no groups and no quorums, and never meets a socket.

pub mod access;
pub mod command;
pub mod glob;
pub mod lua;
pub mod resp;
