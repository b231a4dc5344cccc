//! The names of everything in Redis: no other code spells a key.
//!
//! All keys of a sale carry its name as hash tag, so that a cluster keeps them in one slot and one
//! script may use them together. `/` cannot occur in a name: no sale can spell another's key.
//!
//! | key | type | owner | what |
//! |---|---|---|---|
//! | `ps:sales` | set | shop or node | `site/sale` of every sale |
//! | `ps:nodes` | sorted set | nodes | what each node says of itself, by when it said so |
//! | `ps:notices` | stream | nodes | what a node told all others, such as a purge |
//! | `ps:{site/sale}:L` | hash | scripts | the ledger: declared limits, counters, latches |
//! | `ps:{site/sale}:U` | hash | scripts | user → records |
//! | `ps:{site/sale}:D` | sorted set | scripts | `user\|claim` by the deadline of open records |
//! | `ps:{site/sale}:F` | hash | scripts | the public flag, for readers that are not nodes |
//! | `ps:{site/sale}:I` | hash | scripts | ids of commands of `in` that were applied, claims of cancelled and of failed orders |
//! | `ps:{site/sale}:N` | hash | scripts | node → when it was heard, and what it has re-asserted to |
//! | `ps:{site/sale}:want` | string | shop | the declaration, JSON |
//! | `ps:{site/sale}:have` | hash | scripts | what became of it |
//! | `ps:{site/sale}:in` | stream | shop | commands |
//! | `ps:{site/sale}:out` | stream | scripts | what happened |

use crate::ident::SaleId;

/// The set of all sales.
pub const SALES: &str = "ps:sales";

/// The stream of what nodes tell each other.
pub const NOTICES: &str = "ps:notices";

/// The sorted set of the nodes that are there, by when they said so.
pub const NODES: &str = "ps:nodes";

/// The channel on which a change of a sale is told: `site/sale`, or `want:site/sale` from the shop;
/// and [`NOTICE_WORD`].
pub const BUS: &str = "ps:bus";

/// Says on [`BUS`] that [`NOTICES`] has grown.
pub const NOTICE_WORD: &str = "notice";

/// What a key of a sale holds. The order is that of `KEYS` in every script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The ledger.
    Ledger,
    /// Users' records.
    Users,
    /// Deadlines.
    Deadlines,
    /// The public flag.
    Flag,
    /// What happened.
    Out,
    /// The declaration.
    Want,
    /// What became of it.
    Have,
    /// Commands.
    In,
    /// Ids of commands that were applied. Apart from the ledger, which every claim reads whole.
    Ids,
    /// The nodes.
    Nodes,
}

impl Part {
    /// Every part, in the order of `KEYS`.
    pub const ALL: [Part; 10] = [
        Part::Ledger,
        Part::Users,
        Part::Deadlines,
        Part::Flag,
        Part::Out,
        Part::Want,
        Part::Have,
        Part::In,
        Part::Ids,
        Part::Nodes,
    ];

    /// The end of the key.
    pub fn suffix(self) -> &'static str {
        match self {
            Part::Ledger => "L",
            Part::Users => "U",
            Part::Deadlines => "D",
            Part::Flag => "F",
            Part::Out => "out",
            Part::Want => "want",
            Part::Have => "have",
            Part::In => "in",
            Part::Ids => "I",
            Part::Nodes => "N",
        }
    }

    /// What `TYPE` must say, if the key exists.
    pub fn type_name(self) -> &'static str {
        match self {
            Part::Ledger | Part::Users | Part::Flag | Part::Have | Part::Ids | Part::Nodes => {
                "hash"
            }
            Part::Deadlines => "zset",
            Part::Out | Part::In => "stream",
            Part::Want => "string",
        }
    }
}

/// The key of one part of a sale.
pub fn of(sale: &SaleId, part: Part) -> String {
    format!("ps:{{{sale}}}:{}", part.suffix())
}

/// The key of one part of what is no sale: rights are tried on it. The hash tag leads to the server
/// that is meant.
pub(super) fn of_probe(tag: &str, part: Part) -> String {
    format!("ps:{{{tag}}}:{}", part.suffix())
}

/// A message on [`BUS`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// The sale changed.
    Changed(SaleId),
    /// The shop wrote `want` or `in`.
    Wanted(SaleId),
    /// A node told all others something.
    Notice,
}

impl Word {
    /// Reads a message; `None` for what we do not know.
    pub fn parse(text: &[u8]) -> Option<Word> {
        let text = std::str::from_utf8(text).ok()?;
        if text == NOTICE_WORD {
            return Some(Word::Notice);
        }
        match text.strip_prefix("want:").or_else(|| text.strip_prefix("in:")) {
            Some(sale) => sale.parse().ok().map(Word::Wanted),
            None => text.parse().ok().map(Word::Changed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_carries_its_sale_as_hash_tag() {
        let sale: SaleId = "shop/spring-drop".parse().expect("a sale's name");
        assert_eq!(of(&sale, Part::Ledger), "ps:{shop/spring-drop}:L");
        assert_eq!(of(&sale, Part::Want), "ps:{shop/spring-drop}:want");
    }

    #[test]
    fn the_bus_is_read_and_noise_is_ignored() {
        let sale: SaleId = "shop/spring".parse().expect("a sale's name");
        assert_eq!(Word::parse(b"shop/spring"), Some(Word::Changed(sale.clone())));
        assert_eq!(Word::parse(b"want:shop/spring"), Some(Word::Wanted(sale.clone())));
        assert_eq!(Word::parse(b"notice"), Some(Word::Notice));
        assert_eq!(Word::parse(b"in:shop/spring"), Some(Word::Wanted(sale)));
        for noise in [&b""[..], b"spring", b"\xff/\xff", b"a/b/c", b"want:x"] {
            assert_eq!(Word::parse(noise), None);
        }
    }
}
