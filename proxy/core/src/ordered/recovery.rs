//! Start and take-over: which log is the group's.

use super::by_value::TrialMark;
use super::entry::{Position, TailEntry};
use super::rules::SafetyRules;
use crate::quorum::covers;
use crate::rule::{Mask, Rule};

/// What was read from a backend after it was fenced.
#[derive(Debug, Clone, Default)]
pub struct Attachment {
    /// Its position; `None` when it has none.
    pub position: Option<Position>,
    /// Its latest entries, oldest first.
    pub tail: Vec<TailEntry>,
    /// It holds no data at all.
    pub empty: bool,
    /// A copy to it was begun and not finished: what it holds is nothing to build upon. A position that it has is what
    /// it held before.
    pub partial: bool,
    /// Its run id is not the one recorded at its last attach: it may have forgotten acknowledged entries.
    pub restarted: bool,
    /// It ran commands whose effects it did not apply from the log.
    pub trial: Option<TrialMark>,
}

/// What recovery concluded.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// More replicas are needed.
    Wait,
    /// Adopt the log of this replica.
    Adopt(usize),
    /// Every backend is there and none has a position: the log begins.
    Fresh,
}

/// Decides from what is attached so far.
///
/// The greatest position is safe to adopt once the replicas that cannot have forgotten touch
/// every write quorum, or, after a restart of all, once everybody is there. Blank replicas never
/// count: what only they held is gone, and that is not for a proxy to decide.
pub(super) fn judge(
    attached: &[Option<Attachment>],
    rules: &[&Rule],
    expects_history: bool,
    safety: SafetyRules,
) -> Verdict {
    let is = |test: &dyn Fn(&Attachment) -> bool| -> Mask {
        let hit = |a: &Option<Attachment>| a.as_ref().is_some_and(test);
        attached.iter().enumerate().filter(|(_, a)| hit(a)).fold(0, |mask, (i, _)| mask | 1 << i)
    };
    let whole = |a: &&Attachment| !a.partial;
    let rank = |a: &Attachment| a.position.map(|position| position.rank());
    let best = attached.iter().flatten().filter(whole).filter_map(rank).max();
    // Part of a copy is nothing to adopt, but what it claims it has held: whoever stands there or beyond holds that.
    let positioned = is(&|a| a.position.is_some() && (!a.partial || rank(a) <= best || !safety.witness));
    let remembering = positioned & is(&|a| !a.restarted || !safety.amnesia);
    let everyone = attached.iter().all(Option::is_some);
    if best.is_none() {
        let partial = is(&|a| a.partial) != 0;
        return if everyone && !expects_history && !partial { Verdict::Fresh } else { Verdict::Wait };
    }
    let touches = |set: Mask| !safety.cover || covers(rules, attached.len(), set);
    // Nobody beyond the rules' members was ever waited for.
    let members = rules.iter().fold(0, |mask, rule| mask | rule.members());
    let all_members = is(&|_| true) & members == members;
    // Somebody forgot what a part of a copy had held, and it is not told whether that was acknowledged.
    let beyond = safety.witness && is(&|a| a.partial && rank(a) > best) != 0;
    let enough = touches(remembering) || (all_members && !beyond && touches(positioned));
    if !enough {
        return Verdict::Wait;
    }
    let rank = |i: &usize| attached[*i].as_ref().filter(whole).and_then(rank);
    match (0..attached.len()).max_by_key(rank) {
        Some(best) => Verdict::Adopt(best),
        None => Verdict::Wait,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(epoch: u64, seq: u64) -> Option<Attachment> {
        let position = Some(Position { epoch, seq, hash: 0 });
        Some(Attachment { position, ..Attachment::default() })
    }

    fn restarted(epoch: u64, seq: u64) -> Option<Attachment> {
        at(epoch, seq).map(|a| Attachment { restarted: true, ..a })
    }

    fn judge_two_of_three(attached: &[Option<Attachment>]) -> Verdict {
        judge(attached, &[&Rule::count(2, 0b111)], false, SafetyRules::ALL)
    }

    #[test]
    fn two_of_three_are_enough_and_the_greatest_wins() {
        assert_eq!(judge_two_of_three(&[at(1, 5), None, None]), Verdict::Wait);
        assert_eq!(judge_two_of_three(&[at(1, 5), None, at(1, 6)]), Verdict::Adopt(2));
        assert_eq!(
            judge_two_of_three(&[at(2, 1), at(1, 9), None]),
            Verdict::Adopt(0),
            "the epoch ranks first"
        );
    }

    #[test]
    fn the_forgetful_do_not_count_until_everyone_is_there() {
        assert_eq!(judge_two_of_three(&[at(1, 5), restarted(1, 5), None]), Verdict::Wait);
        assert_eq!(
            judge_two_of_three(&[restarted(1, 5), restarted(1, 6), restarted(1, 4)]),
            Verdict::Adopt(1)
        );
    }

    #[test]
    fn a_log_begins_only_when_all_are_there_and_none_has_a_position() {
        let blank = || Some(Attachment::default());
        assert_eq!(judge_two_of_three(&[blank(), blank(), None]), Verdict::Wait);
        assert_eq!(judge_two_of_three(&[blank(), blank(), blank()]), Verdict::Fresh);
        let rule = Rule::count(2, 0b111);
        let all = [blank(), blank(), blank()];
        assert_eq!(judge(&all, &[&rule], true, SafetyRules::ALL), Verdict::Wait, "the history is gone");
    }

    #[test]
    fn part_of_a_copy_counts_for_what_a_whole_one_holds() {
        let partial = |epoch, seq| at(epoch, seq).map(|a| Attachment { partial: true, ..a });
        assert_eq!(judge_two_of_three(&[at(1, 5), partial(1, 5), None]), Verdict::Adopt(0));
        assert_eq!(judge_two_of_three(&[at(1, 5), partial(1, 6), None]), Verdict::Wait, "it held more");
        assert_eq!(
            judge_two_of_three(&[at(1, 5), partial(1, 6), at(1, 4)]),
            Verdict::Adopt(0),
            "not acknowledged"
        );
        assert_eq!(judge_two_of_three(&[partial(1, 5), partial(1, 5), partial(1, 5)]), Verdict::Wait);
        assert_eq!(judge_two_of_three(&[restarted(1, 5), partial(1, 6), restarted(1, 4)]), Verdict::Wait);
        assert_eq!(judge_two_of_three(&[restarted(1, 6), partial(1, 6), restarted(1, 4)]), Verdict::Adopt(0));
    }

    #[test]
    fn blank_replicas_never_count() {
        let blank = || Some(Attachment::default());
        assert_eq!(judge_two_of_three(&[at(1, 5), blank(), None]), Verdict::Wait);
        assert_eq!(judge_two_of_three(&[at(1, 5), blank(), blank()]), Verdict::Wait);
        assert_eq!(judge_two_of_three(&[at(1, 5), blank(), at(1, 4)]), Verdict::Adopt(0));
    }
}
