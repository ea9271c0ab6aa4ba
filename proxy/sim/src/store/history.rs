//! What a crash may lose: a second copy of the data that trails behind, and the transactions between.
//! Replaying them all gives exactly the live data; leaving out the last n gives what n lost ones leave.

use std::collections::VecDeque;

use super::input::Args;
use super::keyspace::Keyspace;
use super::table::{self, Run};

/// Requests applied as a whole at one time. Without requests it only lets keys expire.
#[derive(Debug, Clone)]
struct Transaction {
    now_ms: u64,
    requests: Vec<Args>,
}

/// The trailing copy and the transactions it has not yet seen.
pub(super) struct History {
    limit: usize,
    base: Keyspace,
    pending: VecDeque<Transaction>,
}

impl History {
    pub(super) fn new(limit: usize) -> Self {
        History { limit, base: Keyspace::default(), pending: VecDeque::new() }
    }

    /// How many of the last transactions could be lost.
    pub(super) fn len(&self) -> usize {
        self.pending.len()
    }

    pub(super) fn record_if_any(&mut self, db: &mut Keyspace, requests: Vec<Args>) {
        if !requests.is_empty() {
            self.record(db, requests);
        }
    }

    pub(super) fn record(&mut self, db: &mut Keyspace, requests: Vec<Args>) {
        if self.limit == 0 {
            return;
        }
        self.pending.push_back(Transaction { now_ms: db.now_ms(), requests });
        while self.pending.len() > self.limit {
            self.settle_oldest();
        }
    }

    /// Forgets the last `lose` transactions and gives the data that is left.
    pub(super) fn rewind(&mut self, lose: usize) -> Keyspace {
        let kept = self.pending.len().saturating_sub(lose);
        self.pending.truncate(kept);
        while !self.pending.is_empty() {
            self.settle_oldest();
        }
        self.base.clone()
    }

    /// Forgets everything.
    pub(super) fn wipe(&mut self) {
        *self = History::new(self.limit);
    }

    fn settle_oldest(&mut self) {
        let Some(transaction) = self.pending.pop_front() else { return };
        self.base.set_now(transaction.now_ms);
        for args in transaction.requests {
            replay(&mut self.base, &args);
        }
        self.base.take_touched();
    }
}

fn replay(db: &mut Keyspace, args: &Args) {
    let row = args.first().and_then(|name| table::lookup(name));
    if let Some(Run::Data(run)) = row.map(|row| row.run) {
        // It changed data when it first ran; a fault after that is part of its effect.
        let _ = run(db, args);
        let now_ms = db.now_ms();
        db.set_now(now_ms);
    }
}
