//! Session tickets whose keys come from a file, so that every node of a fleet knows a client again.
//!
//! A ticket is `name of the key (8) | nonce (12) | AES-256-GCM(time of issue (8) | state) | tag (16)`.
//! The first key of the file encrypts, all decrypt: to renew them without a full handshake for anybody,
//! append the new key on all nodes, then move it to the top, then remove the old one.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use rand::RngExt as _;
use tokio_rustls::rustls::server::ProducesTickets;

use crate::clock::Clock;

/// The keys of one listener.
#[derive(Debug)]
pub(super) struct Tickets {
    keys: Vec<Key>,
    clock: Clock,
}

#[derive(Debug)]
struct Key {
    name: [u8; NAME_BYTES],
    key: LessSafeKey,
}

impl Tickets {
    /// Reads keys from the text of their file. `purpose` is part of each: a ticket of a listener that
    /// asks its clients for something else is worth nothing here.
    pub(super) fn parse(text: &str, purpose: &[u8], clock: Clock) -> Result<Tickets, String> {
        let mut keys = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let bare = line.trim_end_matches('=');
            let secret = STANDARD.decode(line).or_else(|_| STANDARD_NO_PAD.decode(bare));
            match secret {
                Ok(secret) if secret.len() >= SECRET_BYTES_MIN => {
                    keys.push(Key::new(&secret, purpose)?);
                }
                _ => {
                    return Err(format!(
                        "line {} is not {SECRET_BYTES_MIN} bytes or more in base64; \
                         make one: head -c 32 /dev/urandom | base64 -w0",
                        at + 1
                    ));
                }
            }
            if keys.len() > KEYS_MAX {
                return Err(format!("more than {KEYS_MAX} keys"));
            }
        }
        match keys.is_empty() {
            true => Err("has no key; make one: head -c 32 /dev/urandom | base64 -w0".to_owned()),
            false => Ok(Tickets { keys, clock }),
        }
    }

    fn now_s(&self) -> u64 {
        self.clock.now().wall.0 / 1000
    }
}

impl Key {
    fn new(secret: &[u8], purpose: &[u8]) -> Result<Key, String> {
        let derive = |what: &str| {
            let mut hasher =
                blake3::Hasher::new_derive_key(&format!("penstock tls ticket {what} v1"));
            hasher.update(&(secret.len() as u64).to_le_bytes()).update(secret).update(purpose);
            *hasher.finalize().as_bytes()
        };
        let mut name = [0; NAME_BYTES];
        name.copy_from_slice(&derive("name")[..NAME_BYTES]);
        let key = UnboundKey::new(&AES_256_GCM, &derive("key"));
        let key = LessSafeKey::new(key.map_err(|_| "cannot be used".to_owned())?);
        Ok(Key { name, key })
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        LIFETIME_S
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let key = self.keys.first()?;
        let nonce: [u8; NONCE_BYTES] = rand::rng().random();
        let mut sealed = [&self.now_s().to_le_bytes(), plain].concat();
        let (seal, aad) = (Nonce::assume_unique_for_key(nonce), Aad::from(key.name));
        key.key.seal_in_place_append_tag(seal, aad, &mut sealed).ok()?;
        Some([&key.name, &nonce[..], &sealed].concat())
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_first_chunk::<NAME_BYTES>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_BYTES>()?;
        let key = self.keys.iter().find(|key| key.name == *name)?;
        let mut sealed = sealed.to_vec();
        let (open, aad) = (Nonce::assume_unique_for_key(*nonce), Aad::from(*name));
        let plain = key.key.open_in_place(open, aad, &mut sealed).ok()?;
        let (issued_s, state) = plain.split_first_chunk::<8>()?;
        let age_s = self.now_s().abs_diff(u64::from_le_bytes(*issued_s));
        (age_s <= u64::from(LIFETIME_S)).then(|| state.to_vec())
    }
}

/// A client is known again for 12 hours.
const LIFETIME_S: u32 = 12 * 3600;
const SECRET_BYTES_MIN: usize = 32;
const NAME_BYTES: usize = 8;
const NONCE_BYTES: usize = 12;
/// A key that is being brought in, the current one, and some that go out.
const KEYS_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn tickets(text: &str, purpose: &[u8]) -> Tickets {
        Tickets::parse(text, purpose, Clock::system()).expect("keys")
    }

    #[test]
    fn a_fleet_knows_its_tickets_while_keys_are_renewed() {
        let (old, new) = (STANDARD.encode([1; 32]), STANDARD.encode([2; 48]));
        let before = tickets(&old, b"");
        let ticket = before.encrypt(b"state").expect("a ticket");
        assert_eq!(before.decrypt(&ticket).as_deref(), Some(&b"state"[..]));
        let during = tickets(&format!("# new at the top\n{new}\n{old}\n"), b"");
        assert_eq!(during.decrypt(&ticket).as_deref(), Some(&b"state"[..]));
        let newer = during.encrypt(b"other").expect("a ticket");
        assert_eq!(before.decrypt(&newer), None, "it has not heard of the new key");
        let after = tickets(&new, b"");
        assert_eq!(after.decrypt(&newer).as_deref(), Some(&b"other"[..]));
        assert_eq!(after.decrypt(&ticket), None, "the old key is gone");
    }

    #[test]
    fn a_ticket_counts_only_where_the_same_is_asked() {
        let key = STANDARD.encode([1; 32]);
        let ticket = tickets(&key, b"").encrypt(b"state").expect("a ticket");
        assert_eq!(tickets(&key, b"clients need certificates").decrypt(&ticket), None);
    }

    #[test]
    fn a_ticket_that_was_touched_is_none() {
        let tickets = tickets(&STANDARD.encode([1; 32]), b"");
        let ticket = tickets.encrypt(b"state").expect("a ticket");
        for at in 0..ticket.len() {
            let mut touched = ticket.clone();
            touched[at] ^= 1;
            assert_eq!(tickets.decrypt(&touched), None, "byte {at}");
            assert_eq!(tickets.decrypt(&ticket[..at]), None, "cut at {at}");
        }
    }

    #[test]
    fn what_is_no_key_is_said_with_its_line() {
        let parse = |text: &str| Tickets::parse(text, b"", Clock::system()).map(drop).unwrap_err();
        assert!(parse("# nothing\n\n").starts_with("has no key"));
        let short = format!("{}\n{}", STANDARD.encode([1; 32]), STANDARD.encode([1; 31]));
        assert!(parse(&short).starts_with("line 2 "));
        assert!(parse("not base64 at all, not base64 at all, not base64").starts_with("line 1 "));
    }
}
