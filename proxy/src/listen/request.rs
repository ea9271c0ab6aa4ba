//! What becomes of one command: answered here, refused, or put into the outbox of its group.

use super::access::over_rate;
use super::burst::{Kind, LARGE, Payload};
use super::cursor::Round;
use super::filter::{RANDOM_TRIES, Shape};
use super::inspect::{self, InfoParts};
use super::local;
use super::pubsub;
use super::session::Session;
use crate::memory::{OUT_OF_MEMORY, Pressure};
use crate::worker::{Asked, Worker};
use bytes::{Bytes, BytesMut};
use quorate_core::ordered::{Access, Ends, Timed};
use quorate_core::plan::{ASK, OpClass, REJECT};
use quorate_wire::command::{
    self, Carry, Command, CommandError, Filter, Flags, Local, Rewrite, Rewritten, Step, Waits,
};
use quorate_wire::resp::flush::flush;
use quorate_wire::resp::transaction::{RESERVED_PREFIX, is_reserved};
use quorate_wire::resp::{Args, encode};
use std::sync::atomic::Ordering;

/// What the sequencer does beyond ordering a write.
#[derive(Debug, Clone, Copy)]
pub(super) enum Added {
    Nothing,
    /// It writes the command's stamp.
    Stamp,
    /// It has one replica run the command first.
    Leads,
    /// It has every replica run this script, which may need memory, whatever its name says.
    Script,
    /// It ends the command's keys then, in milliseconds since 1970.
    Deadline(u64),
    /// It ends the second key when it would have ended the first.
    DeadlineOfFirst,
}

/// What a client reads whose options make no sense.
pub(super) const SYNTAX: &str = "ERR syntax error";

/// What a client reads that names one of our keys.
pub(super) const OWN_KEYS: &str = "NOPERM keys that begin with '__quorate:' belong to the proxy";

impl Worker {
    /// Handles one complete command. `own` is the command as a buffer of its own, where there is one.
    pub fn request(&self, s: &mut Session, raw: &[u8], args: Args, own: Option<&Bytes>) {
        if args.len() == 0 {
            return;
        }
        s.next_command();
        let command = match command::resolve(args) {
            Ok(command) => command,
            Err(_) if is_web(&args[0]) => {
                tracing::warn!(client = s.client.id, "closed a client that speaks HTTP");
                s.closing = true;
                return s.client.kill();
            }
            Err(error) => return self.unresolved(s, &error),
        };
        let carry = command::classify(command, args);
        if s.trusted && self.held_back(s, carry) {
            return s.kept_back();
        }
        // What is said before MULTI goes for all of the transaction.
        if !s.transaction.is_open()
            && let Some(tracking) = &mut s.tracking
            && carry != Carry::Local(Local::Client)
        {
            tracking.next_command();
        }
        if !s.trusted
            && !matches!(carry, Carry::Local(Local::Auth | Local::Hello | Local::Quit | Local::Reset))
        {
            return s.error("NOAUTH Authentication required.");
        }
        if s.access.is_looked_at() && !self.may_pass(s, command, carry, args) {
            return;
        }
        if s.only_subscribes() && !pubsub::is_allowed(carry.local()) {
            return s.error(&pubsub::refusal(command));
        }
        if s.port.groups.iter().any(|group| group.missing.has(command))
            && (!matches!(carry, Carry::Local(_)) || carry == Carry::Local(Local::WaitAof))
        {
            // What one replica would do, another would refuse: the group does not know the command.
            return self.unresolved(s, &CommandError::unknown(args));
        }
        if s.watches && !matches!(carry, Carry::Local(_) | Carry::Refused(_)) {
            return s.error("ERR Replica can't interact with the keyspace");
        }
        let group = &self.groups[s.port.group.index].shared;
        group.inspection.stats.called(self.index(), command);
        s.client.command.store(command.index() as u32, Ordering::Relaxed);
        if group.watchers.any() && !matches!(carry, Carry::Refused(_)) {
            self.show(s, command, args);
        }
        if s.port.cluster.is_some() && carry.local().is_none() && inspect::crosses(command, args) {
            s.transaction.spoil();
            return s.error(inspect::CROSS_SLOT);
        }
        if s.port.routes.is_some() && !self.route(s, command, carry, args, raw) {
            return;
        }
        if s.transaction.is_open() && waits_for_exec(carry) {
            return self.queue(s, command, carry, args, raw, own);
        }
        self.dispatch(s, command, carry, args, raw, own);
    }

