//! The fault suite with real processes: servers, a proxy, clients that keep a record of every answer, and a
//! nemesis that breaks things by a seeded schedule. What clients saw is held against the simulator's checker.
//!
//! It never mends a broken promise: a finding is printed and ends the run with exit code 1.

pub mod aof;
pub mod clients;
pub mod cluster;
pub mod compare;
pub mod connection;
pub mod dice;
pub mod failover;
pub mod faults;
pub mod history;
pub mod janitor;
pub mod judge;
pub mod mix;
pub mod network;
pub mod objects;
pub mod process;
pub mod race;
pub mod report;
pub mod schedule;
pub mod share;
pub mod suite;
