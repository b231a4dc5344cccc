//! What clients are told.

use super::Findings;
use crate::config::nearest::nearest;
use crate::config::problem::Path;
use crate::config::schema::{Settings, Style};
use crate::config::source::is_token;

pub fn check(settings: &Settings, found: &mut Findings) {
    let answers = &settings.answers;
    let path = |name| Path::of(&["answers", name]);
    if let Some(template) = &answers.envelope {
        envelope(template, found);
    }
    let enveloped = answers.style == Style::Envelope
        || answers.variant.iter().any(|v| v.style == Style::Envelope);
    for (name, given) in
        [("envelope", answers.envelope.is_some()), ("status", answers.status.is_some())]
    {
        if given && !enveloped {
            let help = "write: style = \"envelope\"";
            found.warn(path(name), "has no effect: no client is answered by envelopes", help);
        }
    }
    if answers.variant.len() > VARIANTS_MAX {
        let what = format!("at most {VARIANTS_MAX} variants, here are {}", answers.variant.len());
        found.error(path("variant"), what);
    }
    for (at, variant) in answers.variant.iter().enumerate() {
        let path = path("variant").item(at).join("when");
        if !is_token(&variant.when.header) {
            let what = format!("{:?} is no name of a header", variant.when.header);
            found.error(path.join("header"), what);
        }
        if variant.when.prefix.is_empty() {
            found.error(
                path.join("prefix"),
                "an empty prefix is every client that sends the header",
            );
        }
    }
    for (reason, text) in &answers.reason {
        let path = Path::of(&["answers", reason]);
        if text.code.is_none() && text.msg.is_none() && text.status.is_none() {
            found.warn(path, "says nothing", "write: code = 1001, msg = \"…\" or status = 409");
        }
    }
    if let Some(base) = &answers.type_base
        && (base.is_empty()
            || base.bytes().any(|b| b <= b' ' || b >= 0x7f || b"\"<>\\^`{|}".contains(&b)))
    {
        let what = format!("{base:?} is not the beginning of a URI");
        found.error_help(
            path("type_base"),
            what,
            "write: type_base = \"https://shop.example/problems/\"",
        );
    }
}

/// The template with values of every kind put in must be JSON.
fn envelope(template: &str, found: &mut Findings) {
    let path = || Path::of(&["answers", "envelope"]);
    let mut filled = template.to_owned();
    for (name, value) in PLACEHOLDERS {
        filled = filled.replace(&format!("{{{name}}}"), value);
    }
    if let Some(word) = unknown_placeholder(&filled) {
        let what = format!("`{{{word}}}` is no placeholder");
        let near = nearest(word, PLACEHOLDERS.iter().map(|(name, _)| *name));
        let help = match near {
            Some(near) => format!("did you mean `{{{near}}}`?"),
            None => "there are {code}, {msg}, {data} and {request_id}".to_owned(),
        };
        return found.error_help(path(), what, help);
    }
    if let Err(error) = serde_json::from_str::<serde_json::Value>(&filled) {
        let quoted = PLACEHOLDERS.iter().find(|(n, _)| template.contains(&format!("\"{{{n}}}\"")));
        let help = match quoted {
            Some((name, _)) => {
                format!("write {{{name}}} without quotes around it: they come with the value")
            }
            None => {
                "write: envelope = '{\"code\":{code},\"msg\":{msg},\"data\":{data}}'".to_owned()
            }
        };
        let reason = error.to_string();
        let reason = reason.split(" at line").next().unwrap_or_default();
        return found.error_help(
            path(),
            format!("is not JSON when values are put in: {reason}"),
            help,
        );
    }
    if !template.contains("{code}") && !template.contains("{data}") {
        let help = "put in {code}, or {data}, which has the reason";
        found.error_help(path(), "no client could tell one answer from another", help);
    }
}

/// A word in braces, which JSON never has.
fn unknown_placeholder(filled: &str) -> Option<&str> {
    filled.split('{').skip(1).find_map(|rest| {
        let word = rest.split_once('}')?.0;
        let is_word =
            !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        is_word.then_some(word)
    })
}

/// What may be put in, each with a value that breaks a template which quotes it.
const PLACEHOLDERS: [(&str, &str); 4] =
    [("code", "0"), ("msg", "\"m\""), ("data", "{\"reason\":\"r\"}"), ("request_id", "\"0\"")];

/// Each is tried for each request.
const VARIANTS_MAX: usize = 4;
