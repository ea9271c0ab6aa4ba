//! What a simulated proxy expects back on its ordered connection to one backend, in order.
//! It mirrors the real link, without protocol switching and without commands a backend does not know.

use super::options::ShellRules;
use bytes::{Bytes, BytesMut};
use quorate_core::ordered::Event;
use quorate_wire::resp::{Outcome, ReplyError, Scanner, TransactionReader, is_environment_error};
use std::collections::VecDeque;

enum Expect {
    Transaction(Box<TransactionReader>),
    Read { left: u32, scanner: Scanner, at: usize, environment: bool, lost: bool, whole: bool },
    Aside(Scanner),
}

/// One ordered connection.
#[derive(Default)]
pub(super) struct Link {
    outgoing: BytesMut,
    expected: VecDeque<Expect>,
}

impl Link {
    pub(super) fn clear(&mut self) {
        *self = Link::default();
    }

    pub(super) fn is_idle(&self) -> bool {
        self.expected.is_empty()
    }

    /// Is nothing expected back but answers to commands of the proxy's own? The core does not watch those.
    pub(super) fn is_unwatched(&self) -> bool {
        self.expected.iter().all(|expect| matches!(expect, Expect::Aside(_)))
    }

    /// What is to be written now.
    pub(super) fn take(&mut self) -> Bytes {
        self.outgoing.split().freeze()
    }

    /// A command of the proxy's own, whose answer nobody waits for.
    pub(super) fn aside(&mut self, command: &[u8]) {
        self.outgoing.extend_from_slice(command);
        self.expected.push_back(Expect::Aside(Scanner::default()));
    }

    pub(super) fn read(&mut self, payload: &[u8], commands: u32, whole: bool) {
        self.outgoing.extend_from_slice(payload);
        let scanner = Scanner::default();
        self.expected.push_back(Expect::Read {
            left: commands,
            scanner,
            at: 0,
            environment: false,
            lost: false,
            whole,
        });
    }

    pub(super) fn transaction(&mut self, image: &[Bytes], reader: TransactionReader) {
        image.iter().for_each(|part| self.outgoing.extend_from_slice(part));
        self.expected.push_back(Expect::Transaction(Box::new(reader)));
    }

    /// Turns what was read into events. Takes whole replies from the front of `buf`.
    pub(super) fn receive(
        &mut self,
        replica: usize,
        buf: &mut BytesMut,
        shell: ShellRules,
        events: &mut Vec<Event>,
    ) -> Result<(), ReplyError> {
        while !buf.is_empty() {
            match self.expected.front_mut() {
                None => {
                    let got = String::from_utf8_lossy(buf).into_owned();
                    return Err(ReplyError::Unexpected { expected: "nothing".into(), got });
                }
                Some(Expect::Aside(scanner)) => {
                    let Some(len) = scanner.next(buf)? else { return Ok(()) };
                    let _ = buf.split_to(len);
                    self.expected.pop_front();
                }
                Some(Expect::Read { left, scanner, at, environment, lost, whole }) => {
                    while *left > 0 {
                        let Some(len) = scanner.next(&buf[*at..])? else { return Ok(()) };
                        *environment |= buf[*at] == b'-' && is_environment_error(&buf[*at..*at + len]);
                        *at += len;
                        *left -= 1;
                    }
                    let bytes = buf.split_to(*at).freeze();
                    let lost = (*environment && !*whole) || (*lost && shell.lost_reads);
                    events.push(if lost {
                        Event::ReadLost { replica }
                    } else {
                        Event::Read { replica, bytes }
                    });
                    self.expected.pop_front();
                }
                Some(Expect::Transaction(reader)) => {
                    let Some(outcome) = reader.read(buf)? else { return Ok(()) };
                    self.expected.pop_front();
                    events.push(self.transacted(replica, outcome)?);
                }
            }
        }
        Ok(())
    }

    fn transacted(&mut self, replica: usize, outcome: Outcome) -> Result<Event, ReplyError> {
        match outcome {
            Outcome::Applied(replies) => Ok(Event::Applied { replica, replies }),
            Outcome::Refused(error) => {
                // Reads behind entries that were not applied saw too little.
                for expect in &mut self.expected {
                    if let Expect::Read { lost, .. } = expect {
                        *lost = true;
                    }
                }
                Ok(Event::Refused { replica, error })
            }
            Outcome::Rejected(rejected) => {
                let got = rejected.first().map(|(_, e)| String::from_utf8_lossy(e).into_owned());
                Err(ReplyError::Unexpected {
                    expected: "known commands".into(),
                    got: got.unwrap_or_default(),
                })
            }
        }
    }
}
