//! From messages to the sessions of one worker: encoded once for each dialect, however many read it.

use super::{Hub, Kind, Own, frame, may_be_keyspace};
use crate::listen::session::{self, Session};
use crate::worker::{GroupHandle, Worker};
use bytes::Bytes;
use quorate_wire::glob;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Whom a message is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Via {
    /// Those who subscribed to the channel, and those with a pattern that matches.
    Publish,
    /// Those who subscribed to the channel with SSUBSCRIBE.
    Spublish,
    /// An event of a backend, as it told it to its subscribers of the channel.
    Event,
    /// The same, as it told it to those with this pattern.
    EventBy(Bytes),
}

/// A message on its way to subscribers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// For whom.
    pub via: Via,
    /// Its channel.
    pub channel: Bytes,
    /// What it says.
    pub text: Bytes,
}

/// The subscribers among a worker's sessions, by their numbers.
#[derive(Debug, Default)]
pub struct Local {
    channels: HashMap<Bytes, BTreeSet<u32>>,
    shards: HashMap<Bytes, BTreeSet<u32>>,
    patterns: BTreeMap<Bytes, BTreeSet<u32>>,
}

impl Local {
    fn enter(&mut self, kind: Kind, name: &Bytes, session: u32) {
        let set = match kind {
            Kind::Channel => self.channels.entry(name.clone()).or_default(),
            Kind::Shard => self.shards.entry(name.clone()).or_default(),
            Kind::Pattern => self.patterns.entry(name.clone()).or_default(),
        };
        set.insert(session);
    }

    fn leave(&mut self, kind: Kind, name: &Bytes, session: u32) {
        let set = match kind {
            Kind::Channel => self.channels.get_mut(name),
            Kind::Shard => self.shards.get_mut(name),
            Kind::Pattern => self.patterns.get_mut(name),
        };
        if let Some(set) = set
            && set.remove(&session)
            && set.is_empty()
        {
            match kind {
                Kind::Channel => drop(self.channels.remove(name)),
                Kind::Shard => drop(self.shards.remove(name)),
                Kind::Pattern => drop(self.patterns.remove(name)),
            }
        }
    }

    fn has(&self, session: u32) -> bool {
        let mut sets = self.channels.values().chain(self.shards.values()).chain(self.patterns.values());
        sets.any(|set| set.contains(&session))
    }

    /// Calls `each` with every set of sessions that get the message, and the pattern by which they do.
    fn each(&self, message: &Message, mut each: impl FnMut(&BTreeSet<u32>, Option<&Bytes>)) {
        let channel = &message.channel;
        match &message.via {
            Via::Spublish => self.shards.get(channel).into_iter().for_each(|set| each(set, None)),
            Via::Event => self.channels.get(channel).into_iter().for_each(|set| each(set, None)),
            Via::EventBy(pattern) => {
                self.patterns.get(pattern).into_iter().for_each(|set| each(set, Some(pattern)));
            }
            Via::Publish => {
                self.channels.get(channel).into_iter().for_each(|set| each(set, None));
                let by = self.patterns.iter().filter(|(pattern, _)| glob::matches(pattern, channel));
                by.for_each(|(pattern, set)| each(set, Some(pattern)));
            }
        }
    }
}

/// One frame in both dialects, each made when it is first needed.
struct Frames<'a> {
    message: &'a Message,
    pattern: Option<&'a Bytes>,
    made: [Option<Bytes>; 2],
}

impl Frames<'_> {
    fn of(&mut self, dialect: u8) -> Bytes {
        let Message { via, channel, text } = self.message;
        let make = || match self.pattern {
            Some(pattern) => frame::by_pattern(pattern, channel, text, dialect),
            None => frame::message(*via == Via::Spublish, channel, text, dialect),
        };
        self.made[usize::from(dialect == 3)].get_or_insert_with(make).clone()
    }
}

impl Worker {
    /// Makes a subscription known.
    pub(super) fn subscribe(&self, s: &mut Session, kind: Kind, name: &Bytes) {
        s.own.add(kind, name);
        if s.heard.add(kind, name) {
            let group = &self.groups[s.port.group.index];
            group.subscribers.borrow_mut().enter(kind, name, s.number);
            group.shared.hub.enter(kind, name, self.index());
            for group in self.tell_of_keys(s, kind, name) {
                group.foreign_subscribers.borrow_mut().enter(kind, name, s.number);
                group.shared.hub.enter_foreign(kind, name);
            }
        }
        self.tell_registry(s);
    }

