//! Clients: each sends a pipeline, waits for its answers, thinks, and asks again.

use super::Env;
use super::clock::Due;
use super::dice::Dice;
use super::history::{Ask, End, History, replies};
use super::order;
use crate::lin::OpId;
use bytes::BytesMut;
use quorate_core::ordered::{Access, Buckets, Burst, Cause, Reply, Submission, Timed};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A command on its way.
#[derive(Debug)]
struct Sent {
    ask: Ask,
    id: OpId,
    end: Option<End>,
}

/// One client.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) index: usize,
    pub(super) proxy: usize,
    /// Asks by itself.
    pub(super) lively: bool,
    ticket: u64,
    pipeline: Vec<Sent>,
    /// Commands of the pipeline by the ticket of their burst.
    waiting: BTreeMap<u64, (usize, usize)>,
    /// Answers on their way, and whether a newer owner was serving when they were given.
    arriving: BTreeMap<u64, (Reply, bool)>,
    answered: BTreeMap<u64, ()>,
}

impl Client {
    pub(super) fn new(index: usize, lively: bool) -> Self {
        Client {
            index,
            proxy: 0,
            lively,
            ticket: 0,
            pipeline: Vec::new(),
            waiting: BTreeMap::new(),
            arriving: BTreeMap::new(),
            answered: BTreeMap::new(),
        }
    }

