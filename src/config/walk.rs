//! The walker: compares a file, with the place of every value, with the [shape](super::shape) of the
//! settings, notes every mistake, and keeps what is good so that the checks across settings can run too.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use serde_json::{Map, Value, json};
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::nearest::nearest;
use super::problem::Path;
use super::shape::{Entries, Field, Form, Shape, Table, range_of_int};
use crate::ident::Name;

/// What is wrong in one place.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The setting.
    pub path: Path,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub help: Option<String>,
    /// Where, if not where the setting stands.
    pub span: Option<Range<usize>>,
}

/// What the walk found.
#[derive(Debug, Default)]
pub struct Walk {
    /// Mistakes.
    pub findings: Vec<Finding>,
    /// Where each setting stands: its value, or the key of a table.
    pub spans: BTreeMap<Path, Range<usize>>,
    /// Settings whose value was left out because it is wrong.
    pub broken: BTreeSet<Path>,
}

impl Walk {
    /// Walks the whole file; what is good of it.
    pub fn file(&mut self, file: &DeTable<'_>, shape: &Table) -> Value {
        self.table(&Path::default(), None, file, shape).unwrap_or_else(|| json!({}))
    }

    /// Where every setting stands.
    pub fn spans(&self) -> impl Iterator<Item = (&Path, &Range<usize>)> {
        self.spans.iter()
    }

    /// Where `path` stands, or the nearest setting around it.
    pub fn span(&self, path: &Path) -> Option<Range<usize>> {
        (0..=path.0.len()).rev().find_map(|n| self.spans.get(&Path(path.0[..n].to_vec()))).cloned()
    }

    /// Whether what is at `path`, around it or below it was left out: then nothing more is said about it.
    pub fn is_broken(&self, path: &Path) -> bool {
        self.broken.iter().any(|broken| broken.covers(path) || path.covers(broken))
    }

    fn wrong(&mut self, path: &Path, span: Range<usize>, what: String, help: Option<String>) {
        self.broken.insert(path.clone());
        self.findings.push(Finding { path: path.clone(), what, help, span: Some(span) });
    }

    /// `None`: something that must be there is not, so that the table is not used at all.
    fn table(
        &mut self,
        path: &Path,
        span: Option<Range<usize>>,
        table: &DeTable<'_>,
        shape: &Table,
    ) -> Option<Value> {
        let mut good = Map::new();
        let mut meant = BTreeSet::new();
        for (key, value) in table.iter() {
            let name: &str = key.get_ref();
            let below = path.join(name);
            let is_table = value.get_ref().is_table();
            self.spans.insert(below.clone(), if is_table { key.span() } else { value.span() });
            let of = match (shape.field(name), &shape.entries) {
                (Some(field), _) => Some((&field.shape, Some(field))),
                (None, Some(entries)) => {
                    self.entry(&below, key.span(), name, entries, shape, &mut meant)
                }
                (None, None) => {
                    self.unknown(&below, key.span(), name, shape, &mut meant);
                    None
                }
            };
            let Some((of, field)) = of else { continue };
            match self.value(&below, key.span(), value, of, field) {
                Some(value) => drop(good.insert(name.to_owned(), value)),
                None => drop(self.broken.insert(below)),
            }
        }
        let complete = self.required(path, span, table, shape, &meant);
        complete.then_some(Value::Object(good))
    }

    /// Says what must be there and is not; whether nothing is missing.
    fn required(
        &mut self,
        path: &Path,
        span: Option<Range<usize>>,
        table: &DeTable<'_>,
        shape: &Table,
        meant: &BTreeSet<String>,
    ) -> bool {
        let mut complete = true;
        for field in shape.fields.iter().filter(|field| field.required) {
            let below = path.join(&field.name);
            if table.contains_key(&*field.name) {
                complete &= !self.broken.contains(&below);
                continue;
            }
            complete = false;
            // A misspelt one was said already.
            if !meant.contains(&field.name) {
                let example = field.example.as_ref().map(|example| field.shape.written(example));
                let help = example.map(|example| format!("write: {} = {example}", field.name));
                let what = format!("`{}` is missing ({})", field.name, first_sentence(&field.doc));
                self.wrong(&below, span.clone().unwrap_or(0..0), what, help);
            }
        }
        complete
    }

