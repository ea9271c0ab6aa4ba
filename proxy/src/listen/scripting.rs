//! What becomes of commands that concern scripts: their texts are remembered, so that a digest a client was given
//! stays good whatever a server forgot.

use super::burst::Payload;
use super::request::Added;
use super::session::Session;
use crate::scripts::Scripts;
use crate::worker::Worker;
use bytes::{Bytes, BytesMut};
use quorate_core::ordered::Access;
use quorate_wire::command::{Command, Flags, Scripting};
use quorate_wire::resp::{Args, encode};

/// How such a command goes on.
#[derive(Debug)]
pub(super) enum Ready {
    /// As a read; in these words, if they differ from the client's.
    Read(Option<Bytes>),
    /// On one replica first; in these words.
    Leads(Option<Bytes>),
    /// To all replicas, as it is.
    Write,
    /// The proxy's own answer.
    Own(Bytes),
}

/// Makes a command ready, and remembers what it brings.
pub(super) fn prepare(scripts: &Scripts, kind: Scripting, command: &Command, args: Args) -> Ready {
    let reads = command.flags.has(Flags::READONLY);
    match kind {
        Scripting::Eval => {
            scripts.keep(&args[1]);
            if reads { Ready::Read(None) } else { Ready::Leads(None) }
        }
        Scripting::EvalSha => match scripts.text(&args[1]) {
            Some(text) => {
                let name: &[u8] = if reads { b"EVAL_RO" } else { b"EVAL" };
                let words: Vec<&[u8]> = [name, text.as_ref()].into_iter().chain(args.from(2)).collect();
                let words = Some(encode::command_bytes(&words));
                if reads { Ready::Read(words) } else { Ready::Leads(words) }
            }
            // The backends may still know a digest from before this proxy.
            None => Ready::Leads(None),
        },
        Scripting::Load => {
            scripts.keep(&args[2]);
            Ready::Write
        }
        Scripting::Exists if args.from(2).all(|digest| scripts.text(digest).is_some()) => {
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

    pub(super) fn script(
        &self,
        s: &mut Session,
        kind: Scripting,
        command: &'static Command,
        args: Args,
        payload: Payload,
    ) {
        match prepare(&s.port.group.clone().scripts, kind, command, args) {
            Ready::Own(reply) => s.answer(reply),
            Ready::Write => self.order(s, Access::Write, command, args, payload, Added::Nothing),
            Ready::Leads(words) => self.leads(s, command, args, words.map_or(payload, Payload::Own)),
            Ready::Read(words) => {
                let payload = words.map_or(payload, Payload::Own);
                self.order(s, Access::Read, command, args, payload, Added::Nothing);
            }
        }
    }
}
