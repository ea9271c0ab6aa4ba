//! First pass: holds the parsed text against the schema.
//!
//! Everything that does not fit is reported and then taken out of the tree, so that reading the
//! rest into the raw types cannot fail and the second pass still sees all that is usable.

use super::place::Place;
use super::redact::{self, RULES};
use super::report::Problem;
use super::schema;
use super::suggest::{brief, known, nearest};
use serde_json::Value;
use std::collections::BTreeSet;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeInteger, DeString, DeTable, DeValue};

/// Keys that are planned or that people expect, and why they are not here.
const PLANNED: &[(&str, &str)] = &[
    ("database", "only database 0 is replicated"),
    ("read", "reads are linearizable; read-pick chooses the replica"),
    ("shadow", "compare two policies with 'quorate policy replay'"),
    ("canary", "a policy takes over as a whole"),
    ("signature", "pin the component with sha256"),
];

/// What the first pass found.
#[derive(Debug, Default)]
pub(super) struct Shape {
    /// Everything that did not fit.
    pub problems: Vec<Problem>,
    /// Dotted paths of what was taken out, or was probably meant by a misspelt key.
    pub dropped: BTreeSet<String>,
    /// Ranges of the text that must not be shown.
    pub masks: Vec<Range<usize>>,
}

/// Reports what does not fit the schema, and takes it out of the tree.
pub(super) fn fit(table: &mut DeTable<'_>, text: &str) -> Shape {
    let mut shape = Shape { masks: redact::tree_masks(table, text), ..Shape::default() };
    shape.table(schema::tree(), table, "");
    shape
}

impl Shape {
    fn table(&mut self, node: &Value, table: &mut DeTable<'_>, path: &str) {
        for (key, mut value) in std::mem::take(table) {
            let name = key.get_ref();
            let here = join(path, name);
            let fits = match (&node["properties"][name.as_ref()], &node["additionalProperties"]) {
                (Value::Null, inner @ Value::Object(_)) => self.named(inner, name, &mut value, &here),
                (Value::Null, Value::Bool(false)) => self.unknown(node, path, &key, &value),
                (Value::Null, _) => true,
                (inner, _) => self.value(inner, &mut value, &here),
            };
            if fits {
                table.insert(key, value);
            } else {
                self.dropped.insert(here);
            }
        }
    }

    /// Does the value fit that has a name of the author's choice, such as a section?
    fn named(&mut self, node: &Value, name: &str, value: &mut Spanned<DeValue<'_>>, path: &str) -> bool {
        let fits = self.value(node, value, path);
        // The name may be a key that slipped into the wrong section.
        if !fits && !is_harmless_key(name) {
            self.masks.extend(redact::unknown_masks(value, &is_harmless_key));
        }
        fits
    }

    /// Does it fit? Tables always do: what is wrong inside has been taken out.
    fn value(&mut self, node: &Value, value: &mut Spanned<DeValue<'_>>, path: &str) -> bool {
        let place = Place::at(value.span());
        let kind = kind(value.get_ref());
        let Some(branch) = branches(node).into_iter().find(|branch| accepts(branch, kind)) else {
            self.problems.push(wrong_type(node, kind, path).at(place));
            return false;
        };
        match value.get_mut() {
            DeValue::Table(table) => self.table(branch, table, path),
            DeValue::Array(array) => {
                let items = array.iter_mut().enumerate();
                return items.fold(true, |fits, (i, item)| self.item(branch, item, path, i) && fits);
            }
            DeValue::Integer(number) if !is_i64(number) => {
                let message = format!("{} is larger than any number here may be", brief(path));
                self.problems.push(Problem::error("C012", message).at(place));
                return false;
            }
            _ => {}
        }
        true
    }

    fn item(&mut self, array: &Value, item: &mut Spanned<DeValue<'_>>, path: &str, i: usize) -> bool {
        match &array["items"] {
            node @ Value::Object(_) => self.value(node, item, &format!("{path}[{i}]")),
            _ => true,
        }
    }

