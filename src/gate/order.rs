//! What a purchase asks for: pool, quantity, and the client's own key.
//!
//! One rule for each odd quantity: it is an integer from 1 to the largest that is understood, as a
//! JSON number without fraction and exponent or as text without sign, blanks and leading zeros.
//! Missing where the setting says where it is: refused, since the shop's default is not ours to guess.

use std::borrow::Cow;

use http::HeaderName;

use super::fields::Single;
use super::json::{Found, Node, Pointer, same_name};
use crate::config::schema::{self, OrderBody};
use crate::config::source::KeySource;
use crate::ident::Name;
use crate::outcome::Reason;
use crate::sale::SaleState;
use crate::sale::declare::DEFAULT_POOL;

/// How orders of one site are read.
#[derive(Clone, Debug)]
pub struct OrderRules {
    body: OrderBody,
    pool: Option<Place>,
    quantity: Option<Place>,
    keys: Vec<KeyPlace>,
    quantity_max: u32,
    /// Longest body of a purchase, in bytes.
    pub body_bytes_max: usize,
}

/// Where one value is.
#[derive(Clone, Debug)]
struct Place {
    /// As the settings name it.
    name: String,
    /// The same for JSON.
    pointer: Option<Pointer>,
}

#[derive(Clone, Debug)]
enum KeyPlace {
    Header(HeaderName),
    Field(Place),
}

/// An order as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Index of the pool in the sale.
    pub pool: usize,
    /// Units.
    pub units: u32,
    /// The client's own key.
    pub key: Option<Vec<u8>>,
}

/// Why an order was not understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadOrder {
    /// `bad_request` or `unknown_item`.
    pub reason: Reason,
    /// What was wrong, for the client's developer.
    pub detail: String,
}

/// What an order is read from.
#[derive(Clone, Copy, Debug, Default)]
pub struct Source<'a> {
    /// `Content-Type`.
    pub content_type: Option<&'a [u8]>,
    /// The query.
    pub query: Option<&'a str>,
    /// The whole body.
    pub body: &'a [u8],
}

/// The text or number at a place.
enum Value<'a> {
    Int(i128),
    Text(Cow<'a, str>),
}

/// Name and value of a field, decoded.
type Pair<'a> = (Cow<'a, str>, Cow<'a, str>);

/// What was sent, parsed.
enum Sent<'a> {
    Json(Node),
    Pairs(Vec<Pair<'a>>),
    /// Nothing in it is looked for.
    Unread,
}

impl OrderRules {
    /// Reads `[site.X.activity.order]`; an error says which of its settings is wrong.
    pub fn new(settings: Option<&schema::Order>) -> Result<OrderRules, String> {
        let order = settings.cloned().unwrap_or_default();
        let place = |setting: &str, text: &Option<String>| match text {
            None => Ok(None),
            Some(text) => {
                Place::new(order.body, text).map(Some).map_err(|e| format!("{setting}: {e}"))
            }
        };
        let default_key = || vec![format!("header:{IDEMPOTENCY_KEY}")];
        let keys = order.key.clone().unwrap_or_else(default_key);
        let keys = keys
            .iter()
            .map(|text| KeyPlace::new(order.body, text).map_err(|e| format!("key: `{text}`: {e}")));
        Ok(OrderRules {
            body: order.body,
            pool: place("pool", &order.pool)?,
            quantity: place("quantity", &order.quantity)?,
            keys: keys.collect::<Result<_, _>>()?,
            quantity_max: order.quantity_max.unwrap_or(QUANTITY_MAX),
            body_bytes_max: order.body_bytes_max.map_or(BODY_BYTES_MAX, |size| size.in_memory()),
        })
    }

    /// Whether the body has to be read before the order is known; `has_body` says whether there is
    /// one. Beside a query, a form in the body may say the same field again.
    pub fn is_in_body(&self, has_body: bool) -> bool {
        self.reads_any() && (self.body != OrderBody::Query || has_body)
    }

    fn reads_any(&self) -> bool {
        let key = self.keys.iter().any(|k| matches!(k, KeyPlace::Field(_)));
        key || self.pool.is_some() || self.quantity.is_some()
    }

