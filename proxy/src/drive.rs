//! The driver of one group: events to the core, effects to sockets. A few lines on purpose.

use crate::backend::link::{Link, is_oom};
use crate::group::GroupShared;
use crate::journal::JournalEvent;
use crate::listen::pubsub::{self, Message, Via};
use crate::listen::tracking::{self, Changed, Invalidation};
use crate::recorder::{News, Recorder};
use crate::uncommitted::Uncommitted;
use crate::worker::{Clock, Mail, Mailbox, Worker};
use bytes::Bytes;
use quorate_core::ordered::{
    Answer, Copies, Effects, Entry, Event, Group, Note, Now, Outgoing, Past, ReplicaState, Request,
};
use quorate_core::rule::Mask;
use quorate_wire::command::{self, Publication};
use quorate_wire::resp::{Framer, encode};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::{Notify, mpsc, oneshot};

/// A tick this late, in microseconds, shows that the thread had no time for its sockets either.
const BUSY_US: u64 = 100_000;

/// The very same entries? A number alone can be given twice, when an entry was taken back.
fn same(one: &[Arc<Entry>], other: &[Arc<Entry>]) -> bool {
    one.len() == other.len() && one.iter().zip(other).all(|(a, b)| Arc::ptr_eq(a, b))
}

/// Replicas and what they answered at one position; `None` when they could not be asked there.
type Answered = Option<Vec<(usize, Bytes)>>;

/// See the module's head.
pub struct Driver {
    group: Group,
    shared: Arc<GroupShared>,
    framer: Framer,
    clock: Clock,
    links: Vec<Rc<Link>>,
    /// The worker whose thread this is, and its index.
    here: (Weak<Worker>, usize),
    mailboxes: Arc<[Arc<Mailbox>]>,
    events: Vec<Event>,
    fx: Effects,
    /// The transaction written last, usually the same for every replica.
    image: Option<(Vec<Arc<Entry>>, Vec<Bytes>)>,
    /// Entries whose commit somebody waits to be told.
    committed: Uncommitted,
    superseded: Option<u64>,
    ticked_us: u64,
    recorder: Option<Recorder>,
    journal_failed: bool,
    in_sync: Rc<Wanted>,
    /// Those who wait for surveys, and how many surveys there were.
    surveys: (BTreeMap<u64, oneshot::Sender<Answered>>, u64),
    disks: Vec<mpsc::UnboundedSender<u64>>,
}

/// What the operator is told of a replica that is not fed any further.
const OTHER_BUILD: &str =
    "it misses scripts that replicas of another version ran as they are, and needs a copy";

/// The in-sync set that the core wants recorded.
#[derive(Debug, Default)]
pub struct Wanted {
    members: Cell<Option<Mask>>,
    notify: Notify,
}

impl Wanted {
    /// Waits until a set is wanted.
    pub async fn next(&self) -> Mask {
        loop {
            if let Some(members) = self.members.take() {
                return members;
            }
            self.notify.notified().await;
        }
    }
}

impl Driver {
    /// A driver for a new sequencer.
    pub fn new(
        group: Group,
        shared: Arc<GroupShared>,
        framer: Framer,
        clock: Clock,
        links: Vec<Rc<Link>>,
        here: (Weak<Worker>, usize),
        mailboxes: Arc<[Arc<Mailbox>]>,
    ) -> Self {
        let (events, fx) = (Vec::new(), Effects::default());
        Self {
            group,
            shared,
            framer,
            clock,
            links,
            here,
            mailboxes,
            events,
            fx,
            image: None,
            committed: Uncommitted::default(),
            superseded: None,
            ticked_us: 0,
            recorder: None,
            journal_failed: false,
            in_sync: Rc::default(),
            surveys: Default::default(),
            disks: Vec::new(),
        }
    }

    /// Those who ask the replicas what they have on their disks, by replica.
    pub fn set_disks(&mut self, disks: Vec<mpsc::UnboundedSender<u64>>) {
        self.disks = disks;
    }

    /// The same with a journal.
    pub fn recording(self, recorder: Option<Recorder>) -> Self {
        Self { recorder, ..self }
    }

    /// Begins again under a later epoch, before the group ever served.
    pub fn restart(&mut self, epoch: u64, past: Past) {
        self.group.restart(epoch, past);
        self.in_sync.members.set(None);
        self.image = None;
        self.committed = Uncommitted::default();
        self.superseded = None;
        self.surveys.0.clear();
        self.run(self.journal_stands());
    }

