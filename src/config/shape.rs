//! The schema as the walker, the reference file and `check --explain` read it: a tree of what may stand
//! where, made once from the JSON schema of [`Settings`](super::Settings).

use std::sync::LazyLock;

use serde_json::Value;

use super::units::{Rate, Size, Span, Time};
use crate::ident::Name;

/// What may stand in a place.
#[derive(Clone, Debug)]
pub enum Shape {
    /// A table.
    Table(Box<Table>),
    /// A list of one kind.
    List(Box<Shape>),
    /// Text of some form.
    Text(Form),
    /// One of a few words, with what each means.
    Choice(Vec<(String, String)>),
    /// A whole number, least and most.
    Int(i128, i128),
    /// A number, least and most.
    Float(f64, f64),
    /// `true` or `false`.
    Bool,
    /// One of several shapes.
    Either(Vec<Shape>),
}

/// Forms of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Any text.
    Plain,
    /// A [`Name`].
    Name,
    /// A [`Span`].
    Span,
    /// A [`Size`].
    Size,
    /// A [`Rate`].
    Rate,
    /// A [`Time`]: in TOML a date-time without quotes.
    Time,
}

/// The settings of a table.
#[derive(Clone, Debug)]
pub struct Table {
    /// Those with a name of ours, in the order of the schema.
    pub fields: Vec<Field>,
    /// Those with a name of the operator's.
    pub entries: Option<Entries>,
}

/// Settings whose name the operator chooses.
#[derive(Clone, Debug)]
pub struct Entries {
    /// The names there are; `None`: any [`Name`].
    pub keys: Option<Vec<String>>,
    /// What each is.
    pub shape: Shape,
    /// A name for examples.
    pub example: String,
    /// What each is, in words.
    pub doc: String,
}

/// One setting.
#[derive(Clone, Debug)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// What it means.
    pub doc: String,
    /// What may stand there.
    pub shape: Shape,
    /// Whether it must be there.
    pub required: bool,
    /// What counts where it is absent; `None` where there is no such value.
    pub default: Option<Value>,
    /// What one could write.
    pub example: Option<Value>,
    /// Whether the reference file shows the example rather than the default.
    pub shown: bool,
    /// Least value that is accepted, of those with a unit.
    pub least: Option<String>,
    /// Greatest value that is accepted, of those with a unit.
    pub most: Option<String>,
    /// Whether a change takes an upgrade or a restart: a reload names it and leaves it.
    pub is_fixed: bool,
}

/// The schema of everything in `penstock.toml`, for editors.
pub fn json_schema() -> Value {
    schemars::schema_for!(super::Settings).to_value()
}

/// The shape of everything in `penstock.toml`.
pub fn root() -> &'static Table {
    static ROOT: LazyLock<Table> = LazyLock::new(|| {
        let schema = json_schema();
        Reader { defs: &schema["$defs"] }.table(&schema)
    });
    &ROOT
}

impl Table {
    /// The setting called `name`.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// Every name that is accepted, for hints.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let keys = self.entries.iter().flat_map(|entries| entries.keys.iter().flatten());
        self.fields.iter().map(|field| &*field.name).chain(keys.map(String::as_str))
    }
}

impl Field {
    /// Its range in words: `8 to 256`.
    pub fn range(&self) -> Option<String> {
        match (&self.shape, &self.least, &self.most) {
            (Shape::Int(least, most), ..) => {
                Some(range_of_int(*least, *most)).filter(|_| !is_whole_type(*least, *most))
            }
            (Shape::Float(least, most), ..) if least.is_finite() && most.is_finite() => {
                Some(format!("{least:?} to {most:?}"))
            }
            (_, Some(least), Some(most)) => Some(format!("{least} to {most}")),
            (_, None, Some(most)) => Some(format!("at most {most}")),
            (_, Some(least), None) => Some(format!("at least {least}")),
            _ => None,
        }
    }

    /// How a change of it applies, in words.
    pub fn change(&self) -> &'static str {
        if self.is_fixed { "by `penstock upgrade` or a restart" } else { "by `penstock reload`" }
    }

    /// Its table, where it is one (perhaps besides something shorter).
    pub fn table(&self) -> Option<&Table> {
        self.shape.table()
    }
}

