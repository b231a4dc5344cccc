//! The shop's own envelope: a JSON text in which `{code}`, `{msg}`, `{data}` and `{request_id}` stand
//! for JSON values.

use super::body::Json;

/// A template, taken apart.
#[derive(Clone, Debug)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Code,
    Msg,
    Data,
    RequestId,
}

/// Why a template cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTemplate {
    /// A word in braces that stands for nothing.
    #[error(
        "`{{{0}}}` stands for nothing; there are {{code}}, {{msg}}, {{data}} and {{request_id}}"
    )]
    Unknown(String),
    /// What comes out is not JSON.
    #[error(
        "what it renders to is not JSON ({0}); a placeholder stands for a whole value, without quotes"
    )]
    NotJson(String),
}

impl Template {
    /// Takes `text` apart and checks that it renders to JSON. `{{` is a literal brace; so is a brace
    /// that does not enclose a word.
    pub fn new(text: &str) -> Result<Template, BadTemplate> {
        let template = Template { parts: split(text)? };
        let sample = |raw: &str| {
            let mut json = Json::default();
            json.raw(raw);
            json
        };
        let rendered = template.render(&sample("1"), &sample("\"m\""), &sample("{\"d\":1}"));
        match serde_json::from_slice::<serde_json::Value>(&rendered.into_parts().0) {
            Ok(_) => Ok(template),
            Err(error) => Err(BadTemplate::NotJson(error.to_string())),
        }
    }

    /// The envelope with its values in place. The request's id is a slot.
    pub fn render(&self, code: &Json, msg: &Json, data: &Json) -> Json {
        let mut json = Json::default();
        for part in &self.parts {
            match part {
                Part::Text(text) => json.raw(text),
                Part::Code => json.append(code),
                Part::Msg => json.append(msg),
                Part::Data => json.append(data),
                Part::RequestId => json.request_id(),
            }
        }
        json
    }
}

fn split(text: &str) -> Result<Vec<Part>, BadTemplate> {
    let mut parts = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('{') {
        literal.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(doubled) = after.strip_prefix('{') {
            literal.push('{');
            rest = doubled;
            continue;
        }
        let Some(word) = placeholder(after) else {
            literal.push('{');
            rest = after;
            continue;
        };
        let part = match word {
            "code" => Part::Code,
            "msg" => Part::Msg,
            "data" => Part::Data,
            "request_id" => Part::RequestId,
            _ => return Err(BadTemplate::Unknown(word.to_owned())),
        };
        parts.push(Part::Text(std::mem::take(&mut literal)));
        parts.push(part);
        rest = &after[word.len() + 1..];
    }
    literal.push_str(rest);
    parts.push(Part::Text(literal));
    Ok(parts)
}

/// The word up to the closing brace, if there is nothing else up to it.
fn placeholder(after: &str) -> Option<&str> {
    let word = &after[..after.find('}')?];
    let is_word = !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    is_word.then_some(word)
}