    /// Has a command done, by the session's group where groups matter.
    pub(super) fn dispatch(
        &self,
        s: &mut Session,
        command: &'static Command,
        carry: Carry,
        args: Args,
        raw: &[u8],
        own: Option<&Bytes>,
    ) {
        match carry {
            Carry::Transaction(step) => self.transact(s, step, command, args),
            Carry::Local(Local::Command) => {
                self.order(s, Access::Read, command, args, Payload::Copy(raw), Added::Nothing)
            }
            Carry::Local(Local::Info) => self.info(s, command, args, raw),
            Carry::Local(Local::Wait | Local::WaitAof) => self.wait_for_replicas(s, command, args),
            Carry::Local(Local::Config) if command.name == "config|set" => self.set_config(s, command, args),
            Carry::Local(what) => self.local(s, what, command, args),
            Carry::Refused(why) => {
                self.counters.not_carried();
                s.error(&why.message(&args[0]));
            }
            Carry::Read if command.filter != Filter::None => self.filtered(s, command, args, raw),
            Carry::Read => self.order(s, Access::Read, command, args, payload(raw, own), Added::Nothing),
            Carry::Deadline(kind) => {
                let question = encode::command_bytes(&[b"PEXPIRETIME", &args[1]]);
                self.shaped(s, command, args, question, 1, Shape::Deadline(kind));
            }
            Carry::Waits(waits) => match command::block(command, waits, args, self.now_us(), s.dialect) {
                Some(block) => self.wait_for(s, command, args, raw, (waits, block)),
                // The server says what is wrong with its time.
                None if waits == Waits::Stream => {
                    self.order(s, Access::Read, command, args, payload(raw, own), Added::Nothing)
                }
                None if waits == Waits::StreamGroup => self.leads(s, command, args, payload(raw, own)),
                None => self.order(s, Access::Write, command, args, payload(raw, own), Added::Nothing),
            },
            Carry::Deterministic => {
                self.order(s, Access::Write, command, args, payload(raw, own), Added::Nothing)
            }
            Carry::Flush => match flush(&s.group().reserved, args) {
                Some(entry) => {
                    self.order(s, Access::Write, command, args, Payload::Own(entry), Added::Nothing)
                }
                None => s.error(SYNTAX),
            },
            Carry::Rewritten(kind @ (Rewrite::Publish | Rewrite::Spublish)) => {
                self.publish(s, command, kind, args);
            }
            Carry::Rewritten(kind) => {
                let rewritten = command::rewrite(kind, args, self.unix_ms());
                self.rewritten(s, command, args, &rewritten, payload(raw, own));
            }
            Carry::Leads => self.leads(s, command, args, payload(raw, own)),
            Carry::Script(kind) => self.script(s, kind, command, args, payload(raw, own)),
        }
    }

    fn rewritten(
        &self,
        s: &mut Session,
        command: &'static Command,
        args: Args,
        rewritten: &Rewritten,
        original: Payload,
    ) {
        let added = match rewritten {
            Rewritten::AsIs | Rewritten::Args(_) => Added::Nothing,
            Rewritten::Moves => Added::DeadlineOfFirst,
            Rewritten::Timed { at, .. } => Added::Deadline(*at),
            Rewritten::Stream { .. } => Added::Stamp,
        };
        if matches!(rewritten, Rewritten::AsIs | Rewritten::Moves) {
            return self.order(s, Access::Write, command, args, original, added);
        }
        let out = &mut *self.rewritten.borrow_mut();
        out.clear();
        rewritten.encode(args, out);
        let payload =
            if out.len() >= LARGE { Payload::Own(out.split().freeze()) } else { Payload::Copy(out) };
        self.order(s, Access::Write, command, args, payload, added);
    }

    fn local(&self, s: &mut Session, what: Local, command: &'static Command, args: Args) {
        self.counters.local();
        let began_us = self.clock.now_us();
        local::answer(self, s, what, command, args);
        let slow = &s.port.group.inspection.slow;
        let us = self.clock.now_us().saturating_sub(began_us);
        if slow.is_slow(us)
            && let Some(brief) = slow.brief(command, args, BytesMut::new())
        {
            slow.enter(self.unix_ms() / 1000, us, &brief, &s.client);
        }
    }

    /// `CONFIG SET`: what is the replicas' is set on all of them, in the log's order.
    fn set_config(&self, s: &mut Session, command: &'static Command, args: Args) {
        match inspect::set(s, args) {
            Ok(None) => s.answer(Bytes::from_static(b"+OK\r\n")),
            Ok(Some(entry)) => {
                self.order(s, Access::Write, command, args, Payload::Own(entry), Added::Nothing);
            }
            Err(message) => s.error(&message),
        }
    }