impl Shape {
    /// The table among what may stand here.
    pub fn table(&self) -> Option<&Table> {
        match self {
            Shape::Table(table) => Some(table),
            Shape::Either(shapes) => shapes.iter().find_map(Shape::table),
            _ => None,
        }
    }

    /// What may stand here, in words: `a list of texts`.
    pub fn words(&self) -> String {
        match self {
            Shape::Table(_) => "a table".to_owned(),
            Shape::List(of) => format!("a list, each {}", of.words()),
            Shape::Text(form) => form.words().to_owned(),
            Shape::Choice(words) => {
                let words: Vec<String> = words.iter().map(|(w, _)| format!("\"{w}\"")).collect();
                match words.as_slice() {
                    [only] => only.clone(),
                    _ => format!("one of {}", words.join(", ")),
                }
            }
            Shape::Int(..) => "a whole number".to_owned(),
            Shape::Float(..) => "a number".to_owned(),
            Shape::Bool => "true or false".to_owned(),
            Shape::Either(shapes) => {
                shapes.iter().map(Shape::words).collect::<Vec<_>>().join(" or ")
            }
        }
    }
}

impl Form {
    fn words(self) -> &'static str {
        match self {
            Form::Plain => "a text in quotes",
            Form::Name => "a name in quotes",
            Form::Span => "a duration in quotes, like \"250ms\"",
            Form::Size => "a size in quotes, like \"64MiB\"",
            Form::Rate => "a rate in quotes, like \"3@1/s\"",
            Form::Time => "a time with its offset, like 2026-12-01T20:00:00+08:00",
        }
    }

    /// What is wrong with `text`, if anything is.
    pub fn check(self, text: &str) -> Result<(), String> {
        fn told<T, E: std::fmt::Display>(parsed: Result<T, E>) -> Result<(), String> {
            parsed.map(|_| ()).map_err(|error| error.to_string())
        }
        match self {
            Form::Plain => Ok(()),
            Form::Name => told(Name::new(text)),
            Form::Span => told(text.parse::<Span>()),
            Form::Size => told(text.parse::<Size>()),
            Form::Rate => told(text.parse::<Rate>()),
            Form::Time => told(text.parse::<Time>()),
        }
    }

    /// A value with a unit as a number, to compare with a bound.
    pub fn amount(self, text: &str) -> Option<u64> {
        match self {
            Form::Span => text.parse::<Span>().ok().map(|span| span.ms),
            Form::Size => text.parse::<Size>().ok().map(|size| size.bytes),
            _ => None,
        }
    }
}

/// Translates a JSON schema of the kinds that our structs make.
struct Reader<'s> {
    defs: &'s Value,
}