    /// What the core wants of the coordinator.
    pub fn wanted_in_sync(&self) -> Rc<Wanted> {
        self.in_sync.clone()
    }

    fn journal_stands(&self) -> Option<Event> {
        self.recorder.as_ref().map(|recorder| Event::Journal(recorder.stands(self.journal_failed)))
    }

    /// The journal has something to say.
    pub fn journal(&mut self, news: News) {
        let event = match news {
            News::Event(event) => self.journal_event(event),
            News::Read { replica, result: Ok(entries), .. } => {
                let entries = entries.into_iter().map(Arc::new).collect();
                Some(Event::Owed { replica, entries })
            }
            News::Read { replica, from, result: Err(error) } => {
                let (group, replica_name) = (self.shared.name.as_str(), self.shared.replica(replica));
                tracing::warn!(group, replica = replica_name, from, "the journal cannot feed it: {error}");
                Some(Event::Owed { replica, entries: Vec::new() })
            }
        };
        let stands = self.journal_stands();
        self.run(event.into_iter().chain(stands));
    }

    fn journal_event(&mut self, event: JournalEvent) -> Option<Event> {
        let group = self.shared.name.as_str();
        match event {
            JournalEvent::Retracted { from } => return Some(Event::Unrecorded { from }),
            JournalEvent::Failed { error } => {
                self.journal_failed = true;
                self.shared.counters.journal_failures.fetch_add(1, Ordering::Relaxed);
                tracing::error!(group, "the journal fails: {error}");
            }
            JournalEvent::Recovered { .. } => {
                self.journal_failed = false;
                tracing::warn!(group, "the journal records again");
            }
            JournalEvent::Dropped { through } => {
                tracing::debug!(group, through, "the journal let go of entries")
            }
            JournalEvent::Durable { .. } => {}
        }
        None
    }

    /// Asks all replicas in sync the same at one position; answers may have so many bytes.
    pub fn survey(&mut self, request: Request, bytes: usize) -> oneshot::Receiver<Answered> {
        let (sender, answered) = oneshot::channel();
        self.surveys.1 += 1;
        let id = self.surveys.1;
        self.surveys.0.insert(id, sender);
        self.run([Event::Survey { id, request, bytes }]);
        answered
    }

    /// The letter boxes of all workers.
    pub fn mailboxes(&self) -> Arc<[Arc<Mailbox>]> {
        self.mailboxes.clone()
    }

    /// The sequencer.
    pub fn group(&self) -> &Group {
        &self.group
    }

    /// The copies that are being made of all data.
    pub fn copies(&mut self) -> &mut Copies {
        self.group.copies()
    }

    /// Makes plans known; the numbers by which requests must name them.
    pub fn adopt_plans(&mut self, plans: &[quorate_core::plan::Plan]) -> Vec<u16> {
        self.group.adopt_plans(plans)
    }

    /// A greater epoch was met before this one served: the group must be taken over anew.
    pub fn superseded(&self) -> Option<u64> {
        self.superseded
    }

    /// A greater epoch was met at a backend.
    pub fn fenced(&mut self, by: u64) {
        use quorate_core::ordered::Phase;
        match self.group.phase() {
            Phase::Recovering | Phase::Barrier => self.superseded = self.superseded.max(Some(by)),
            Phase::Serving | Phase::Fenced { .. } => {
                self.shared.set_fenced(by);
                self.run([Event::Fenced { by }]);
                // Another proxy sees what changes from now on.
                self.invalidate(tracking::stale(&self.shared.tracker, Changed::Everything));
                self.mailboxes.iter().for_each(|mailbox| mailbox.post(Mail::Fenced(self.shared.index)));
            }
        }
    }

    /// Events for the step at the end of this turn.
    pub fn push(&mut self, events: impl IntoIterator<Item = Event>) {
        self.events.extend(events);
        if let Some(here) = self.here.0.upgrade() {
            here.schedule();
        }
    }

    /// The step at the end of a turn, if there is anything to take it for.
    pub fn end_turn(&mut self, last: Option<Event>) {
        if last.is_some() || !self.events.is_empty() {
            self.run(last);
        }
    }

