//! The users of all listeners, and how they change while the proxy runs: by `ACL SETUSER` and its kin, and by reading
//! the configuration again. One change at a time; whoever looks a user up never waits for one.

use super::account::{Account, DEFAULT, MOST_BYTES};
use super::roll::{Accounts, Roll};
use crate::config::{self, Config, Listener, Severity};
use crate::worker::{Mail, Mailbox};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

/// The most users of one listener, if clients make them.
const MOST: usize = 1000;
/// The longest name of one that a client makes, in bytes.
const MOST_NAME: usize = 256;
/// So many problems of a configuration are told to a client.
const MOST_TOLD: usize = 3;

/// What a client reads where there is no file of users, in the words of Redis 7.0.
pub const NO_FILE: &str = "ERR This Redis instance is not configured to use an ACL file. You may want to specify users via the ACL \
                           SETUSER command and then issue a CONFIG REWRITE (assuming you have a Redis configuration file set) in \
                           order to store users in the Redis configuration.";

/// How a reading of the file ended.
#[derive(Debug)]
struct Reading {
    /// The first one is 1.
    number: u64,
    done: Result<(), String>,
}

impl Default for Reading {
    fn default() -> Self {
        Reading { number: 0, done: Ok(()) }
    }
}

/// See the module's head.
#[derive(Debug)]
pub struct Users {
    rolls: Vec<Arc<Roll>>,
    /// Where they are configured, if in a file.
    file: OnceLock<PathBuf>,
    changing: Mutex<()>,
    /// The reading that ended last. Held while the file is read; changes do not wait for that.
    read: Arc<tokio::sync::Mutex<Reading>>,
    /// How many readings began.
    begun: AtomicU64,
    /// Of the threads that have clients.
    mailboxes: Arc<[Arc<Mailbox>]>,
}

impl Users {
    /// As configured. What changes is told to all of these.
    pub fn new(config: &Config, mailboxes: Arc<[Arc<Mailbox>]>) -> Users {
        let configured = configured(config);
        let roll = |listener: &Listener| Arc::new(Roll::new(&listener.name, admitted(listener, &configured)));
        let rolls = config.listeners.iter().map(roll).collect();
        Users {
            rolls,
            file: OnceLock::new(),
            changing: Mutex::default(),
            read: Arc::default(),
            begun: AtomicU64::new(0),
            mailboxes,
        }
    }

    /// Those of a listener.
    pub fn roll(&self, listener: &str) -> Option<&Arc<Roll>> {
        self.rolls.iter().find(|roll| roll.listener == listener)
    }

    /// From now on they can be read again from this file.
    pub fn read_from(&self, file: PathBuf) {
        let _ = self.file.set(file);
    }

    /// Makes a user, or changes it wherever it is let in. The error is for the client.
    pub fn set(&self, roll: &Roll, name: &str, rules: &[Vec<u8>]) -> Result<(), String> {
        let Ok(_changing) = self.changing.lock() else { return Err(BROKEN.into()) };
        if rules.iter().map(Vec::len).sum::<usize>() > MOST_BYTES {
            return Err("ERR the rules of one ACL SETUSER may be 64 KiB long at most".into());
        }
        let Some(old) = roll.member(name.as_bytes()).map(|member| member.account) else {
            if roll.count() >= MOST {
                return Err(format!("ERR there are {MOST} users already, more are not made"));
            }
            if name.len() > MOST_NAME {
                return Err(format!("ERR the name of a user may be {MOST_NAME} bytes long at most"));
            }
            let new = Arc::new(Account::made(name).changed(rules)?);
            roll.put(roll.accounts().into_iter().chain([new]).collect());
            self.spread();
            return Ok(());
        };
        let new = Arc::new(old.changed(rules)?);
        for roll in self.rolls.iter().filter(|roll| roll.has(&old)) {
            let replaced = |one: Arc<Account>| if Arc::ptr_eq(&one, &old) { new.clone() } else { one };
            roll.put(roll.accounts().into_iter().map(replaced).collect());
        }
        self.spread();
        Ok(())
    }

    /// Deletes users wherever they are let in, and tells which there were. The error is for the client.
    pub fn delete(&self, roll: &Roll, names: &[&[u8]]) -> Result<Vec<Arc<str>>, String> {
        let Ok(_changing) = self.changing.lock() else { return Err(BROKEN.into()) };
        if names.contains(&DEFAULT.as_bytes()) {
            return Err("ERR The 'default' user cannot be removed".into());
        }
        let mut deleted = Vec::new();
        for name in names {
            let Some(account) = roll.member(name).map(|member| member.account) else { continue };
            for roll in self.rolls.iter().filter(|roll| roll.has(&account)) {
                let others = |one: &Arc<Account>| !Arc::ptr_eq(one, &account);
                roll.put(roll.accounts().into_iter().filter(others).collect());
            }
            deleted.push(account.name.clone());
        }
        self.spread();
        Ok(deleted)
    }

