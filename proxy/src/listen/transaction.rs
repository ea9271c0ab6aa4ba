//! Clients' transactions: what a session queues after MULTI, and the one burst that EXEC makes of it.
//!
//! Commands are queued as they came and made ready at EXEC, so that relative times count from there. What is wrong
//! with one is said when it is queued, as Redis does; then nothing of the transaction is ever applied.

use super::burst::{Kind, Payload};
use super::cursor;
use super::filter::{Exec, Facts, Part, RANDOM_TRIES, Shape};
use super::inspect::InfoParts;
use super::local;
use super::request::{
    OWN_KEYS, SYNTAX, filtered_payload, names_reserved, reaches_reserved, shape_of, with_reserved_count,
};
use super::scripting::{MIXED, NOT_ALIKE, Ready, prepare};
use super::session::Session;
use crate::memory::{OUT_OF_MEMORY, Pressure};
use crate::worker::Worker;
use bytes::{Bytes, BytesMut};
use quorate_core::ordered::{Access, Ends, Mark, Role, Timed, Transaction, Watch};
use quorate_core::plan::OpClass;
use quorate_wire::command::{
    self, Carry, Command, Filter, Flags, Local, Rewrite, Rewritten, Scripting, Step, Waits,
};
use quorate_wire::resp::flush::flush;
use quorate_wire::resp::{Args, each_command, encode};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// What one transaction may hold. A single command may be as large as the listener allows.
const MAX_COMMANDS: usize = 1 << 16;
const MAX_BYTES: usize = 64 << 20;

/// What a client reads whose commands cannot be one entry.
const APART: &str = "ERR commands that run on one replica first, as scripts and SPOP do, cannot share a transaction with \
                     PUBLISH, FLUSHALL, SCRIPT LOAD or FUNCTION LOAD";

const OK: Bytes = Bytes::from_static(b"+OK\r\n");

/// A session's transaction.
#[derive(Debug, Default)]
pub struct Pending {
    queue: Option<Box<Queue>>,
    watches: Vec<Watch>,
    /// Buckets of `watches`: whatever is there is watched since its first watch.
    watched: BTreeSet<u16>,
    /// The place of its group among the listener's, once a key decided it.
    group: Option<usize>,
}

#[derive(Debug)]
struct Queue {
    /// The plan of transactions as such.
    plan: u16,
    items: Vec<Item>,
    bytes: usize,
    /// What replicas will be asked, in commands: for some answers they are asked more than once.
    commands: usize,
    /// A command could not be queued.
    spoilt: bool,
    /// Some command runs on one replica first, so all of them do.
    leads: bool,
    /// Some command must run on every replica itself.
    everywhere: bool,
    /// What the client might do when it began, as [`super::access::Pass::turns`].
    turns: u64,
}

#[derive(Debug)]
struct Item {
    command: &'static Command,
    carry: Carry,
    /// `None` for what the proxy answers itself.
    plan: Option<u16>,
    raw: Bytes,
}

impl Pending {
    /// After MULTI?
    pub fn is_open(&self) -> bool {
        self.queue.is_some()
    }

    /// The place of its group among the listener's, if that is decided.
    pub fn group(&self) -> Option<usize> {
        self.group
    }

    /// Decides its group. `false`: it has another one.
    pub fn bind(&mut self, at: usize) -> bool {
        *self.group.get_or_insert(at) == at
    }

    /// Was anything queued that may change data?
    pub fn has_writes(&self) -> bool {
        let scripted =
            |item: &Item| matches!(item.carry, Carry::Leads | Carry::Script(_) | Carry::Deterministic);
        let writes = |item: &Item| item.command.flags.has(Flags::WRITE) || scripted(item);
        self.queue.as_ref().is_some_and(|queue| queue.items.iter().any(writes))
    }

    /// A command was wrong: EXEC will say so.
    pub fn spoil(&mut self) {
        if let Some(queue) = &mut self.queue {
            queue.spoilt = true;
            queue.items.clear();
        }
    }

    /// Forgets what was watched, and gives it.
    fn unwatch(&mut self) -> Vec<Watch> {
        self.watched.clear();
        let watches = std::mem::take(&mut self.watches);
        self.unbind();
        watches
    }

