//! What differs between the config that runs and the one that is wanted, and what of it a running node
//! can take.

use std::fmt;

use serde_json::{Map, Value};

use super::check::{Findings, check};
use super::problem::Path;
use super::schema::Settings;
use super::shape::{Entries, Field, Shape, Table, root};

/// One setting that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The setting.
    pub path: Path,
    old: Option<Value>,
    new: Option<Value>,
}

/// What a reload comes to.
#[derive(Clone, Debug)]
pub struct Changes {
    /// What runs from now on: all that is wanted, but for what waits.
    pub settings: Settings,
    /// What changes.
    pub now: Vec<Change>,
    /// What waits for an upgrade or a restart.
    pub waiting: Vec<Change>,
}

impl Changes {
    /// From what `running` says to what `wanted` says. An error says why a running node cannot go there
    /// in one step: what waits and what changes do not fit together.
    pub fn between(running: &Settings, wanted: &Settings) -> Result<Changes, String> {
        let old = serde_json::to_value(running).map_err(|error| error.to_string())?;
        let mut new = serde_json::to_value(wanted).map_err(|error| error.to_string())?;
        let mut walk = Walk { now: Vec::new(), waiting: Vec::new() };
        walk.value(&Path::default(), Some(root()), false, &old, &mut new);
        let Walk { now, waiting } = walk;
        let settings: Settings = serde_json::from_value(new).map_err(|error| error.to_string())?;
        if !waiting.is_empty() {
            let mut findings = Findings::default();
            check(&settings, &mut findings);
            if let Some(error) = findings.errors.first() {
                let waits: Vec<String> = waiting.iter().map(|one| one.path.to_string()).collect();
                return Err(format!(
                    "{}: {}; it fits only together with {}, which a running node cannot change: use \
                     `penstock upgrade` or a restart",
                    error.path,
                    error.what,
                    waits.join(", ")
                ));
            }
        }
        Ok(Changes { settings, now, waiting })
    }
}

struct Walk {
    now: Vec<Change>,
    waiting: Vec<Change>,
}

impl Walk {
    /// Notes where `new` differs; what cannot change is made as it was.
    fn value(
        &mut self,
        path: &Path,
        table: Option<&Table>,
        is_fixed: bool,
        old: &Value,
        new: &mut Value,
    ) {
        if *old == *new {
            return;
        }
        if let (Value::Object(old), Value::Object(new)) = (old, &mut *new) {
            return self.table(path, table, is_fixed, old, new);
        }
        self.note(path, is_fixed, Some(old), Some(new));
        if is_fixed {
            *new = old.clone();
        }
    }

    fn table(
        &mut self,
        path: &Path,
        table: Option<&Table>,
        is_fixed: bool,
        old: &Map<String, Value>,
        new: &mut Map<String, Value>,
    ) {
        let mut names: Vec<String> = old.keys().chain(new.keys()).cloned().collect();
        names.sort_unstable();
        names.dedup();
        for name in names {
            let path = path.join(&name);
            let field = table.and_then(|table| table.field(&name));
            let is_fixed = is_fixed || field.is_some_and(|field| field.is_fixed);
            match (old.get(&name), new.get_mut(&name)) {
                (Some(old), Some(new)) => {
                    let below = below(table, field);
                    self.value(&path, below, is_fixed, old, new);
                }
                (Some(was), None) => {
                    self.note(&path, is_fixed, Some(was), None);
                    if is_fixed {
                        new.insert(name, was.clone());
                    }
                }
                (None, Some(comes)) => {
                    self.note(&path, is_fixed, None, Some(comes));
                    if is_fixed {
                        new.remove(&name);
                    }
                }
                (None, None) => {}
            }
        }
    }

    fn note(&mut self, path: &Path, is_fixed: bool, old: Option<&Value>, new: Option<&Value>) {
        let change = Change { path: path.clone(), old: old.cloned(), new: new.cloned() };
        if is_fixed { self.waiting.push(change) } else { self.now.push(change) }
    }
}

fn below<'t>(table: Option<&'t Table>, field: Option<&'t Field>) -> Option<&'t Table> {
    match field {
        Some(field) => field.table(),
        None => {
            let entries: &Entries = table?.entries.as_ref()?;
            Shape::table(&entries.shape)
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Change { path, old, new } = self;
        match (old, new) {
            (None, _) => write!(f, "{path}: added"),
            (_, None) => write!(f, "{path}: removed"),
            // It may have a password in it.
            _ if path.0.last().is_some_and(|name| name == "url") => write!(f, "{path}: changed"),
            (Some(old), Some(new)) => write!(f, "{path}: {} -> {}", shown(old), shown(new)),
        }
    }
}

fn shown(value: &Value) -> String {
    if value.is_null() {
        return "not set".to_owned();
    }
    let text = value.to_string();
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
        None => text,
    }
}

const SHOWN_CHARS_MAX: usize = 80;

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = r#"
        [listen.http]
        address = "127.0.0.1:8080"
        [upstream.shop]
        servers = ["127.0.0.1:9000"]
        outcome = "status"
        [site.shop]
        upstream = "shop"
    "#;

    fn settings(more: &str) -> Settings {
        super::super::parse(&format!("{BASE}{more}"), "test").expect("valid").settings
    }

    fn lines(changes: &[Change]) -> Vec<String> {
        changes.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_changes_and_what_waits_is_named() {
        let old = settings("hosts = [\"a.example\"]\n[limits]\nconnections_max = 10\n");
        let new = settings(
            "[upstream.more]\nservers = [\"h:1\"]\n[store]\npoll = \"1s\"\n[limits]\ntable_keys = 2048\n",
        );
        let changes = Changes::between(&old, &new).unwrap();
        assert_eq!(
            lines(&changes.now),
            [
                "limits.connections_max: 10 -> 20000",
                "site.shop.hosts: [\"a.example\"] -> []",
                "upstream.more: added"
            ]
        );
        assert_eq!(
            lines(&changes.waiting),
            ["limits.table_keys: 1048576 -> 2048", "store.poll: \"500ms\" -> \"1s\""]
        );
        assert_eq!(changes.settings.limits.table_keys, old.limits.table_keys);
        assert_eq!(changes.settings.store.poll, old.store.poll);
        assert_eq!(changes.settings.limits.connections_max, 20_000);
        assert!(changes.settings.site.values().all(|site| site.hosts.is_empty()));
    }

    #[test]
    fn the_same_is_no_change_and_has_one_name() {
        for text in [
            include_str!("../../conf/reference.toml"),
            include_str!("../../conf/cn-shop.toml"),
            include_str!("../../conf/flash-sale.toml"),
        ] {
            let settings = super::super::parse(text, "conf").expect("valid").settings;
            let changes = Changes::between(&settings, &settings).unwrap();
            assert!(changes.now.is_empty() && changes.waiting.is_empty());
            assert_eq!(changes.settings.fleet_hash(), settings.fleet_hash());
        }
        let other = settings("hosts = [\"a.example\"]\n");
        assert_ne!(settings("").fleet_hash(), other.fleet_hash());
    }

    #[test]
    fn what_does_not_fit_without_what_waits_is_refused() {
        let old = settings("");
        let text = BASE.replace("127.0.0.1:8080", "0.0.0.0:8080");
        let new = format!("{text}\n[store]\nnodes = 1\n");
        let new = super::super::parse(&new, "test").expect("valid").settings;
        let refused = Changes::between(&old, &new).unwrap_err();
        assert!(refused.contains("store.nodes") && refused.contains("upgrade"), "{refused}");
    }
}
