//! MULTI, EXEC, DISCARD, WATCH and UNWATCH.
//! An EXEC applies all of its requests as one transaction of the history, or none.

use super::Store;
use super::reply::{Answer, Fault, Reply};
use super::session::{Queue, Session};
use super::table::flag::{CONTROL, LOADING, NOSCRIPT, SKIP_SLOWLOG, STALE};
use super::table::{ALL, Command, Run, server};

pub(super) const COMMANDS: &[Command] = &[
    server("multi", 1, CONTROL, multi),
    server("exec", 1, NOSCRIPT | LOADING | STALE | SKIP_SLOWLOG, exec),
    server("discard", 1, CONTROL, discard),
    server("unwatch", 1, CONTROL, unwatch),
    Command { name: "watch", arity: -2, flags: CONTROL, keys: ALL, run: Run::Server(watch) },
];

fn multi(_: &mut Store, session: &mut Session, _: &[Vec<u8>]) -> Answer {
    if session.queue.is_some() {
        return Err(Fault::fixed("ERR MULTI calls can not be nested"));
    }
    session.queue = Some(Queue::default());
    Ok(Reply::OK)
}

fn discard(_: &mut Store, session: &mut Session, _: &[Vec<u8>]) -> Answer {
    if session.queue.is_none() {
        return Err(Fault::fixed("ERR DISCARD without MULTI"));
    }
    session.discard();
    Ok(Reply::OK)
}

fn watch(_: &mut Store, session: &mut Session, args: &[Vec<u8>]) -> Answer {
    if session.queue.is_some() {
        return Err(Fault::fixed("ERR WATCH inside MULTI is not allowed"));
    }
    session.watched.extend(args[1..].iter().cloned());
    Ok(Reply::OK)
}

fn unwatch(_: &mut Store, session: &mut Session, _: &[Vec<u8>]) -> Answer {
    session.unwatch();
    Ok(Reply::OK)
}

fn exec(store: &mut Store, session: &mut Session, _: &[Vec<u8>]) -> Answer {
    let broken = session.watch_broken;
    let Some(queue) = session.queue.take() else { return Err(Fault::fixed("ERR EXEC without MULTI")) };
    session.unwatch();
    if queue.aborted {
        return Err(Fault::fixed("EXECABORT Transaction discarded because of previous errors."));
    }
    if broken {
        return Ok(Reply::NullArray);
    }
    let mut transaction = Vec::new();
    let mut replies = Vec::with_capacity(queue.requests.len());
    for (command, args) in queue.requests {
        replies.push(store.run_data(session, command, args, &mut transaction));
    }
    store.history.record_if_any(&mut store.db, transaction);
    Ok(Reply::Array(replies))
}