impl<'s> Reader<'s> {
    fn resolve(&self, schema: &'s Value) -> &'s Value {
        let name = schema["$ref"].as_str().and_then(|r| r.rsplit('/').next());
        name.map_or(schema, |name| &self.defs[name])
    }

    fn table(&self, schema: &'s Value) -> Table {
        let required: Vec<&str> =
            schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let fields = schema["properties"].as_object().into_iter().flatten();
        let entries = schema["patternProperties"].as_object().and_then(|map| map.iter().next());
        Table {
            fields: fields
                .map(|(name, schema)| self.field(name, schema, required.contains(&&**name)))
                .collect(),
            entries: entries.map(|(pattern, of)| Entries {
                keys: alternatives(pattern),
                shape: self.shape(of),
                example: text(&schema["x-name"]),
                doc: text(&self.resolve(of)["description"]),
            }),
        }
    }

    fn field(&self, name: &str, schema: &'s Value, required: bool) -> Field {
        let doc = match schema["description"].as_str() {
            Some(doc) => doc,
            None => self.resolve(schema)["description"].as_str().unwrap_or_default(),
        };
        let word = |key: &str| schema[key].as_str().map(str::to_owned);
        let is_fixed = schema["x-change"] == "upgrade";
        let mut shape = self.shape(schema);
        if is_fixed {
            fix(&mut shape);
        }
        Field {
            name: name.to_owned(),
            doc: doc.to_owned(),
            shape,
            required,
            default: schema.get("default").filter(|value| !value.is_null()).cloned(),
            example: schema.get("x-example").cloned(),
            shown: schema["x-shown"].as_bool().unwrap_or_default(),
            least: word("x-min"),
            most: word("x-max"),
            is_fixed,
        }
    }

    fn shape(&self, schema: &'s Value) -> Shape {
        let schema = self.resolve(schema);
        if let Some(words) = schema["enum"].as_array() {
            return Shape::Choice(words.iter().map(|w| (text(w), String::new())).collect());
        }
        if let Some(several) = schema["anyOf"].as_array().or_else(|| schema["oneOf"].as_array()) {
            return self.several(several);
        }
        let bound = |key: &str| schema[key].as_number().and_then(serde_json::Number::as_i128);
        match kind(schema) {
            "object" => Shape::Table(Box::new(self.table(schema))),
            "array" => Shape::List(Box::new(self.shape(&schema["items"]))),
            "integer" => {
                let (least, most) = int_bounds(&text(&schema["format"]));
                Shape::Int(bound("minimum").unwrap_or(least), bound("maximum").unwrap_or(most))
            }
            "number" => Shape::Float(
                schema["minimum"].as_f64().unwrap_or(f64::NEG_INFINITY),
                schema["maximum"].as_f64().unwrap_or(f64::INFINITY),
            ),
            "boolean" => Shape::Bool,
            _ => Shape::Text(match schema["format"].as_str() {
                Some("duration") => Form::Span,
                Some("size") => Form::Size,
                Some("rate") => Form::Rate,
                Some("date-time") => Form::Time,
                _ if schema["pattern"].is_string() => Form::Name,
                _ => Form::Plain,
            }),
        }
    }

    fn several(&self, several: &'s [Value]) -> Shape {
        let words: Option<Vec<(String, String)>> = several
            .iter()
            .map(|one| Some((one["const"].as_str()?.to_owned(), text(&one["description"]))))
            .collect();
        if let Some(words) = words {
            return Shape::Choice(words);
        }
        let mut shapes: Vec<Shape> =
            several.iter().filter(|one| kind(one) != "null").map(|one| self.shape(one)).collect();
        match shapes.len() {
            1 => shapes.remove(0),
            _ => Shape::Either(shapes),
        }
    }
}

/// What stands below a setting changes as it does.
fn fix(shape: &mut Shape) {
    match shape {
        Shape::Table(table) => {
            for field in &mut table.fields {
                field.is_fixed = true;
                fix(&mut field.shape);
            }
            if let Some(entries) = &mut table.entries {
                fix(&mut entries.shape);
            }
        }
        Shape::List(of) => fix(of),
        Shape::Either(shapes) => shapes.iter_mut().for_each(fix),
        _ => {}
    }
}

/// The type of a schema, `null` beside another left out.
fn kind(schema: &Value) -> &str {
    match &schema["type"] {
        Value::Array(kinds) => {
            kinds.iter().filter_map(Value::as_str).find(|k| *k != "null").unwrap_or_default()
        }
        kind => kind.as_str().unwrap_or_default(),
    }
}

/// The words of a pattern like `^(a|b)$`.
fn alternatives(pattern: &str) -> Option<Vec<String>> {
    let words = pattern.strip_prefix("^(")?.strip_suffix(")$")?;
    Some(words.split('|').map(str::to_owned).collect())
}

fn int_bounds(format: &str) -> (i128, i128) {
    match format {
        "uint16" => (0, u16::MAX.into()),
        "uint32" => (0, u32::MAX.into()),
        // TOML has no greater whole numbers.
        "uint64" => (0, i64::MAX.into()),
        _ => (i64::MIN.into(), i64::MAX.into()),
    }
}

/// A range of whole numbers in words; a bound that is only the type's is left out.
pub fn range_of_int(least: i128, most: i128) -> String {
    match (least, is_type_max(most)) {
        (least, true) if least == i128::from(i64::MIN) => "a number of 64 bits".to_owned(),
        (least, true) => format!("at least {least}"),
        (least, _) => format!("{least} to {most}"),
    }
}

/// Whether a range says nothing that its type does not.
fn is_whole_type(least: i128, most: i128) -> bool {
    least <= 0 && is_type_max(most)
}

fn is_type_max(most: i128) -> bool {
    [u16::MAX.into(), u32::MAX.into(), i64::MAX.into()].contains(&most)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
