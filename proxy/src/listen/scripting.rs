//! What becomes of commands that concern scripts: their texts are remembered, so that a digest a client was given
//! stays good whatever a server forgot.

use super::burst::{LARGE, Payload};
use super::request::Added;
use super::session::Session;
use crate::scripts::{Script, Scripts};
use crate::worker::Worker;
use bytes::{Bytes, BytesMut};
use quorate_core::ordered::Access;
use quorate_wire::command::{Carry, Command, Flags, Scripting};
use quorate_wire::resp::{Args, encode};

/// How such a command goes on.
#[derive(Debug)]
pub(super) enum Ready {
    /// As a read; in these words, if they differ from the client's.
    Read(Option<Bytes>),
    /// On one replica first; in these words.
    Leads(Option<Bytes>),
    /// On every replica by itself; in these words.
    Alike(Option<Bytes>),
    /// To all replicas, as it is.
    Write,
    /// The proxy's own answer.
    Own(Bytes),
}

impl Ready {
    /// How a script runs: to read, alike on every replica, or on one of them first.
    fn run(reads: bool, alike: bool, words: Option<Bytes>) -> Ready {
        match (reads, alike) {
            (true, _) => Ready::Read(words),
            (false, true) => Ready::Alike(words),
            (false, false) => Ready::Leads(words),
        }
    }
}

/// Makes a command ready, and remembers what it brings. With `verbatim` the replicas of the group that it goes to run
/// scripts themselves where they can.
pub(super) fn prepare(
    scripts: &Scripts,
    verbatim: bool,
    kind: Scripting,
    command: &Command,
    args: Args,
) -> Ready {
    let reads = command.flags.has(Flags::READONLY);
    match kind {
        Scripting::Eval => Ready::run(reads, scripts.keep(&args[1], verbatim && !reads) && verbatim, None),
        Scripting::EvalSha => match scripts.find(&args[1], verbatim && !reads) {
            Some(Script { text, alike }) => {
                let name: &[u8] = if reads { b"EVAL_RO" } else { b"EVAL" };
                let words: Vec<&[u8]> = [name, text.as_ref()].into_iter().chain(args.from(2)).collect();
                Ready::run(reads, alike && verbatim, Some(encode::command_bytes(&words)))
            }
            // The backends may still know a digest from before this proxy.
            None => Ready::Leads(None),
        },
        Scripting::Load => {
            scripts.keep(&args[2], false);
            Ready::Write
        }
        Scripting::Exists if args.from(2).all(|digest| scripts.find(digest, false).is_some()) => {
            let mut out = BytesMut::new();
            encode::header(b'*', args.len() - 2, &mut out);
            args.from(2).for_each(|_| out.extend_from_slice(b":1\r\n"));
            Ready::Own(out.freeze())
        }
        Scripting::Exists => Ready::Read(None),
        Scripting::Flush => {
            scripts.forget();
            Ready::Write
        }
    }
}

/// What a client reads at EXEC whose scripts were queued for servers of one version.
pub(super) const NOT_ALIKE: &str = "EXECABORT Transaction discarded because of: the backends are not of one version any \
                                    more, and every one was to run its scripts; queue them again";

/// What a client reads while the servers cannot read each other's values.
pub(super) const MIXED: &str = "ERR this command is not carried while the backends run different versions: its \
                                effect is copied from one of them to the others by value";

impl Worker {
    /// What it does on one replica is copied to the others by value, as far as these know how.
    pub(super) fn leads(&self, s: &mut Session, command: &'static Command, args: Args, payload: Payload) {
        if self.groups[s.group().index].shared.is_mixed() {
            return s.error(MIXED);
        }
        self.order(s, Access::Write, command, args, payload, Added::Leads);
    }

    /// Do replicas of the session's group run scripts themselves? Not while these may mean something else to one.
    pub(super) fn is_verbatim(&self, s: &Session) -> bool {
        let group = &self.groups[s.group().index].shared;
        group.scripts.are_verbatim() && group.is_alike()
    }

    /// The words in which every replica shall run this queued script by itself; `None` where that is not so.
    pub(super) fn alike(
        &self,
        s: &Session,
        (command, carry): (&'static Command, Carry),
        raw: &[u8],
        args: Args,
    ) -> Option<Bytes> {
        let Carry::Script(kind @ (Scripting::Eval | Scripting::EvalSha)) = carry else { return None };
        let verbatim = self.is_verbatim(s);
        match prepare(&s.port.group.scripts, verbatim, kind, command, args) {
            Ready::Alike(words) => Some(words.unwrap_or_else(|| Bytes::copy_from_slice(raw))),
            _ => None,
        }
    }

    pub(super) fn script(
        &self,
        s: &mut Session,
        kind: Scripting,
        command: &'static Command,
        args: Args,
        payload: Payload,
    ) {
        let verbatim = self.is_verbatim(s);
        // What one group was told, every group of the listener knows.
        match prepare(&s.port.group.clone().scripts, verbatim, kind, command, args) {
            Ready::Own(reply) => s.answer(reply),
            Ready::Write => self.order(s, Access::Write, command, args, payload, Added::Nothing),
            Ready::Alike(words) => {
                let payload = match &words {
                    // Small ones share a burst.
                    Some(words) if words.len() < LARGE => Payload::Copy(words),
                    Some(words) => Payload::Own(words.clone()),
                    None => payload,
                };
                self.order(s, Access::Write, command, args, payload, Added::Script);
            }
            Ready::Leads(words) => self.leads(s, command, args, words.map_or(payload, Payload::Own)),
            Ready::Read(words) => {
                let payload = words.map_or(payload, Payload::Own);
                self.order(s, Access::Read, command, args, payload, Added::Nothing);
            }
        }
    }
}
