//! Generated from `wit/policy.wit`: one world every policy has, one for the optional decider.

#![allow(missing_docs, clippy::all)]

pub mod pure {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "pure-policy",
    });
}

pub mod deciding {
    wasmtime::component::bindgen!({
        path: "../../wit",
        inline: "
            package quorate:host;
            world deciding {
                import quorate:policy/request@0.1.0;
                export quorate:policy/decider@0.1.0;
            }
        ",
        world: "quorate:host/deciding",
        with: {
            "quorate:policy/types@0.1.0": super::pure::quorate::policy::types,
            "quorate:policy/request.op": crate::decider::Op,
        },
    });
}
