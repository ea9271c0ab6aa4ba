//! Several groups behind one listener. Every key belongs to the group that has its slot; what concerns more than one
//! group is split where each part is honest on its own, and refused otherwise.
//!
//! Only listeners with more than one group come here. What no key decides is the first group's: publish and subscribe,
//! scripts without keys, what is asked of a server.

pub mod merge;
pub mod record;

use super::inspect::CROSS_SLOT;
use super::request::{OWN_KEYS, names_reserved, waits_for_exec};
use super::session::Session;
use crate::group::GroupShared;
use crate::memory::{OUT_OF_MEMORY, Pressure};
use crate::worker::Worker;
use bytes::Bytes;
use merge::Merge;
use quorate_wire::command::{self, Carry, Command, Filter, Flags, Local, Rewrite, SLOTS, Scripting, Step};
use quorate_wire::resp::{Args, each_command, encode};
use std::sync::Arc;

const NOT_IN_MULTI: &str =
    "ERR this command concerns every group of the listener, and a transaction belongs to one of them";

const SORT_REACHES_OUT: &str =
    "ERR SORT with BY or GET of other keys is not carried where a listener has several groups";

/// Which group has which slots.
#[derive(Debug)]
pub struct Routes {
    groups: usize,
    split_mset: bool,
}

impl Routes {
    /// So many groups, each with an equal run of slots in their order.
    pub fn even(groups: usize, split_mset: bool) -> Self {
        Self { groups, split_mset }
    }

    /// The group that has this key.
    pub fn of(&self, key: &[u8]) -> usize {
        usize::from(command::slot(key)) * self.groups / usize::from(SLOTS)
    }
}

/// What of a listener's groups a command concerns.
#[derive(Debug)]
enum Reach {
    One(usize),
    /// Each group gets its keys.
    Split(Merge),
    /// Each group gets the command.
    Every(Merge),
    /// Not to be carried; the error is for the client.
    Refused(&'static str),
}

/// A command on its way.
#[derive(Clone, Copy)]
struct Asked<'a> {
    command: &'static Command,
    carry: Carry,
    args: Args<'a>,
    raw: &'a [u8],
}

fn reach(routes: &Routes, command: &Command, carry: Carry, args: Args) -> Reach {
    if matches!(carry, Carry::Rewritten(Rewrite::Publish | Rewrite::Spublish)) {
        return Reach::One(0);
    }
    if matches!(carry, Carry::Local(_)) {
        return match carry {
            Carry::Local(Local::Wait) => Reach::Every(Merge::Least),
            Carry::Local(Local::WaitAof) => Reach::Every(Merge::LeastOfEach),
            Carry::Local(Local::Config) if command.name == "config|set" => Reach::Every(Merge::Status),
            _ => Reach::One(0),
        };
    }
    if command.name == "debug" {
        // Its sub-commands are none of the table's, so neither are their keys.
        return Reach::One(args.get(2).map_or(0, |key| routes.of(key)));
    }
    if matches!(command.name, "sort" | "sort_ro") && command::sort_options(args).patterns {
        return Reach::Refused(SORT_REACHES_OUT);
    }
    let (mut place, mut several) = (None, false);
    command::keys(command, args, &mut |key| {
        let at = routes.of(key);
        several |= *place.get_or_insert(at) != at;
    });
    match place {
        // What is malformed is for a server to refuse, before anything is done.
        Some(at) if several && command.name == "mset" && args.len().is_multiple_of(2) => Reach::One(at),
        Some(_) if several => split(routes, command),
        Some(at) => Reach::One(at),
        None => keyless(command, carry),
    }
}

fn split(routes: &Routes, command: &Command) -> Reach {
    match command.name {
        "mget" => Reach::Split(Merge::Order(Vec::new())),
        "del" | "unlink" => Reach::Split(Merge::Sum { writes: true }),
        "exists" | "touch" => Reach::Split(Merge::Sum { writes: false }),
        "mset" if routes.split_mset => Reach::Split(Merge::Status),
        _ => Reach::Refused(CROSS_SLOT),
    }
}

fn keyless(command: &Command, carry: Carry) -> Reach {
    let changes_functions = command.name.starts_with("function|") && command.flags.has(Flags::WRITE);
    match (carry, command.filter) {
        (Carry::Flush | Carry::Script(Scripting::Load | Scripting::Flush), _) => Reach::Every(Merge::Status),
        _ if changes_functions => Reach::Every(Merge::Status),
        (_, Filter::DbSize) => Reach::Every(Merge::Sum { writes: false }),
        (_, Filter::Keys) => Reach::Every(Merge::Concat),
        (_, Filter::RandomKey) => Reach::Every(Merge::Any),
        _ => Reach::One(0),
    }
}

impl Worker {
    /// Chooses the command's group. `false`: nothing more is to be done with it.
    pub(super) fn route(
        &self,
        s: &mut Session,
        command: &'static Command,
        carry: Carry,
        args: Args,
        raw: &[u8],
    ) -> bool {
        let port = s.port.clone();
        let Some(routes) = &port.routes else { return true };
        if let Carry::Transaction(step) = carry
            && (step != Step::Watch || s.transaction.is_open())
        {
            s.at = s.transaction.group().unwrap_or(0);
            return true;
        }
        let reach = reach(routes, command, carry, args);
        let asked = Asked { command, carry, args, raw };
        if s.transaction.is_open() && waits_for_exec(carry) {
            return self.route_queued(s, asked, &reach);
        }
        match reach {
            Reach::One(at) if carry == Carry::Transaction(Step::Watch) => self.bind(s, at),
            Reach::One(at) => {
                s.at = at;
                true
            }
            Reach::Refused(why) => {
                s.error(why);
                false
            }
            // What is watched is one group's.
            _ if matches!(carry, Carry::Transaction(_)) => {
                s.error(CROSS_SLOT);
                false
            }
            Reach::Every(merge) => {
                // What concerns the proxy itself may be set at any time.
                if merge.writes()
                    && carry.local().is_none()
                    && let Some(why) = away(&port.groups)
                {
                    s.error(&why);
                    return false;
                }
                let parts = (0..port.groups.len()).map(|at| (at, None)).collect();
                self.spread_or_refuse(s, asked, parts, merge);
                false
            }
            Reach::Split(merge) => {
                let (parts, merge) = divide(routes, command, args, merge);
                self.spread_or_refuse(s, asked, parts, merge);
                false
            }
        }
    }

