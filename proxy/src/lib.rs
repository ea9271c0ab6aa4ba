//! The shells around the core: sockets, threads, files and clocks.
//!
//! Order of reading: `proxy` starts everything, `listen` meets clients, `drive` feeds the
//! core, `backend` meets servers, `coordinator` keeps epochs, `journal` keeps entries, `admin`
//! and `telemetry` tell.

pub mod admin;
pub mod backend;
pub mod cli;
pub mod config;
pub mod coordinator;
pub mod drive;
pub mod group;
pub mod journal;
pub mod listen;
pub mod memory;
pub mod policies;
pub mod proxy;
pub mod recorder;
pub mod scripts;
pub mod telemetry;
pub mod tls;
pub mod uncommitted;
pub mod worker;
