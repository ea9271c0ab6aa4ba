//! A copy of all data through the proxy, for servers that cannot reach each other.
//!
//! The source is read page by page while the log goes on. The core remembers which keys the log touched since,
//! and those are copied again, in rounds, until they are few; the last of them the core copies by a mending, at one
//! position. Until then the target says of itself that it holds half a copy, and counts for nothing.
//! See docs/decisions/0020-reseed-through-the-proxy.md.

use super::super::serve::Attendant;
use super::copy::Stop;
use super::facts::{Ask, Progress, Stage, Way};
use super::line::{Fence, Line};
use super::pace::Pace;
use super::pages::{Dumped, PAGE_KEYS, Sink, Source};
use bytes::Bytes;
use quorate_core::ordered::Position;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// So few touched keys are left to the mending.
const FEW: usize = 500;
/// So few are, where they do not become fewer.
const ENOUGH: usize = 5_000;
/// Rounds that may fail to halve what is left, before such a number will do, and before it is given up.
const SLOW_ROUNDS: u32 = 3;
const MOST_SLOW_ROUNDS: u32 = 10;
/// Touched keys are copied in between when their memory is filled to this share.
const FULL: f64 = 0.25;
/// From here on the copy is sped up with every flight, before nothing more can be remembered.
const TOO_FULL: f64 = 0.5;
/// How often the mending is tried.
const MENDINGS: u32 = 5;
/// A source that is not at the position needed for this long is given up.
const PATIENCE: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(10);

/// A copy under way.
pub(super) struct Scan {
    /// Index of the source.
    from: usize,
    source: Source,
    sink: Sink,
    /// What is read must be read at this position, or later.
    floor: Position,
    pace: Pace,
    keys: u64,
    bytes: u64,
    scanned: u64,
    total: u64,
    since: Instant,
    is_scanned: bool,
    mendings: u32,
}

impl Scan {
    /// Index of the source.
    pub(super) fn from(&self) -> usize {
        self.from
    }

    fn progress(&self) -> Progress {
        let seconds = self.since.elapsed().as_secs_f64();
        let rate = |amount: u64| (amount as f64 / seconds.max(0.2)) as u64;
        let left = self.total.saturating_sub(self.scanned);
        let keys_per_second = rate(self.keys);
        Progress {
            source: self.source.line.name().to_string(),
            way: Way::Scan,
            stage: if self.is_scanned { Stage::CatchingUp } else { Stage::Copying },
            bytes: self.bytes,
            ratio: if self.is_scanned {
                1.0
            } else {
                (self.scanned as f64 / self.total.max(1) as f64).min(0.99)
            },
            bytes_per_second: rate(self.bytes),
            keys: self.keys,
            total_keys: self.total.max(self.scanned),
            keys_per_second,
            seconds_left: (!self.is_scanned && keys_per_second > 0).then(|| left.div_ceil(keys_per_second)),
            seconds: seconds as u64,
            ..Progress::default()
        }
    }
}

impl Attendant {
    /// Copies everything but what is left to the mending, which follows when the target is attached again.
    pub(super) async fn scan(&self, from: usize) -> Result<(), Stop> {
        let begun = match self.reseeds.scan.take() {
            Some(scan) => Ok(scan),
            None => self.begin_scan(from).await,
        };
        let ended = match begun {
            Ok(scan) => self.go_on(scan).await,
            Err(stop) => Err(stop),
        };
        if ended.is_err() {
            self.driver.borrow_mut().copies().end(self.replica);
        }
        ended
    }

    async fn begin_scan(&self, from: usize) -> Result<Scan, Stop> {
        let reserved = &self.shared.reserved;
        let (owner, password) = (self.owner.clone(), self.password.clone());
        let fence = Fence { shared: self.shared.clone(), owner, password };
        let source = Line::to_source(&self.reseeds.seeds.backends[from]).await?;
        let mut source = Source { line: source, reserved: reserved.clone() };
        let line = Line::to_target(&self.backend, fence).await?;
        let mut sink = Sink { line, reserved: reserved.clone() };
        sink.probe(&mut source).await?;
        let total = source.count().await?;
        tracing::info!(
            group = self.shared.name,
            replica = self.backend.name,
            source = source.line.name(),
            keys = total,
            "a copy through the proxy begins"
        );
        sink.erase(&format!("{}:{}", self.owner.epoch, self.owner.id)).await?;
        let floor = {
            let mut driver = self.driver.borrow_mut();
            driver.copies().begin(self.replica, from);
            driver.group().head()
        };
        let now = Instant::now();
        let pace = Pace::new(self.reseeds.seeds.rate, now);
        let (keys, bytes, scanned, is_scanned, mendings) = (0, 0, 0, false, 0);
        Ok(Scan {
            from,
            source,
            sink,
            floor,
            pace,
            keys,
            bytes,
            scanned,
            total,
            since: now,
            is_scanned,
            mendings,
        })
    }