    /// All of a transaction, and all that it watches, is in one group.
    fn bind(&self, s: &mut Session, at: usize) -> bool {
        let bound = s.transaction.bind(at);
        match bound {
            true => s.at = at,
            false => {
                s.transaction.spoil();
                s.error(CROSS_SLOT);
            }
        }
        bound
    }

    fn route_queued(&self, s: &mut Session, asked: Asked, reach: &Reach) -> bool {
        // These are asked of a replica, by a plan of its group.
        let asked_there = matches!(asked.carry, Carry::Local(Local::Command | Local::Info));
        let answered_here =
            matches!(asked.carry, Carry::Local(_) | Carry::Transaction(_) | Carry::Refused(_));
        let own = answered_here && !asked_there;
        let refused = match reach {
            _ if own => {
                s.at = s.transaction.group().unwrap_or(0);
                return true;
            }
            // Only this group's keys would be seen.
            Reach::One(_) if asked.command.filter == Filter::Scan => NOT_IN_MULTI,
            Reach::One(at) => {
                let unbound = s.transaction.group().is_none();
                return self.bind(s, *at)
                    && (!unbound || self.plan_transaction(s, asked.command, asked.args));
            }
            Reach::Refused(why) => why,
            Reach::Split(_) => CROSS_SLOT,
            Reach::Every(_) => NOT_IN_MULTI,
        };
        s.transaction.spoil();
        s.error(refused);
        false
    }

    /// Why some group would not take its part: then none is to have one.
    fn refusal(&self, s: &mut Session, asked: Asked, parts: &[(usize, Option<Bytes>)]) -> Option<String> {
        let Asked { command, args, .. } = asked;
        if names_reserved(command, args) {
            return Some(OWN_KEYS.into());
        }
        parts.iter().find_map(|(at, _)| {
            s.at = *at;
            let memory = &s.group().memory;
            if command.flags.has(Flags::DENYOOM) && memory.pressure() == Pressure::Full {
                memory.count_refusal();
                return Some(OUT_OF_MEMORY.into());
            }
            self.plan(s, command, command::op_class(command, args), args).err()
        })
    }

    fn spread_or_refuse(
        &self,
        s: &mut Session,
        asked: Asked,
        parts: Vec<(usize, Option<Bytes>)>,
        merge: Merge,
    ) {
        match self.refusal(s, asked, &parts) {
            Some(why) => s.error(&why),
            None => self.spread(s, asked, parts, merge),
        }
    }

    /// Asks several groups, and has their answers made into one.
    fn spread(&self, s: &mut Session, asked: Asked, mut parts: Vec<(usize, Option<Bytes>)>, merge: Merge) {
        let Asked { command, carry, args, raw } = asked;
        if merge == Merge::Any {
            // The first that has something wins.
            let first = self.now_us() as usize % parts.len();
            parts.rotate_left(first);
        }
        s.begin_parts();
        let groups: Vec<usize> = parts.iter().map(|(at, _)| *at).collect();
        for (at, words) in parts {
            s.at = at;
            s.open_burst = None;
            match words {
                None => self.dispatch(s, command, carry, args, raw, None),
                Some(words) => {
                    each_command(&words, |raw, args| self.dispatch(s, command, carry, args, &raw, None));
                }
            }
        }
        s.end_parts(groups, merge);
    }
}

/// Why nobody is to begin with what every group shall do: one of them could not, and what some did stays done.
fn away(groups: &[Arc<GroupShared>]) -> Option<String> {
    let group = groups.iter().find(|group| !group.health.load().writable)?;
    let what = "this command concerns every group of the listener; nothing was changed, safe to retry";
    Some(format!("NOTAPPLIED group '{}' cannot be written now, and {what}", group.name))
}

/// Each group's share of the keys, with what stands behind them.
fn divide(
    routes: &Routes,
    command: &Command,
    args: Args,
    merge: Merge,
) -> (Vec<(usize, Option<Bytes>)>, Merge) {
    let step = if command.name == "mset" { 2 } else { 1 };
    let mut shares: Vec<(usize, Vec<&[u8]>)> = Vec::new();
    let mut order = Vec::new();
    let words: Vec<&[u8]> = args.from(1).collect();
    for item in words.chunks(step) {
        let at = routes.of(item[0]);
        let share = shares.iter().position(|(group, _)| *group == at).unwrap_or_else(|| {
            shares.push((at, vec![&args[0]]));
            shares.len() - 1
        });
        shares[share].1.extend_from_slice(item);
        order.push(share);
    }
    let parts = shares.into_iter().map(|(at, words)| (at, Some(encode::command_bytes(&words)))).collect();
    let merge = if let Merge::Order(_) = merge { Merge::Order(order) } else { merge };
    (parts, merge)
}
