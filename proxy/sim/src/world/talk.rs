//! The conversation of a simulated proxy with one backend before service: survey, fence, standing.
//! It mirrors the real attach step by step; every answer may be the last.

use super::options::ShellRules;
use bytes::{Bytes, BytesMut};
use quorate_core::ordered::{Attachment, Position};
use quorate_wire::resp::{Reserved, Scanner, Value, encode, tail, trial};

/// Who owns a group: ranks by epoch, then by the id that breaks ties.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Owner {
    pub(super) epoch: u64,
    pub(super) id: String,
}

const USERS: &str = "quorate:g:";

impl Owner {
    fn user(&self) -> String {
        format!("{USERS}{}:{}", self.epoch, self.id)
    }

    fn yields_to(&self, other: &Owner) -> bool {
        other.epoch > self.epoch || (other.epoch == self.epoch && other.id != self.id)
    }

    fn parse(text: &str) -> Option<Owner> {
        let (epoch, id) = text.split_once(':')?;
        Some(Owner { epoch: epoch.parse().ok()?, id: id.to_string() })
    }
}

/// Where the conversation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Probe,
    Info,
    Look,
    Take,
    Login,
    Standing,
}

/// What follows from the answers to a step.
#[derive(Debug)]
pub(super) enum Next {
    /// More answers are needed.
    Wait,
    /// These bytes are to be sent.
    Say(Bytes),
    /// The survey saw this epoch.
    Seen(u64),
    /// Attached.
    Done(Attachment, String),
    /// A newer owner was there.
    Fenced(u64),
    /// It cannot be attached now.
    Problem(String),
}

/// One conversation.
pub(super) struct Talk {
    pub(super) step: Step,
    pub(super) deadline_us: u64,
    owner: Owner,
    shell: ShellRules,
    run_id: String,
    tries: u32,
    wanted: usize,
    answers: Vec<Value>,
    scanner: Scanner,
}

type Words = Vec<Vec<u8>>;

fn words(line: &[&str]) -> Words {
    line.iter().map(|word| word.as_bytes().to_vec()).collect()
}

impl Talk {
    /// A conversation that surveys.
    pub(super) fn survey(deadline_us: u64) -> Self {
        Self::new(Step::Probe, Owner::default(), ShellRules::ALL, deadline_us)
    }

    /// A conversation that attaches in the name of an owner.
    pub(super) fn attach(owner: Owner, shell: ShellRules, deadline_us: u64) -> Self {
        Self::new(Step::Info, owner, shell, deadline_us)
    }

    fn new(step: Step, owner: Owner, shell: ShellRules, deadline_us: u64) -> Self {
        let (run_id, answers, scanner) = (String::new(), Vec::new(), Scanner::default());
        Talk { step, deadline_us, owner, shell, run_id, tries: 0, wanted: 0, answers, scanner }
    }

    /// The first thing to say.
    pub(super) fn open(&mut self, keys: &Reserved) -> Bytes {
        match self.step {
            Step::Probe => self.say(&[
                words(&["GET", &keys.position]),
                words(&["GET", &keys.epoch]),
                words(&["ACL", "USERS"]),
            ]),
            _ => self.say(&[words(&["INFO"])]),
        }
    }

    fn say(&mut self, commands: &[Words]) -> Bytes {
        self.answers.clear();
        self.wanted = commands.len();
        let mut out = BytesMut::new();
        commands.iter().for_each(|command| encode::command(command.iter().map(Vec::as_slice), &mut out));
        out.freeze()
    }

    /// Reads answers from the front of `buf`.
    pub(super) fn hear(&mut self, buf: &mut BytesMut, keys: &Reserved) -> Next {
        while self.answers.len() < self.wanted {
            match self.scanner.next(buf) {
                Err(error) => return Next::Problem(error.to_string()),
                Ok(None) => return Next::Wait,
                Ok(Some(len)) => match Value::parse(&buf.split_to(len).freeze()) {
                    Some(value) => self.answers.push(value),
                    None => return Next::Problem("its answer cannot be read".into()),
                },
            }
        }
        let answers = std::mem::take(&mut self.answers);
        if let Some(error) = answers.iter().find_map(Value::error) {
            return Next::Problem(error);
        }
        match self.step {
            Step::Probe => Next::Seen(greatest(&answers[0], &answers[1], &answers[2])),
            Step::Info => self.informed(&answers[0], keys),
            Step::Look => self.looked(&answers, keys),
            Step::Take => self.took(&answers, keys),
            Step::Login => self.ask_standing(keys),
            Step::Standing => self.stands(&answers),
        }
    }

    fn informed(&mut self, info: &Value, keys: &Reserved) -> Next {
        let text = info.text().unwrap_or_default();
        let field =
            |name: &str| text.lines().find_map(|line| line.trim_end().strip_prefix(name)?.strip_prefix(':'));
        if field("loading") == Some("1") {
            return Next::Problem("still loading".into());
        }
        self.run_id = field("run_id").unwrap_or_default().to_string();
        self.look(keys)
    }