    /// Ends subscriptions with this answer; messages that come before it are still sent.
    pub(super) fn unsubscribe(&self, s: &mut Session, reply: Bytes, kind: Kind, names: Vec<Bytes>) {
        self.tell_registry(s);
        if !s.is_paid_in_turn() {
            return s.leave(reply, kind, names);
        }
        s.answer(reply);
        names.iter().for_each(|name| self.unhear(s, kind, name));
    }

    /// Ends the effect of a subscription, unless the client has it again.
    pub fn unhear(&self, s: &mut Session, kind: Kind, name: &Bytes) {
        if !s.own.has(kind, name) && s.heard.remove(kind, name) {
            let group = &self.groups[s.port.group.index];
            group.subscribers.borrow_mut().leave(kind, name, s.number);
            group.shared.hub.leave(kind, name, self.index());
            for group in self.tell_of_keys(s, kind, name) {
                group.foreign_subscribers.borrow_mut().leave(kind, name, s.number);
                group.shared.hub.leave_foreign(kind, name);
            }
        }
    }

    /// The groups behind a client's listener, beside that of its messages, that may have such events of keys.
    fn tell_of_keys(&self, s: &Session, kind: Kind, name: &[u8]) -> impl Iterator<Item = &GroupHandle> {
        let others = if may_be_keyspace(kind, name) { s.port.groups.len() } else { 0 };
        let own = s.port.group.index;
        let indices: Vec<usize> = s.port.groups[..others].iter().map(|group| group.index).collect();
        indices.into_iter().filter(move |index| *index != own).map(|index| &self.groups[index])
    }

    /// Forgets every subscription at once, without a word.
    pub fn unhear_all(&self, s: &mut Session) {
        s.own = Own::default();
        for kind in Kind::ALL {
            s.heard.all(kind).iter().for_each(|name| self.unhear(s, kind, name));
        }
        self.tell_registry(s);
    }

    /// Closes whoever listens: there will be no message any more, and elsewhere there will.
    pub fn close_subscribers(&self, group: usize) {
        let foreign = self.groups[group].foreign_subscribers.borrow();
        for session in self.all_sessions() {
            let s = session.borrow();
            if (s.port.group.index == group && !s.heard.is_empty()) || foreign.has(s.number) {
                s.client.kill();
            }
        }
    }

    fn tell_registry(&self, s: &Session) {
        for (kind, told) in Kind::ALL.into_iter().zip(&s.client.subscriptions) {
            told.store(Own::len(&s.own, kind) as u64, Relaxed);
        }
    }

    /// Hands messages to this worker's sessions, in their order.
    pub fn hand_out(&self, group: usize, messages: &[Arc<Message>]) {
        let handle = &self.groups[group];
        let (subscribers, foreign) = (handle.subscribers.borrow(), handle.foreign_subscribers.borrow());
        let mut due: Vec<Rc<RefCell<Session>>> = Vec::new();
        let mut delivered = 0;
        for message in messages {
            let mut push = |set: &BTreeSet<u32>, pattern: Option<&Bytes>| {
                let mut frames = Frames { message, pattern, made: [None, None] };
                for session in set.iter().filter_map(|number| self.session(*number)) {
                    let mut s = session.borrow_mut();
                    let frame = frames.of(s.dialect);
                    s.push(frame);
                    delivered += 1;
                    if s.mark() {
                        drop(s);
                        due.push(session);
                    }
                }
            };
            subscribers.each(message, &mut push);
            if matches!(message.via, Via::Event | Via::EventBy(_)) {
                foreign.each(message, &mut push);
            }
        }
        drop((subscribers, foreign));
        handle.shared.hub.delivered.fetch_add(delivered, Relaxed);
        due.iter().for_each(|session| session::flush(self, session));
    }
}

/// The workers that messages must go to, and which of them: one list a worker.
pub fn sort(hub: &Hub, messages: Vec<Message>, workers: usize) -> Vec<Vec<Arc<Message>>> {
    let mut sorted = vec![Vec::new(); workers];
    for message in messages {
        let reached = match &message.via {
            _ if workers == 1 => vec![true],
            Via::Publish | Via::Spublish => hub.reach(message.via == Via::Spublish, &message.channel).1,
            // Few, and their subscribers are known by another name.
            Via::Event | Via::EventBy(_) => vec![true; workers],
        };
        let message = Arc::new(message);
        let lists = sorted.iter_mut().zip(reached).filter(|(_, reached)| *reached);
        lists.for_each(|(list, _)| list.push(message.clone()));
    }
    sorted
}
