//! What is bought: pools, quantities, bodies.

use penstock::metrics::Counter;

use crate::rig::{Lines, open};

const ACTIVITY: &str = "order = { pool = '/sku', quantity = '/num', key = ['/id'], \
    body_bytes_max = '100B', quantity_max = 10 }";
const SALE: &str = "per_user = { orders = 2, units = 4 }\npool.1001 = { stock = 3 }\n\
    pool.1002 = { stock = 1 }";
const LINES: Lines = Lines { root: "", upstream: "", gate: "", activity: ACTIVITY, sale: SALE };

#[test]
fn pool_and_quantity_are_claimed_as_they_are_read() {
    open(LINES, |node| async move {
        let buy = async |user: &str, body: &str| {
            let told = node.buy(user, "", body).await;
            (told.status, told.reason().to_owned(), told.body)
        };
        let is = |status: u16, reason: &str| (status, reason.to_owned());
        for (user, body, expected) in [
            ("u1", "{\"sku\":\"1001\",\"num\":2,\"id\":\"a\"}", is(201, "admitted")),
            ("u1", "{\"sku\":\"1001\",\"num\":2,\"id\":\"a\"}", is(201, "replayed")),
            ("u1", "{\"sku\":\"1001\",\"num\":1,\"id\":\"a\"}", is(422, "key_reused")),
            ("u1", "{\"sku\":\"1001\",\"num\":3,\"id\":\"b\"}", is(409, "limit")),
            ("u2", "{\"sku\":\"1001\",\"num\":2,\"id\":\"a\"}", is(409, "insufficient")),
            ("u2", "{\"sku\":\"1003\",\"num\":1,\"id\":\"a\"}", is(404, "unknown_item")),
            ("u2", "{\"num\":1,\"id\":\"a\"}", is(400, "bad_request")),
            ("u2", "{\"sku\":\"1002\",\"num\":0}", is(400, "bad_request")),
            ("u2", "{\"sku\":\"1002\"}", is(400, "bad_request")),
            ("u2", "", is(400, "bad_request")),
            ("u2", "{\"sku\":1002,\"num\":\"1\"}", is(201, "admitted")),
        ] {
            let (status, reason, told) = buy(user, body).await;
            assert_eq!((status, reason), expected, "{body} {told}");
            // Until the ledger has the outcome, another attempt of the user is in progress.
            node.until("the outcome", |node| {
                node.state().is_some_and(|sale| sale.pools.iter().all(|pool| pool.held == 0))
            })
            .await;
        }
        let bodies: Vec<_> = node.shop.received().into_iter().map(|got| got.body).collect();
        assert_eq!(bodies.len(), 2, "{bodies:?}");
        let held = |i: usize| node.state().expect("a sale").pools[i].confirmed;
        node.until("the outcomes", |_| held(0) == 2 && held(1) == 1).await;
        node.until("the pool's latch", |node| {
            node.book.get("shop", "8848").is_some_and(|sale| sale.state.pools[1].sold_out)
        })
        .await;
        let claims = node.counted(Counter::Claims);
        let (status, reason, told) = buy("u3", "{\"sku\":\"1002\",\"num\":1}").await;
        assert_eq!((status, reason.as_str()), (409, "sold_out"));
        assert!(told.contains("\"pool\":\"1002\""), "{told}");
        let (status, _, told) = buy("u3", "{\"sku\":\"1001\",\"num\":2}").await;
        assert!(status == 409 && told.contains("\"max_units\":1,\"pool\":\"1001\""), "{told}");
        assert_eq!(node.counted(Counter::Claims), claims + 1);
    });
}

#[test]
fn a_body_is_bounded_and_plain() {
    open(LINES, |node| async move {
        let long = format!("{{\"sku\":\"1001\",\"num\":1,\"x\":\"{}\"}}", "y".repeat(100));
        assert_eq!(node.buy("u1", "", &long).await.reason(), "too_large");
        let chunked = "POST /activity/8848/orders HTTP/1.1\r\nHost: shop.example\r\n\
            Cookie: uid=u1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n";
        let chunks =
            format!("{chunked}41\r\n{}\r\n41\r\n{}\r\n0\r\n\r\n", "x".repeat(65), "y".repeat(65));
        let told = node.send(&chunks).await;
        assert_eq!((told.status, told.reason()), (413, "too_large"));
        let body = "{\"sku\":\"1001\",\"num\":1}";
        let coded = node.buy("u1", "Content-Encoding: gzip\r\n", body).await;
        assert_eq!((coded.status, coded.reason()), (400, "bad_request"));
        let early = node.buy("u1", "Early-Data: 1\r\n", body).await;
        assert_eq!((early.status, early.reason()), (425, "too_early"));
        assert!(node.shop.received().is_empty());
        let chunks = format!("{chunked}16\r\n{body}\r\n0\r\n\r\n");
        let told = node.send(&chunks.replacen("Transfer", "X-A: b\r\nTransfer", 1)).await;
        assert_eq!(told.reason(), "admitted", "{told:?}");
        assert_eq!(node.shop.received()[0].field("content-length"), ["22"]);
        assert_eq!(node.shop.received()[0].body, body);
    });
}
