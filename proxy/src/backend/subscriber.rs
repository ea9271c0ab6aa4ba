//! What only backends can tell: events of keys, from one replica in sync, over one connection for all clients.
//!
//! Messages of clients do not come this way; they are handed out when their entries are committed. When the
//! replica is lost or falls behind, another one takes over and is subscribed to the same.

use super::attach::Owner;
use super::call::Call;
use crate::config::Backend;
use crate::drive::Driver;
use crate::group::GroupShared;
use crate::listen::pubsub::{Kind, Message, Via, Waiting, is_keyspace, tells_reserved};
use crate::tls::Stream;
use crate::worker::{Mail, Mailbox};
use bytes::{Bytes, BytesMut};
use quorate_core::ordered::ReplicaState;
use quorate_wire::resp::{Scanner, Value, encode};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

/// The replica is looked at this often.
const LOOK: Duration = Duration::from_millis(50);
/// It is asked this often whether it lives, and given up after so much silence.
const PROBE: Duration = Duration::from_secs(1);
const SILENCE: Duration = Duration::from_secs(3);
/// Confirmations wait no longer than this for a backend that can tell.
const PATIENCE: Duration = Duration::from_secs(2);
/// An event is a name of a key at most, which a server takes up to 512 MiB.
const MAX_FRAME: usize = 1 << 30;

/// What was asked of the backend.
type Names = BTreeSet<(Kind, Bytes)>;

/// The feed of one group under one ownership.
pub struct Feed {
    /// Its backends, by index of the replica.
    pub backends: Vec<Backend>,
    /// The group.
    pub shared: Arc<GroupShared>,
    /// Who hands events out.
    pub driver: Rc<RefCell<Driver>>,
    /// Where confirmations go.
    pub mailboxes: Arc<[Arc<Mailbox>]>,
    /// In whose name.
    pub owner: Owner,
    /// Password of the owner's user.
    pub password: String,
}

impl Feed {
    /// Serves whoever wants events, as long as the ownership lasts.
    pub async fn run(self) {
        let mut told = String::new();
        loop {
            while self.shared.hub.wanted_events().is_empty() {
                self.shared.hub.cover(&Names::new());
                self.shared.hub.events_changed().await;
            }
            let ended = match self.connect().await {
                Ok((replica, stream)) => {
                    told.clear();
                    self.shared.hub.moves.fetch_add(1, Relaxed);
                    self.serve(replica, stream).await
                }
                Err(problem) => Err(problem),
            };
            self.shared.hub.cover(&Names::new());
            if let Err(problem) = ended
                && problem != told
            {
                tracing::warn!(group = self.shared.name, problem, "events of keys are not told");
                told = problem;
            }
            if !self.shared.hub.wanted_events().is_empty() {
                sleep(LOOK).await;
            }
        }
    }

    fn is_usable(&self, replica: usize) -> bool {
        let health = self.shared.health.load();
        health.replicas.get(replica).is_some_and(|view| view.state == ReplicaState::InSync && !view.suspect)
    }

    /// To the first replica in sync that lets us in. Confirmations do not wait for ever.
    async fn connect(&self) -> Result<(usize, Stream), String> {
        let since = Instant::now();
        loop {
            let mut problem = "no replica is in sync".to_string();
            for replica in (0..self.backends.len()).filter(|replica| self.is_usable(*replica)) {
                match timeout(PATIENCE, self.log_in(&self.backends[replica])).await {
                    Ok(Ok(stream)) => return Ok((replica, stream)),
                    Ok(Err(why)) => problem = format!("{}: {why}", self.backends[replica].name),
                    Err(_) => problem = format!("{}: it does not answer", self.backends[replica].name),
                }
            }
            if since.elapsed() > PATIENCE {
                self.confirm(self.shared.hub.give_up_waiting());
                return Err(problem);
            }
            sleep(LOOK).await;
        }
    }

    async fn log_in(&self, backend: &Backend) -> Result<Stream, String> {
        let mut call = Call::open(backend).await?;
        let user = self.owner.user(&self.shared.name);
        let login = call.ask(&[b"AUTH", user.as_bytes(), self.password.as_bytes()]).await?;
        match login.error() {
            Some(error) => Err(format!("it refuses the owner's user: {error}")),
            None => Ok(call.into_stream()),
        }
    }

    /// Until nobody wants events, `Ok`, or until another replica must be found.
    async fn serve(&self, replica: usize, mut stream: Stream) -> Result<(), String> {
        let mut session = Session::default();
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut changed = true;
        loop {
            if std::mem::take(&mut changed) {
                session.want(self.shared.hub.wanted_events());
            }
            if session.names.is_empty() {
                return Ok(());
            }
            let asked = session.ask(Instant::now());
            stream.write_all(&asked).await.map_err(|error| format!("writing failed: {error}"))?;
            stream.flush().await.map_err(|error| format!("writing failed: {error}"))?;
            if session.owed == 0 && !std::mem::replace(&mut session.covered, true) {
                self.confirm(self.shared.hub.cover(&session.names));
            }
            tokio::select! {
                read = stream.read_buf(&mut session.buf) => {
                    session.heard = Some(Instant::now());
                    match read {
                        Ok(0) => return Err("the backend closed the connection".into()),
                        Ok(_) => self.hand_out(session.take()?),
                        Err(error) => return Err(format!("reading failed: {error}")),
                    }
                }
                () = self.shared.hub.events_changed() => changed = true,
                _ = look.tick() => {
                    if !self.is_usable(replica) {
                        return Err(format!("{} is not in sync any more", self.backends[replica].name));
                    }
                    if session.heard.is_some_and(|heard| heard.elapsed() > SILENCE) {
                        return Err(format!("{} answers nothing", self.backends[replica].name));
                    }
                }
            }
        }
    }

