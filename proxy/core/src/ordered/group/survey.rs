//! Surveys: every replica in sync is asked the same, while all of them stand at the same position.
//!
//! The replicas' connections are ordered. So a question that is sent to all of them while all hold exactly the
//! log up to its head is answered from the state at that position, whatever follows behind it. Where such a
//! moment does not come by itself, numbering is held for a while; never for longer than `HOLD_US`.

use super::super::by_value::Request;
use super::super::effects::{Outgoing, Surveyed};
use super::super::replica::{Asker, ReadFlight, Replica, ReplicaState, mask};
use super::super::{Effects, Now};
use super::{Group, Phase};
use crate::rule::{Mask, indices};
use bytes::Bytes;

/// The moment may come by itself for so long.
const WAIT_US: u64 = 20_000;
/// Then numbering is held for so long, and then the survey is given up.
const HOLD_US: u64 = 50_000;
/// Whoever has not answered after this long is left out.
const ANSWER_US: u64 = 5_000_000;

/// The survey under way.
pub(super) struct Survey {
    id: u64,
    /// Bytes that an answer may well have.
    expected: usize,
    since_us: u64,
    step: Step,
}

enum Step {
    /// For all to stand at the head.
    Waiting(Request),
    /// These have not answered yet; those have.
    Asked(Mask, Vec<(usize, Bytes)>),
}

impl Group {
    /// Begins a survey. There is one at a time; another one fails at once.
    pub(super) fn survey(&mut self, id: u64, request: Request, expected: usize, now: Now, fx: &mut Effects) {
        if self.survey.is_some() || self.phase != Phase::Serving {
            return fx.surveys.push(Surveyed { id, answers: None });
        }
        self.survey = Some(Survey { id, expected, since_us: now.us, step: Step::Waiting(request) });
    }

    /// Is numbering held, so that all replicas come to stand at the head?
    pub(super) fn survey_holds(&self, now: Now) -> bool {
        let waiting = self.survey.as_ref().filter(|survey| matches!(survey.step, Step::Waiting(_)));
        waiting.is_some_and(|survey| now.us.saturating_sub(survey.since_us) >= WAIT_US)
    }

    /// Goes on with the survey: asks when the moment is there, and ends what took too long.
    pub(super) fn go_on_surveying(&mut self, now: Now, fx: &mut Effects) {
        let Some(survey) = &self.survey else { return };
        let age_us = now.us.saturating_sub(survey.since_us);
        match &survey.step {
            Step::Waiting(request) => {
                let in_sync = mask(&self.replicas, |r| r.state == ReplicaState::InSync);
                // A silent one is not waited for: writes would be, too.
                let silent = self.replicas.iter().any(|r| r.state == ReplicaState::InSync && r.suspect);
                let late = age_us >= if silent { WAIT_US } else { WAIT_US + HOLD_US };
                if in_sync.count_ones() < 2 || late {
                    self.fail_survey(fx);
                } else if in_sync & !mask(&self.replicas, |r| self.may_be_surveyed(r)) == 0 {
                    let request = request.clone();
                    self.ask_survey(in_sync, &request, now, fx);
                }
            }
            Step::Asked(..) if age_us >= ANSWER_US => self.end_survey(fx),
            Step::Asked(..) => {}
        }
    }

    fn may_be_surveyed(&self, replica: &Replica) -> bool {
        let stands = (replica.idle(self.log.head().seq) && self.trial_leader().is_none())
            || !self.config.rules.same_position;
        stands && !replica.suspect
    }

    fn ask_survey(&mut self, whom: Mask, request: &Request, now: Now, fx: &mut Effects) {
        let Some(survey) = &mut self.survey else { return };
        (survey.since_us, survey.step) = (now.us, Step::Asked(whom, Vec::new()));
        let Request { payload, commands } = request.clone();
        for i in indices(whom) {
            let (asker, expected) = (Asker::Survey(survey.id), survey.expected);
            self.replicas[i].reads.push_back(ReadFlight { since_us: now.us, expected, asker });
            fx.sends.push((i, Outgoing::Read { payload: payload.clone(), commands, dialect: 2 }));
        }
    }

    /// A replica answered, or `None`: it will not.
    pub(super) fn survey_answered(&mut self, i: usize, id: u64, answer: Option<Bytes>, fx: &mut Effects) {
        let Some(survey) = self.survey.as_mut().filter(|survey| survey.id == id) else { return };
        let Step::Asked(left, answers) = &mut survey.step else { return };
        if *left & 1 << i == 0 {
            return;
        }
        *left &= !(1 << i);
        answers.extend(answer.map(|answer| (i, answer)));
        if *left == 0 {
            self.end_survey(fx);
        }
    }

    /// Tells what was answered, if that can be compared.
    fn end_survey(&mut self, fx: &mut Effects) {
        let Some(Survey { id, step, .. }) = self.survey.take() else { return };
        let answers = match step {
            Step::Asked(_, mut answers) if answers.len() > 1 => {
                answers.sort_by_key(|(replica, _)| *replica);
                Some(answers)
            }
            Step::Asked(..) | Step::Waiting(_) => None,
        };
        fx.surveys.push(Surveyed { id, answers });
    }

    /// Gives the survey up, whatever was answered.
    pub(super) fn fail_survey(&mut self, fx: &mut Effects) {
        if let Some(survey) = self.survey.take() {
            fx.surveys.push(Surveyed { id: survey.id, answers: None });
        }
    }
}
