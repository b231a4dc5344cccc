//! Names, ids and authorities: one spelling each, and what is printed reads back.

use penstock::http::authority::normalise;
use penstock::ident::{ClaimId, Name, SaleId, UserKey};

/// Reads `data` as each of them.
pub fn check(data: &[u8]) {
    if let Some(one) = normalise(data) {
        assert_eq!(normalise(one.as_bytes()).as_deref(), Some(&*one), "one spelling");
        assert!(!one.bytes().any(|b| b.is_ascii_uppercase() || matches!(b, b'/' | b'@' | b'?')));
    }
    let Ok(text) = std::str::from_utf8(data) else {
        assert!(!Name::is_valid(data));
        return;
    };
    if let Ok(name) = Name::new(text) {
        assert_eq!(name.to_string(), text);
    }
    if let Ok(id) = text.parse::<SaleId>() {
        assert_eq!(id.to_string(), text);
    }
    if let Ok(claim) = text.parse::<ClaimId>() {
        assert_eq!(claim.to_string(), text.to_ascii_lowercase());
    }
    if let Ok(user) = text.parse::<UserKey>() {
        assert_eq!(user.to_string(), text.to_ascii_lowercase());
    }
}