    /// Its group is not decided any more, if nothing decides it.
    fn unbind(&mut self) {
        if self.queue.is_none() && self.watches.is_empty() {
            self.group = None;
        }
    }

    /// Queues a command. The error is for the client.
    fn push(&mut self, item: Item) -> Result<(), Cow<'static, str>> {
        let Some(queue) = &mut self.queue else { return Ok(()) };
        let bytes = queue.bytes + item.raw.len();
        let commands = queue.commands + weight(item.command.filter);
        if commands > MAX_COMMANDS || (bytes > MAX_BYTES && !queue.items.is_empty()) {
            return Err(format!(
                "ERR this transaction is too large: the limit is {MAX_COMMANDS} commands and {MAX_BYTES} bytes"
            )
            .into());
        }
        let leads = queue.leads || leads(item.command, item.carry);
        let everywhere = queue.everywhere || runs_everywhere(item.command, item.carry);
        if leads && everywhere {
            return Err(APART.into());
        }
        (queue.leads, queue.everywhere) = (leads, everywhere);
        // Of a transaction that cannot be applied nothing is kept.
        if !queue.spoilt {
            (queue.bytes, queue.commands) = (bytes, commands);
            queue.items.push(item);
        }
        Ok(())
    }
}

/// What EXEC asks for, as it is put together.
#[derive(Debug, Default)]
struct Draft {
    payload: BytesMut,
    commands: u32,
    elements: usize,
    parts: Vec<Part>,
    reads: Vec<std::ops::Range<u32>>,
    read_buckets: Vec<u16>,
    write_buckets: Vec<u16>,
    read_plans: Vec<u16>,
    write_plans: Vec<u16>,
    reads_everything: bool,
    writes_everything: bool,
    grows: bool,
    stamp: bool,
    leads: bool,
    timed: Vec<Timed>,
}

impl Draft {
    fn own(&mut self, reply: Bytes) {
        self.elements += 1;
        self.parts.push(Part::Own(reply));
    }

    /// `commands` replies of a replica make the next element, in this shape.
    fn replies(&mut self, commands: u32, shape: Shape) {
        self.elements += 1;
        self.commands += commands;
        match (self.parts.last_mut(), shape) {
            (Some(Part::Replies(count)), Shape::AsIs) => *count += 1,
            (_, Shape::AsIs) => self.parts.push(Part::Replies(1)),
            (_, shape) => self.parts.push(Part::Shaped { commands, shape }),
        }
    }

    fn touch(&mut self, item: &Item, args: Args, access: Access) {
        let mut keys = 0;
        let buckets = match access {
            Access::Read => &mut self.read_buckets,
            Access::Write => &mut self.write_buckets,
        };
        command::keys(item.command, args, &mut |key| {
            buckets.push(command::key_hash(key) as u16);
            keys += 1;
        });
        let everything = keys == 0 || command::op_class(item.command, args) == OpClass::Scan;
        match access {
            Access::Read => self.reads_everything |= everything,
            Access::Write => self.writes_everything |= everything,
        }
        let plans = if access == Access::Read { &mut self.read_plans } else { &mut self.write_plans };
        plans.extend(item.plan);
        self.grows |= grows(item.command, item.carry);
    }
}

impl Worker {
    /// MULTI, EXEC, DISCARD, WATCH, UNWATCH.
    pub(super) fn transact(&self, s: &mut Session, step: Step, command: &'static Command, args: Args) {
        match step {
            Step::Exec => return self.exec(s),
            Step::Watch if !s.transaction.is_open() => return self.watch_keys(s, command, args),
            _ => self.counters.local(),
        }
        match (step, s.transaction.is_open()) {
            (Step::Multi, true) => s.error("ERR MULTI calls can not be nested"),
            (Step::Multi, false) => match self.plan(s, command, OpClass::Transaction, args) {
                Ok(plan) => {
                    let queue = Queue {
                        plan,
                        items: Vec::new(),
                        bytes: 0,
                        commands: 0,
                        spoilt: false,
                        leads: false,
                        everywhere: false,
                        turns: s.access.turns(),
                    };
                    s.transaction.queue = Some(Box::new(queue));
                    s.answer(OK);
                }
                Err(message) => s.error(&message),
            },
            (Step::Discard, false) => s.error("ERR DISCARD without MULTI"),
            (Step::Discard, true) => {
                s.transaction = Pending::default();
                s.answer(OK);
            }
            (Step::Watch | Step::Exec, _) => s.error("ERR WATCH inside MULTI is not allowed"),
            (Step::Unwatch, _) => {
                s.transaction.unwatch();
                s.answer(OK);
            }
        }
    }

