//! One scrub: keys by pages, each compared at one position, and what differs mended.
//!
//! Limits what one page may read, so that clients' requests behind it on the same connections wait no
//! longer than behind a request of another client.

use super::Scrubber;
use super::facts::{Ask, Outcome, Report, Wish};
use super::page::{self, Answers, Suspect, Unfit, Verdict};
use super::repair::Minority;
use super::sources::{self, Sources, Trouble};
use bytes::Bytes;
use quorate_core::ordered::{Phase, Request};
use quorate_core::rule::Mask;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};

/// Keys of a page at most; less at a low rate, so that the load is even.
const PAGE_KEYS: usize = 200;
const PAGES_A_SECOND: u32 = 10;
/// Bytes that the values of a page may have together.
const PAGE_BYTES: u64 = 1 << 20;
/// A larger value is not compared: it would hold up the clients' requests behind it.
const LARGEST: u64 = 4 << 20;
/// So many keys that are only looked up cost as much as one that is compared.
const LOOK_UPS: u32 = 10;
/// How long a survey is tried, and how long is waited between.
const SURVEY_LIMIT: Duration = Duration::from_secs(15);
const SURVEY_WAIT: Duration = Duration::from_millis(30);
/// How often a key whose type changes, or a page whose positions differ, is looked at again.
pub(super) const TRIES: usize = 3;
const NOT_IN_SYNC: &str = "it is not in sync any more";

/// Why a scrub ends early.
pub(super) enum Stop {
    Cancelled,
    Failed(String),
    /// The replica whose keys are looked at did not answer a survey.
    Lost,
}

/// One scrub.
pub(super) struct Work<'a> {
    pub(super) of: &'a Scrubber,
    pub(super) report: Report,
    sources: Sources,
    /// The replica whose keys are looked at: without its answers nothing is compared.
    current: usize,
    /// Time that a compared key stands for, and when the next page is due.
    per_key: Duration,
    due: Instant,
}

