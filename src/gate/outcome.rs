//! What an answer of the shop means. Pure: rules, status, fields and body in, a verdict out.
//!
//! In this order: `Penstock-Outcome`, if the shop sends it; the one value that the rules read; a
//! redirect that the rules name; else `otherwise`. What nothing classifies is unknown, and its units
//! wait in limbo: it may have made an order.

use std::fmt;

use http::{HeaderMap, HeaderName, header};
use serde_json::Value;

use crate::config::schema::{self, Code, Otherwise, OutcomeSource};
use crate::outcome::Verdict;

/// The rules of one upstream.
#[derive(Clone, Debug)]
pub struct Rules {
    read: Read,
    lists: Vec<(List, Vec<Code>)>,
    otherwise: Otherwise,
    order_id: Option<String>,
    redirect_confirmed: Vec<String>,
}

/// Where the rules look.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Read {
    /// A JSON pointer into the body.
    Json(String),
    /// A header.
    Header(HeaderName),
    /// The status, in the lists.
    Status,
    /// Only the status table.
    Table,
}

/// The lists of codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum List {
    /// The order exists.
    Confirmed,
    /// No order was made.
    Failed,
    /// No order, and the stock is gone.
    SoldOut,
    /// No order, this user has one already.
    Already,
    /// Accepted, the final word comes later.
    Pending,
}

/// What an answer was read as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// What it means.
    pub verdict: Verdict,
    /// What decided.
    pub by: By,
    /// The shop's code, where one was read, listed or not.
    pub code: Option<String>,
    /// The order's number, where the rules say where it is.
    pub order: Option<String>,
}

/// What decided about an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// `Penstock-Outcome`.
    Shop(List),
    /// A list of the rules.
    Listed(List),
    /// `redirect_confirmed`.
    Redirect,
    /// The status table.
    Table,
    /// Nothing: it is unclassified.
    Nothing(Unread),
}

/// Why nothing classified an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unread {
    /// `Penstock-Outcome` says a word that is not one of the five, or several.
    Word,
    /// The code is in no list.
    Unlisted,
    /// The body is JSON, but there is nothing at the pointer.
    NoValue,
    /// What is at the pointer is neither an integer nor a string.
    NotACode,
    /// The body is empty.
    Empty,
    /// The body begins like HTML: a page of a firewall or a framework.
    Html,
    /// The body is JSON that breaks off.
    Truncated,
    /// The body is something else.
    NotJson,
    /// The body has a `Content-Encoding`.
    Encoded,
    /// The header that the rules read is missing or repeated.
    NoHeader,
    /// A redirect that the rules do not name.
    Redirect,
    /// A status without a row in the table.
    Status,
}

impl Rules {
    /// Reads `[upstream.X.outcome]`; an error says what is wrong with it.
    pub fn new(outcome: &schema::Outcome) -> Result<Rules, String> {
        let rules = match outcome {
            schema::Outcome::Status(_) => return Ok(Rules::by_status()),
            schema::Outcome::Rules(rules) => rules,
        };
        let lists = vec![
            (List::Confirmed, rules.confirmed.clone()),
            (List::Failed, rules.failed.clone()),
            (List::SoldOut, rules.sold_out.clone()),
            (List::Already, rules.already.clone()),
            (List::Pending, rules.pending.clone()),
        ];
        refuse_doubles(&lists)?;
        if let Some(order_id) = rules.order_id.as_deref().filter(|p| !p.starts_with('/')) {
            return Err(format!("order_id: `{order_id}` is not a JSON pointer like /data/orderNo"));
        }
        if rules.redirect_confirmed.iter().any(String::is_empty) {
            return Err("redirect_confirmed: an empty prefix fits every redirect".to_owned());
        }
        Ok(Rules {
            read: read(rules)?,
            lists,
            otherwise: rules.otherwise,
            order_id: rules.order_id.clone(),
            redirect_confirmed: rules.redirect_confirmed.clone(),
        })
    }

    /// The rules of `outcome = "status"`.
    fn by_status() -> Rules {
        Rules {
            read: Read::Table,
            lists: Vec::new(),
            otherwise: Otherwise::Status,
            order_id: None,
            redirect_confirmed: Vec::new(),
        }
    }

    fn list_of(&self, is_it: impl Fn(&Code) -> bool) -> Option<List> {
        self.lists.iter().find(|(_, codes)| codes.iter().any(&is_it)).map(|(list, _)| *list)
    }
}

impl List {
    /// What its codes mean.
    pub fn verdict(self) -> Verdict {
        match self {
            List::Confirmed => Verdict::Confirmed,
            List::Failed | List::SoldOut | List::Already => Verdict::Failed,
            List::Pending => Verdict::Pending,
        }
    }

    /// The list of a word in `Penstock-Outcome`.
    fn of_word(word: &[u8]) -> Option<List> {
        match word {
            b"confirmed" => Some(List::Confirmed),
            b"failed" => Some(List::Failed),
            b"sold_out" => Some(List::SoldOut),
            b"duplicate" => Some(List::Already),
            b"pending" => Some(List::Pending),
            _ => None,
        }
    }
}