    /// The plan of its transaction, now that its group is known. `false`: there is none, and the client was told.
    pub(super) fn plan_transaction(&self, s: &mut Session, command: &'static Command, args: Args) -> bool {
        match self.plan(s, command, OpClass::Transaction, args) {
            Ok(plan) => {
                if let Some(queue) = &mut s.transaction.queue {
                    queue.plan = plan;
                }
                true
            }
            Err(message) => {
                s.transaction.spoil();
                s.error(&message);
                false
            }
        }
    }

    fn watch_keys(&self, s: &mut Session, command: &'static Command, args: Args) {
        let class = command::op_class(command, args);
        self.counters.request(class);
        if names_reserved(command, args) {
            s.transaction.unbind();
            return s.error(OWN_KEYS);
        }
        let plan = match self.plan(s, command, class, args) {
            Ok(plan) => plan,
            Err(message) => {
                s.transaction.unbind();
                return s.error(&message);
            }
        };
        let buckets = args.from(1).map(|key| command::key_hash(key) as u16);
        let fresh: Vec<u16> = buckets.filter(|bucket| s.transaction.watched.insert(*bucket)).collect();
        if fresh.is_empty() {
            return s.answer(OK);
        }
        let mark = Arc::new(Mark::default());
        s.transaction.watches.push(Watch { mark: mark.clone(), buckets: fresh.into() });
        let kind = Kind::plain(Access::Read, plan, s.dialect);
        let ticket = s.wait(self.now_us(), Shape::AsIs);
        let outbox = &mut *self.groups[s.group().index].outbox.borrow_mut();
        outbox.begin_as(s.number, ticket, kind, 1, Payload::Own(OK), Role::Watch(mark));
        s.open_burst = None;
        self.schedule();
    }

    /// Takes a command between MULTI and EXEC.
    pub(super) fn queue(
        &self,
        s: &mut Session,
        command: &'static Command,
        carry: Carry,
        args: Args,
        raw: &[u8],
        own: Option<&Bytes>,
    ) {
        let alike = self.alike(s, (command, carry), raw, args);
        // Its text is at hand now, and may not be at EXEC.
        let carry = if alike.is_some() { Carry::Deterministic } else { carry };
        let admitted = self.admit(s, command, carry, args).and_then(|plan| {
            let raw = alike.or_else(|| own.cloned()).unwrap_or_else(|| Bytes::copy_from_slice(raw));
            s.transaction.push(Item { command, carry, plan, raw })
        });
        match admitted {
            Ok(()) => s.answer(Bytes::from_static(b"+QUEUED\r\n")),
            Err(message) => {
                s.transaction.spoil();
                s.error(&message);
            }
        }
    }

