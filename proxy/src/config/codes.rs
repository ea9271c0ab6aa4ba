//! Every code of a problem, once. Codes are public: a number is never reused for another meaning.
//!
//! C0xx the file and single values, C1xx sections against each other, C2xx warnings. C3xx and
//! above belong to later passes, which load policies and prove quorums.

/// Code and what it means, in one line; in order.
pub const CODES: &[(&str, &str)] = &[
    ("C001", "the file cannot be read: it is missing, a directory or not permitted"),
    ("C002", "the file is larger than a configuration may be"),
    ("C003", "the file is not UTF-8"),
    ("C004", "the file is not TOML"),
    ("C005", "a key that does not exist"),
    ("C006", "a value of the wrong type"),
    ("C007", "a key that must be given is missing"),
    ("C008", "a word that is not among the known ones"),
    ("C009", "something known that this version does not carry"),
    ("C010", "a duration that cannot be read or is out of bounds"),
    ("C011", "a size that cannot be read or is out of bounds"),
    ("C012", "a number out of bounds"),
    ("C013", "an address that is not host:port"),
    ("C014", "a URL that cannot be used"),
    ("C015", "a name that cannot be used"),
    ("C016", "a secret that is not there: variable not set, file unreadable or empty"),
    ("C017", "a password in plain text"),
    ("C018", "the same thing given in two places"),
    ("C019", "more entries than allowed"),
    ("C020", "a policy setting that JSON cannot express"),
    ("C021", "a digest that is not 64 hexadecimal digits"),
    ("C022", "a text that is empty"),
    ("C023", "a certificate, key or CA that cannot be used, or a key that is not the certificate's"),
    ("C024", "a rule of a user that cannot be read"),
    ("C101", "a group without replicas"),
    ("C102", "a write quorum larger than the group"),
    ("C103", "a write quorum of none"),
    ("C104", "a group with more replicas than the quorum proof covers"),
    ("C105", "a backend that does not exist"),
    ("C106", "a group that does not exist"),
    ("C107", "a replica named twice in one list"),
    ("C108", "a backend in two groups"),
    ("C109", "an expectation about a backend outside its group"),
    ("C110", "a bundled policy that does not exist"),
    ("C111", "a policy table without exactly one of name and wasm"),
    ("C112", "a plain setting beside a policy of one's own"),
    ("C113", "a zone that the policy needs is not given"),
    ("C114", "one try may take longer than the whole request"),
    ("C115", "one argument may be larger than the whole command"),
    ("C116", "two listeners on one address"),
    ("C117", "a backend that is the proxy itself"),
    ("C118", "one address used by two backends, or twice by one"),
    ("C119", "nothing to serve: no listener"),
    ("C120", "a setting of the other ack rule"),
    ("C121", "TLS settings of a backend whose URL is plain"),
    ("C122", "a setting for certificates without the file that it needs"),
    ("C123", "a user that does not exist"),
    ("C124", "a burst of requests without the rate that it belongs to"),
    ("C125", "a listener with both group and groups"),
    ("C126", "groups of a listener that cannot share its keys"),
    ("C201", "a group that stops writing when any one backend is down"),
    ("C202", "a password in a URL"),
    ("C203", "a backend that no group uses"),
    ("C204", "a group that no listener leads to"),
    ("C205", "a zone of the proxy that no backend is in"),
    ("C206", "a group of one replica"),
    ("C207", "a nearest replica is asked for, but the proxy's zone is not given"),
    ("C208", "a group without the tail that a fail-over reads"),
    ("C209", "a certificate that has expired, or is about to"),
    ("C210", "a user that cannot log in"),
    ("C211", "a user that no listener lets in"),
    ("C212", "a user with limits that scripts can get around"),
    ("C301", "a policy that cannot be loaded, or whose table is refused"),
    ("C302", "two write quorums that share no replica"),
    ("C303", "a policy whose digest is not the one given"),
    ("C304", "a policy that does not answer the same twice"),
    ("C305", "an expectation that does not hold"),
    ("C306", "a backend that the probe found unusable"),
];

/// What a code means.
pub fn explain(code: &str) -> Option<&'static str> {
    CODES.iter().find(|(known, _)| *known == code).map(|(_, meaning)| *meaning)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_sorted_and_unique() {
        assert!(CODES.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }

    #[test]
    fn an_unknown_code_has_no_meaning() {
        assert_eq!(explain("C999"), None);
        assert!(explain("C102").is_some_and(|meaning| meaning.contains("larger")));
    }
}