    /// One step of the core at once, and all that follows from it.
    pub fn run(&mut self, events: impl IntoIterator<Item = Event>) {
        self.events.extend(events);
        let now = Now { us: self.clock.now_us(), unix_ms: self.clock.unix_ms() };
        self.group.step(now, &mut self.events, &mut self.fx);
        self.send();
        // A message first, then the answer to whoever published it.
        self.announce();
        self.answer();
        self.note();
        if let Some(members) = self.fx.in_sync.take() {
            self.in_sync.members.set(Some(members));
            self.in_sync.notify.notify_one();
        }
        for (replica, through) in std::mem::take(&mut self.fx.syncs) {
            // Whoever is to be asked may be replaced just now; then the core asks again.
            let told = self.disks.get(replica).is_some_and(|disk| disk.send(through).is_ok());
            if !told {
                self.push([Event::Synced { replica, through: Err(Bytes::new()) }]);
            }
        }
        for record in self.fx.records.drain(..) {
            if let Some(recorder) = &self.recorder {
                recorder.record(record);
            }
        }
        for survey in self.fx.surveys.drain(..) {
            // Whoever asked may be gone.
            let _ = self.surveys.0.remove(&survey.id).map(|asker| asker.send(survey.answers));
        }
        for (i, why) in std::mem::take(&mut self.fx.drops) {
            self.links[i].close(why);
        }
    }

    fn send(&mut self) {
        let mut written: u64 = 0;
        let (head, mut unfit) = (self.group.head().seq, Vec::new());
        for (i, outgoing) in self.fx.sends.drain(..) {
            let link = &self.links[i];
            written |= 1 << i;
            match outgoing {
                Outgoing::Read { payload, commands, dialect } => {
                    link.read(payload, commands, dialect, false);
                }
                Outgoing::Trial { payload, commands, dialect } => {
                    link.read(payload, commands, dialect, true);
                }
                Outgoing::Entries(entries) if link.bars(head, &entries) => {
                    let (group, replica) = (&self.shared.name, self.shared.replica(i));
                    tracing::warn!(group, replica, "{OTHER_BUILD}");
                    unfit.push(Event::Unfit { replica: i });
                }
                Outgoing::Entries(entries) => {
                    self.committed.sent(&entries, self.group.epoch());
                    let image = match &self.image {
                        Some((of, image)) if same(of, &entries) => image.clone(),
                        _ => self.framer.frame(&entries),
                    };
                    self.image = Some((entries.clone(), image.clone()));
                    link.transaction(image, self.framer.reader(&entries), entries);
                }
            }
        }
        quorate_core::rule::indices(written).for_each(|i| self.links[i].flush());
        // Even an empty push asks for one more turn, and every batch passes here.
        if !unfit.is_empty() {
            self.push(unfit);
        }
    }

    /// Hands out the messages of what is committed by now.
    fn announce(&mut self) {
        let hub = &self.shared.hub;
        let tracker = &self.shared.tracker;
        let (listens, caches) = (hub.is_active(), tracker.is_active());
        if !listens && !caches {
            return self.committed.settle(self.group.committed(), |_| {});
        }
        let (mut messages, mut stale) = (Vec::new(), Vec::new());
        self.committed.settle(self.group.committed(), |entry| {
            if caches {
                stale.extend(tracking::stale(tracker, tracking::changed(&entry.payload)));
            }
            command::publications(&entry.payload, |publication| {
                if hub.hands_out(&publication.channel) {
                    let Publication { sharded, channel, message } = publication;
                    let via = if sharded { Via::Spublish } else { Via::Publish };
                    messages.push(Message { via, channel, text: message });
                }
            });
        });
        self.hand_out(messages);
        self.invalidate(stale);
    }

    /// Tells clients on all workers what they must not cache any more.
    fn invalidate(&self, stale: Vec<Invalidation>) {
        let (group, count) = (self.shared.index, self.mailboxes.len());
        let mut by_worker: Vec<Vec<Invalidation>> = vec![Vec::new(); count];
        stale.into_iter().for_each(|one| by_worker[one.0.session as usize % count].push(one));
        for (worker, told) in by_worker.into_iter().enumerate().filter(|(_, told)| !told.is_empty()) {
            match self.here.0.upgrade() {
                Some(here) if worker == self.here.1 => here.invalidate(group, &told),
                _ => self.mailboxes[worker].post(Mail::Invalidate(group, told)),
            }
        }
    }

    /// Brings messages to the workers whose clients listen.
    pub fn hand_out(&self, messages: Vec<Message>) {
        if messages.is_empty() {
            return;
        }
        let group = self.shared.index;
        let sorted = pubsub::sort(&self.shared.hub, messages, self.mailboxes.len());
        for (worker, messages) in sorted.into_iter().enumerate().filter(|(_, list)| !list.is_empty()) {
            match self.here.0.upgrade() {
                Some(here) if worker == self.here.1 => here.hand_out(group, &messages),
                _ => self.mailboxes[worker].post(Mail::Messages(group, messages)),
            }
        }
    }

