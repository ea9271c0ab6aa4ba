//! Generated from `wit/policy.wit`. Two worlds, so that a policy without a decider does not export one;
//! componentising merges what a policy uses.

#[allow(missing_docs, clippy::all)]
pub mod pure {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "pure-policy",
        pub_export_macro: true,
        export_macro_name: "export_pure",
        default_bindings_module: "quorate_plugin_sdk::bindings::pure",
        additional_derives: [PartialEq, Eq],
        std_feature,
    });
}

#[allow(missing_docs, clippy::all)]
pub mod deciding {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: "
            package quorate:sdk;
            world deciding {
                import quorate:policy/request@0.1.0;
                export quorate:policy/decider@0.1.0;
            }
        ",
        world: "quorate:sdk/deciding",
        pub_export_macro: true,
        export_macro_name: "export_deciding",
        default_bindings_module: "quorate_plugin_sdk::bindings::deciding",
        additional_derives: [PartialEq, Eq],
        std_feature,
        with: { "quorate:policy/types@0.1.0": super::pure::quorate::policy::types },
        generate_all,
    });
}
