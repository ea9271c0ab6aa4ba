//! SUBSCRIBE and its relatives, PUBLISH, and the questions of PUBSUB.

use super::own::MOST;
use super::{Kind, frame, may_be_keyspace};
use crate::group::GroupShared;
use crate::listen::burst::{self, Payload};
use crate::listen::filter::Shape;
use crate::listen::session::Session;
use crate::worker::Worker;
use bytes::{Bytes, BytesMut};
use quorate_core::ordered::{Access, Cause};
use quorate_wire::command::{self, Command, Local, Rewrite};
use quorate_wire::resp::{Args, encode};
use std::sync::atomic::Ordering::Relaxed;

const HELP: &[&str] = &[
    "PUBSUB <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "CHANNELS [<pattern>]",
    "    Return the currently active channels matching a <pattern> (default: '*').",
    "NUMPAT",
    "    Return number of subscriptions to patterns.",
    "NUMSUB [<channel> ...]",
    "    Return the number of subscribers for the specified channels, excluding",
    "    pattern subscriptions(default: no channels).",
    "SHARDCHANNELS [<pattern>]",
    "    Return the currently active shard level channels matching a <pattern> (default: '*').",
    "SHARDNUMSUB [<shardchannel> ...]",
    "    Return the number of subscribers for the specified shard level channel(s)",
    "HELP",
    "    Prints this help.",
];

/// May a RESP2 client with subscriptions send this?
pub fn is_allowed(what: Option<Local>) -> bool {
    matches!(what, Some(Local::Subscribe | Local::Ping | Local::Quit | Local::Reset))
}

/// What it reads when it sends anything else.
pub fn refusal(command: &Command) -> String {
    let code = match command.name {
        "exec" => "EXECABORT Transaction discarded because of:",
        _ => "ERR",
    };
    format!(
        "{code} Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context",
        command.name
    )
}

/// Answers `(P|S)(UN)SUBSCRIBE`.
pub fn answer(worker: &Worker, s: &mut Session, command: &Command, args: Args) {
    let (kind, word) = match command.name.as_bytes()[0] {
        b'p' => (Kind::Pattern, &command.name[1..]),
        b's' if command.name != "subscribe" => (Kind::Shard, &command.name[1..]),
        _ => (Kind::Channel, command.name),
    };
    let names: Vec<Bytes> = args.from(1).map(Bytes::copy_from_slice).collect();
    if word == "subscribe" {
        subscribe(worker, s, kind, &names);
    } else {
        unsubscribe(worker, s, kind, &names);
    }
}

fn subscribe(worker: &Worker, s: &mut Session, kind: Kind, names: &[Bytes]) {
    if !s.own.has_room(names.len()) {
        return s.error(&format!("ERR a client may have at most {MOST} subscriptions"));
    }
    if let Some(error) = fenced(s, kind, names) {
        return s.error(&error);
    }
    let mut out = BytesMut::new();
    for name in names {
        worker.subscribe(s, kind, name);
        frame::confirm("subscribe", kind, Some(name), s.own.told(kind), s.dialect, &mut out);
    }
    // What a backend tells is told from the confirmation on: it waits until the backend has confirmed.
    let told = |group: &GroupShared| {
        names.iter().all(|name| !may_be_keyspace(kind, name) || group.hub.is_covered(kind, name))
    };
    let port = s.port.clone();
    let untold: Vec<_> = port.groups.iter().filter(|group| !told(group)).collect();
    if untold.is_empty() {
        return s.confirm(out.freeze());
    }
    let ticket = s.confirm_later(out.freeze(), untold.len());
    untold.iter().for_each(|group| group.hub.wait_for_events(worker.index(), s.number, ticket));
}

/// What the client reads where the proxy owns a group no more that would have to tell it something: messages come from
/// the first group, events of keys from each.
fn fenced(s: &Session, kind: Kind, names: &[Bytes]) -> Option<String> {
    let from_all = names.iter().any(|name| may_be_keyspace(kind, name));
    let concerned = s.port.groups.iter().filter(|group| from_all || group.index == s.port.group.index);
    concerned.into_iter().find_map(|group| match group.fenced.load(Relaxed) {
        0 => None,
        by => Some(group.explain(&Cause::Fenced { by }, false)),
    })
}

fn unsubscribe(worker: &Worker, s: &mut Session, kind: Kind, names: &[Bytes]) {
    let all = if names.is_empty() { s.own.all(kind) } else { names.to_vec() };
    let mut out = BytesMut::new();
    for name in &all {
        s.own.remove(kind, name);
        frame::confirm("unsubscribe", kind, Some(name), s.own.told(kind), s.dialect, &mut out);
    }
    if all.is_empty() {
        frame::confirm("unsubscribe", kind, None, s.own.told(kind), s.dialect, &mut out);
    }
    worker.unsubscribe(s, out.freeze(), kind, all);
}

/// Answers `PUBSUB …`.
pub fn inspect(s: &mut Session, command: &Command, args: Args) {
    let hub = &s.port.group.hub;
    let mut out = BytesMut::new();
    let kind = if command.name.contains("shard") { Kind::Shard } else { Kind::Channel };
    match command.name {
        "pubsub|help" => {
            encode::header(b'*', HELP.len(), &mut out);
            HELP.iter().for_each(|line| out.extend_from_slice(format!("+{line}\r\n").as_bytes()));
        }
        "pubsub|channels" | "pubsub|shardchannels" if args.len() > 3 => {
            let sub = String::from_utf8_lossy(&args[1]).into_owned();
            return s.error(&format!(
                "ERR unknown subcommand or wrong number of arguments for '{sub}'. Try PUBSUB HELP."
            ));
        }
        "pubsub|channels" | "pubsub|shardchannels" => {
            let names = hub.names(kind, args.get(2));
            encode::command(names.iter().map(|name| &name[..]), &mut out);
        }
        "pubsub|numsub" | "pubsub|shardnumsub" => {
            encode::header(b'*', 2 * (args.len() - 2), &mut out);
            for name in args.from(2) {
                encode::bulk(name, &mut out);
                encode::header(b':', hub.count(kind, name) as usize, &mut out);
            }
        }
        _ => encode::header(b':', hub.len(Kind::Pattern), &mut out),
    }
    s.answer(out.freeze());
}

impl Worker {
    /// Puts a message into the log. The client is told how many of the proxy's subscribers get it.
    pub(in crate::listen) fn publish(
        &self,
        s: &mut Session,
        command: &'static Command,
        kind: Rewrite,
        args: Args,
    ) {
        let class = command::op_class(command, args);
        let plan = match self.plan(s, command, class, args) {
            Ok(plan) => plan,
            Err(message) => return s.error(&message),
        };
        let mut payload = BytesMut::new();
        command::rewrite(kind, args, self.unix_ms()).encode(args, &mut payload);
        // It touches no key, so no read waits for it.
        let kind = burst::Kind::plain(Access::Write, plan, s.dialect);
        self.counters.request(class);
        s.port.group.hub.published.fetch_add(1, Relaxed);
        let sharded = command.name == "spublish";
        let shape = Shape::Published { sharded, channel: Bytes::copy_from_slice(&args[1]) };
        let ticket = s.wait(self.now_us(), shape);
        let outbox = &mut *self.groups[s.port.group.index].outbox.borrow_mut();
        outbox.begin(s.number, ticket, kind, 1, Payload::Own(payload.freeze()));
        s.open_burst = None;
        self.schedule();
    }
}