    /// Reads them again from the file. What clients made or changed is dropped; on an error nothing changes. The error
    /// is for a client or the log, and holds no secret. However many ask, one thread reads: whoever waits shares the
    /// first reading that began after it asked.
    pub async fn load(self: Arc<Self>) -> Result<(), String> {
        let asked = self.begun.load(Ordering::Acquire);
        let mut read = self.read.clone().lock_owned().await;
        if read.number > asked {
            return read.done.clone();
        }
        // The thread keeps the lock, also if nobody waits for it any more: what is read later must not be replaced by
        // what was read before.
        let reading = tokio::task::spawn_blocking(move || {
            let number = self.begun.fetch_add(1, Ordering::AcqRel) + 1;
            let done = self.read();
            *read = Reading { number, done: done.clone() };
            done
        });
        reading.await.unwrap_or_else(|_| Err("ERR internal error: nothing was read".into()))
    }

    /// Waits for the disk.
    fn read(&self) -> Result<(), String> {
        let Some(file) = self.file.get() else { return Err(NO_FILE.into()) };
        let env = |name: &str| std::env::var(name).ok();
        let loaded = config::load(file, &env).map_err(|report| told(&report));
        let done = loaded.and_then(|loaded| self.adopt(&loaded.config));
        if let Err(error) = &done {
            tracing::error!("users are not read again: {}", error.trim_start_matches("ERR "));
        }
        done
    }

    fn adopt(&self, config: &Config) -> Result<(), String> {
        let Ok(_changing) = self.changing.lock() else { return Err(BROKEN.into()) };
        let mut next: Vec<(&Arc<Roll>, Accounts)> = Vec::new();
        let configured = configured(config);
        let known = self.rolls.iter().flat_map(|roll| roll.accounts());
        let configured = settled(configured, &known.collect::<Vec<_>>());
        for roll in &self.rolls {
            let Some(listener) = config.listeners.iter().find(|listener| listener.name == roll.listener)
            else {
                let name = &roll.listener;
                return Err(format!(
                    "ERR [listen.{name}] is not in the configuration any more: that needs a restart"
                ));
            };
            next.push((roll, settled(admitted(listener, &configured), &roll.accounts())));
        }
        for (roll, accounts) in next {
            tell(roll, &accounts);
            roll.put(accounts);
        }
        self.spread();
        Ok(())
    }

    /// Has those clients notice as well that send nothing.
    fn spread(&self) {
        self.mailboxes.iter().for_each(|mailbox| mailbox.post(Mail::Users));
    }
}

const BROKEN: &str = "ERR internal error: a change of the users did not end";

fn configured(config: &Config) -> Accounts {
    config.users.iter().map(|user| Arc::new(Account::configured(user))).collect()
}

/// Those that a listener lets in.
fn admitted(listener: &Listener, all: &Accounts) -> Accounts {
    match &listener.users {
        Some(names) => {
            all.iter().filter(|account| names.iter().any(|name| **name == *account.name)).cloned().collect()
        }
        None => vec![Arc::new(Account::alone(listener))],
    }
}

/// Those of the new accounts that are as they were stay the same ones: their rates go on.
fn settled(new: Accounts, old: &[Arc<Account>]) -> Accounts {
    let settle = |account: Arc<Account>| {
        let same = old.iter().find(|old| old.is_like(&account));
        same.cloned().unwrap_or(account)
    };
    new.into_iter().map(settle).collect()
}

/// Logs how the users of a listener will differ.
fn tell(roll: &Roll, new: &Accounts) {
    let old = roll.accounts();
    let named = |accounts: &[Arc<Account>], name: &str| accounts.iter().any(|account| &*account.name == name);
    let names = |accounts: &[Arc<Account>], test: &dyn Fn(&Arc<Account>) -> bool| -> Vec<String> {
        accounts.iter().filter(|account| test(account)).map(|account| account.name.to_string()).collect()
    };
    let added = names(new, &|account| !named(&old, &account.name));
    let removed = names(&old, &|account| !named(new, &account.name));
    let changed = names(new, &|account| named(&old, &account.name) && !roll.has(account));
    let (listener, users) = (&roll.listener, new.len());
    tracing::info!(listener, users, ?added, ?removed, ?changed, "users were read again");
}