    fn hand_out(&self, messages: Vec<Message>) {
        self.shared.hub.events.fetch_add(messages.len() as u64, Relaxed);
        self.driver.borrow().hand_out(messages);
    }

    fn confirm(&self, waiting: Vec<Waiting>) {
        for (worker, mailbox) in self.mailboxes.iter().enumerate() {
            let own = waiting.iter().filter(|(on, ..)| *on == worker);
            let tickets: Vec<_> = own.map(|(_, session, ticket)| (*session, *ticket)).collect();
            if !tickets.is_empty() {
                mailbox.post(Mail::Confirmed(tickets));
            }
        }
    }
}

/// What was said and heard on the connection.
#[derive(Default)]
struct Session {
    names: Names,
    /// Confirmations that have not come yet.
    owed: usize,
    /// Those who wait for confirmations know that all have come.
    covered: bool,
    out: BytesMut,
    buf: BytesMut,
    scanner: Scanner,
    heard: Option<Instant>,
    probed: Option<Instant>,
}

impl Session {
    /// Makes the subscriptions those wanted.
    fn want(&mut self, wanted: Names) {
        let commands = [("SUBSCRIBE", &wanted, &self.names), ("UNSUBSCRIBE", &self.names, &wanted)];
        for (word, of, without) in commands {
            for (kind, name) in of.difference(without) {
                let word = format!("{}{word}", kind.letter());
                encode::command([word.as_bytes(), name], &mut self.out);
                self.owed += 1;
            }
        }
        (self.names, self.covered) = (wanted, false);
    }

    /// The commands to send; a sign of life is asked for now and then.
    fn ask(&mut self, now: Instant) -> BytesMut {
        self.heard.get_or_insert(now);
        if self.probed.is_none_or(|at| now - at > PROBE) {
            self.probed = Some(now);
            encode::command([&b"PING"[..]], &mut self.out);
        }
        self.out.split()
    }

    /// The events that arrived whole, without those that speak of our own keys.
    fn take(&mut self) -> Result<Vec<Message>, String> {
        let mut messages = Vec::new();
        loop {
            match self.scanner.next(&self.buf) {
                Ok(Some(len)) => {
                    let frame = self.buf.split_to(len).freeze();
                    messages.extend(self.read(&frame)?);
                }
                Ok(None) if self.buf.len() > MAX_FRAME => return Err("its answer is too long".into()),
                Ok(None) => return Ok(messages),
                Err(error) => return Err(format!("its answer makes no sense: {error}")),
            }
        }
    }

    fn read(&mut self, frame: &Bytes) -> Result<Option<Message>, String> {
        let value = Value::parse(frame).ok_or("its answer cannot be read")?;
        if let Some(error) = value.error() {
            return Err(format!("it refuses to tell: {error}"));
        }
        let parts: Vec<Bytes> = value.items().iter().filter_map(|item| item.bytes().cloned()).collect();
        let (via, channel, text) = match &parts[..] {
            [word, channel, text] if &word[..] == b"message" => (Via::Event, channel, text),
            [word, pattern, channel, text] if &word[..] == b"pmessage" => {
                (Via::EventBy(pattern.clone()), channel, text)
            }
            [word, ..] if word.ends_with(b"subscribe") => {
                self.owed = self.owed.saturating_sub(1);
                return Ok(None);
            }
            _ => return Ok(None),
        };
        let told = is_keyspace(channel) && !tells_reserved(channel, text);
        Ok(told.then(|| Message { via, channel: channel.clone(), text: text.clone() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &'static str) -> (Kind, Bytes) {
        (Kind::Channel, Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn only_what_changed_is_asked_for() {
        let mut session = Session::default();
        let now = Instant::now();
        let asked = |session: &mut Session, names: &[(Kind, Bytes)]| {
            session.want(names.iter().cloned().collect());
            let out = session.ask(now);
            String::from_utf8_lossy(&out).replace("\r\n", " ")
        };
        let first = asked(&mut session, &[name("a"), (Kind::Pattern, Bytes::from_static(b"*"))]);
        assert_eq!(first, "*2 $9 SUBSCRIBE $1 a *2 $10 pSUBSCRIBE $1 * *1 $4 PING ");
        assert_eq!(
            asked(&mut session, &[name("a"), name("b")]),
            "*2 $9 SUBSCRIBE $1 b *2 $12 pUNSUBSCRIBE $1 * "
        );
        assert_eq!(asked(&mut session, &[name("a"), name("b")]), "");
        assert_eq!(session.owed, 4);
    }

    #[test]
    fn events_are_told_but_not_those_of_our_keys_and_no_messages() {
        let mut session = Session { owed: 1, ..Session::default() };
        for parts in [
            vec![&b"subscribe"[..], b"__keyevent@0__:set", b":1"],
            vec![b"message", b"__keyevent@0__:set", b"k"],
            vec![b"message", b"__keyevent@0__:set", b"__quorate:{g}:pos"],
            vec![b"pmessage", b"*", b"__keyspace@0__:k", b"set"],
            vec![b"pmessage", b"*", b"news", b"of a client"],
            vec![b"pong", b""],
        ] {
            encode::command(parts, &mut session.buf);
        }
        let told = session.take().expect("valid");
        let channels: Vec<_> = told.iter().map(|message| &message.channel[..]).collect();
        assert_eq!(channels, [&b"__keyevent@0__:set"[..], b"__keyspace@0__:k"]);
        assert_eq!((told[0].via.clone(), session.owed), (Via::Event, 0));
        session.buf.extend_from_slice(b"-ERR no\r\n");
        assert!(session.take().is_err());
    }
}
