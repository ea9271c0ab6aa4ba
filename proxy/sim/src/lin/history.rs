//! What clients asked and were told, and when.
//! An operation ends at most once; one that never ends counts as unknown.

/// Names an operation of one history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId(pub usize);

/// How an operation ended, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome<R> {
    /// It took effect, and this was the answer.
    Ok {
        /// The answer.
        ret: R,
        /// When the client had it.
        at: u64,
    },
    /// It was refused: it must never take effect.
    Failed {
        /// When the client knew.
        at: u64,
    },
    /// It may take effect at any time after its call, or never.
    Unknown {
        /// When the client gave up, if it did.
        at: Option<u64>,
    },
}

/// One operation of one client on one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation<O, R> {
    /// The client; it has one operation at a time.
    pub process: u64,
    /// The object.
    pub key: String,
    /// What was asked.
    pub op: O,
    /// When it was asked.
    pub invoked: u64,
    /// What became of it.
    pub outcome: Outcome<R>,
}

/// Collects a history. Times are the caller's, in any unit, and never go back.
#[derive(Debug, Clone)]
pub struct Recorder<O, R> {
    operations: Vec<Operation<O, R>>,
}

impl<O, R> Default for Recorder<O, R> {
    fn default() -> Self {
        Recorder { operations: Vec::new() }
    }
}

impl<O, R> Recorder<O, R> {
    /// A client asks.
    pub fn invoke(&mut self, process: u64, key: impl Into<String>, op: O, at: u64) -> OpId {
        let outcome = Outcome::Unknown { at: None };
        self.operations.push(Operation { process, key: key.into(), op, invoked: at, outcome });
        OpId(self.operations.len() - 1)
    }

    /// It is told.
    pub fn ok(&mut self, id: OpId, ret: R, at: u64) {
        self.end(id, Outcome::Ok { ret, at });
    }

    /// It is told that its operation was refused and will never take effect.
    pub fn fail(&mut self, id: OpId, at: u64) {
        self.end(id, Outcome::Failed { at });
    }

    /// It will not know.
    pub fn unknown(&mut self, id: OpId, at: u64) {
        self.end(id, Outcome::Unknown { at: Some(at) });
    }

    fn end(&mut self, id: OpId, outcome: Outcome<R>) {
        let operation = &mut self.operations[id.0];
        let open = matches!(operation.outcome, Outcome::Unknown { at: None });
        assert!(open, "an operation ends once");
        operation.outcome = outcome;
    }

    /// All operations, in the order of their calls.
    pub fn operations(&self) -> &[Operation<O, R>] {
        &self.operations
    }
}
