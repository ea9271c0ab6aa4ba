//! What a server says of its place among others, and what it does about its disk and memory. To clients the proxy is a
//! primary without replicas of its own.

use crate::listen::session::Session;
use crate::worker::{Mail, Sequencer, Worker};
use bytes::{Bytes, BytesMut};
use quorate_core::ordered::ReplicaState;
use quorate_wire::command::{Command, Local};
use quorate_wire::resp::{Args, encode};

const OK: Bytes = Bytes::from_static(b"+OK\r\n");

/// Answers `ROLE`, `REPLICAOF`, `MODULE LIST`, `BGSAVE` and what is like them.
pub fn answer(worker: &Worker, s: &mut Session, what: Local, command: &Command, args: Args) {
    match what {
        Local::Role => role(s),
        Local::Module => s.answer(Bytes::from_static(b"*0\r\n")),
        Local::ReplicaOf => replica_of(s, args),
        Local::Maintain => maintain(worker, s, command, args),
        Local::Wait | Local::WaitAof => wait_at_once(s, command, args),
        _ => s.error("ERR internal error: this command is answered elsewhere"),
    }
}

fn role(s: &mut Session) {
    let mut out = BytesMut::new();
    encode::header(b'*', 3, &mut out);
    encode::bulk(b"master", &mut out);
    encode::header(b':', s.port.group.health.load().head as usize, &mut out);
    encode::header(b'*', 0, &mut out);
    s.answer(out.freeze());
}

fn replica_of(s: &mut Session, args: Args) {
    let is = |at: usize, word: &str| args[at].eq_ignore_ascii_case(word.as_bytes());
    match is(1, "no") && is(2, "one") {
        // That is what it is already.
        true => s.answer(OK),
        false => {
            s.error("ERR REPLICAOF is not carried: the proxy itself feeds its replicas, see quorate.toml")
        }
    }
}

/// Has every attached server do it. Servers answer before it is done, and say in `INFO persistence` how it went.
fn maintain(worker: &Worker, s: &mut Session, command: &Command, args: Args) {
    let schedule = args.get(1).is_some_and(|word| word.eq_ignore_ascii_case(b"schedule"));
    let (order, reply): (&[&[u8]], &'static [u8]) = match command.name {
        "bgsave" if args.len() > 2 || (args.len() == 2 && !schedule) => return s.error("ERR syntax error"),
        "bgsave" => (&[b"BGSAVE", b"SCHEDULE"], b"+Background saving started\r\n"),
        "bgrewriteaof" => (&[b"BGREWRITEAOF"], b"+Background append only file rewriting started\r\n"),
        _ => (&[b"MEMORY", b"PURGE"], b"+OK\r\n"),
    };
    for group in &s.port.groups {
        worker.have_all_do(group.index, encode::command_bytes(order));
    }
    s.answer(Bytes::from_static(reply));
}

/// In a transaction nothing waits: how many replicas hold everything, beside one. Their disks are not asked.
fn wait_at_once(s: &mut Session, command: &Command, args: Args) {
    match super::wait::of(command, args, 0) {
        Err(message) => return s.error(message),
        Ok(waits) if waits.on_disk => return s.answer(Bytes::from_static(b"*2\r\n:0\r\n:0\r\n")),
        Ok(_) => {}
    }
    let health = s.group().health.load();
    let in_sync = health.replicas.iter().filter(|replica| replica.state == ReplicaState::InSync).count();
    s.answer(Bytes::from(format!(":{}\r\n", in_sync.saturating_sub(1))));
}

impl Worker {
    /// Sends a command to every attached server of a group, beside its log. What they answer is not told.
    pub fn have_all_do(&self, group: usize, command: Bytes) {
        match self.sequencer(group) {
            Some(Sequencer::Here(driver)) => driver.borrow().have_all_do(&command),
            Some(Sequencer::There(mailbox)) => mailbox.post(Mail::HaveAllDo(group, command)),
            None => {}
        }
    }
}
