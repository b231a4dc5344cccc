//! Who buys: a list of sources, of which the first that is present decides.
//!
//! If it does not verify, or none is present, the client is told to log in; the rest of the list is
//! not tried, so that nobody can choose the weaker proof. A source that is there twice with different
//! values counts as present and unverified: the shop might read the other one.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use super::fields::{Single, single};
use super::jwt::Verifier;
use crate::clock::UnixMs;
use crate::config::schema;
use crate::config::source::{Part, UserSource};
use crate::http::{ClientAddr, Head};
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The sources of one site.
#[derive(Debug)]
pub struct Identity {
    sources: Vec<Source>,
}

#[derive(Debug)]
enum Source {
    Jwt(Part, Arc<Verifier>),
    Hmac(Part, Arc<hmac::Key>),
    Plain(Part),
    Address,
}

impl Identity {
    /// Reads `user`, `jwt` and `hmac` of an activity, and the key files. An error names the setting.
    pub fn new(activity: &schema::Activity) -> Result<Identity, String> {
        if activity.user.is_empty() {
            return Err("user: who buys must be said where `purchase` is, like \
                 [\"jwt:header:authorization\"]"
                .to_owned());
        }
        let jwt = activity.jwt.as_ref().map(Verifier::new).transpose();
        let jwt = jwt.map_err(|e| format!("jwt.{e}"))?.map(Arc::new);
        let hmac = match &activity.hmac {
            None => None,
            Some(settings) => {
                let key =
                    read_key(&settings.key_file).map_err(|e| format!("hmac.key_file: {e}"))?;
                Some(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &key)))
            }
        };
        let source = |text: &String| {
            Source::new(text, jwt.as_ref(), hmac.as_ref())
                .map_err(|e| format!("user: `{text}`: {e}"))
        };
        Ok(Identity { sources: activity.user.iter().map(source).collect::<Result<_, _>>()? })
    }

    /// Who sends `head`; `None`: nobody that is known. `now` is the wall clock, by which tokens
    /// expire.
    pub fn of<'a>(
        &'a self,
        head: &'a Head<'a>,
        client: ClientAddr,
        now: UnixMs,
    ) -> Option<Cow<'a, [u8]>> {
        let present = |source: &'a Source| match source.value(head) {
            Single::Absent => None,
            Single::Several => Some(None),
            Single::One(value) => Some(source.verified(value, client, now)),
        };
        let identity = self.sources.iter().find_map(present)??;
        (1..=IDENTITY_BYTES_MAX).contains(&identity.len()).then_some(identity)
    }
}

impl Source {
    fn new(
        text: &str,
        jwt: Option<&Arc<Verifier>>,
        hmac: Option<&Arc<hmac::Key>>,
    ) -> Result<Source, String> {
        Ok(match text.parse()? {
            UserSource::Address => Source::Address,
            UserSource::Unverified(part) => Source::Plain(part),
            UserSource::Jwt(part) => {
                let verifier = jwt.ok_or("`jwt` with its `alg` and `key_file` is missing")?;
                Source::Jwt(part, verifier.clone())
            }
            UserSource::Hmac(part) => {
                let key = hmac.ok_or("`hmac` with its `key_file` is missing")?;
                Source::Hmac(part, key.clone())
            }
        })
    }

    /// What the request says here.
    fn value<'a>(&'a self, head: &'a Head<'a>) -> Single<'a> {
        match self {
            // Every client has an address, except the peer of a Unix socket that names nobody.
            Source::Address => Single::One(b"address"),
            Source::Jwt(part, _) => match value_of(part, head) {
                Single::One(value) => single(std::iter::once(without_scheme(value))),
                other => other,
            },
            Source::Hmac(part, _) | Source::Plain(part) => value_of(part, head),
        }
    }

    fn verified<'a>(
        &self,
        value: &'a [u8],
        client: ClientAddr,
        now: UnixMs,
    ) -> Option<Cow<'a, [u8]>> {
        match self {
            Source::Plain(_) => Some(Cow::Borrowed(value)),
            Source::Hmac(_, key) => signed(value, key).map(Cow::Borrowed),
            Source::Jwt(_, verifier) => verifier.verify(value, now).map(Cow::Owned),
            Source::Address => match client {
                // No header or cookie can hold a NUL: an address is no other source's identity.
                ClientAddr::Ip(ip) => Some(Cow::Owned(format!("address\0{ip}").into_bytes())),
                ClientAddr::Unix => None,
            },
        }
    }
}

fn value_of<'a>(part: &'a Part, head: &'a Head<'a>) -> Single<'a> {
    match part {
        Part::Header(name) => single(head.field_all(name)),
        Part::Cookie(name) => single(head.cookie_all(name)),
        // A user is never read from the query: it stands in every log.
        Part::Query(_) => Single::Absent,
    }
}

/// A token without `Bearer `.
fn without_scheme(value: &[u8]) -> &[u8] {
    match value.split_at_checked(6) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case(b"bearer") => match rest.first() {
            None => b"",
            Some(b' ') => rest.trim_ascii(),
            Some(_) => value,
        },
        _ => value,
    }
}

/// The id of `id.base64url(HMAC-SHA256(id))`, compared in constant time. Padding is allowed.
fn signed<'a>(value: &'a [u8], key: &hmac::Key) -> Option<&'a [u8]> {
    let dot = value.iter().rposition(|b| *b == b'.')?;
    let (id, tag) = (&value[..dot], &value[dot + 1..]);
    let end = tag.iter().rposition(|b| *b != b'=').map_or(0, |last| last + 1);
    let tag = URL_SAFE_NO_PAD.decode(&tag[..end]).ok()?;
    hmac::verify(key, id, &tag).ok().map(|()| id)
}

/// A key from a file, without a line ending at its end. An empty key is an error.
pub fn read_key(path: &str) -> Result<Vec<u8>, String> {
    let mut key = std::fs::read(Path::new(path)).map_err(|e| format!("{path}: {e}"))?;
    if key.ends_with(b"\n") {
        key.pop();
    }
    if key.ends_with(b"\r") {
        key.pop();
    }
    if key.is_empty() {
        return Err(format!("{path} is empty: a key must be a secret"));
    }
    Ok(key)
}

/// Longest identity, in bytes.
const IDENTITY_BYTES_MAX: usize = 256;

#[cfg(test)]
mod tests;
