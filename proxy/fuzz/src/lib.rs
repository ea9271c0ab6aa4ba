//! Fuzz targets of everything that comes from outside. Each is a test that runs for a second with random input and the
//! files of its corpus, beside the sources, or as long as somebody likes: see proxy/docs/fuzzing.md.
#![cfg(test)]

#[cfg(feature = "proxy")]
mod config;
mod stream;
mod wire;