    async fn go_on(&self, mut scan: Scan) -> Result<(), Stop> {
        let trouble = self.driver.borrow_mut().copies().trouble(self.replica);
        if scan.mendings >= MENDINGS {
            return Err(Stop::Failed(format!("the keys written last cannot be copied: {trouble}")));
        }
        if !scan.is_scanned {
            self.scan_all(&mut scan).await?;
        }
        self.copy_touched(&mut scan).await?;
        self.driver.borrow_mut().copies().finish(self.replica);
        scan.mendings += 1;
        scan.source.line.close();
        scan.sink.line.close();
        self.reseeds.scan.replace(Some(scan));
        Ok(())
    }

    async fn scan_all(&self, scan: &mut Scan) -> Result<(), Stop> {
        let mut cursor = None;
        loop {
            let (next, keys) = scan.source.page(cursor.as_ref()).await?;
            self.copy_keys(scan, &keys).await?;
            scan.scanned += keys.len() as u64;
            if self.fullness() > FULL {
                scan.pace.hurry();
                self.round(scan).await?;
            }
            if next.is_none() {
                scan.is_scanned = true;
                return Ok(());
            }
            cursor = next;
        }
    }

    /// Copies what was touched until it is so little that the mending can do it.
    async fn copy_touched(&self, scan: &mut Scan) -> Result<(), Stop> {
        let (mut before, mut slow) = (usize::MAX, 0);
        loop {
            let left = self.touched()?;
            if left <= FEW || (slow >= SLOW_ROUNDS && left <= ENOUGH) {
                return Ok(());
            }
            if left > before / 2 {
                slow += 1;
                scan.pace.hurry();
            }
            if slow > MOST_SLOW_ROUNDS {
                return Err(Stop::Failed("keys are written faster than they can be copied".into()));
            }
            before = left;
            self.round(scan).await?;
        }
    }

    fn fullness(&self) -> f64 {
        self.driver.borrow_mut().copies().fullness(self.replica)
    }

    fn touched(&self) -> Result<usize, Stop> {
        let touched = self.driver.borrow_mut().copies().touched(self.replica);
        touched.map_err(|why| Stop::Failed(why.into()))
    }

    /// Copies the keys that were touched so far.
    async fn round(&self, scan: &mut Scan) -> Result<(), Stop> {
        let keys: Vec<Bytes> = {
            let mut driver = self.driver.borrow_mut();
            let taken = driver.copies().take(self.replica);
            scan.floor = driver.group().head();
            taken.map_err(|why| Stop::Failed(why.into()))?.into_iter().collect()
        };
        for page in keys.chunks(PAGE_KEYS) {
            self.copy_keys(scan, page).await?;
        }
        Ok(())
    }

    async fn copy_keys(&self, scan: &mut Scan, keys: &[Bytes]) -> Result<(), Stop> {
        for flight in scan.source.flights(keys).await? {
            self.may_go_on()?;
            scan.pace.wait().await;
            let values = self.read(scan, flight).await?;
            let bytes = scan.sink.store(flight, &values).await?;
            scan.pace.spend(flight.len() as u64, bytes, Instant::now());
            scan.keys += flight.len() as u64;
            scan.bytes += bytes;
            if self.fullness() > TOO_FULL {
                scan.pace.hurry();
            }
            self.publish(&scan.progress());
        }
        Ok(())
    }

    /// The values of these keys, from the source at the floor or later.
    async fn read(&self, scan: &mut Scan, keys: &[Bytes]) -> Result<Vec<Dumped>, Stop> {
        let since = Instant::now();
        loop {
            let (position, values) = scan.source.values(keys).await?;
            let name = scan.source.line.name();
            let Some(position) = position else {
                return Err(Stop::Failed(format!("its source {name} is blank")));
            };
            // An entry that nobody applied may have been taken back.
            let needed = scan.floor.rank().min(self.driver.borrow().group().head().rank());
            if position.rank() >= needed {
                return Ok(values);
            }
            if since.elapsed() > PATIENCE {
                return Err(Stop::Failed(format!("its source {name} does not keep up")));
            }
            self.may_go_on()?;
            sleep(LOOK).await;
        }
    }

    fn may_go_on(&self) -> Result<(), Stop> {
        if self.is_over() {
            return Err(Stop::Over);
        }
        if self.take_ask(|ask| *ask == Ask::Cancel).is_some() {
            return Err(Stop::Cancelled);
        }
        self.touched().map(drop)
    }
}
