//! What can go wrong with a policy, by whose fault it is, and what the operator can do about it.

use quorate_core::plan::PlanError;
use std::fmt;

/// A call into a guest that did not come back with an answer. The instance is gone; the next call makes a new one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The guest ran into a trap: a panic, a wrong access, an overflow of its stack.
    #[error("'{hook}' trapped: {message}; the policy has a bug")]
    Trap {
        /// Function that was called.
        hook: &'static str,
        /// What wasmtime says.
        message: String,
    },
    /// The guest took too long.
    #[error("'{hook}' took longer than {limit_ms} ms; simplify the policy or raise its deadline")]
    Deadline {
        /// Function that was called.
        hook: &'static str,
        /// Bound that was hit.
        limit_ms: u32,
    },
    /// The guest wanted more memory than it may have.
    #[error("'{hook}' needed more than {limit_bytes} bytes of memory; raise limits.memory if that is meant")]
    OutOfMemory {
        /// Function that was called.
        hook: &'static str,
        /// Bound that was hit.
        limit_bytes: usize,
    },
    /// The guest's answer was larger than the host takes.
    #[error("'{hook}' answered with more than {limit_bytes} bytes; make it smaller")]
    TooMuch {
        /// Function that was called.
        hook: &'static str,
        /// Bound that was hit.
        limit_bytes: usize,
    },
    /// Too many faults in a row: asking again would only cost time.
    #[error(
        "the decider failed {faults} times in a row and is not asked any more; mend the policy and restart the proxy"
    )]
    Suspended {
        /// How many.
        faults: u32,
    },
    /// `decide` asked for itself.
    #[error("'decide' answered 0xffff, which asks for itself; it must name a plan or reject")]
    Undecided,
}

impl Fault {
    /// Stable code for metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Fault::Trap { .. } => "trap",
            Fault::Deadline { .. } => "deadline",
            Fault::OutOfMemory { .. } => "out-of-memory",
            Fault::TooMuch { .. } => "too-much",
            Fault::Suspended { .. } => "suspended",
            Fault::Undecided => "undecided",
        }
    }
}

/// One setting a policy refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Where in the settings; empty for the settings as a whole.
    pub path: String,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" => f.write_str(&self.message),
            path => write!(f, "'{path}' {}", self.message),
        }
    }
}

/// Why a policy cannot be used, or why its table is not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// The engine did not start.
    #[error("the WebAssembly engine cannot start: {0}; this machine may lack memory or address space")]
    Engine(String),
    /// No bundled policy has this name.
    #[error("no bundled policy is called '{name}'; there are {known}")]
    NotBundled {
        /// Name that was asked for.
        name: String,
        /// Names there are.
        known: String,
    },
    /// More bytes than a component may have.
    #[error(
        "policy '{policy}': the component has {bytes} bytes; at most {limit} are allowed (component-bytes)"
    )]
    TooLarge {
        /// Name from the configuration.
        policy: String,
        /// Its size.
        bytes: usize,
        /// Bound that was hit.
        limit: usize,
    },
    /// Not a component, or not a valid one.
    #[error(
        "policy '{policy}': not a valid WebAssembly component: {why}; see docs/policies.md for how to build one"
    )]
    NotAComponent {
        /// Name from the configuration.
        policy: String,
        /// What is wrong.
        why: String,
    },
    /// It wants something that no host gives.
    #[error(
        "policy '{policy}' imports {}, which is not granted to policies; build it without. \
         The set of imports is the set of capabilities: {granted}", imports.join(", ")
    )]
    UnknownImport {
        /// Name from the configuration.
        policy: String,
        /// What it wants beyond what is granted.
        imports: Vec<String>,
        /// What is granted.
        granted: String,
    },
    /// It lacks something every policy has, or its types have another shape.
    #[error("policy '{policy}': {why}; it must be built for quorate:policy@0.1.0, see wit/CHANGES.md")]
    Mismatch {
        /// Name from the configuration.
        policy: String,
        /// What is missing or different.
        why: String,
    },
    /// No instance could be made, through no fault of the guest.
    #[error("policy '{policy}': no instance can be made: {why}")]
    NoInstance {
        /// Name from the configuration.
        policy: String,
        /// What wasmtime says.
        why: String,
    },
    /// The policy refused its settings.
    #[error("policy '{policy}' refuses its settings: {}", list(settings))]
    Settings {
        /// Name from the configuration.
        policy: String,
        /// Every problem.
        settings: Vec<Setting>,
    },
    /// A call did not come back.
    #[error("policy '{policy}': {fault}")]
    Fault {
        /// Name from the configuration.
        policy: String,
        /// What happened.
        fault: Fault,
    },
    /// `build` answered with an error of its own.
    #[error("policy '{policy}' cannot plan for these backends: {message}")]
    Declined {
        /// Name from the configuration.
        policy: String,
        /// The policy's words.
        message: String,
    },
    /// The table contradicts itself or the topology.
    #[error("policy '{policy}' built an incoherent table: {}", list(problems))]
    Incoherent {
        /// Name from the configuration.
        policy: String,
        /// Every problem.
        problems: Vec<PlanError>,
    },
    /// The table uses what this version does not do, or is larger than it takes.
    #[error("policy '{policy}' built a table that this version does not take: {}", list(reasons))]
    Unsupported {
        /// Name from the configuration.
        policy: String,
        /// Plan and field, a sentence each.
        reasons: Vec<String>,
    },
    /// Two sets of replicas may acknowledge writes without knowing of each other.
    #[error(
        "policy '{policy}': {one} and {other} may both acknowledge writes and share no replica, so an \
         acknowledged write could be lost; ask for more acknowledgements"
    )]
    Disjoint {
        /// Name from the configuration.
        policy: String,
        /// A write quorum.
        one: String,
        /// Another one.
        other: String,
    },
    /// The same call gave two answers.
    #[error(
        "policy '{policy}' is not pure: {what} gave two different answers; proxies of a fleet would disagree"
    )]
    NotPure {
        /// Name from the configuration.
        policy: String,
        /// Call that was repeated.
        what: &'static str,
    },
}

impl HostError {
    /// Stable code for metrics.
    pub fn code(&self) -> &'static str {
        match self {
            HostError::Engine(_) => "engine",
            HostError::NotBundled { .. } => "not-bundled",
            HostError::TooLarge { .. } => "too-large",
            HostError::NotAComponent { .. } => "not-a-component",
            HostError::UnknownImport { .. } => "unknown-import",
            HostError::Mismatch { .. } => "mismatch",
            HostError::NoInstance { .. } => "no-instance",
            HostError::Settings { .. } => "settings",
            HostError::Fault { fault, .. } => fault.code(),
            HostError::Declined { .. } => "declined",
            HostError::Incoherent { .. } => "incoherent",
            HostError::Unsupported { .. } => "unsupported",
            HostError::Disjoint { .. } => "disjoint",
            HostError::NotPure { .. } => "not-pure",
        }
    }
}

fn list<T: fmt::Display>(items: &[T]) -> String {
    items.iter().map(T::to_string).collect::<Vec<_>>().join("; ")
}