impl Reading {
    /// Whether no rule decided: it is counted, and the operator is told.
    pub fn unread(&self) -> Option<Unread> {
        match self.by {
            By::Nothing(why) => Some(why),
            _ => None,
        }
    }

    /// Whether the shop says that its stock is gone: evidence, not proof.
    pub fn is_sold_out(&self, status: u16) -> bool {
        match self.by {
            By::Shop(list) | By::Listed(list) => list == List::SoldOut,
            By::Table => status == 410,
            By::Redirect | By::Nothing(_) => false,
        }
    }
}

/// What an answer that came whole means.
pub fn classify(rules: &Rules, status: u16, headers: &HeaderMap, body: &[u8]) -> Reading {
    let wants_json = matches!(rules.read, Read::Json(_)) || rules.order_id.is_some();
    let json = if wants_json { parse(headers, body) } else { Err(Unread::NotJson) };
    let order = rules.order_id.as_ref().and_then(|at| {
        let text = text_of(json.as_ref().ok()?.pointer(at)?)?;
        Some(text).filter(|text| !text.is_empty())
    });
    let reading = |verdict, by, code: Option<String>| Reading {
        verdict,
        by,
        code: code.map(bounded),
        order: order.map(bounded),
    };
    match said_by_shop(headers) {
        Some(Ok(list)) => return reading(list.verdict(), By::Shop(list), None),
        Some(Err(why)) => return reading(Verdict::Unknown, By::Nothing(why), None),
        None => {}
    }
    let (code, unlisted) = match look(rules, status, headers, &json) {
        Look::Listed(list, code) => return reading(list.verdict(), By::Listed(list), Some(code)),
        Look::Unlisted(code) => (Some(code), Unread::Unlisted),
        Look::Nothing(why) => (None, why),
    };
    let (verdict, by) = otherwise(rules, status, headers, unlisted);
    reading(verdict, by, code)
}

/// What the rules' one source says.
enum Look {
    Listed(List, String),
    Unlisted(String),
    Nothing(Unread),
}

fn look(rules: &Rules, status: u16, headers: &HeaderMap, json: &Result<Value, Unread>) -> Look {
    let listed = |list: Option<List>, code: String| match list {
        Some(list) => Look::Listed(list, code),
        None => Look::Unlisted(code),
    };
    match &rules.read {
        Read::Table => Look::Nothing(Unread::Status),
        Read::Status => {
            let is_it = |code: &Code| *code == Code::Number(i64::from(status));
            listed(rules.list_of(is_it), status.to_string())
        }
        Read::Header(name) => {
            let mut values = headers.get_all(name).iter();
            let (Some(value), None) = (values.next(), values.next()) else {
                return Look::Nothing(Unread::NoHeader);
            };
            let text = String::from_utf8_lossy(value.as_bytes()).trim().to_owned();
            // A field has no types: a number in a list is its digits.
            let is_it = |code: &Code| match code {
                Code::Number(number) => number.to_string() == text,
                Code::Text(word) => *word == text,
            };
            listed(rules.list_of(is_it), text)
        }
        Read::Json(pointer) => {
            let value = match json {
                Ok(json) => json.pointer(pointer),
                Err(why) => return Look::Nothing(*why),
            };
            let code = match value {
                None => return Look::Nothing(Unread::NoValue),
                Some(Value::String(text)) => Code::Text(text.clone()),
                Some(Value::Number(number)) => match number.as_i64() {
                    Some(number) => Code::Number(number),
                    None => return Look::Nothing(Unread::NotACode),
                },
                Some(_) => return Look::Nothing(Unread::NotACode),
            };
            let list = rules.list_of(|listed| *listed == code);
            listed(list, code_text(code))
        }
    }
}

/// What is left when the source says nothing.
fn otherwise(rules: &Rules, status: u16, headers: &HeaderMap, why: Unread) -> (Verdict, By) {
    let is_redirect = matches!(status, 302 | 303);
    if is_redirect && is_redirect_confirmed(rules, headers) {
        return (Verdict::Confirmed, By::Redirect);
    }
    let by_table = rules.read == Read::Table
        || rules.otherwise == Otherwise::Status && !(200..=299).contains(&status);
    if !by_table {
        return (Verdict::Unknown, By::Nothing(why));
    }
    match status {
        200 | 201 | 204 => (Verdict::Confirmed, By::Table),
        202 => (Verdict::Pending, By::Table),
        400..=405 | 409 | 410 | 413 | 415 | 422 | 429 => (Verdict::Failed, By::Table),
        500..=599 => (Verdict::Unknown, By::Table),
        302 | 303 => (Verdict::Unknown, By::Nothing(Unread::Redirect)),
        _ => (Verdict::Unknown, By::Nothing(Unread::Status)),
    }
}

/// A lapsed session redirects to the login page: only a named target is an order.
fn is_redirect_confirmed(rules: &Rules, headers: &HeaderMap) -> bool {
    let location = headers.get(header::LOCATION).map_or(&b""[..], |value| value.as_bytes());
    rules.redirect_confirmed.iter().any(|prefix| location.starts_with(prefix.as_bytes()))
}

