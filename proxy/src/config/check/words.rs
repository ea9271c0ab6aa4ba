//! The words that stand for values in the file, and those that are known but not carried.

use super::super::model::{
    Ack, ClientCertificates, Durability, LogFormat, LogLevel, Mode, Outcome, Reseed, ReseedBy, Scripts,
};
use super::super::raw::Words;
use quorate_core::plan::ReadPick;

impl Words for Mode {
    const WORDS: &'static [(&'static str, Self)] = &[("ordered", Mode::Ordered)];
    const REFUSED: &'static [(&'static str, &'static str)] = &[
        ("register", "this is for object stores; use \"ordered\" for Redis"),
        ("transactional", "this is for PostgreSQL; use \"ordered\" for Redis"),
        ("native", "let the proxy replicate: \"ordered\""),
        ("eventual", "it may lose concurrent updates; use \"ordered\""),
        ("mirror", "use \"ordered\""),
    ];
}

impl Words for Durability {
    const WORDS: &'static [(&'static str, Self)] =
        &[("replicas", Durability::Replicas), ("journal", Durability::Journal)];
}

impl Words for Ack {
    const WORDS: &'static [(&'static str, Self)] = &[("quorum", Ack::Quorum), ("in-sync", Ack::InSync)];
}

impl Words for ClientCertificates {
    const WORDS: &'static [(&'static str, Self)] =
        &[("required", ClientCertificates::Required), ("optional", ClientCertificates::Optional)];
}

impl Words for Scripts {
    const WORDS: &'static [(&'static str, Self)] =
        &[("effects", Scripts::Effects), ("verbatim", Scripts::Verbatim)];
}

impl Words for Reseed {
    const WORDS: &'static [(&'static str, Self)] = &[("auto", Reseed::Auto), ("manual", Reseed::Manual)];
}

impl Words for ReseedBy {
    const WORDS: &'static [(&'static str, Self)] =
        &[("auto", ReseedBy::Auto), ("replicaof", ReseedBy::Replicaof), ("scan", ReseedBy::Scan)];
}

impl Words for ReadPick {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("nearest", ReadPick::Nearest),
        ("fastest", ReadPick::Fastest),
        ("primary-first", ReadPick::PrimaryFirst),
        ("spread", ReadPick::Spread),
    ];
}

impl Words for LogFormat {
    const WORDS: &'static [(&'static str, Self)] = &[("text", LogFormat::Text), ("json", LogFormat::Json)];
}

impl Words for LogLevel {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("error", LogLevel::Error),
        ("warn", LogLevel::Warn),
        ("info", LogLevel::Info),
        ("debug", LogLevel::Debug),
        ("trace", LogLevel::Trace),
    ];
}

impl Words for Outcome {
    const WORDS: &'static [(&'static str, Self)] =
        &[("applied", Outcome::Applied), ("refused", Outcome::Refused), ("unknown", Outcome::Unknown)];
}
