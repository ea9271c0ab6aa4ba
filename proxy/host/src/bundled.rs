//! The policies that come with the proxy, compiled into it.

/// Name and component of every bundled policy.
pub const BUNDLED: [(&str, &[u8]); 3] = [
    ("majority", include_bytes!("../../../plugins/dist/majority.wasm")),
    ("primary", include_bytes!("../../../plugins/dist/primary.wasm")),
    ("zones", include_bytes!("../../../plugins/dist/zones.wasm")),
];

pub(crate) fn find(name: &str) -> Option<&'static [u8]> {
    BUNDLED.iter().find(|(known, _)| *known == name).map(|(_, bytes)| *bytes)
}

pub(crate) fn names() -> String {
    BUNDLED.map(|(name, _)| name).join(", ")
}