/// The shop's own word, if it sends one.
fn said_by_shop(headers: &HeaderMap) -> Option<Result<List, Unread>> {
    let mut values = headers.get_all(PENSTOCK_OUTCOME).iter();
    let first = values.next()?;
    if values.next().is_some() {
        return Some(Err(Unread::Word));
    }
    Some(List::of_word(first.as_bytes().trim_ascii()).ok_or(Unread::Word))
}

fn parse(headers: &HeaderMap, body: &[u8]) -> Result<Value, Unread> {
    let is_encoded = headers
        .get_all(header::CONTENT_ENCODING)
        .iter()
        .any(|value| !value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity"));
    if is_encoded {
        return Err(Unread::Encoded);
    }
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body).trim_ascii();
    match serde_json::from_slice(body) {
        Ok(json) => Ok(json),
        Err(_) if body.is_empty() => Err(Unread::Empty),
        Err(_) if body.starts_with(b"<") => Err(Unread::Html),
        Err(error) if error.is_eof() => Err(Unread::Truncated),
        Err(_) => Err(Unread::NotJson),
    }
}

fn read(rules: &schema::OutcomeRules) -> Result<Read, String> {
    let at = rules.at.as_deref();
    match (rules.read, at) {
        (OutcomeSource::Json, Some(at)) if at.starts_with('/') => Ok(Read::Json(at.to_owned())),
        (OutcomeSource::Json, Some(at)) => {
            Err(format!("at: `{at}` is not a JSON pointer like /{at}"))
        }
        (OutcomeSource::Json, None) => {
            Err("at: the JSON pointer of the code, like /code, is missing".to_owned())
        }
        (OutcomeSource::Header, Some(at)) => at
            .parse()
            .map(Read::Header)
            .map_err(|_| format!("at: `{at}` is not the name of a header")),
        (OutcomeSource::Header, None) => Err("at: the name of the header is missing".to_owned()),
        (OutcomeSource::Status, None) => Ok(Read::Status),
        (OutcomeSource::Status, Some(_)) => {
            Err("at: the status stands in one place only; leave `at` out".to_owned())
        }
    }
}

/// A code in two lists would mean two things.
fn refuse_doubles(lists: &[(List, Vec<Code>)]) -> Result<(), String> {
    let all: Vec<_> =
        lists.iter().flat_map(|(l, codes)| codes.iter().map(move |c| (*l, c))).collect();
    for (i, (list, code)) in all.iter().enumerate() {
        if let Some((first, _)) = all[..i].iter().find(|(l, c)| c == code && l != list) {
            let text = code_text((*code).clone());
            return Err(format!("code {text} is in both `{first}` and `{list}`"));
        }
    }
    Ok(())
}

fn code_text(code: Code) -> String {
    match code {
        Code::Number(number) => number.to_string(),
        Code::Text(text) => text,
    }
}

fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Codes and order numbers go into the journal: at most so many characters of the shop's.
fn bounded(mut text: String) -> String {
    if let Some((at, _)) = text.char_indices().nth(TEXT_CHARS_MAX) {
        text.truncate(at);
    }
    text
}

/// What the shop may say by itself.
pub const PENSTOCK_OUTCOME: &str = "penstock-outcome";
const TEXT_CHARS_MAX: usize = 128;

impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            List::Confirmed => "confirmed",
            List::Failed => "failed",
            List::SoldOut => "sold_out",
            List::Already => "already",
            List::Pending => "pending",
        })
    }
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            By::Shop(list) => write!(f, "Penstock-Outcome, read as `{list}`"),
            By::Listed(list) => write!(f, "the list `{list}`"),
            By::Redirect => f.write_str("redirect_confirmed"),
            By::Table => f.write_str("the status table"),
            By::Nothing(why) => write!(f, "no rule: {why}"),
        }
    }
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unread::Word => "Penstock-Outcome is not one of the five words",
            Unread::Unlisted => "the code is in no list",
            Unread::NoValue => "the body has nothing at the pointer",
            Unread::NotACode => "what is at the pointer is neither an integer nor a string",
            Unread::Empty => "the body is empty",
            Unread::Html => "the body is HTML",
            Unread::Truncated => "the body is JSON that breaks off",
            Unread::NotJson => "the body is not JSON",
            Unread::Encoded => "the body is compressed",
            Unread::NoHeader => "the header is missing or repeated",
            Unread::Redirect => "the redirect is not one of redirect_confirmed",
            Unread::Status => "the status has no row in the table",
        })
    }
}

/// The status table, for people.
pub const STATUS_TABLE: &str = "\
200 201 204                              confirmed
202                                      pending
302 303                                  confirmed if Location begins with one of
                                         redirect_confirmed, else unknown
400 401 402 403 404 405 409 413 415
422 429                                  failed
410                                      failed, and evidence that the stock is gone
everything else                          unknown";

#[cfg(test)]
mod tests;