    /// Has it all its answers?
    pub(super) fn is_quiet(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Did every command of the last pipeline succeed?
    pub(super) fn succeeded(&self) -> bool {
        self.pipeline.iter().all(|sent| matches!(sent.end, Some(End::Ok(_))))
    }

    /// Does this ticket stand for reads?
    pub(super) fn reads(&self, ticket: u64) -> bool {
        let first = self.waiting.get(&ticket).and_then(|(first, _)| self.pipeline.get(*first));
        first.is_some_and(|sent| sent.ask.access() == Access::Read)
    }

    /// Sends a pipeline to its proxy.
    pub(super) fn ask(&mut self, asks: Vec<Ask>, history: &mut History, env: &mut Env) {
        let now_us = env.agenda.now_us();
        let delay_us = env.dice.between(20, 200);
        let buckets: Arc<[u16]> = asks.iter().map(Ask::bucket).collect();
        let mut bursts: Vec<(Access, BytesMut, usize, usize)> = Vec::new();
        let mut timed: Vec<Vec<Timed>> = Vec::new();
        for (at, ask) in asks.iter().enumerate() {
            if bursts.last().is_none_or(|(access, ..)| *access != ask.access()) {
                bursts.push((ask.access(), BytesMut::new(), at, 0));
                timed.push(Vec::new());
            }
            if let Some(timed) = timed.last_mut() {
                timed.extend(ask.timed());
            }
            if let Some((_, payload, _, commands)) = bursts.last_mut() {
                ask.encode(env.set_back, payload);
                *commands += 1;
            }
        }
        self.pipeline.clear();
        self.waiting.clear();
        for ask in asks {
            let id = history.invoke(self.index, &ask, now_us);
            env.detail(format!("client {} asks p{}: {ask:?}", self.index, self.proxy + 1));
            self.pipeline.push(Sent { ask, id, end: None });
        }
        let mut submission = Submission::default();
        for ((access, payload, first, commands), timed) in bursts.into_iter().zip(timed) {
            self.ticket += 1;
            self.waiting.insert(self.ticket, (first, commands));
            submission.bursts.push(Burst {
                session: self.index as u32,
                ticket: self.ticket,
                commands: commands as u32,
                access,
                plan: 0,
                dialect: 2,
                stamp: false,
                everything: false,
                grows: self.ticket.is_multiple_of(2),
                leads: env.leads && access == Access::Write && self.ticket.is_multiple_of(3),
                payload: payload.freeze(),
                buckets: Buckets::new(buckets.clone(), first as u32..(first + commands) as u32),
                timed,
                arrived_us: now_us + delay_us,
                role: quorate_core::ordered::Role::Plain,
            });
        }
        env.agenda.after(delay_us, Due::Submit { proxy: self.proxy, submission });
    }

    /// A proxy answered; the client has it a little later.
    pub(super) fn answered(&mut self, ticket: u64, reply: Reply, late: bool, env: &mut Env) {
        if self.answered.insert(ticket, ()).is_some() {
            env.violate("twice", format!("client {} was answered twice", self.index));
            return;
        }
        self.arriving.insert(ticket, (reply, late));
        env.agenda.after(env.dice.between(20, 200), Due::Answer { client: self.index, ticket });
    }

    /// The answer is there. True when it was the last of the pipeline.
    pub(super) fn arrive(&mut self, ticket: u64, history: &mut History, env: &mut Env) -> bool {
        let Some((reply, late)) = self.arriving.remove(&ticket) else { return false };
        let Some((first, count)) = self.waiting.remove(&ticket) else { return false };
        let ends = self.ends(reply, count, late, env);
        for (place, end) in (first..first + count).zip(ends) {
            self.end(place, end, history, env);
        }
        self.finish(env)
    }

    fn ends(&mut self, reply: Reply, count: usize, late: bool, env: &mut Env) -> Vec<End> {
        match reply {
            Reply::Done(bytes) | Reply::DoneBy(_, bytes) => match replies(&bytes)
                .filter(|values| values.len() == count)
            {
                Some(values) => {
                    values.into_iter().map(|value| if late { End::Unknown } else { End::Ok(value) }).collect()
                }
                None => {
                    env.violate(
                        "nonsense",
                        format!("client {}: {count} commands, answer {bytes:?}", self.index),
                    );
                    vec![End::Unknown; count]
                }
            },
            Reply::Changed => {
                env.violate("nonsense", format!("client {}: no transaction was sent", self.index));
                vec![End::Unknown; count]
            }
            Reply::Refused(cause) => {
                if matches!(cause, Cause::Fenced { .. }) {
                    self.proxy = usize::MAX;
                }
                vec![End::Failed; count]
            }
            Reply::Unknown(cause) => {
                if matches!(cause, Cause::Fenced { .. }) {
                    self.proxy = usize::MAX;
                }
                vec![End::Unknown; count]
            }
        }
    }

    fn end(&mut self, place: usize, end: End, history: &mut History, env: &mut Env) {
        let sent = &mut self.pipeline[place];
        env.detail(format!("client {} learns: {:?} -> {}", self.index, sent.ask, show(&end)));
        env.count(&end);
        if let Err(odd) = history.end(&sent.ask, sent.id, &end, env.agenda.now_us()) {
            env.violate("nonsense", odd);
        }
        sent.end = Some(end);
    }

    fn finish(&mut self, env: &mut Env) -> bool {
        if !self.waiting.is_empty() {
            return false;
        }
        let done = self.pipeline.iter().map(|sent| (&sent.ask, sent.end.as_ref()));
        if let Some(broken) = order::broken(&done.collect::<Vec<_>>(), env.overtaken_reads) {
            env.violate("session order", format!("client {}: {broken}", self.index));
        }
        true
    }

    /// Its proxy is gone. True when that ended its pipeline.
    pub(super) fn cut_off(&mut self, history: &mut History, env: &mut Env) -> bool {
        let lost: Vec<u64> =
            self.waiting.keys().copied().filter(|t| !self.arriving.contains_key(t)).collect();
        if lost.is_empty() {
            return false;
        }
        for ticket in lost {
            let Some((first, count)) = self.waiting.remove(&ticket) else { continue };
            self.answered.insert(ticket, ());
            (first..first + count).for_each(|place| self.end(place, End::Unknown, history, env));
        }
        self.finish(env)
    }

    /// A pipeline as chance has it; `nonce` makes what it writes unlike anything else.
    /// With the time, in milliseconds since 1970, some of it gives keys a life.
    pub(super) fn draw(&self, nonce: u64, now_ms: Option<u64>, dice: &mut Dice) -> Vec<Ask> {
        let count = if dice.percent(40) { 1 } else { dice.between(2, 5) };
        (0..count).map(|i| draw(nonce * 10 + i, now_ms, dice)).collect()
    }
}

fn show(end: &End) -> String {
    match end {
        End::Ok(value) => format!("{value:?}"),
        End::Failed => "NOTAPPLIED".into(),
        End::Unknown => "UNKNOWN".into(),
    }
}

fn draw(nonce: u64, now_ms: Option<u64>, dice: &mut Dice) -> Ask {
    let key = dice.below(2) as u8;
    match (dice.below(if now_ms.is_some() { 9 } else { 7 }), now_ms) {
        (0, _) => Ask::Set(key, format!("v{nonce}")),
        (1, _) => Ask::Get(key),
        (2, _) => Ask::Add(key, 1 + nonce % 5),
        (3, _) => Ask::Count(key),
        (7, Some(now_ms)) => Ask::Lease(key, now_ms + dice.between(1, 200)),
        (8, _) => Ask::Touch(key),
        (4 | 5, _) => Ask::Push(key, format!("i{nonce}")),
        _ => Ask::List(key),
    }
}