    fn look(&mut self, keys: &Reserved) -> Next {
        self.step = Step::Look;
        Next::Say(self.say(&[
            words(&["WATCH", &keys.epoch]),
            words(&["GET", &keys.epoch]),
            words(&["ACL", "USERS"]),
            words(&["GET", &keys.position]),
        ]))
    }

    fn looked(&mut self, seen: &[Value], keys: &Reserved) -> Next {
        let users: Vec<Owner> = owners(&seen[2]).collect();
        let fenced = seen[1].text().and_then(Owner::parse);
        let position = position_epoch(&seen[3]);
        if self.shell.fence {
            if let Some(newer) = users.iter().chain(&fenced).filter(|other| self.owner.yields_to(other)).max()
            {
                return Next::Fenced(newer.epoch);
            }
            if position > self.owner.epoch {
                return Next::Fenced(position);
            }
        }
        self.step = Step::Take;
        let owner = self.owner.clone();
        let value = format!("{}:{}", owner.epoch, owner.id);
        let mut commands = vec![words(&["MULTI"]), words(&["SET", &keys.epoch, &value])];
        let goes = |other: &&Owner| if **other == owner { self.shell.comeback } else { self.shell.fence };
        let gone: Vec<String> = users.iter().filter(goes).map(Owner::user).collect();
        if !gone.is_empty() {
            let delete = ["ACL", "DELUSER"].into_iter().chain(gone.iter().map(String::as_str));
            commands.push(words(&delete.collect::<Vec<_>>()));
        }
        commands.push(words(&["ACL", "SETUSER", &owner.user(), "reset", "on", ">pw", "~*", "&*", "+@all"]));
        commands.push(words(&["EXEC"]));
        Next::Say(self.say(&commands))
    }

    fn took(&mut self, answers: &[Value], keys: &Reserved) -> Next {
        let exec = answers.last().cloned().unwrap_or(Value::Null);
        if let Some(error) = exec.items().iter().find_map(Value::error) {
            return Next::Problem(error);
        }
        self.tries += 1;
        match exec {
            Value::Null if self.tries >= 10 => Next::Problem("another proxy is fencing it".into()),
            Value::Null => self.look(keys),
            _ => {
                self.step = Step::Login;
                let user = self.owner.user();
                Next::Say(self.say(&[words(&["AUTH", &user, "pw"])]))
            }
        }
    }

    fn ask_standing(&mut self, keys: &Reserved) -> Next {
        self.step = Step::Standing;
        let mut commands =
            vec![words(&["GET", &keys.position]), words(&["GET", &keys.run]), words(&["DBSIZE"])];
        let own: Vec<&str> = ["EXISTS"].into_iter().chain(keys.all()).collect();
        commands.push(words(&own));
        commands.push(words(&["EXISTS", &keys.partial]));
        commands.push(words(&["LRANGE", &keys.tail, "0", "-1"]));
        commands.push(words(&["GET", &keys.trial]));
        Next::Say(self.say(&commands))
    }

    fn stands(&mut self, answers: &[Value]) -> Next {
        let position = match answers[0].text().map(str::parse) {
            None => None,
            Some(Ok(position)) => Some(position),
            Some(Err(())) => return Next::Problem("its position cannot be read".into()),
        };
        let restarted = answers[1].text() != Some(self.run_id.as_str());
        let elements = answers.get(5).map(Value::items).unwrap_or_default();
        let tail = elements.iter().filter_map(|element| tail::parse(element.bytes()?)).collect();
        let empty = answers[2] == answers[3];
        let partial = answers[4] == Value::Integer(1);
        let trial = match answers.get(6).and_then(Value::bytes) {
            None => None,
            Some(text) => match trial::parse_mark(text) {
                Some(mark) => Some(mark),
                None => return Next::Problem("its mark cannot be read".into()),
            },
        };
        Next::Done(
            Attachment { position, tail, empty, partial, restarted, trial },
            std::mem::take(&mut self.run_id),
        )
    }
}

fn owners(users: &Value) -> impl Iterator<Item = Owner> + '_ {
    users.items().iter().filter_map(|user| Owner::parse(user.text()?.strip_prefix(USERS)?))
}

fn position_epoch(answer: &Value) -> u64 {
    answer.text().and_then(|text| text.parse::<Position>().ok()).map_or(0, |position| position.epoch)
}

fn greatest(position: &Value, fence: &Value, users: &Value) -> u64 {
    let fence = fence.text().and_then(Owner::parse).map_or(0, |owner| owner.epoch);
    let users = owners(users).map(|owner| owner.epoch).max().unwrap_or(0);
    position_epoch(position).max(fence).max(users)
}
