//! Tokens (RFC 7519) with exactly one algorithm, chosen by the settings and never by the token.
//!
//! `exp` and `nbf` are honoured where they are there, with the setting's leeway. A token without
//! `exp` is accepted: the RFC lets the issuer decide, and the issuer is the shop.

use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use quick_cache::sync::Cache;
use serde_json::{Map, Value};

use super::identity::read_key;
use crate::clock::UnixMs;
use crate::config::schema::{Jwt, JwtAlg};

/// Verifies the tokens of one site.
#[derive(Debug)]
pub struct Verifier {
    key: DecodingKey,
    validation: Validation,
    claim: String,
    leeway_ms: u64,
    /// Tokens that were verified, by their hash: a public-key signature costs as much as a hundred
    /// refusals, and a crowd sends the same tokens again and again. Not used for HS256.
    seen: Option<Cache<[u8; 32], Token>>,
}

/// What a verified token says.
#[derive(Clone, Debug)]
struct Token {
    identity: Box<[u8]>,
    not_before: Option<UnixMs>,
    expires: Option<UnixMs>,
}

impl Verifier {
    /// Reads the settings and the key file. An error names the setting.
    pub fn new(settings: &Jwt) -> Result<Verifier, String> {
        let key = read_key(&settings.key_file).map_err(|e| format!("key_file: {e}"))?;
        let (algorithm, key) = match settings.alg {
            JwtAlg::HS256 => (Algorithm::HS256, Ok(DecodingKey::from_secret(&key))),
            JwtAlg::RS256 => (Algorithm::RS256, DecodingKey::from_rsa_pem(&key)),
            JwtAlg::ES256 => (Algorithm::ES256, DecodingKey::from_ec_pem(&key)),
            JwtAlg::EdDSA => (Algorithm::EdDSA, DecodingKey::from_ed_pem(&key)),
        };
        let key = key.map_err(|e| {
            format!(
                "key_file: {} is not a public key in PEM for {algorithm:?}: {e}",
                settings.key_file
            )
        })?;
        let mut validation = Validation::new(algorithm);
        // Times are judged here, by the request's own reading of the clock.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = settings.audience.is_some();
        let mut required = Vec::new();
        if let Some(issuer) = &settings.issuer {
            validation.set_issuer(&[issuer]);
            required.push("iss");
        }
        if let Some(audience) = &settings.audience {
            validation.set_audience(&[audience]);
            required.push("aud");
        }
        validation.set_required_spec_claims(&required);
        Ok(Verifier {
            key,
            validation,
            claim: settings.claim.clone(),
            leeway_ms: settings.leeway.ms,
            seen: (settings.alg != JwtAlg::HS256).then(|| Cache::new(SEEN_MAX)),
        })
    }

    /// The identity in `token`, if it verifies and is valid at `now`.
    pub fn verify(&self, token: &[u8], now: UnixMs) -> Option<Vec<u8>> {
        let Some(seen) = &self.seen else {
            return self.current(self.decode(token)?, now);
        };
        let hash = *blake3::hash(token).as_bytes();
        let known = match seen.get(&hash) {
            Some(known) => known,
            None => {
                let fresh = self.decode(token)?;
                seen.insert(hash, fresh.clone());
                fresh
            }
        };
        self.current(known, now)
    }

    fn current(&self, token: Token, now: UnixMs) -> Option<Vec<u8>> {
        let expired = token.expires.is_some_and(|at| now >= at.plus(self.leeway_ms));
        let early = token.not_before.is_some_and(|at| now.plus(self.leeway_ms) < at);
        (!expired && !early).then(|| token.identity.into_vec())
    }

    fn decode(&self, token: &[u8]) -> Option<Token> {
        let data = jsonwebtoken::decode::<Map<String, Value>>(token, &self.key, &self.validation);
        let data = data.ok()?;
        // RFC 7515 4.1.11: an extension that is not understood makes the token invalid.
        if data.header.crit.is_some() {
            return None;
        }
        let identity = match data.claims.get(&self.claim)? {
            Value::String(text) => text.clone(),
            Value::Number(number) if number.is_i64() || number.is_u64() => number.to_string(),
            _ => return None,
        };
        Some(Token {
            identity: identity.into_bytes().into(),
            not_before: date(&data.claims, "nbf")?,
            expires: date(&data.claims, "exp")?,
        })
    }
}

/// A `NumericDate`; `None` for what is none, `Some(None)` where there is no such claim.
fn date(claims: &Map<String, Value>, name: &str) -> Option<Option<UnixMs>> {
    let Some(value) = claims.get(name) else { return Some(None) };
    let secs = value.as_f64().filter(|secs| *secs >= 0.0)?;
    // A float beyond the range saturates: such a date never comes.
    Some(Some(UnixMs((secs * 1000.0) as u64)))
}

/// Verified tokens that are remembered; about 200 bytes each.
const SEEN_MAX: usize = 16_384;
