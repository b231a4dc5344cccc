//! What a Redis server may hold under our keys: replies of scripts, records, messages, declarations.

use penstock::ident::SaleId;
use penstock::sale::Declaration;
use penstock::store::redis::keys::Word;
use penstock::store::redis::understands;

/// Reads `data` as each of them.
pub fn check(data: &[u8]) {
    let sale: SaleId = "shop/spring-drop".parse().expect("a sale's name");
    let (reply, records) = understands(&sale, data);
    // A text of records never begins like a reply.
    assert!(!(reply && records && !data.is_empty()));
    if let Some(Word::Changed(sale) | Word::Wanted(sale)) = Word::parse(data) {
        assert!(data.ends_with(sale.to_string().as_bytes()));
    }
    if let Ok(declaration) = Declaration::parse(data) {
        let json = serde_json::to_vec(&declaration).expect("what was read can be written");
        let again = Declaration::parse(&json).expect("and read again");
        assert_eq!(again, declaration);
        assert_eq!(again.hash(), declaration.hash());
    }
}
