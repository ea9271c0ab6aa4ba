//! proxy/sim
