//! Names and ids: short strings an operator chose, and the random or hashed ids that we make.

pub mod authority;

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Longest accepted name, in bytes.
pub const NAME_BYTES_MAX: usize = 64;

/// A name as it may stand in a URL, a key or the config: `[A-Za-z0-9._~-]{1,64}`, one spelling each.
///
/// Activities, cities, pools, sales and sites are all names.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

/// Why a string is not a [`Name`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to 64 characters out of A-Z a-z 0-9 . _ ~ -")]
pub struct BadName;

impl Name {
    /// Takes `text` if it is a valid name.
    pub fn new(text: &str) -> Result<Name, BadName> {
        if Name::is_valid(text.as_bytes()) { Ok(Name(text.into())) } else { Err(BadName) }
    }

    /// Whether `text` could be a name, without making one.
    pub fn is_valid(text: &[u8]) -> bool {
        !text.is_empty()
            && text.len() <= NAME_BYTES_MAX
            && text.iter().all(|b| NAME[usize::from(*b)])
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl std::str::FromStr for Name {
    type Err = BadName;
    fn from_str(text: &str) -> Result<Name, BadName> {
        Name::new(text)
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Name, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
        Name::new(&text).map_err(de::Error::custom)
    }
}

impl schemars::JsonSchema for Name {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Name".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^[A-Za-z0-9._~-]{1,64}$" })
    }
}

/// The bytes of names.
const NAME: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        let b = byte as u8;
        table[byte] = b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'~' | b'-');
        byte += 1;
    }
    table
};

/// A sale's full name: site and sale, written `site/sale`. `/` cannot occur in a [`Name`].
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SaleId {
    /// The site that the sale belongs to.
    pub site: Name,
    /// The sale's own name, unique within the site.
    pub sale: Name,
}

impl fmt::Display for SaleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.site, self.sale)
    }
}

impl std::str::FromStr for SaleId {
    type Err = BadName;
    fn from_str(text: &str) -> Result<SaleId, BadName> {
        let (site, sale) = text.split_once('/').ok_or(BadName)?;
        Ok(SaleId { site: Name::new(site)?, sale: Name::new(sale)? })
    }
}

impl Serialize for SaleId {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SaleId {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<SaleId, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
        text.parse().map_err(de::Error::custom)
    }
}

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident, $bytes:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub [u8; $bytes]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = BadHex;
            fn from_str(text: &str) -> Result<Self, BadHex> {
                let mut out = [0; $bytes];
                unhex(text, &mut out).map(|()| Self(out))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
                text.parse().map_err(de::Error::custom)
            }
        }
    };
}

/// Why a string is not one of our hexadecimal ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a hexadecimal id of the expected length")]
pub struct BadHex;

fn unhex(text: &str, out: &mut [u8]) -> Result<(), BadHex> {
    if text.len() != out.len() * 2 || !text.is_ascii() {
        return Err(BadHex);
    }
    for (byte, pair) in out.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let digit = |d: u8| char::from(d).to_digit(16).ok_or(BadHex);
        *byte = u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).map_err(|_| BadHex)?;
    }
    Ok(())
}

hex_id! {
    /// A buyer: blake3 of the identity, keyed with the sale's salt. No raw identity is stored.
    UserKey, 16
}
hex_id! {
    /// What a client repeats: a keyed hash of (sale, user, client's key), else random for each request.
    AttemptId, 16
}
hex_id! {
    /// One claim: 96 random bits, new for each. Records, outcomes and the journal match by it.
    ClaimId, 12
}
hex_id! {
    /// One run of one node: random at each start.
    NodeId, 8
}
hex_id! {
    /// One request: 16 hexadecimal digits, in `Penstock-Request` and in every log line.
    RequestId, 8
}
hex_id! {
    /// A sale's salt: the key under which its users are hashed, the same on every node.
    Salt, 16
}

hex_id! {
    /// One life of a ledger's server: begins anew with its process, and where another takes its place.
    /// Zero: a store that forgets nothing, or one that does not tell.
    ServerId, 16
}

impl ClaimId {
    /// A new claim id.
    pub fn random() -> ClaimId {
        ClaimId(rand::random())
    }
}

impl AttemptId {
    /// The attempt of a request that carries no key of the client's.
    pub fn random() -> AttemptId {
        AttemptId(rand::random())
    }

    /// The attempt of a client's own key: the same on every node.
    pub fn of_key(salt: &Salt, user: &UserKey, key: &[u8]) -> AttemptId {
        let mut hasher = blake3::Hasher::new_keyed(&self::key(salt, b"attempt"));
        hasher.update(&user.0);
        hasher.update(key);
        AttemptId(truncate(&hasher.finalize()))
    }
}

impl UserKey {
    /// The key of `identity` in the sale that owns `salt`.
    pub fn of_identity(salt: &Salt, identity: &[u8]) -> UserKey {
        // In one call: for so short a text a hasher costs as much as the hash.
        UserKey(truncate(&blake3::keyed_hash(&key(salt, b"user"), identity)))
    }
}

impl NodeId {
    /// A new node id.
    pub fn random() -> NodeId {
        NodeId(rand::random())
    }
}

impl RequestId {
    /// A new request id. It is a name, not a secret: each thread counts on from a random number and
    /// mixes (the finaliser of SplitMix64, which maps no two numbers to one).
    pub fn next() -> RequestId {
        thread_local! {
            static COUNT: std::cell::Cell<u64> = std::cell::Cell::new(rand::random());
        }
        let count = COUNT.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        COUNT.set(count);
        let mut id = count;
        id = (id ^ (id >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        id = (id ^ (id >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        RequestId((id ^ (id >> 31)).to_be_bytes())
    }
}

impl Salt {
    /// A new salt, for the first declaration of a sale.
    pub fn random() -> Salt {
        Salt(rand::random())
    }
}

fn key(salt: &Salt, purpose: &[u8]) -> [u8; 32] {
    let mut key = [0; 32];
    key[..16].copy_from_slice(&salt.0);
    key[16..16 + purpose.len()].copy_from_slice(purpose);
    key
}

fn truncate(hash: &blake3::Hash) -> [u8; 16] {
    let mut out = [0; 16];
    out.copy_from_slice(&hash.as_bytes()[..16]);
    out
}
