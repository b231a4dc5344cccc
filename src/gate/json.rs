//! JSON as it was written: members that come twice are seen, as is a name in another case.
//!
//! What the gate reads as one unit the shop must not read as five. Parsers disagree about a name that
//! comes twice, and some take a name in any case; here both are ambiguous, and refused.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool,
    /// A number without fraction and exponent.
    Int(i128),
    /// Any other number.
    Float,
    /// A string.
    Text(String),
    /// An array.
    List(Vec<Node>),
    /// An object, with every member.
    Map(Vec<(String, Node)>),
}

/// What a pointer leads to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Found<'a> {
    /// Nothing.
    Nothing,
    /// One value.
    One(&'a Node),
    /// A name on the way comes twice, or is spelled in another case.
    Ambiguous,
}

/// A JSON pointer (RFC 6901).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pointer {
    tokens: Vec<String>,
}

impl Pointer {
    /// Takes `text` if it begins with `/`.
    pub fn new(text: &str) -> Option<Pointer> {
        let tokens = text.strip_prefix('/')?.split('/');
        let unescaped = tokens.map(|token| token.replace("~1", "/").replace("~0", "~"));
        Some(Pointer { tokens: unescaped.collect() })
    }

    /// What it leads to in `root`.
    pub fn find<'a>(&self, root: &'a Node) -> Found<'a> {
        let mut node = root;
        for token in &self.tokens {
            node = match node {
                Node::Map(members) => match member(members, token) {
                    Found::One(node) => node,
                    other => return other,
                },
                Node::List(items) => match token.parse::<usize>().ok().and_then(|i| items.get(i)) {
                    Some(node) => node,
                    None => return Found::Nothing,
                },
                _ => return Found::Nothing,
            };
        }
        Found::One(node)
    }
}

/// Two names that some parser takes for one.
pub fn same_name(one: &str, other: &str) -> bool {
    if one.is_ascii() && other.is_ascii() {
        return one.eq_ignore_ascii_case(other);
    }
    let folded = |name: &str| name.to_uppercase().to_lowercase();
    folded(one) == folded(other)
}

fn member<'a>(members: &'a [(String, Node)], token: &str) -> Found<'a> {
    let mut same = members.iter().filter(|(name, _)| same_name(name, token));
    match (same.next(), same.next()) {
        (None, _) => Found::Nothing,
        (Some((name, node)), None) if name == token => Found::One(node),
        _ => Found::Ambiguous,
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Node, E> {
        Ok(Node::Bool)
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Int(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Int(value.into()))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Node, E> {
        Ok(Node::Float)
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Node, E> {
        Ok(Node::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Node, A::Error> {
        let mut map = Vec::new();
        while let Some(member) = members.next_entry()? {
            map.push(member);
        }
        Ok(Node::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(json: &str, pointer: &str) -> Option<Node> {
        let root: Node = serde_json::from_str(json).expect("JSON");
        match Pointer::new(pointer).expect("pointer").find(&root) {
            Found::One(node) => Some(node.clone()),
            Found::Nothing => None,
            Found::Ambiguous => Some(Node::Text("ambiguous".to_owned())),
        }
    }

    #[test]
    fn a_pointer_leads_to_one_value() {
        assert_eq!(find(r#"{"a":{"b":[1,2]}}"#, "/a/b/1"), Some(Node::Int(2)));
        assert_eq!(find(r#"{"a/b":{"~":3}}"#, "/a~1b/~0"), Some(Node::Int(3)));
        assert_eq!(find(r#"{"a":1}"#, "/b"), None);
        assert_eq!(find(r#"{"a":1}"#, "/a/b"), None);
        assert_eq!(find("[1]", "/x"), None);
        assert_eq!(Pointer::new("a"), None);
    }

    #[test]
    fn what_parsers_disagree_about_is_ambiguous() {
        let ambiguous = Some(Node::Text("ambiguous".to_owned()));
        for json in [
            r#"{"sku":1,"sku":1}"#,
            r#"{"sku":1,"SKU":5}"#,
            r#"{"Sku":5}"#,
            "{\"\u{17f}ku\":5}",
            "{\"sku\":1,\"s\\u212au\":5}",
        ] {
            assert_eq!(find(json, "/sku"), ambiguous, "{json}");
        }
        assert_eq!(find(r#"{"a":{"sku":1},"A":{}}"#, "/a/sku"), ambiguous);
        assert_eq!(find(r#"{"sku":1,"x":1,"X":2}"#, "/sku"), Some(Node::Int(1)));
    }
}
