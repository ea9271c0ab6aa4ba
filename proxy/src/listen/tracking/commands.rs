//! CLIENT TRACKING, CACHING, TRACKINGINFO and GETREDIR, with the errors of Redis 7.0.

use super::{Mode, Tracking};
use crate::listen::session::Session;
use crate::worker::Worker;
use bytes::{Bytes, BytesMut};
use quorate_wire::resp::{Args, encode};
use std::collections::BTreeSet;

/// One client may name so many prefixes.
const MOST_PREFIXES: usize = 1024;

const SYNTAX: &str = "ERR syntax error";
const OK: Bytes = Bytes::from_static(b"+OK\r\n");

#[derive(Debug, Default)]
struct Options {
    redirect: Option<u64>,
    broadcast: bool,
    opt_in: bool,
    opt_out: bool,
    noloop: bool,
    prefixes: Vec<Bytes>,
}

fn is(arg: &[u8], word: &str) -> bool {
    arg.eq_ignore_ascii_case(word.as_bytes())
}

/// Answers `CLIENT TRACKING`.
pub fn tracking(worker: &Worker, s: &mut Session, args: Args) {
    let options = match options(worker, args) {
        Ok(options) => options,
        Err(message) => return s.error(message),
    };
    match args.get(2) {
        Some(word) if is(word, "on") => match begin(s.tracking.as_deref(), options) {
            Ok(tracking) => {
                worker.track(s, tracking);
                s.answer(OK);
            }
            Err(message) => s.error(&message),
        },
        Some(word) if is(word, "off") => {
            worker.untrack(s);
            s.answer(OK);
        }
        _ => s.error(SYNTAX),
    }
}

fn options(worker: &Worker, args: Args) -> Result<Options, &'static str> {
    let mut options = Options::default();
    let mut at = 3;
    while let Some(arg) = args.get(at) {
        match args.get(at + 1) {
            Some(id) if is(arg, "redirect") => {
                if options.redirect.is_some() {
                    return Err("ERR A client can only redirect to a single other client");
                }
                let id: i64 = std::str::from_utf8(id)
                    .ok()
                    .and_then(|text| text.parse().ok())
                    .ok_or("ERR value is not an integer or out of range")?;
                let id = u64::try_from(id).ok().filter(|id| worker.registry.find(*id).is_some());
                options.redirect = Some(id.ok_or("ERR The client ID you want redirect to does not exist")?);
                at += 1;
            }
            Some(prefix) if is(arg, "prefix") => {
                options.prefixes.push(Bytes::copy_from_slice(prefix));
                at += 1;
            }
            _ if is(arg, "bcast") => options.broadcast = true,
            _ if is(arg, "optin") => options.opt_in = true,
            _ if is(arg, "optout") => options.opt_out = true,
            _ if is(arg, "noloop") => options.noloop = true,
            _ => return Err(SYNTAX),
        }
        at += 1;
    }
    Ok(options)
}

/// What the client has from now on; it may not change its mode without switching off in between.
fn begin(before: Option<&Tracking>, options: Options) -> Result<Tracking, String> {
    const SWITCH: &str =
        "before disabling tracking for this client, and then re-enabling it with a different mode.";
    let Options { redirect, broadcast, opt_in, opt_out, noloop, prefixes } = options;
    let mode = before.map(|tracking| tracking.mode);
    if !broadcast && !prefixes.is_empty() {
        return Err("ERR PREFIX option requires BCAST mode to be enabled".into());
    }
    if mode.is_some_and(|mode| (mode == Mode::Broadcast) != broadcast) {
        return Err(format!("ERR You can't switch BCAST mode on/off {SWITCH}"));
    }
    if broadcast && (opt_in || opt_out) {
        return Err("ERR OPTIN and OPTOUT are not compatible with BCAST".into());
    }
    if opt_in && opt_out {
        return Err("ERR You can't specify both OPTIN mode and OPTOUT mode".into());
    }
    if (opt_in && mode == Some(Mode::OptOut)) || (opt_out && mode == Some(Mode::OptIn)) {
        return Err(format!("ERR You can't switch OPTIN/OPTOUT mode {SWITCH}"));
    }
    let mode = match (broadcast, opt_in, opt_out) {
        (true, ..) => Mode::Broadcast,
        (_, true, _) => Mode::OptIn,
        (_, _, true) => Mode::OptOut,
        _ => Mode::All,
    };
    let known = before.map(|tracking| tracking.prefixes.clone()).unwrap_or_default();
    let prefixes = if broadcast { join(known, prefixes)? } else { BTreeSet::new() };
    Ok(Tracking { mode, noloop, redirect, prefixes, ..Tracking::default() })
}

