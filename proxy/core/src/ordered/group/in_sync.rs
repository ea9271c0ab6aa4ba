//! The ack rule `in-sync`: a write is acknowledged when every member of a recorded set has it.
//!
//! A member that fails is taken out of the record first, and only then are writes acknowledged without
//! it; a replica that caught up is waited for first, and only then counts as a member. So every member of
//! the record holds every acknowledged write, and one of them is enough to know the log. The rule of the
//! record is Kafka's in-sync replica set, without its unclean elections.

use super::super::Effects;
use super::super::recovery::Attachment;
use super::super::replica::{Replica, mask};
use super::{Group, Phase};
use crate::rule::{Mask, Rule};

/// When a write may be acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ack {
    /// When the plan's own rule is met.
    #[default]
    Quorum,
    /// When every member of the recorded in-sync set has it, and there are at least `min` of them.
    InSync {
        /// The set never becomes smaller than this; at least 1.
        min: u32,
    },
}

/// The recorded set and what is being made of it.
#[derive(Debug, Default)]
pub(super) struct InSync {
    /// What the coordinator holds; `None` when nobody knows.
    pub(super) recorded: Option<Mask>,
    /// What it was asked to hold instead.
    asked: Option<Mask>,
}

impl Group {
    fn everyone(&self) -> Mask {
        (1 << self.replicas.len()) - 1
    }

    /// The rule of the recorded set. While nobody knows it, a take-over must reckon with any replica alone
    /// holding an acknowledged write, and the new owner acknowledges nothing.
    pub(super) fn in_sync_rule(&self) -> Rule {
        match self.in_sync.recorded {
            None if self.phase == Phase::Recovering => Rule::count(1, self.everyone()),
            None => Rule::any_of(Vec::new()),
            Some(members) if self.config.rules.record_first => {
                Rule::all(members | self.in_sync.asked.unwrap_or_default())
            }
            Some(members) => Rule::all(self.in_sync.asked.unwrap_or(members)),
        }
    }

    /// The rules of a take-over. Where nobody knows the record everyone must be there, save a replica that is part of a
    /// copy: it cannot be adopted anyway, and if its old position is beyond every whole replica's, the verdict waits.
    pub(super) fn recovery_rules(&self) -> Vec<Rule> {
        let partial = |a: &Option<Attachment>| a.as_ref().is_some_and(|a| a.partial);
        let excused = self.attachments.iter().enumerate().filter(|(_, a)| partial(a));
        let excused = excused.fold(0, |mask: Mask, (i, _)| mask | 1 << i);
        match (self.config.ack, self.in_sync.recorded) {
            (Ack::InSync { .. }, None) => vec![Rule::count(1, self.everyone() & !excused)],
            _ => self.rules.iter().map(|state| state.rule.clone()).collect(),
        }
    }

    /// With connections to these replicas, can no newer owner have taken over unnoticed?
    pub(super) fn rules_out_others(&self, connected: Mask) -> bool {
        match self.config.ack {
            Ack::Quorum => self.covered(connected),
            // Any one member is enough for it.
            Ack::InSync { .. } => self.in_sync.recorded.is_some_and(|members| members & !connected == 0),
        }
    }

    /// A new ownership begins with what the coordinator holds.
    pub(super) fn begin_in_sync(&mut self, recorded: Option<Mask>) {
        self.in_sync = InSync { recorded, asked: None };
        self.apply_in_sync();
    }

    /// Puts the rule of the set in force, which is another one once the log is known.
    pub(super) fn apply_in_sync(&mut self) {
        if let super::Ack::InSync { .. } = self.config.ack {
            let rule = self.in_sync_rule();
            self.rules.iter_mut().for_each(|state| state.rule = rule.clone());
        }
    }

    /// Asks for a smaller or larger set where replicas failed or caught up.
    pub(super) fn adapt_in_sync(&mut self, fx: &mut Effects) {
        let Ack::InSync { min } = self.config.ack else { return };
        let begun = matches!(self.phase, Phase::Barrier | Phase::Serving);
        if !begun || self.in_sync.asked.is_some() {
            return;
        }
        // Where nobody knows who was one, whoever holds all that was adopted becomes one, and nobody else; of a log that
        // begins, everybody does.
        let begins = self.barrier == 1;
        let members = self.in_sync.recorded.unwrap_or(if begins { self.everyone() } else { 0 });
        let commit = self.commit();
        let works = |r: &Replica| r.on_log() && !r.suspect && r.retry_at_us == 0;
        let working = mask(&self.replicas, works);
        let caught_up = mask(&self.replicas, |r| works(r) && r.applied >= commit);
        // Who applied the first entry of an ownership holds everything that was adopted.
        let adopted = self.barrier;
        let complete = mask(&self.replicas, |r| works(r) && r.applied >= adopted);
        let joined = members | if self.phase == Phase::Serving { caught_up } else { complete };
        let kept = joined & working;
        let wanted = if kept.count_ones() >= min { kept } else { joined };
        let unknown = self.in_sync.recorded.is_none() && !begins;
        // A set that begins small is one that few losses make empty: whoever is about to hold everything is waited for.
        if unknown && (wanted.count_ones() < min || working & !complete != 0) {
            return;
        }
        if self.in_sync.recorded != Some(wanted) {
            self.in_sync.asked = Some(wanted);
            fx.in_sync = Some(wanted);
            self.apply_in_sync();
        }
    }

    /// The coordinator holds this set now.
    pub(super) fn in_sync_recorded(&mut self, members: Mask) {
        self.in_sync = InSync { recorded: Some(members), asked: None };
        self.apply_in_sync();
    }
}