    /// May this command be part of a transaction, and by which plan? The error is for the client.
    fn admit(
        &self,
        s: &Session,
        command: &'static Command,
        carry: Carry,
        args: Args,
    ) -> Result<Option<u16>, Cow<'static, str>> {
        if command.flags.has(Flags::NO_MULTI) {
            return Err("ERR Command not allowed inside a transaction".into());
        }
        if let Carry::Refused(why) = carry {
            self.counters.not_carried();
            return Err(why.message(&args[0]).into());
        }
        match carry {
            // It would wait for the disk.
            Carry::Local(Local::Acl) if command.name == "acl|load" => {
                return Err("ERR Command not allowed inside a transaction".into());
            }
            // Who it is must not change between what was let in and what is done.
            Carry::Local(Local::Auth | Local::Hello) if may_change_user(s, command, args) => {
                return Err("ERR a login as a user cannot be part of a transaction".into());
            }
            Carry::Local(Local::Hello) if changes_dialect(s, args) => {
                return Err("ERR HELLO inside MULTI cannot change the protocol: one entry has one".into());
            }
            // An element would be missing, or one too many.
            Carry::Local(Local::Client) if command.name == "client|reply" => {
                return Err("ERR Command not allowed inside a transaction".into());
            }
            // Its confirmations are no elements of an array.
            Carry::Local(Local::Subscribe | Local::Monitor) => {
                return Err("ERR Command not allowed inside a transaction".into());
            }
            Carry::Local(what) if !matches!(what, Local::Command | Local::Info) => return Ok(None),
            Carry::Transaction(_) => return Ok(None),
            _ => {}
        }
        if cursor::goes_on(command, args) {
            return Err("ERR a transaction cannot go on with a scan: a cursor belongs to one replica".into());
        }
        let group = &self.groups[s.group().index];
        if leads(command, carry) && group.shared.is_mixed() {
            return Err(MIXED.into());
        }
        if grows(command, carry) && group.shared.memory.pressure() == Pressure::Full {
            group.shared.memory.count_refusal();
            return Err(OUT_OF_MEMORY.into());
        }
        if names_reserved(command, args) || reaches_reserved(command, args) {
            return Err(OWN_KEYS.into());
        }
        let class = match command.filter {
            Filter::None => command::op_class(command, args),
            _ => OpClass::Read,
        };
        Ok(Some(self.plan(s, command, class, args)?))
    }

    /// What the client reads whose rules changed since MULTI, so that something of it is not allowed any more.
    fn forbidden(&self, s: &Session) -> Option<String> {
        let queue = s.transaction.queue.as_ref()?;
        let mut found = None;
        if queue.turns != s.access.turns() && !queue.spoilt {
            for item in &queue.items {
                each_command(&item.raw, |_, args| {
                    found = found.take().or_else(|| self.denied(s, item.command, args));
                });
            }
        }
        found
    }

    fn exec(&self, s: &mut Session) {
        if let Some(message) = self.forbidden(s) {
            s.transaction = Pending::default();
            return s.error(&format!("EXECABORT Transaction discarded because of: {message}"));
        }
        let Some(queue) = s.transaction.queue.take() else { return s.error("ERR EXEC without MULTI") };
        let watches = s.transaction.unwatch();
        if queue.spoilt {
            return s.error("EXECABORT Transaction discarded because of previous errors.");
        }
        let alike = |item: &Item| is_alike(item.command, item.carry);
        if queue.items.iter().any(alike) && !self.is_verbatim(s) {
            return s.error(NOT_ALIKE);
        }
        let mut draft = Draft { leads: queue.leads, ..Draft::default() };
        for item in &queue.items {
            each_command(&item.raw, |raw, args| self.add(s, item, &raw, args, &mut draft));
        }
        self.counters.request(OpClass::Transaction);
        let exec =
            Exec { elements: draft.elements, parts: std::mem::take(&mut draft.parts), dialect: s.dialect };
        if draft.commands == 0 && watches.is_empty() {
            let group = s.port.group.clone();
            let facts = Facts { unix_ms: self.unix_ms(), hub: &group.hub };
            return s.answer(exec.assemble(&Bytes::new(), facts));
        }
        let access = if draft.write_plans.is_empty() { Access::Read } else { Access::Write };
        let plan = self.plan_of(s, &queue, &draft, access);
        let ticket = self.send(s, draft, Kind::plain(access, plan, s.dialect), watches, exec);
        if s.tracking.is_some() {
            for item in &queue.items {
                each_command(&item.raw, |_, args| self.follow(s, item.command, args, ticket));
            }
        }
    }

    /// Its ticket.
    fn send(&self, s: &mut Session, draft: Draft, kind: Kind, watches: Vec<Watch>, exec: Exec) -> u64 {
        let writes = kind.access == Access::Write;
        let everything = if writes { draft.writes_everything } else { draft.reads_everything };
        let kind = Kind { stamp: draft.stamp, everything, grows: draft.grows, leads: draft.leads, ..kind };
        // Nobody's replies are compared to those of a replica that ran it first.
        let unlike = if writes && !draft.leads { draft.reads } else { Vec::new() };
        let role = Role::Transaction(Arc::new(Transaction { watches, unlike }));
        s.brief = Some(BytesMut::from(&b"*1\r\n$4\r\nEXEC\r\n"[..]));
        let ticket = s.wait(self.now_us(), Shape::Exec(Box::new(exec)));
        let outbox = &mut *self.groups[s.group().index].outbox.borrow_mut();
        // What an entry only reads, it does not touch.
        let buckets = if writes { draft.write_buckets } else { draft.read_buckets };
        buckets.into_iter().for_each(|bucket| outbox.bucket(bucket));
        draft.timed.into_iter().for_each(|timed| outbox.timed(timed));
        let payload = Payload::Own(draft.payload.freeze());
        outbox.begin_as(s.number, ticket, kind, draft.commands, payload, role);
        s.open_burst = None;
        self.schedule();
        ticket
    }

    /// Makes one queued command ready.
    fn add(&self, s: &mut Session, item: &Item, raw: &[u8], args: Args, draft: &mut Draft) {
        let first = draft.commands;
        match item.carry {
            Carry::Transaction(_) => draft.own(OK),
            Carry::Local(Local::Info) => {
                draft.touch(item, args, Access::Read);
                let commands = with_reserved_count(s, raw, &mut draft.payload);
                draft.replies(commands, Shape::Info(Box::new(InfoParts::of(self, s))));
                draft.reads.push(first..draft.commands);
            }
            Carry::Read | Carry::Local(Local::Command) => {
                draft.touch(item, args, Access::Read);
                let commands = filtered_payload(s, item.command.filter, raw, &mut draft.payload);
                draft.replies(commands, shape_of(s, item.command.filter, args));
                draft.reads.push(first..draft.commands);
            }
            Carry::Local(what) => {
                self.counters.local();
                let reply = s.captured(|s| local::answer(self, s, what, item.command, args));
                draft.own(reply);
            }
            Carry::Deadline(kind) => {
                draft.touch(item, args, Access::Read);
                draft.payload.extend_from_slice(&encode::command_bytes(&[b"PEXPIRETIME", &args[1]]));
                draft.replies(1, Shape::Deadline(kind));
                draft.reads.push(first..draft.commands);
            }
            Carry::Rewritten(kind @ (Rewrite::Publish | Rewrite::Spublish)) => {
                // It touches no key, so no read waits for it.
                draft.write_plans.extend(item.plan);
                command::rewrite(kind, args, self.unix_ms()).encode(args, &mut draft.payload);
                s.port.group.hub.published.fetch_add(1, Relaxed);
                let (sharded, channel) = (kind == Rewrite::Spublish, Bytes::copy_from_slice(&args[1]));
                draft.replies(1, Shape::Published { sharded, channel });
            }
            Carry::Flush => match flush(&s.group().reserved, args) {
                Some(entry) => {
                    draft.touch(item, args, Access::Write);
                    draft.payload.extend_from_slice(&entry);
                    draft.replies(1, Shape::AsIs);
                }
                None => draft.own(Bytes::from(format!("-{SYNTAX}\r\n"))),
            },
            Carry::Script(kind) => self.add_script(s, item, kind, (raw, args), draft),
            // Inside a transaction nothing waits.
            Carry::Waits(Waits::Stream) => {
                draft.touch(item, args, Access::Read);
                draft.payload.extend_from_slice(&command::at_once(item.command, args, &[]));
                draft.replies(1, Shape::AsIs);
                draft.reads.push(first..draft.commands);
            }
            Carry::Deterministic
            | Carry::Waits(_)
            | Carry::Rewritten(_)
            | Carry::Leads
            | Carry::Refused(_) => {
                draft.touch(item, args, Access::Write);
                self.rewrite_into(item, raw, args, draft);
                draft.replies(1, Shape::AsIs);
            }
        }
    }

    fn add_script(
        &self,
        s: &Session,
        item: &Item,
        kind: Scripting,
        (raw, args): (&[u8], Args),
        draft: &mut Draft,
    ) {
        let first = draft.commands;
        // What one group was told, every group of the listener knows.
        let scripts = &s.port.group.scripts;
        let (words, access) = match prepare(scripts, false, kind, item.command, args) {
            Ready::Own(reply) => return draft.own(reply),
            Ready::Read(words) => (words, Access::Read),
            Ready::Leads(words) if item.command.flags.has(Flags::READONLY) => (words, Access::Read),
            Ready::Leads(words) | Ready::Alike(words) => (words, Access::Write),
            Ready::Write => (None, Access::Write),
        };
        draft.touch(item, args, access);
        draft.payload.extend_from_slice(words.as_deref().unwrap_or(raw));
        draft.replies(1, Shape::AsIs);
        if access == Access::Read {
            draft.reads.push(first..draft.commands);
        }
    }

    fn rewrite_into(&self, item: &Item, raw: &[u8], args: Args, draft: &mut Draft) {
        let command = item.command;
        let rewritten = match item.carry {
            // What runs on one replica first is copied from there with its deadlines and ids.
            Carry::Rewritten(kind) if !draft.leads => command::rewrite(kind, args, self.unix_ms()),
            _ => Rewritten::AsIs,
        };
        draft.stamp |= matches!(rewritten, Rewritten::Stream { .. });
        match rewritten {
            Rewritten::AsIs => draft.payload.extend_from_slice(raw),
            Rewritten::Moves => {
                draft.payload.extend_from_slice(raw);
                draft.timed.push(Timed { key: args[2].into(), ends: Ends::Like(args[1].into()) });
            }
            rewritten => {
                rewritten.encode(args, &mut draft.payload);
                if let Rewritten::Timed { at, .. } = rewritten {
                    command::keys(command, args, &mut |key| {
                        draft.timed.push(Timed { key: key.into(), ends: Ends::At(at) });
                    });
                }
            }
        }
    }

    /// The plan of the whole: of those of its writes, and of transactions as such, the one that waits for most.
    fn plan_of(&self, s: &Session, queue: &Queue, draft: &Draft, access: Access) -> u16 {
        let plans = match access {
            Access::Read => return draft.read_plans.first().copied().unwrap_or(queue.plan),
            Access::Write => &draft.write_plans,
        };
        if plans.iter().all(|plan| *plan == queue.plan) {
            return queue.plan;
        }
        let distinct: BTreeSet<u16> = plans.iter().copied().chain([queue.plan]).collect();
        let group = &self.groups[s.group().index];
        let mut routing = group.routing.borrow_mut();
        let routing = routing.load();
        let fewest = |number: &u16| {
            let outcome = routing.numbers.iter().position(|known| known == number);
            let plan = outcome.and_then(|outcome| routing.table.plan(outcome as u16));
            plan.map_or(0, |plan| plan.write.fewest())
        };
        distinct.into_iter().max_by_key(fewest).unwrap_or(queue.plan)
    }
}