fn join(mut known: BTreeSet<Bytes>, given: Vec<Bytes>) -> Result<BTreeSet<Bytes>, String> {
    const RULE: &str = "Prefixes for a single client must not overlap.";
    let overlap = |a: &Bytes, b: &Bytes| a.starts_with(b) || b.starts_with(a);
    let text = |prefix: &Bytes| String::from_utf8_lossy(prefix).into_owned();
    for (i, prefix) in given.iter().enumerate() {
        if let Some(other) = known.iter().find(|other| overlap(prefix, other)) {
            let (a, b) = (text(prefix), text(other));
            return Err(format!("ERR Prefix '{a}' overlaps with an existing prefix '{b}'. {RULE}"));
        }
        if let Some(other) = given[i + 1..].iter().find(|other| overlap(prefix, other)) {
            let (a, b) = (text(prefix), text(other));
            return Err(format!("ERR Prefix '{a}' overlaps with another provided prefix '{b}'. {RULE}"));
        }
    }
    if known.len() + given.len() > MOST_PREFIXES {
        return Err(format!("ERR a client may have at most {MOST_PREFIXES} prefixes"));
    }
    if known.is_empty() && given.is_empty() {
        known.insert(Bytes::new());
    }
    known.extend(given);
    Ok(known)
}

/// Answers `CLIENT CACHING`.
pub fn caching(s: &mut Session, args: Args) {
    let mode = s.tracking.as_deref().map(|tracking| tracking.mode);
    if !matches!(mode, Some(Mode::OptIn | Mode::OptOut)) {
        return s.error(
            "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled",
        );
    }
    match args.get(2) {
        Some(word) if is(word, "yes") && mode != Some(Mode::OptIn) => {
            return s.error("ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.");
        }
        Some(word) if is(word, "no") && mode != Some(Mode::OptOut) => {
            return s.error("ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.");
        }
        Some(word) if is(word, "yes") || is(word, "no") => {}
        _ => return s.error(SYNTAX),
    }
    if let Some(tracking) = &mut s.tracking {
        tracking.caching.0 = true;
    }
    s.answer(OK);
}

/// The client that is told in this one's place, 0 for itself, `None` when it does not cache.
pub fn redirection(s: &Session) -> Option<u64> {
    s.tracking.as_deref().map(|tracking| tracking.redirect.unwrap_or(0))
}

/// Answers `CLIENT TRACKINGINFO`.
pub fn info(s: &mut Session) {
    let tracking = s.tracking.as_deref();
    let mut flags = vec![if tracking.is_some() { "on" } else { "off" }];
    if let Some(tracking) = tracking {
        let said = tracking.caching.0;
        match tracking.mode {
            Mode::All => {}
            Mode::Broadcast => flags.push("bcast"),
            Mode::OptIn => flags.extend(["optin"].into_iter().chain(said.then_some("caching-yes"))),
            Mode::OptOut => flags.extend(["optout"].into_iter().chain(said.then_some("caching-no"))),
        }
        flags.extend(tracking.noloop.then_some("noloop"));
        flags.extend(tracking.broken.then_some("broken_redirect"));
    }
    let (map, set) = if s.dialect == 3 { ((b'%', 3), b'~') } else { ((b'*', 6), b'*') };
    let mut out = BytesMut::new();
    encode::header(map.0, map.1, &mut out);
    encode::bulk(b"flags", &mut out);
    encode::header(set, flags.len(), &mut out);
    flags.iter().for_each(|flag| encode::bulk(flag.as_bytes(), &mut out));
    encode::bulk(b"redirect", &mut out);
    match redirection(s) {
        None => out.extend_from_slice(b":-1\r\n"),
        Some(id) => encode::header(b':', id as usize, &mut out),
    }
    encode::bulk(b"prefixes", &mut out);
    let given = tracking.into_iter().flat_map(|t| t.prefixes.iter()).filter(|prefix| !prefix.is_empty());
    let prefixes: Vec<&[u8]> = given.map(|prefix| &prefix[..]).collect();
    encode::command(prefixes, &mut out);
    s.answer(out.freeze());
}
