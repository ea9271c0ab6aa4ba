//! What all parts of a world share: time, chance, the network, the coordinators, and the record.

use super::clock::Agenda;
use super::dice::Dice;
use super::history::End;
use super::journal::Folder;
use super::net::{ConnId, Net, Segment, Way};
use super::talk::Owner;
use super::trace::Trace;
use bytes::Bytes;
use quorate_core::ordered::Answer;
use quorate_core::rule::Mask;

/// Who keeps epochs.
#[derive(Debug, Default)]
pub(super) struct Coordinator {
    pub(super) epoch: u64,
    pub(super) served: bool,
    pub(super) in_sync: Option<Mask>,
}

/// See the module's head.
#[derive(Debug)]
pub(super) struct Env {
    pub(super) agenda: Agenda,
    pub(super) dice: Dice,
    pub(super) net: Net,
    pub(super) trace: Trace,
    pub(super) coordinators: Vec<Coordinator>,
    /// Disks of journals; each is used by one living process at most.
    pub(super) folders: Vec<Folder>,
    /// Clocks run at rates of their own.
    pub(super) skewed: bool,
    /// Deadlines are written as proxies write them that own them.
    pub(super) set_back: bool,
    /// Some writes run on one replica first.
    pub(super) leads: bool,
    /// Answers of proxies on their way out.
    pub(super) answers: Vec<(usize, Answer)>,
    /// Backends that were fenced since anybody looked.
    pub(super) fences: Vec<usize>,
    /// The greatest owner that ever served.
    pub(super) latest: Owner,
    /// The greatest epoch that was ever taken.
    pub(super) granted: u64,
    /// Ownerships that served.
    pub(super) ownerships: u64,
    /// Surveys that were answered.
    pub(super) surveys: u64,
    /// Commands applied, refused, unknown.
    pub(super) counts: [u64; 3],
    /// Judge reads that see a write sent behind them.
    pub(super) overtaken_reads: bool,
    /// The first promise that was seen broken.
    pub(super) broken: Option<(&'static str, String)>,
}

impl Env {
    pub(super) fn new(seed: u64) -> Self {
        Env {
            agenda: Agenda::default(),
            dice: Dice::new(seed),
            net: Net::default(),
            trace: Trace::default(),
            coordinators: Vec::new(),
            folders: Vec::new(),
            skewed: false,
            set_back: true,
            leads: true,
            answers: Vec::new(),
            fences: Vec::new(),
            latest: Owner::default(),
            granted: 0,
            ownerships: 0,
            surveys: 0,
            counts: [0; 3],
            overtaken_reads: true,
            broken: None,
        }
    }

    pub(super) fn note(&mut self, text: String) {
        self.trace.note(self.agenda.now_us(), text);
    }

    pub(super) fn detail(&mut self, text: String) {
        self.trace.detail(self.agenda.now_us(), text);
    }

    pub(super) fn violate(&mut self, promise: &'static str, story: String) {
        if self.broken.is_none() {
            self.note(format!("broken: {promise}: {story}"));
            self.broken = Some((promise, story));
        }
    }

    pub(super) fn count(&mut self, end: &End) {
        let place = match end {
            End::Ok(_) => 0,
            End::Failed => 1,
            End::Unknown => 2,
        };
        self.counts[place] += 1;
    }

    pub(super) fn connect(&mut self, proxy: usize, backend: usize) -> ConnId {
        self.net.open(proxy, backend, &mut self.agenda, &mut self.dice)
    }

    pub(super) fn say(&mut self, id: ConnId, way: Way, segment: Segment) {
        self.net.send(id, way, segment, &mut self.agenda, &mut self.dice);
    }

    pub(super) fn write(&mut self, id: ConnId, way: Way, bytes: Bytes) {
        self.net.write(id, way, bytes, &mut self.agenda, &mut self.dice);
    }

    pub(super) fn hang_up(&mut self, id: ConnId) {
        self.net.hang_up(id, &mut self.agenda, &mut self.dice);
    }

    pub(super) fn reset(&mut self, id: ConnId) {
        self.net.reset(id, &mut self.agenda, &mut self.dice);
    }

    /// Lets everything that waited on a blocked path try again.
    pub(super) fn retry(&mut self) {
        self.net.retry(&mut self.agenda, &mut self.dice);
    }
}
