//! The reference file and `check --explain`: the schema in words.

use std::fmt::Write;

use super::shape::{Field, Shape, Table, root};

/// `conf/reference.toml`: every setting with what it means, its default and its range. It is a valid
/// config: what has a default stands with it, the rest as a comment with an example.
pub fn text() -> String {
    let mut out = String::from(HEAD);
    Writer { out: &mut out, off: false, fixed: false }.table("", root());
    out
}

/// What one setting, or each of that name, means; `None` if there is none.
pub fn explain(key: &str) -> Option<String> {
    let names: Vec<&str> = key.split('.').collect();
    let mut found = Vec::new();
    descend(root(), &names, String::new(), &mut found);
    if found.is_empty()
        && let [name] = names.as_slice()
    {
        everywhere(root(), name, String::new(), &mut found);
    }
    let texts: Vec<String> = found.iter().map(|(path, field)| describe(path, field)).collect();
    (!texts.is_empty()).then(|| texts.join("\n"))
}

struct Writer<'o> {
    out: &'o mut String,
    /// Whether everything is written as a comment.
    off: bool,
    /// Whether the section has said already that a change takes an upgrade.
    fixed: bool,
}

impl Writer<'_> {
    fn table(&mut self, path: &str, table: &Table) {
        for (at, field) in table.fields.iter().filter(|f| !is_section(&f.shape)).enumerate() {
            if at > 0 {
                self.out.push('\n');
            }
            self.setting(field);
        }
        for field in &table.fields {
            if let Some(below) = field.table() {
                // A table that may be absent, or stand in place of something shorter, is an example.
                let absent = field.default.is_none() && !field.shown;
                let off = self.off || absent || !is_section(&field.shape);
                let path = join(path, &field.name);
                let mut doc = field.doc.clone();
                if field.is_fixed && !self.fixed {
                    doc.push_str(FIXED);
                }
                let fixed = field.is_fixed;
                Writer { out: self.out, off, fixed }.section(&path, &doc, below);
            } else if let Shape::List(of) = &field.shape
                && let Some(below) = of.table()
            {
                let path = join(path, &field.name);
                self.doc(&field.doc, "\n");
                let _ = writeln!(self.out, "#[[{path}]]");
                Writer { out: self.out, off: true, fixed: field.is_fixed }.table(&path, below);
            }
        }
        if let Some(entries) = &table.entries
            && let Some(below) = entries.shape.table()
        {
            // Beside settings of ours (answers), or in place of one (pools), an entry is an example.
            let off = self.off || !table.fields.is_empty() || path.starts_with("sale.");
            let path = join(path, &entries.example);
            Writer { out: self.out, off, fixed: self.fixed }.section(&path, &entries.doc, below);
        }
    }

    fn section(&mut self, path: &str, doc: &str, table: &Table) {
        // A section without settings of its own is only the way to those below it.
        if table.fields.iter().any(|field| !is_section(&field.shape)) {
            self.doc(doc, "\n");
            let _ = writeln!(self.out, "{}[{path}]", self.mark());
        }
        self.table(path, table);
    }

    fn setting(&mut self, field: &Field) {
        self.doc(&field.doc, "");
        if let Some(choices) = choices(&field.shape) {
            for (word, doc) in choices.iter().filter(|(_, doc)| !doc.is_empty()) {
                self.doc(&format!("  \"{word}\": {doc}"), "");
            }
        }
        if let Some(range) = field.range() {
            self.doc(&format!("({range})"), "");
        }
        if field.is_fixed && !self.fixed {
            self.doc(FIXED.trim_start(), "");
        }
        let written = |value| field.shape.written(value);
        match (&field.example, &field.default) {
            (Some(example), _) if field.required || field.shown => {
                let _ = writeln!(self.out, "{}{} = {}", self.mark(), field.name, written(example));
            }
            (example, Some(default)) => {
                if let Some(example) = example {
                    self.doc(&format!("Example: {} = {}", field.name, written(example)), "");
                }
                let _ = writeln!(self.out, "{}{} = {}", self.mark(), field.name, written(default));
            }
            (Some(example), None) => {
                let _ = writeln!(self.out, "#{} = {}", field.name, written(example));
            }
            (None, None) => {
                let _ = writeln!(self.out, "#{} =", field.name);
            }
        }
    }

    fn doc(&mut self, doc: &str, before: &str) {
        self.out.push_str(before);
        for line in doc.lines() {
            let _ = writeln!(self.out, "# {line}");
        }
    }

    fn mark(&self) -> &'static str {
        if self.off { "#" } else { "" }
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// Whether a setting is a table and nothing else, or a list of tables.
fn is_section(shape: &Shape) -> bool {
    match shape {
        Shape::Table(_) => true,
        Shape::List(of) => matches!(**of, Shape::Table(_)),
        _ => false,
    }
}