    /// The shape of a key of the operator's choice, if it may be one.
    fn entry<'s>(
        &mut self,
        path: &Path,
        span: Range<usize>,
        name: &str,
        entries: &'s Entries,
        shape: &Table,
        meant: &mut BTreeSet<String>,
    ) -> Option<(&'s Shape, Option<&'s Field>)> {
        match &entries.keys {
            Some(keys) if keys.iter().any(|key| key == name) => Some((&entries.shape, None)),
            Some(_) => {
                self.unknown(path, span, name, shape, meant);
                None
            }
            None => match Name::new(name) {
                Ok(_) => Some((&entries.shape, None)),
                Err(error) => {
                    self.wrong(path, span, format!("the name {name:?} {error}"), None);
                    None
                }
            },
        }
    }

    fn unknown(
        &mut self,
        path: &Path,
        span: Range<usize>,
        name: &str,
        shape: &Table,
        meant: &mut BTreeSet<String>,
    ) {
        let help = match nearest(name, shape.names()) {
            Some(near) => {
                meant.insert(near.to_owned());
                self.broken
                    .insert(Path([&path.0[..path.0.len() - 1], &[near.to_owned()]].concat()));
                format!("did you mean `{near}`?")
            }
            None => {
                let known: Vec<&str> = shape.names().collect();
                format!("there are: {}", known.join(", "))
            }
        };
        let what = "there is no such setting".to_owned();
        self.findings.push(Finding {
            path: path.clone(),
            what,
            help: Some(help),
            span: Some(span),
        });
    }

    fn value(
        &mut self,
        path: &Path,
        key: Range<usize>,
        value: &Spanned<DeValue<'_>>,
        shape: &Shape,
        field: Option<&Field>,
    ) -> Option<Value> {
        let span = value.span();
        match (shape, value.get_ref()) {
            (Shape::Table(shape), DeValue::Table(table)) => {
                // A table of its own is shown by its header, one in a line by itself.
                self.table(path, Some(key), table, shape)
            }
            (Shape::List(of), DeValue::Array(list)) => self.list(path, list, of),
            (Shape::Text(form), DeValue::String(text)) => self.text(path, span, text, *form, field),
            (Shape::Text(Form::Time), DeValue::Datetime(time)) => {
                self.text(path, span, &time.to_string(), Form::Time, field)
            }
            (Shape::Choice(words), DeValue::String(text)) => self.choice(path, span, text, words),
            (Shape::Int(least, most), DeValue::Integer(number)) => {
                let read = i128::from_str_radix(number.as_str(), number.radix()).ok();
                match read.filter(|n| (*least..=*most).contains(n)) {
                    Some(n) => i64::try_from(n).ok().map(Value::from),
                    None => {
                        let range = range_of_int(*least, *most);
                        let what = format!("must be {range}, is {number}");
                        self.wrong(path, span, what, None);
                        None
                    }
                }
            }
            (Shape::Float(least, most), DeValue::Integer(_) | DeValue::Float(_)) => {
                self.float(path, span, value.get_ref(), *least, *most)
            }
            (Shape::Bool, DeValue::Boolean(value)) => Some(Value::Bool(*value)),
            (Shape::Either(shapes), given) => match shapes.iter().find(|s| s.takes(given)) {
                Some(shape) => self.value(path, key, value, shape, field),
                None => self.mismatch(path, span, shape, given, field),
            },
            (_, given) => self.mismatch(path, span, shape, given, field),
        }
    }

    fn mismatch(
        &mut self,
        path: &Path,
        span: Range<usize>,
        shape: &Shape,
        given: &DeValue<'_>,
        field: Option<&Field>,
    ) -> Option<Value> {
        let what = format!("must be {}, not {}", shape.words(), kind_of(given));
        let example = field.and_then(|field| field.example.as_ref().or(field.default.as_ref()));
        let help = example
            .zip(field)
            .map(|(example, field)| format!("like: {} = {}", field.name, shape.written(example)));
        self.wrong(path, span, what, help);
        None
    }

    fn list(&mut self, path: &Path, list: &DeArray<'_>, of: &Shape) -> Option<Value> {
        let mut good = Vec::new();
        for (at, item) in list.iter().enumerate() {
            let below = path.item(at);
            self.spans.insert(below.clone(), item.span());
            // A broken item breaks the list: what is left of it means something else.
            match self.value(&below, item.span(), item, of, None) {
                Some(value) => good.push(value),
                None => drop(self.broken.insert(path.clone())),
            }
        }
        Some(Value::Array(good))
    }

    fn text(
        &mut self,
        path: &Path,
        span: Range<usize>,
        text: &str,
        form: Form,
        field: Option<&Field>,
    ) -> Option<Value> {
        if let Err(what) = form.check(text) {
            self.wrong(path, span, what, None);
            return None;
        }
        let amount = form.amount(text);
        let bound = |word: &Option<String>| word.as_deref().and_then(|word| form.amount(word));
        if let Some((field, amount)) = field.zip(amount)
            && (bound(&field.least).is_some_and(|least| amount < least)
                || bound(&field.most).is_some_and(|most| amount > most))
        {
            let what = format!("must be {}, is {text}", field.range().unwrap_or_default());
            self.wrong(path, span, what, None);
            return None;
        }
        Some(Value::from(text))
    }

    fn choice(
        &mut self,
        path: &Path,
        span: Range<usize>,
        text: &str,
        words: &[(String, String)],
    ) -> Option<Value> {
        if words.iter().any(|(word, _)| word == text) {
            return Some(Value::from(text));
        }
        let near = nearest(text, words.iter().map(|(word, _)| &**word));
        let help = near.map(|near| format!("did you mean \"{near}\"?"));
        let what = format!("must be {}", Shape::Choice(words.to_vec()).words());
        self.wrong(path, span, what, help);
        None
    }

    fn float(
        &mut self,
        path: &Path,
        span: Range<usize>,
        value: &DeValue<'_>,
        least: f64,
        most: f64,
    ) -> Option<Value> {
        let text = match value {
            DeValue::Float(number) => number.as_str().to_owned(),
            DeValue::Integer(number) => number.to_string(),
            _ => String::new(),
        };
        // JSON has no infinity, so that a range without bounds still refuses it.
        let read = text.parse::<f64>().ok().filter(|n| n.is_finite() && (least..=most).contains(n));
        if read.is_none() {
            self.wrong(path, span, format!("must be {least:?} to {most:?}, is {text}"), None);
        }
        read.map(Value::from)
    }
}