impl Work<'_> {
    pub(super) fn begin(of: &Scrubber, wish: Wish) -> Work<'_> {
        let rate = wish.rate.unwrap_or(of.rate).max(1);
        let report = Report::begin(wish);
        of.shared.scrub.publish(&report);
        let (sources, per_key) = (Sources::new(&of.backends), Duration::from_secs(1) / rate);
        Work { of, report, sources, current: 0, per_key, due: Instant::now() }
    }

    pub(super) async fn run(mut self) -> Report {
        let (outcome, problem) = match self.all().await {
            Ok(()) => (Outcome::Done, String::new()),
            Err(Stop::Cancelled) => (Outcome::Cancelled, String::new()),
            Err(Stop::Failed(problem)) => (Outcome::Failed, problem),
            Err(Stop::Lost) => (Outcome::Failed, NOT_IN_SYNC.to_string()),
        };
        self.report.end(outcome, &problem);
        self.report
    }

    /// Compares the keys of every replica in sync. What an earlier one has was compared with it.
    async fn all(&mut self) -> Result<(), Stop> {
        let replicas = self.of.in_sync();
        if replicas.len() < 2 {
            return Err(Stop::Failed("fewer than two replicas are in sync".into()));
        }
        let mut seen = Vec::new();
        for (turn, i) in replicas.iter().enumerate() {
            match self.one(*i, &seen, turn as f64, replicas.len() as f64).await? {
                None => seen.push(*i),
                Some(problem) => {
                    let name = self.of.shared.replica(*i);
                    self.report
                        .note(&format!("{name} was lost, and keys that only it has are unknown: {problem}"));
                }
            }
        }
        match seen.is_empty() {
            true => Err(Stop::Failed("no replica could be asked for all its keys".into())),
            false => Ok(()),
        }
    }

    /// The keys that replica `i` has and none of `seen`. A problem with the replica is no end of the scrub.
    async fn one(&mut self, i: usize, seen: &[usize], turn: f64, turns: f64) -> Result<Option<String>, Stop> {
        let total = match self.sources.count(i).await {
            Ok(total) => total.max(1) as f64,
            Err(problem) => return Ok(Some(problem)),
        };
        let (mut cursor, mut scanned) = (sources::START, 0);
        self.current = i;
        loop {
            let (next, keys) = match self.sources.scan(i, cursor, self.page_keys()).await {
                Ok(page) => page,
                Err(problem) => return Ok(Some(problem)),
            };
            scanned += keys.len();
            for keys in keys.chunks(PAGE_KEYS) {
                if !self.page_of(i, keys, seen).await? {
                    return Ok(Some(NOT_IN_SYNC.into()));
                }
            }
            self.report.ratio = ((turn + (scanned as f64 / total).min(1.0)) / turns).min(0.99);
            self.of.shared.scrub.publish(&self.report);
            if next == sources::START {
                return Ok(None);
            }
            cursor = next;
        }
    }

    /// A page of the keys of replica `i`; `false` if it does not answer for them.
    async fn page_of(&mut self, i: usize, keys: &[Bytes], seen: &[usize]) -> Result<bool, Stop> {
        for _ in 0..TRIES {
            match self.page(keys, seen).await {
                Ok(()) => return Ok(true),
                Err(Stop::Lost) if self.of.returns(i).await => {}
                Err(Stop::Lost) => break,
                Err(stop) => return Err(stop),
            }
        }
        Ok(false)
    }

    fn page_keys(&self) -> usize {
        let rate = (1.0 / self.per_key.as_secs_f64()) as u32;
        (rate / PAGES_A_SECOND).clamp(1, PAGE_KEYS as u32) as usize
    }

    /// Compares those of these keys that none of `seen` has, as many at a time as may be read at once.
    async fn page(&mut self, keys: &[Bytes], seen: &[usize]) -> Result<(), Stop> {
        let mut keys = keys.to_vec();
        let before = keys.len();
        for i in seen.iter().filter(|i| self.of.in_sync().contains(i)) {
            // Whom it cannot ask may lack them: then they are compared once more.
            self.sources.retain_missing(*i, &mut keys).await;
        }
        self.pace((before - keys.len()) as u32 / LOOK_UPS).await?;
        let sizes = self.sources.sizes(&self.of.in_sync(), &keys).await.map_err(|trouble| match trouble {
            Trouble::Refused(error) => Stop::Failed(format!("a server refuses MEMORY USAGE: {error}")),
        })?;
        let (mut some, mut bytes) = (Vec::new(), 0);
        for (key, size) in keys.into_iter().zip(sizes) {
            if size > LARGEST {
                self.report.skipped += 1;
                continue;
            }
            if bytes + size > PAGE_BYTES || some.len() == self.page_keys() {
                self.compare(&std::mem::take(&mut some), bytes).await?;
                bytes = 0;
            }
            bytes += size;
            some.push(key);
        }
        self.compare(&some, bytes).await
    }

    /// Waits for this many keys' turn.
    async fn pace(&mut self, keys: u32) -> Result<(), Stop> {
        sleep_until(self.due).await;
        self.due = self.due.max(Instant::now()) + self.per_key * keys;
        match self.of.shared.scrub.take_ask(|ask| *ask == Ask::Cancel) {
            Some(_) => Err(Stop::Cancelled),
            None => Ok(()),
        }
    }

    async fn compare(&mut self, keys: &[Bytes], bytes: u64) -> Result<(), Stop> {
        if keys.is_empty() {
            return Ok(());
        }
        self.pace(keys.len() as u32).await?;
        let request = page::glance(&self.of.shared.reserved.position, keys);
        let Some(suspects) = self.survey(&request, bytes, |answers| page::suspects(keys, answers)).await?
        else {
            self.report.skipped += keys.len() as u64;
            return Ok(());
        };
        self.report.keys += keys.len() as u64;
        let minorities = self.judge(suspects, bytes).await?;
        if !minorities.is_empty() && !self.report.dry_run {
            self.mend(&minorities, bytes).await?;
        }
        self.of.shared.scrub.publish(&self.report);
        Ok(())
    }

    /// Looks closer; the keys that a minority holds differently.
    async fn judge(&mut self, mut suspects: Vec<Suspect>, bytes: u64) -> Result<Vec<Minority>, Stop> {
        let mut found = Vec::new();
        for _ in 0..TRIES {
            if suspects.is_empty() {
                return Ok(found);
            }
            let Some((_, verdicts)) = self.look(&suspects, bytes).await? else { break };
            let mut again = Vec::new();
            for (suspect, verdict) in suspects.drain(..).zip(verdicts) {
                match verdict {
                    Verdict::Equal => {}
                    Verdict::Again(suspect) => again.push(suspect),
                    Verdict::Minority { like, differ } => {
                        self.differs(&suspect.key);
                        found.push(Minority { suspect, like, differ });
                    }
                    Verdict::Undecided => {
                        self.differs(&suspect.key);
                        self.report.undecided += 1;
                    }
                }
            }
            suspects = again;
        }
        self.report.skipped += suspects.len() as u64;
        Ok(found)
    }

    fn differs(&mut self, key: &[u8]) {
        self.report.differing += 1;
        self.report.name(key);
    }

    /// Who answered, and what that says of each.
    pub(super) async fn look(
        &self,
        suspects: &[Suspect],
        bytes: u64,
    ) -> Result<Option<(Mask, Vec<Verdict>)>, Stop> {
        let replicas = self.of.backends.len();
        let request = page::look(&self.of.shared.reserved.position, suspects);
        let judge = |answers: &Answers| {
            let present = answers.iter().fold(0, |mask, (replica, _)| mask | 1 << replica);
            Ok((present, page::judge(suspects, answers, replicas)?))
        };
        self.survey(&request, bytes, judge).await
    }

    /// Asks all at one position. `None`: the answers were not from one.
    async fn survey<T>(
        &self,
        request: &Request,
        bytes: u64,
        read: impl Fn(&Answers) -> Result<T, Unfit>,
    ) -> Result<Option<T>, Stop> {
        for _ in 0..TRIES {
            let answers = self.answers(request, bytes).await?;
            if !answers.iter().any(|(replica, _)| *replica == self.current) {
                return Err(Stop::Lost);
            }
            match read(&answers) {
                Ok(found) => return Ok(Some(found)),
                Err(Unfit::Refused(error)) => return Err(Stop::Failed(format!("a server refuses: {error}"))),
                Err(Unfit::Positions) => {
                    tracing::error!(
                        group = self.of.shared.name,
                        "a survey was answered at different positions: does somebody else write reserved keys?"
                    );
                }
            }
        }
        Ok(None)
    }

    async fn answers(&self, request: &Request, bytes: u64) -> Result<Answers, Stop> {
        let since = Instant::now();
        while since.elapsed() < SURVEY_LIMIT {
            let asked = self.of.driver.borrow_mut().survey(request.clone(), bytes as usize);
            if let Ok(Some(answers)) = asked.await {
                return Ok(answers);
            }
            if matches!(self.of.phase(), Phase::Fenced { .. }) {
                return Err(Stop::Failed("another proxy owns the group now".into()));
            }
            sleep(SURVEY_WAIT).await;
        }
        Err(Stop::Failed(match self.of.in_sync().len() {
            0 | 1 => "fewer than two replicas are in sync".into(),
            _ => format!("the replicas did not come to one position for {} s", SURVEY_LIMIT.as_secs()),
        }))
    }
}