    /// Sends a command to every attached server, beside the log. What they answer is not told.
    pub fn have_all_do(&self, command: &Bytes) {
        for link in &self.links {
            link.aside(command.clone());
            link.flush();
        }
    }

    fn answer(&mut self) {
        let answers = std::mem::take(&mut self.fx.answers);
        let count = self.mailboxes.len();
        if answers.is_empty() || count == 1 {
            return self.deliver(self.here.1, answers);
        }
        let mut by_worker: Vec<Vec<Answer>> = vec![Vec::new(); count];
        answers.into_iter().for_each(|answer| by_worker[answer.session as usize % count].push(answer));
        by_worker.into_iter().enumerate().for_each(|(worker, answers)| self.deliver(worker, answers));
    }

    fn deliver(&self, worker: usize, answers: Vec<Answer>) {
        if answers.is_empty() {
            return;
        }
        let group = self.shared.index;
        if worker != self.here.1 {
            self.mailboxes[worker].post(Mail::Answers(group, answers));
        } else if let Some(here) = self.here.0.upgrade() {
            here.deliver(group, answers);
        }
    }

    fn note(&mut self) {
        for note in std::mem::take(&mut self.fx.notes) {
            self.shared.counters.note(&note);
            self.log(&note);
            if let Note::Refused { replica, error } = &note
                && is_oom(error)
            {
                self.shared.memory.refused(*replica);
            }
            if let Note::State { replica, now: ReplicaState::InSync, .. } = note {
                self.record_run(replica);
            }
        }
    }

    /// It holds all that is committed again: from now on it remembers as this run.
    fn record_run(&self, replica: usize) {
        let link = &self.links[replica];
        let key = self.shared.reserved.run.as_bytes();
        link.aside(encode::command_bytes(&[b"SET", key, link.mark().as_bytes()]));
        link.flush();
    }

    fn log(&self, note: &Note) {
        let group = self.shared.name.as_str();
        let name = |i: &usize| self.shared.replica(*i);
        match note {
            Note::State { replica, was, now } => {
                tracing::info!(group, replica = name(replica), was = was.name(), now = now.name(), "replica");
            }
            Note::Serving => tracing::info!(group, epoch = self.group.epoch(), "serving"),
            Note::Fenced { by } => tracing::error!(
                group,
                epoch = self.group.epoch(),
                by,
                "fenced: a newer proxy owns this group; this one stopped serving it"
            ),
            // Counted always, told now and then: one cause usually touches many entries.
            Note::Divergence { seq, replica } if self.shared.counters.divergences_tell() => tracing::error!(
                group,
                entry = seq,
                replica = name(replica),
                "replicas answered the same entry differently"
            ),
            Note::Divergence { .. } => {}
            Note::Stale { replica, reason } => tracing::error!(
                group,
                replica = name(replica),
                reason = reason.name(),
                "replica is stale: it takes no part until it gets a copy of all data, see docs/operations.md"
            ),
            Note::Mended { replica, keys } => {
                tracing::info!(group, replica = name(replica), keys, "a replica that differed was mended");
            }
            Note::Unmended { replica, why } => {
                tracing::error!(group, replica = name(replica), why, "a replica cannot be mended key by key");
            }
            Note::Refused { replica, error } => tracing::warn!(
                group, replica = name(replica), error = %String::from_utf8_lossy(error), "a backend refused an entry"
            ),
            Note::Retracted { seq } => {
                tracing::warn!(group, entry = seq, "no backend took the entry; it was taken back")
            }
        }
    }

    /// Publishes the state for other threads, and lets time pass in the core.
    pub fn tick(&mut self) {
        // While this thread was busy, nobody listened: that silence is not the backends'.
        let now_us = self.clock.now_us();
        let busy = now_us.saturating_sub(std::mem::replace(&mut self.ticked_us, now_us)) > BUSY_US;
        let moved = self.links.iter().enumerate().filter(|(_, link)| link.take_moved() || busy);
        let progress: Vec<Event> =
            moved.map(|(replica, link)| Event::Progress { replica, partial: link.partial() }).collect();
        self.run(progress.into_iter().chain([Event::Tick]));
        self.shared.health.store(Arc::new(self.group.health()));
    }
}
