//! What the benchmark programs share: a load generator, peers started as processes, and
//! what those processes cost. Nothing here is part of the proxy.

pub mod compare;
pub mod cpu;
pub mod load;
pub mod nemesis;
pub mod process;
pub mod quota;
