//! proxy/host