    /// Reports a key that does not exist; it never fits.
    fn unknown(
        &mut self,
        node: &Value,
        path: &str,
        key: &Spanned<DeString<'_>>,
        value: &Spanned<DeValue<'_>>,
    ) -> bool {
        let (place, key) = (Place::at(key.span()), key.get_ref().as_ref());
        if let Some((_, why)) = PLANNED.iter().find(|(planned, _)| *planned == key) {
            let message = format!("'{key}' is not carried by this version");
            self.problems.push(Problem::error("C009", message).at(place).help(*why));
            return false;
        }
        let candidates = properties(node);
        let suggestion = nearest(key, candidates.iter().copied());
        // It may be a misspelt password, or one that slipped under another key.
        self.masks.extend(redact::unknown_masks(value, &is_harmless_key));
        let inside = if path.is_empty() { "at the top".to_string() } else { format!("in {}", brief(path)) };
        let problem = Problem::error("C005", format!("unknown key '{}' {inside}", brief(key))).at(place);
        let help = match (suggestion, home_of(key)) {
            (Some(candidate), _) => format!("did you mean '{candidate}'?"),
            (None, Some(section)) => format!("'{key}' belongs in {section}"),
            (None, None) => known(&candidates),
        };
        self.dropped.extend(suggestion.map(|candidate| join(path, candidate)));
        self.problems.push(problem.help(help));
        false
    }
}

/// `path.key`, with a key that is not bare in quotes.
pub(super) fn join(path: &str, key: &str) -> String {
    let bare = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    let key = if bare { key.to_string() } else { format!("{key:?}") };
    if path.is_empty() { key } else { format!("{path}.{key}") }
}

fn branches(node: &Value) -> Vec<&Value> {
    match &node["anyOf"] {
        Value::Array(branches) => branches.iter().collect(),
        _ => vec![node],
    }
}

fn accepts(branch: &Value, kind: &str) -> bool {
    match &branch["type"] {
        Value::String(only) => only == kind || (only == "number" && kind == "integer"),
        Value::Array(kinds) => kinds.iter().any(|known| known == kind),
        _ => true,
    }
}

/// The JSON schema's name for the type of a TOML value.
fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "string",
        DeValue::Integer(_) => "integer",
        DeValue::Float(_) => "number",
        DeValue::Boolean(_) => "boolean",
        DeValue::Datetime(_) => "datetime",
        DeValue::Array(_) => "array",
        DeValue::Table(_) => "object",
    }
}

/// The type as people say it.
fn spoken(kind: &str) -> &'static str {
    match kind {
        "string" => "a string",
        "integer" => "an integer",
        "number" => "a fraction",
        "boolean" => "true or false",
        "datetime" => "a date or time",
        "array" => "a list",
        _ => "a table",
    }
}

fn is_i64(number: &DeInteger<'_>) -> bool {
    i64::from_str_radix(number.as_str(), number.radix()).is_ok()
}

fn properties(node: &Value) -> Vec<&str> {
    node["properties"].as_object().map_or(Vec::new(), |map| map.keys().map(String::as_str).collect())
}

/// Does some section have such a key, and can its value hold no secret?
pub(super) fn is_harmless_key(key: &str) -> bool {
    home_of(key).is_some() && !redact::is_secret_key(key) && !redact::is_url_key(key) && key != RULES
}

/// The section that has such a key.
fn home_of(key: &str) -> Option<String> {
    let sections = schema::tree()["properties"].as_object()?;
    let named = |inner: &Value| inner["additionalProperties"]["properties"].get(key).is_some();
    let plain = |inner: &Value| inner["properties"].get(key).is_some();
    sections.iter().find_map(|(section, inner)| match (named(inner), plain(inner)) {
        (true, _) => Some(format!("[{section}.NAME]")),
        (_, true) => Some(format!("[{section}]")),
        _ => None,
    })
}

fn wrong_type(node: &Value, found: &str, path: &str) -> Problem {
    let is_secret = |branch: &&Value| branch["properties"].get("env").is_some();
    if branches(node).iter().any(is_secret) && found == "string" {
        return Problem::error("C017", format!("{} is in plain text", brief(path)))
            .help("write { env = \"NAME\" } or { file = \"PATH\" }");
    }
    let wanted: Vec<&str> = branches(node).iter().filter_map(|b| b["type"].as_str()).map(spoken).collect();
    let wanted = wanted.join(" or ");
    let message = format!("{} must be {wanted}, not {}", brief(path), spoken(found));
    let problem = Problem::error("C006", message).label(wanted);
    match help_for(node, path) {
        Some(help) => problem.help(help),
        None => problem,
    }
}

fn help_for(node: &Value, path: &str) -> Option<String> {
    let example = node["examples"][0].as_str();
    let section = path.split('.').next().filter(|_| path.matches('.').count() < 2);
    let named =
        section.filter(|section| schema::tree()["properties"][*section]["additionalProperties"].is_object());
    match (example, named) {
        (Some(example), _) => Some(format!("write it as text with its unit, as in \"{example}\"")),
        (None, Some(section)) => Some(format!("each one has a section of its own: [{section}.NAME]")),
        (None, None) if node["properties"].get("env").is_some() => {
            Some("write { env = \"NAME\" } or { file = \"PATH\" }".into())
        }
        _ => None,
    }
}
