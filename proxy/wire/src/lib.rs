//! proxy/wire