fn choices(shape: &Shape) -> Option<&[(String, String)]> {
    match shape {
        Shape::Choice(words) => Some(words),
        Shape::Either(shapes) => shapes.iter().find_map(choices),
        _ => None,
    }
}

fn descend<'t>(
    table: &'t Table,
    names: &[&str],
    path: String,
    found: &mut Vec<(String, Found<'t>)>,
) {
    let Some((name, rest)) = names.split_first() else { return };
    let (shape, next, here) = match (table.field(name), &table.entries) {
        (Some(field), _) => (&field.shape, join(&path, name), Found::Field(field)),
        (None, Some(entries)) if !name.is_empty() => {
            (&entries.shape, join(&path, "NAME"), Found::Entry(&entries.doc, &entries.shape))
        }
        _ => return,
    };
    if rest.is_empty() {
        found.push((next, here));
    } else if let Some(below) = inner(shape) {
        descend(below, rest, next, found);
    }
}

fn everywhere<'t>(
    table: &'t Table,
    name: &str,
    path: String,
    found: &mut Vec<(String, Found<'t>)>,
) {
    for field in &table.fields {
        let path = join(&path, &field.name);
        if field.name == name {
            found.push((path.clone(), Found::Field(field)));
        }
        if let Some(below) = inner(&field.shape) {
            everywhere(below, name, path, found);
        }
    }
    if let Some(below) = table.entries.as_ref().and_then(|entries| inner(&entries.shape)) {
        everywhere(below, name, join(&path, "NAME"), found);
    }
}

/// The table of a shape, also that of a list's items.
fn inner(shape: &Shape) -> Option<&Table> {
    match shape {
        Shape::List(of) => of.table(),
        other => other.table(),
    }
}

/// What `--explain` found.
enum Found<'t> {
    Field(&'t Field),
    Entry(&'t str, &'t Shape),
}

fn describe(path: &str, found: &Found<'_>) -> String {
    let (doc, shape) = match found {
        Found::Field(field) => (&*field.doc, &field.shape),
        Found::Entry(doc, shape) => (*doc, *shape),
    };
    let mut out = format!("{path}\n");
    for line in doc.lines() {
        let _ = writeln!(out, "    {line}");
    }
    if !is_section(shape) {
        let _ = writeln!(out, "  value    {}", shape.words());
    }
    for (word, doc) in choices(shape).into_iter().flatten().filter(|(_, doc)| !doc.is_empty()) {
        let _ = writeln!(out, "           \"{word}\": {doc}");
    }
    if let Found::Field(field) = found
        && !is_section(shape)
    {
        let default = match (&field.default, field.required) {
            (Some(default), _) => shape.written(default),
            (None, true) => "none, it is required".to_owned(),
            (None, false) => "not set".to_owned(),
        };
        let _ = writeln!(out, "  default  {default}");
        if let Some(range) = field.range() {
            let _ = writeln!(out, "  range    {range}");
        }
        if let Some(example) = &field.example {
            let _ = writeln!(out, "  example  {} = {}", field.name, shape.written(example));
        }
        let _ = writeln!(out, "  changed  {}", field.change());
    }
    if let Some(table) = inner(shape) {
        let names: Vec<&str> = table.fields.iter().map(|field| &*field.name).collect();
        let names =
            if names.is_empty() { "names of your choice".to_owned() } else { names.join(", ") };
        let _ = writeln!(out, "  settings {names}");
    }
    out
}

const FIXED: &str = "\n(a change takes `penstock upgrade` or a restart)";

const HEAD: &str = "\
# Every setting of Penstock. Printed by `penstock config reference` from the source; do not edit.
#
# What has a default is written with it; the rest is a comment with an example. Names after the first
# dot of [listen.http], [upstream.shop], [site.shop] and [sale.spring-drop] are of your choice.
# Durations are written \"250ms\", \"10s\", \"5m\", \"1h\", \"2d\"; sizes \"512B\", \"16KiB\", \"64MiB\", \"2GiB\";
# rates \"burst@rate/s\", like \"3@1/s\", or \"off\"; times with their offset.
# Key files and html_dir are found beside the config; other relative paths begin where the command is
# started.

";