/// The errors of a configuration in one line, each with its file, line and code.
fn told(report: &config::Report) -> String {
    let file = report.sources().name();
    let errors = report.problems().iter().filter(|problem| problem.severity == Severity::Error);
    let lines: Vec<String> = errors
        .take(MOST_TOLD)
        .map(|problem| match problem.line {
            Some(line) => format!("{file}:{line}: {} {}", problem.code, problem.message),
            None => format!("{file}: {} {}", problem.code, problem.message),
        })
        .collect();
    let more = report.errors().saturating_sub(lines.len());
    let rest = if more > 0 { format!("; and {more} more") } else { String::new() };
    format!("ERR {}{rest}. The users stay as they are", lines.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::time::{Duration, Instant};

    fn config(second: &str, rules: &str) -> Config {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let file = dir.path().join("quorate.toml");
        std::fs::write(&file, text(second, rules)).expect("it can be written");
        config::load(&file, &|_| None).map_err(|report| told(&report)).expect("a configuration").config
    }

    fn text(second: &str, rules: &str) -> String {
        format!(
            "[listen.main]\naddress = \"127.0.0.1:1\"\ngroup = \"g\"\nusers = [\"app\"]\n[listen.second]\naddress = \
             \"127.0.0.1:2\"\ngroup = \"g\"\nusers = [{second}]\n[user.app]\nrules = \"{rules}\"\n[user.other]\nrules = \
             \"nopass\"\n[backend.r1]\nurl = \"redis://127.0.0.1:3\"\n[group.g]\nreplicas = [\"r1\"]\n[state]\ndir = \"state\"\n"
        )
    }

    /// A reading that blocks until it is let go: its file is a pipe.
    #[test]
    fn who_waits_shares_a_reading_that_began_later() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let file = dir.path().join("quorate.toml");
        let made = std::process::Command::new("mkfifo").arg(&file).status().expect("mkfifo is there");
        assert!(made.success());
        let users = Arc::new(Users::new(&config("\"app\"", "nopass +get"), Arc::new([])));
        users.read_from(file.clone());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().expect("threads");
        let first = runtime.spawn(users.clone().load());
        // It is opened for writing as soon as somebody reads.
        let mut writer = std::fs::OpenOptions::new().write(true).open(&file).expect("it is being read");
        assert_eq!(users.begun.load(Ordering::Acquire), 1);
        let asked: Vec<_> = (0..50).map(|_| runtime.spawn(users.clone().load())).collect();
        let began = Instant::now();
        runtime.block_on(async {
            while Arc::strong_count(&users.read) < 52 {
                assert!(began.elapsed() < Duration::from_secs(60), "they do not ask");
                tokio::task::yield_now().await;
            }
        });
        assert_eq!(users.begun.load(Ordering::Acquire), 1, "nobody else reads meanwhile");
        writer.write_all(b"no configuration").expect("it is read");
        drop(writer);
        assert!(runtime.block_on(first).expect("it ends").is_err());
        let mut writer = std::fs::OpenOptions::new().write(true).open(&file).expect("it is read again");
        let right = text("\"app\"", "nopass +set");
        writer.write_all(right.as_bytes()).expect("it is read");
        drop(writer);
        for one in asked {
            assert_eq!(runtime.block_on(one).expect("it ends"), Ok(()));
        }
        assert_eq!(users.begun.load(Ordering::Acquire), 2, "one was enough for all of them");
    }

    fn life(users: &Users, listener: &str) -> Option<u64> {
        users.roll(listener)?.member(b"app").map(|member| member.life)
    }

    /// What a client of the second listener is, that notices nothing between two of these.
    #[test]
    fn a_user_that_comes_again_is_another_one_whatever_came_between() {
        let users = Users::new(&config("\"app\"", "nopass +get"), Arc::new([]));
        let (main, second) = (life(&users, "main"), life(&users, "second"));
        let make = || {
            let roll = users.roll("second").expect("it is there");
            users.set(roll, "app", &[b"+@all".to_vec()]).expect("rules");
        };
        // The listener lets it in no more, and a client makes one of its name there; at the other it is as it was.
        users.adopt(&config("\"other\"", "nopass +get")).expect("it fits");
        make();
        assert!(life(&users, "second").is_some() && life(&users, "second") != second);
        assert_eq!(life(&users, "main"), main);
        // Read again with other rules, deleted, and made.
        users.adopt(&config("\"app\"", "nopass +get")).expect("it fits");
        let second = life(&users, "second");
        users.adopt(&config("\"app\"", "nopass +set")).expect("it fits");
        assert_eq!(life(&users, "second"), second, "it was changed only");
        let roll = users.roll("second").expect("it is there");
        assert_eq!(users.delete(roll, &[b"app"]).expect("it works").len(), 1);
        make();
        assert!(life(&users, "second").is_some() && life(&users, "second") != second);
        assert_eq!(life(&users, "main"), None);
    }
}
