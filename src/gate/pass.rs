//! The signed pass: by it the shop can tell an admitted purchase from any other.
//!
//! `Penstock-Admission: v1 PAYLOAD.TAG`, where PAYLOAD is base64url of the JSON
//! `{sale, pool, units, user, claim, exp}` and TAG is base64url of HMAC-SHA256 over PAYLOAD as it is
//! sent. `exp` is in seconds since 1970; `user` is the ledger's key of the buyer.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;

use super::identity::read_key;
use crate::clock::UnixMs;
use crate::ident::{ClaimId, Name, SaleId, UserKey};

/// The key of passes.
#[derive(Debug)]
pub struct PassKey {
    key: hmac::Key,
}

/// What a pass says.
#[derive(Clone, Copy, Debug)]
pub struct Pass<'a> {
    /// The sale.
    pub sale: &'a SaleId,
    /// The pool.
    pub pool: &'a Name,
    /// Units.
    pub units: u32,
    /// The buyer.
    pub user: &'a UserKey,
    /// The claim.
    pub claim: &'a ClaimId,
    /// The claim's deadline.
    pub deadline: UnixMs,
}

#[derive(Serialize)]
struct Payload<'a> {
    sale: String,
    pool: &'a Name,
    units: u32,
    user: &'a UserKey,
    claim: &'a ClaimId,
    exp: u64,
}

impl PassKey {
    /// Reads the key file.
    pub fn read(path: &str) -> Result<PassKey, String> {
        Ok(PassKey { key: hmac::Key::new(hmac::HMAC_SHA256, &read_key(path)?) })
    }

    /// The value of `Penstock-Admission`.
    pub fn sign(&self, pass: Pass<'_>) -> String {
        let payload = Payload {
            sale: pass.sale.to_string(),
            pool: pass.pool,
            units: pass.units,
            user: pass.user,
            claim: pass.claim,
            exp: pass.deadline.0.div_ceil(1000),
        };
        // Strings and numbers only: it always encodes.
        let payload = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&payload).unwrap_or_default());
        let tag = hmac::sign(&self.key, payload.as_bytes());
        format!("v1 {payload}.{}", URL_SAFE_NO_PAD.encode(tag.as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_can_be_checked_by_anybody_with_the_key() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("pass.key");
        std::fs::write(&path, "secret\r\n").expect("written");
        let pass = PassKey::read(&path.display().to_string()).expect("key").sign(Pass {
            sale: &"shop/drop".parse().expect("id"),
            pool: &"1001".parse().expect("name"),
            units: 2,
            user: &UserKey([7; 16]),
            claim: &ClaimId([9; 12]),
            deadline: UnixMs(1_796_126_400_001),
        });
        let (payload, tag) = pass.strip_prefix("v1 ").expect("v1").split_once('.').expect("dot");
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"secret");
        let tag = URL_SAFE_NO_PAD.decode(tag).expect("base64url");
        hmac::verify(&key, payload.as_bytes(), &tag).expect("a valid tag");
        let payload = URL_SAFE_NO_PAD.decode(payload).expect("base64url");
        assert_eq!(
            String::from_utf8(payload).expect("text"),
            "{\"sale\":\"shop/drop\",\"pool\":\"1001\",\"units\":2,\
             \"user\":\"07070707070707070707070707070707\",\
             \"claim\":\"090909090909090909090909\",\"exp\":1796126401}"
        );
    }

    #[test]
    fn a_key_must_be_there() {
        assert!(PassKey::read("/nonexistent/key").expect_err("missing").contains("nonexistent"));
        let empty = tempfile::NamedTempFile::new().expect("file");
        std::fs::write(empty.path(), "\n").expect("written");
        let error = PassKey::read(&empty.path().display().to_string()).expect_err("empty");
        assert!(error.contains("is empty"), "{error}");
    }
}