    /// The order, for a sale. `header` tells the one value of a header.
    pub fn read<'a>(
        &self,
        sale: &SaleState,
        source: Source<'a>,
        header: impl Fn(&HeaderName) -> Single<'a>,
    ) -> Result<Order, BadOrder> {
        let sent = self.parse(source)?;
        let pool = self.pool(sale, &sent, source)?;
        let units = self.units(&sent, source)?;
        let mut key = None;
        for place in &self.keys {
            key = match place {
                KeyPlace::Header(name) => match header(name) {
                    Single::Several => return Err(bad(format!("{name} comes more than once"))),
                    Single::Absent => None,
                    Single::One(value) => Some(value.to_vec()),
                },
                KeyPlace::Field(place) => match self.value(place, &sent, source)? {
                    Some(Value::Int(number)) => Some(number.to_string().into_bytes()),
                    Some(Value::Text(text)) if text.is_empty() => None,
                    Some(Value::Text(text)) => Some(text.into_owned().into_bytes()),
                    None => None,
                },
            };
            if key.is_some() {
                break;
            }
        }
        if key.as_ref().is_some_and(|key| key.len() > KEY_BYTES_MAX) {
            return Err(bad(format!("the key is longer than {KEY_BYTES_MAX} bytes")));
        }
        Ok(Order { pool, units, key })
    }

    fn parse<'a>(&self, source: Source<'a>) -> Result<Sent<'a>, BadOrder> {
        if !self.reads_any() {
            return Ok(Sent::Unread);
        }
        let kind = source.content_type.map(media_type).unwrap_or_default();
        match self.body {
            OrderBody::Json => {
                if !kind.is_empty() && !is_json(&kind) {
                    return Err(bad("the body must be application/json".to_owned()));
                }
                let node = serde_json::from_slice(source.body);
                node.map(Sent::Json).map_err(|_| bad("the body is not valid JSON".to_owned()))
            }
            OrderBody::Form => {
                if kind != FORM {
                    return Err(bad(format!("the body must be {FORM}")));
                }
                let text = std::str::from_utf8(source.body);
                pairs(text.map_err(|_| bad("the body is not UTF-8".to_owned()))?).map(Sent::Pairs)
            }
            OrderBody::Query => {
                if kind.starts_with("multipart/") {
                    return Err(bad("fields must stand in the query, not in parts".to_owned()));
                }
                pairs(source.query.unwrap_or_default()).map(Sent::Pairs)
            }
        }
    }

    fn pool(
        &self,
        sale: &SaleState,
        sent: &Sent<'_>,
        source: Source<'_>,
    ) -> Result<usize, BadOrder> {
        let asked = match &self.pool {
            None => None,
            Some(place) => self.value(place, sent, source)?,
        };
        let asked = match asked {
            Some(Value::Int(number)) => Some(number.to_string()),
            Some(Value::Text(text)) if text.is_empty() => None,
            Some(Value::Text(text)) => Some(text.into_owned()),
            None => None,
        };
        match (asked, sale.pools.as_slice()) {
            // A sale with one nameless stock sells one thing, whatever the shop calls it.
            (_, [only]) if only.name.as_str() == DEFAULT_POOL => Ok(0),
            (None, [_]) => Ok(0),
            (None, _) => Err(match &self.pool {
                Some(place) => bad(format!("{} is missing", place.name)),
                None => bad("this sale has several items, and none can be named".to_owned()),
            }),
            (Some(asked), pools) => {
                let index = pools.iter().position(|p| p.name.as_str() == asked);
                index.ok_or_else(|| unknown_item(&asked))
            }
        }
    }

    fn units(&self, sent: &Sent<'_>, source: Source<'_>) -> Result<u32, BadOrder> {
        let Some(place) = &self.quantity else { return Ok(1) };
        let wrong = || bad(format!("{} must be 1 to {}", place.name, self.quantity_max));
        let units = match self.value(place, sent, source)?.ok_or_else(wrong)? {
            Value::Int(number) => u32::try_from(number).map_err(|_| wrong())?,
            Value::Text(text) => {
                let is_plain = text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
                text.parse::<u32>().ok().filter(|_| is_plain).ok_or_else(wrong)?
            }
        };
        if (1..=self.quantity_max).contains(&units) { Ok(units) } else { Err(wrong()) }
    }

    /// The value at `place`; `None` where there is none, or `null`.
    fn value<'s>(
        &self,
        place: &Place,
        sent: &'s Sent<'_>,
        source: Source<'_>,
    ) -> Result<Option<Value<'s>>, BadOrder> {
        let ambiguous = || bad(format!("{} comes more than once, or is misspelled", place.name));
        match sent {
            Sent::Unread => Ok(None),
            Sent::Json(root) => {
                let Some(pointer) = &place.pointer else { return Ok(None) };
                match pointer.find(root) {
                    Found::Nothing | Found::One(Node::Null) => Ok(None),
                    Found::One(Node::Int(number)) => Ok(Some(Value::Int(*number))),
                    Found::One(Node::Text(text)) => Ok(Some(Value::Text(text.as_str().into()))),
                    Found::One(_) => Err(bad(format!("{} has the wrong type", place.name))),
                    Found::Ambiguous => Err(ambiguous()),
                }
            }
            Sent::Pairs(pairs) => {
                let mut same = pairs.iter().filter(|(name, _)| same_name(name, &place.name));
                let first = same.next();
                if same.next().is_some() || self.is_elsewhere(place, source)? {
                    return Err(ambiguous());
                }
                match first {
                    None => Ok(None),
                    Some((name, value)) if *name == place.name => {
                        Ok(Some(Value::Text(value.as_ref().into())))
                    }
                    Some(_) => Err(ambiguous()),
                }
            }
        }
    }

    /// Whether the field also stands where the shop's framework might look first: frameworks merge
    /// query and form.
    fn is_elsewhere(&self, place: &Place, source: Source<'_>) -> Result<bool, BadOrder> {
        let other = match self.body {
            OrderBody::Form => source.query.unwrap_or_default(),
            _ if source.content_type.map(media_type).is_some_and(|kind| kind == FORM) => {
                std::str::from_utf8(source.body)
                    .map_err(|_| bad("the body is not UTF-8".to_owned()))?
            }
            _ => "",
        };
        Ok(pairs(other)?.iter().any(|(name, _)| same_name(name, &place.name)))
    }
}