impl Shape {
    /// Whether a value of this kind may stand here, whatever it says.
    fn takes(&self, value: &DeValue<'_>) -> bool {
        match self {
            Shape::Table(_) => value.is_table(),
            Shape::List(_) => value.is_array(),
            Shape::Text(Form::Time) => value.is_str() || value.is_datetime(),
            Shape::Text(_) | Shape::Choice(_) => value.is_str(),
            Shape::Int(..) => value.is_integer(),
            Shape::Float(..) => value.is_float() || value.is_integer(),
            Shape::Bool => value.is_bool(),
            Shape::Either(shapes) => shapes.iter().any(|shape| shape.takes(value)),
        }
    }

    /// A JSON value as it is written in TOML here: times stand without quotes.
    pub fn written(&self, value: &Value) -> String {
        match (self, value) {
            (Shape::Text(Form::Time), Value::String(time)) => time.clone(),
            (_, Value::String(text)) if text.contains('"') && !text.contains('\'') => {
                format!("'{text}'")
            }
            (Shape::Either(shapes), value) => match shapes.first() {
                Some(shape) => shape.written(value),
                None => value.to_string(),
            },
            (_, Value::Array(items)) => {
                let items: Vec<String> = items.iter().map(|item| self.written(item)).collect();
                format!("[{}]", items.join(", "))
            }
            (_, Value::Object(table)) => {
                let pairs = table.iter().map(|(key, value)| format!("{key} = {value}"));
                format!("{{ {} }}", pairs.collect::<Vec<_>>().join(", "))
            }
            (_, value) => value.to_string(),
        }
    }
}

fn kind_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// The beginning of a doc, to remind of what a setting is for.
fn first_sentence(doc: &str) -> String {
    let end = doc.find(['.', ';', '\n']).filter(|end| !doc[..*end].contains('`'));
    doc[..end.unwrap_or(doc.len())].trim_end_matches('.').replace('\n', " ")
}