/// Does it run on one replica first?
fn leads(command: &Command, carry: Carry) -> bool {
    match carry {
        Carry::Leads | Carry::Waits(Waits::StreamGroup) => true,
        Carry::Script(Scripting::Eval | Scripting::EvalSha) => !command.flags.has(Flags::READONLY),
        _ => false,
    }
}

/// May it need memory? A script says so by none of its names.
fn grows(command: &Command, carry: Carry) -> bool {
    command.flags.has(Flags::DENYOOM) || is_alike(command, carry)
}

/// Is it a script that every replica runs by itself?
fn is_alike(command: &Command, carry: Carry) -> bool {
    carry == Carry::Deterministic && matches!(command.name, "eval" | "evalsha")
}

/// Does it change what no key holds, so that no copy of keys would bring it to another replica?
fn runs_everywhere(command: &Command, carry: Carry) -> bool {
    match carry {
        Carry::Flush | Carry::Rewritten(Rewrite::Publish | Rewrite::Spublish) => true,
        Carry::Script(kind) => matches!(kind, Scripting::Load | Scripting::Flush),
        Carry::Deterministic => command.name.starts_with("function|"),
        _ => false,
    }
}

/// How many commands replicas are asked for one.
fn weight(filter: Filter) -> usize {
    match filter {
        Filter::RandomKey => RANDOM_TRIES,
        Filter::DbSize => 2,
        _ => 1,
    }
}

/// Could this AUTH or HELLO make the client another user?
fn may_change_user(s: &Session, command: &Command, args: Args) -> bool {
    let several = s.port.gate.roll.count() > 1;
    several && (command.name == "auth" || args.from(1).any(|word| word.eq_ignore_ascii_case(b"auth")))
}

/// Does this HELLO ask for another protocol than the session's?
fn changes_dialect(s: &Session, args: Args) -> bool {
    let version = args.get(1).and_then(|text| std::str::from_utf8(text).ok()?.parse::<i64>().ok());
    // Whatever else is an error, and changes nothing.
    version.is_some_and(|version| (2..=3).contains(&version) && version != i64::from(s.dialect))
}