impl Place {
    fn new(body: OrderBody, text: &str) -> Result<Place, String> {
        let pointer = match body {
            OrderBody::Json => match Pointer::new(text) {
                Some(pointer) => Some(pointer),
                None => return Err(format!("`{text}` is not a JSON pointer like /{text}")),
            },
            OrderBody::Form | OrderBody::Query if text.is_empty() => {
                return Err("the name of a field is missing".to_owned());
            }
            OrderBody::Form | OrderBody::Query => None,
        };
        Ok(Place { name: text.to_owned(), pointer })
    }
}

impl KeyPlace {
    fn new(body: OrderBody, text: &str) -> Result<KeyPlace, String> {
        match text.parse()? {
            KeySource::Body(place) => Place::new(body, &place).map(KeyPlace::Field),
            KeySource::Header(name) => name
                .parse()
                .map(KeyPlace::Header)
                .map_err(|_| "not the name of a header".to_owned()),
        }
    }
}

fn bad(detail: String) -> BadOrder {
    BadOrder { reason: Reason::BadRequest, detail }
}

fn unknown_item(asked: &str) -> BadOrder {
    let detail = match Name::new(asked) {
        Ok(name) => format!("{name} is not sold here"),
        Err(error) => format!("the item {error}"),
    };
    BadOrder { reason: Reason::UnknownItem, detail }
}

/// Type and subtype in lower case.
fn media_type(value: &[u8]) -> String {
    let kind = value.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
    String::from_utf8_lossy(kind).to_ascii_lowercase()
}

/// Types under which scripts send JSON; `text/plain` is what a page sends to save a preflight.
fn is_json(kind: &str) -> bool {
    matches!(kind, "application/json" | "text/json" | "text/plain") || kind.ends_with("+json")
}

/// The fields of a form or query, decoded. A raw `;` is refused: some parsers separate by it.
fn pairs(text: &str) -> Result<Vec<Pair<'_>>, BadOrder> {
    if text.contains(';') {
        return Err(bad("a semicolon between fields must be encoded".to_owned()));
    }
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    let split = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    Ok(split.map(|(name, value)| (decoded(name), decoded(value))).collect())
}

/// Percent-decoded, `+` a blank; what is not valid stands for itself.
fn decoded(text: &str) -> Cow<'_, str> {
    if !text.contains(['%', '+']) {
        return Cow::Borrowed(text);
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let hex = bytes.get(at + 1..at + 3).filter(|hex| hex.iter().all(u8::is_ascii_hexdigit));
        let pair = hex.and_then(|hex| std::str::from_utf8(hex).ok());
        match (byte, pair.and_then(|pair| u8::from_str_radix(pair, 16).ok())) {
            (b'%', Some(value)) => {
                out.push(value);
                at += 3;
                continue;
            }
            (b'+', _) => out.push(b' '),
            _ => out.push(byte),
        }
        at += 1;
    }
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
}

/// The header that RFC drafts and shops use for a client's key.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
const FORM: &str = "application/x-www-form-urlencoded";
/// Longest body of a purchase where no setting says, in bytes.
const BODY_BYTES_MAX: usize = 16 * 1024;
/// Largest quantity that is understood where no setting says.
const QUANTITY_MAX: u32 = 1_000;
/// Longest client key, in bytes.
const KEY_BYTES_MAX: usize = 256;

#[cfg(test)]
mod tests;
