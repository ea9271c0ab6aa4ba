//! The JSON schema of the file. It is what editors complete from, and what [`super::shape`] holds a
//! file against, so that there is one description of what may be written.

use super::raw::RawConfig;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};
use std::sync::LazyLock;

/// The JSON schema of `quorate.toml`, with descriptions and defaults.
pub fn schema() -> Value {
    tree().clone()
}

/// The same, made once.
pub(super) fn tree() -> &'static Value {
    static TREE: LazyLock<Value> = LazyLock::new(|| {
        let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
        let mut tree = settings.into_generator().into_root_schema_for::<RawConfig>().to_value();
        tidy(&mut tree);
        tree
    });
    &TREE
}

/// Takes out what follows from the Rust types only: TOML has no null, and integers have no width.
fn tidy(node: &mut Value) {
    let Value::Object(map) = node else { return };
    drop_null(map);
    map.remove("format");
    if map
        .get("default")
        .is_some_and(|default| default.is_null() || default.is_object() || default.is_array())
    {
        map.remove("default");
    }
    if let Some(Value::Object(properties)) = map.get_mut("properties") {
        properties.values_mut().for_each(tidy);
    }
    if let Some(Value::Array(branches)) = map.get_mut("anyOf") {
        branches.iter_mut().for_each(tidy);
    }
    for key in ["items", "additionalProperties"] {
        map.get_mut(key).into_iter().for_each(tidy);
    }
}

fn drop_null(map: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = map.get_mut("type") {
        types.retain(|kind| kind != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            map.insert("type".into(), only);
        }
    }
    if let Some(Value::Array(words)) = map.get_mut("enum") {
        words.retain(|word| !word.is_null());
    }
    if let Some(Value::Array(branches)) = map.get_mut("anyOf") {
        branches.retain(|branch| branch["type"] != "null");
        if branches.len() == 1 {
            unwrap_only_branch(map);
        }
    }
}

/// The outer description wins: it is about the key, the inner one about its type.
fn unwrap_only_branch(map: &mut Map<String, Value>) {
    let Some(Value::Array(mut branches)) = map.remove("anyOf") else { return };
    if let Some(Value::Object(branch)) = branches.pop() {
        for (key, value) in branch {
            map.entry(key).or_insert(value);
        }
    }
}