    fn unresolved(&self, s: &mut Session, error: &CommandError) {
        if !s.trusted {
            return s.error("NOAUTH Authentication required.");
        }
        if s.access.is_looked_at()
            && let Some(message) = over_rate(s, self.now_us())
        {
            s.transaction.spoil();
            return s.error(&message);
        }
        match error {
            // An EXEC that is wrong ends the transaction as well.
            CommandError::Arity("exec") => s.transaction = Default::default(),
            _ => s.transaction.spoil(),
        }
        // The quoted arguments may hold any byte but a line end.
        let message = error.message();
        let mut out = BytesMut::with_capacity(message.len() + 3);
        out.extend_from_slice(b"-");
        out.extend_from_slice(&message);
        out.extend_from_slice(b"\r\n");
        s.answer(out.freeze());
    }

    /// Puts a command into the outbox, in the session's open burst where it fits.
    #[inline]
    pub(super) fn order(
        &self,
        s: &mut Session,
        access: Access,
        command: &'static Command,
        args: Args,
        payload: Payload,
        added: Added,
    ) {
        let group = &self.groups[s.group().index];
        let pressure = group.shared.memory.pressure();
        let grows = command.flags.has(Flags::DENYOOM) || matches!(added, Added::Script);
        let apart = pressure != Pressure::None;
        if grows && pressure == Pressure::Full {
            group.shared.memory.count_refusal();
            return s.error(OUT_OF_MEMORY);
        }
        let outbox = &mut *group.outbox.borrow_mut();
        let mut reserved = false;
        let mut keys = 0;
        command::keys(command, args, &mut |key| {
            reserved |= is_reserved(key);
            outbox.bucket(command::key_hash(key) as u16);
            keys += 1;
            if let Added::Deadline(at) = added {
                outbox.timed(Timed { key: key.into(), ends: Ends::At(at) });
            }
        });
        if reserved || reaches_reserved(command, args) {
            outbox.drop_keys();
            return s.error(OWN_KEYS);
        }
        if let Added::DeadlineOfFirst = added {
            outbox.timed(Timed { key: args[2].into(), ends: Ends::Like(args[1].into()) });
        }
        let class = command::op_class(command, args);
        let plan = match self.plan(s, command, class, args) {
            Ok(plan) => plan,
            Err(message) => {
                outbox.drop_keys();
                return s.error(&message);
            }
        };
        let (stamp, leads) = (matches!(added, Added::Stamp), matches!(added, Added::Leads));
        let everything = keys == 0 || class == OpClass::Scan;
        let kind = Kind { access, plan, dialect: s.dialect, stamp, everything, grows, leads, apart };
        self.counters.request(class);
        if matches!(added, Added::Script) {
            group.shared.counters.scripts_alike.fetch_add(1, Ordering::Relaxed);
        }
        if let (Some(ticket), Payload::Copy(bytes)) = (s.open_burst, &payload)
            && outbox.extend(s.number, ticket, kind, bytes)
        {
            return self.follow(s, command, args, ticket);
        }
        let spare = std::mem::take(&mut s.spare_brief);
        s.brief = group.shared.inspection.slow.brief(command, args, spare);
        let ticket = s.wait(self.now_us(), Shape::AsIs);
        self.follow(s, command, args, ticket);
        outbox.begin(s.number, ticket, kind, 1, payload);
        s.open_burst = Some(ticket);
        self.schedule();
    }

    /// The plan's number, from the table or from the policy's decider.
    #[inline]
    pub(super) fn plan(
        &self,
        s: &Session,
        command: &'static Command,
        class: OpClass,
        args: Args,
    ) -> Result<u16, String> {
        let group = &self.groups[s.group().index];
        let mut routing = group.routing.borrow_mut();
        let routing = routing.load();
        let outcome = routing.table.outcome_of_class(class).unwrap_or_else(|| {
            let slot = command::first_key(command, args).map_or(0, command::slot);
            routing.table.outcome(class, slot)
        });
        if let Some(number) = routing.number(outcome) {
            return Ok(number);
        }
        match outcome {
            ASK => {
                let asked = Asked { command, class, args, client: &s.client };
                let decided = self.decide(group, asked)?;
                routing
                    .number(decided)
                    .ok_or_else(|| "NOTAPPLIED the policy decided for a plan that does not exist".into())
            }
            REJECT => Err(format!("NOPERM the policy rejects {} requests", class.name())),
            _ => Err("NOTAPPLIED the policy names a plan that does not exist".into()),
        }
    }

