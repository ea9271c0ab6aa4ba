//! Who may change something.

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use std::net::SocketAddr;

/// There is no login, so only this machine may ask, and no page in one of its browsers.
fn may_ask(peer: &SocketAddr, headers: &HeaderMap) -> bool {
    let from_a_page = headers.contains_key(header::ORIGIN) || headers.contains_key("sec-fetch-site");
    peer.ip().to_canonical().is_loopback() && !from_a_page
}

/// The answer to those who may not ask; `None` for those who may.
pub(super) fn refusal(peer: &SocketAddr, headers: &HeaderMap) -> Option<Response> {
    let text = "changes are taken from the proxy's own machine only, and from no browser\n";
    (!may_ask(peer, headers)).then(|| (StatusCode::FORBIDDEN, text).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_may_ask_and_no_browser() {
        let peer = |text: &str| text.parse::<SocketAddr>().expect("valid");
        let plain = HeaderMap::new();
        assert!(may_ask(&peer("127.0.0.1:5"), &plain));
        assert!(may_ask(&peer("[::1]:5"), &plain));
        assert!(may_ask(&peer("[::ffff:127.0.0.1]:5"), &plain));
        assert!(!may_ask(&peer("10.0.0.1:5"), &plain));
        let page = HeaderMap::from_iter([(header::ORIGIN, "http://evil".parse().expect("valid"))]);
        assert!(!may_ask(&peer("127.0.0.1:5"), &page));
    }
}
