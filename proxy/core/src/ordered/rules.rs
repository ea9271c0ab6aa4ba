//! The safety rules by name, so that the simulator can prove that each one is needed.

/// Which safety rules are in force. Everything but the simulator uses [`SafetyRules::ALL`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SafetyRules {
    /// A read waits until the entries it may have seen are committed.
    pub hold: bool,
    /// A write is answered only when its ack rule is met, not at the first reply.
    pub quorum: bool,
    /// A new owner's own entry is committed before it serves.
    pub barrier: bool,
    /// A backend that restarted since it was last attached does not count at take-over.
    pub amnesia: bool,
    /// A part of a copy counts at take-over only where a whole replica holds what it held before.
    pub witness: bool,
    /// Take-over waits for replicas that touch every write quorum.
    pub cover: bool,
    /// A returning backend is fed from its own position, not from where it was believed to be.
    pub position: bool,
    /// A session's read goes behind the session's own writes.
    pub session_order: bool,
    /// The in-sync set is recorded before anything is acknowledged without a former member.
    pub record_first: bool,
    /// A replica that left the log gets the log's values of the keys that its own entries touched.
    pub own_keys: bool,
    /// It also gets the values of the keys that the log touched since.
    pub missed_keys: bool,
    /// A replica that got a copy also gets the values of the keys that the log touched while it was made.
    pub touched_keys: bool,
    /// Replicas are compared only while all of them stand at the same position.
    pub same_position: bool,
    /// Where the journal is the log, nothing is acknowledged that it does not hold.
    pub recorded: bool,
    /// What comes from the journal must continue the position of the replica that it is for.
    pub chain: bool,
    /// Where the journal is the log, a start adopts what it knows beyond the backends.
    pub restored: bool,
    /// A replica fed from the journal counts only once it has reached the log in memory, on the same history.
    pub proven: bool,
    /// Keys end in the order of the log, not by the backends' clocks.
    pub expiry: bool,
    /// A transaction is dropped when a bucket that it watches was touched since.
    pub watch: bool,
    /// It is also dropped when a number was given back since, for that number may belong to another write now.
    pub given_back: bool,
    /// A replica that may have run commands alone is mended before it counts.
    pub trial: bool,
}

impl SafetyRules {
    /// Every rule in force.
    pub const ALL: Self = Self {
        hold: true,
        quorum: true,
        barrier: true,
        amnesia: true,
        witness: true,
        cover: true,
        position: true,
        session_order: true,
        record_first: true,
        own_keys: true,
        missed_keys: true,
        touched_keys: true,
        same_position: true,
        recorded: true,
        chain: true,
        restored: true,
        proven: true,
        expiry: true,
        watch: true,
        given_back: true,
        trial: true,
    };
}