    /// A read whose reply must not show the reserved keys.
    fn filtered(&self, s: &mut Session, command: &'static Command, args: Args, raw: &[u8]) {
        if matches!(command.filter, Filter::Scan | Filter::Cursor) {
            return self.scan(s, command, args, raw);
        }
        let mut payload = BytesMut::new();
        let commands = filtered_payload(s, command.filter, raw, &mut payload);
        let shape = shape_of(s, command.filter, args);
        self.shaped(s, command, args, payload.freeze(), commands, shape);
    }

    fn info(&self, s: &mut Session, command: &'static Command, args: Args, raw: &[u8]) {
        let own = Box::new(InfoParts::of(self, s));
        let mut payload = BytesMut::new();
        let commands = with_reserved_count(s, raw, &mut payload);
        self.shaped(s, command, args, payload.freeze(), commands, Shape::Info(own));
    }

    fn shaped(
        &self,
        s: &mut Session,
        command: &'static Command,
        args: Args,
        payload: Bytes,
        commands: u32,
        shape: Shape,
    ) {
        let class = command::op_class(command, args);
        let plan = match self.plan(s, command, OpClass::Read, args) {
            Ok(plan) => plan,
            Err(message) => return s.error(&message),
        };
        let kind = Kind { everything: true, ..Kind::plain(Access::Read, plan, s.dialect) };
        self.counters.request(class);
        let spare = std::mem::take(&mut s.spare_brief);
        s.brief = s.port.group.inspection.slow.brief(command, args, spare);
        let ticket = s.wait(self.now_us(), shape);
        let outbox = &mut *self.groups[s.group().index].outbox.borrow_mut();
        outbox.begin(s.number, ticket, kind, commands, Payload::Own(payload));
        s.open_burst = None;
        self.schedule();
    }
}

/// Is this put off until EXEC, after MULTI?
pub(super) fn waits_for_exec(carry: Carry) -> bool {
    match carry {
        Carry::Local(what) => !matches!(what, Local::Reset | Local::Quit),
        Carry::Transaction(step) => step == Step::Unwatch,
        _ => true,
    }
}

/// Appends what is asked of a replica for a command whose answer is filtered; how many commands that is.
pub(super) fn filtered_payload(s: &Session, filter: Filter, raw: &[u8], payload: &mut BytesMut) -> u32 {
    if filter == Filter::DbSize {
        return with_reserved_count(s, raw, payload);
    }
    payload.extend_from_slice(raw);
    match filter {
        Filter::RandomKey => {
            (1..RANDOM_TRIES).for_each(|_| payload.extend_from_slice(raw));
            RANDOM_TRIES as u32
        }
        _ => 1,
    }
}

/// Appends a command, and a question for how many of the reserved keys there are; how many commands that is.
pub(super) fn with_reserved_count(s: &Session, raw: &[u8], payload: &mut BytesMut) -> u32 {
    payload.extend_from_slice(raw);
    let reserved = s.group().reserved.all().map(str::as_bytes);
    let exists = [&b"EXISTS"[..]].into_iter().chain(reserved);
    encode::command(exists.collect::<Vec<_>>(), payload);
    2
}

/// What becomes of an answer that is filtered.
pub(super) fn shape_of(s: &Session, filter: Filter, args: Args) -> Shape {
    match filter {
        Filter::None => Shape::AsIs,
        Filter::Scan | Filter::Cursor => Shape::Page { keys: filter == Filter::Scan, round: Round::ONE },
        Filter::RandomKey => Shape::AnyKey { dialect: s.dialect },
        Filter::Config => Shape::Settings(inspect::asked(s, args)),
        filter => Shape::Hide(filter),
    }
}

/// A browser that was tricked into speaking to this port must not get a command through.
fn is_web(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"post") || name.eq_ignore_ascii_case(b"host:")
}

/// Is some key of this command the proxy's?
pub(super) fn names_reserved(command: &Command, args: Args) -> bool {
    let mut reserved = false;
    command::keys(command, args, &mut |key| reserved |= is_reserved(key));
    reserved
}

/// `SORT … BY` and `GET` read keys by pattern.
pub(super) fn reaches_reserved(command: &Command, args: Args) -> bool {
    let sorts = matches!(command.name, "sort" | "sort_ro");
    sorts
        && args.from(2).any(|pattern| {
            let prefix = pattern.split(|b| *b == b'*').next().unwrap_or_default();
            pattern.contains(&b'*')
                && !prefix.is_empty()
                && (RESERVED_PREFIX.starts_with(prefix) || prefix.starts_with(RESERVED_PREFIX))
        })
}

fn payload<'a>(raw: &'a [u8], own: Option<&Bytes>) -> Payload<'a> {
    match own {
        Some(bytes) if bytes.len() >= LARGE => Payload::Own(bytes.clone()),
        _ => Payload::Copy(raw),
    }
}
