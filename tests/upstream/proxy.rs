//! The proxy between the driver and scripted servers: what goes out, what comes back.

use std::rc::Rc;
use std::sync::Arc;

use penstock::answers::Answers;
use penstock::clock::Clock;
use penstock::config::Settings;
use penstock::http::{
    Done, Door, Drainer, Exchange, Head, Limits, Peer, Route, Service, Step, Trust, serve,
};
use penstock::ident::Name;
use penstock::metrics::{Counter, Sink};
use penstock::outcome::Reason;
use penstock::proxy::{Proxy, Upgrades};
use penstock::upstream::{Shared, Upstreams};
use tokio::task::spawn_local;

use crate::client::{Client, get, post, post_chunked};
use crate::origin::{Origin, Server};
use crate::rig::{OK, SHORT, run, until};

/// One worker with nothing but a proxy.
pub struct Edge {
    proxy: Proxy,
    pub sink: Sink,
    pub shared: Arc<Shared>,
    done: std::cell::RefCell<Vec<Done>>,
}

impl Service for Edge {
    fn decide(&self, head: &Head<'_>, exchange: &Exchange) -> Step {
        self.proxy.decide(&Name::new("shop").expect("a name"), Route::Proxy, None, head, exchange)
    }

    fn finished(&self, _: &Exchange, done: &Done) {
        self.done.borrow_mut().push(done.clone());
    }
}

/// An edge in front of `servers`, with these lines in `[upstream.shop]`.
pub fn edge(servers: &[String], lines: &str) -> Rc<Edge> {
    edge_of(&format!(
        "[upstream.shop]\nservers = {servers:?}\n{lines}\n\
         [site.shop]\nhosts = [\"shop.example\"]\nupstream = \"shop\"\n\
         [trust]\nproxies = [\"10.0.0.0/8\"]\n"
    ))
}

fn edge_of(toml: &str) -> Rc<Edge> {
    let settings: Settings = toml::from_str(toml).expect("settings");
    let sink = Sink::detached();
    let shared = Shared::new(&settings.upstream);
    let upstreams = Rc::new(Upstreams::new(&shared, sink.clone()));
    let trust = Arc::new(Trust::new(&settings.trust.proxies).expect("networks"));
    let answers = Arc::new(Answers::new(&settings.answers).expect("answers"));
    let proxy =
        Proxy::new(&settings, answers, trust, upstreams, &Upgrades::default(), sink.clone());
    Rc::new(Edge { proxy, sink, shared, done: Default::default() })
}

pub fn to(origin: &Origin) -> Rc<Edge> {
    edge(&[origin.address.to_string()], "")
}

/// A client at an address that it may choose, as behind a load balancer.
pub async fn client_from(edge: &Rc<Edge>, address: &str) -> Client {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let near = tokio::net::TcpStream::connect(listener.local_addr().expect("address"));
    let (near, far) = tokio::join!(near, listener.accept());
    let peer = Peer::Tcp(format!("{address}:4000").parse().expect("address"));
    let (limits, drainer) = (Rc::new(Limits::default()), Drainer::new());
    let (clock, sink) = (Clock::system(), edge.sink.clone());
    spawn_local(drainer.keep_time());
    let door = Door::new(edge.clone(), limits, clock, sink, drainer.signal());
    let far = far.expect("accept").0;
    let task = serve(far, peer, door, ());
    Client::new(near.expect("connect"), spawn_local(task))
}

pub async fn client(edge: &Rc<Edge>) -> Client {
    client_from(edge, "127.0.0.1").await
}

/// Answers every request with its own head and body as text.
async fn mirror() -> Origin {
    Origin::new(|mut server: Server| async move {
        while let Some((_, body)) = server.request().await {
            let head = server.last_head();
            let said = format!("{head}{}", String::from_utf8_lossy(&body));
            let length = said.len();
            server.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{said}")).await;
        }
    })
    .await
}

/// The fields of a mirrored request, sorted.
fn fields(text: &str) -> Vec<String> {
    let head = text.split("\r\n\r\n").next().unwrap_or_default();
    let mut fields: Vec<String> = head.lines().skip(1).map(str::to_owned).collect();
    fields.sort();
    fields
}

#[test]
fn a_request_goes_on_as_it_came_with_our_fields() {
    run(|| async {
        let origin = mirror().await;
        let edge = to(&origin);
        let mut client = client(&edge).await;
        client.send(
            "GET //a/../b%2Fc;d?e=%41&f|g HTTP/1.1\r\nHost: SHOP.example\r\nAccept: */*\r\n\
             Cookie: a=b\r\nCookie: c=d\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n\
             Connection: Upgrade, HTTP2-Settings, x-hop\r\nX-Hop: 1\r\nTE: trailers\r\n\
             Penstock-Admission: forged\r\nX-HTTP-Method-Override: POST\r\nX-Real-IP: 6.6.6.6\r\n\
             X-Forwarded-For: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\nProxy: x\r\nVia: 1.0 cdn\r\n\r\n",
        );
        let response = client.response().await;
        let text = response.text();
        assert!(text.starts_with("GET //a/../b%2Fc;d?e=%41&f|g HTTP/1.1\r\n"), "{text}");
        assert_eq!(
            fields(text),
            [
                "accept: */*",
                "cookie: a=b",
                "cookie: c=d",
                "host: shop.example",
                "via: 1.0 cdn",
                "via: 1.1 penstock",
                "x-forwarded-for: 127.0.0.1",
                "x-forwarded-host: shop.example",
                "x-forwarded-proto: http",
            ]
        );
        assert_eq!(response.field("via"), Some("1.1 penstock"));
    });
}

#[test]
fn a_trusted_peer_is_believed_about_its_client() {
    run(|| async {
        let origin = mirror().await;
        let edge = to(&origin);
        let mut client = client_from(&edge, "10.0.0.7").await;
        client.send(
            "GET / HTTP/1.1\r\nHost: inner.example\r\nX-Forwarded-For: 1.1.1.1\r\n\
             X-Forwarded-Proto: https\r\nX-Forwarded-Host: shop.example\r\n\r\n",
        );
        let response = client.response().await;
        let fields = fields(response.text());
        for expected in [
            "host: inner.example",
            "x-forwarded-for: 1.1.1.1, 10.0.0.7",
            "x-forwarded-host: shop.example",
            "x-forwarded-proto: https",
        ] {
            assert!(fields.contains(&expected.to_owned()), "{expected}: {fields:?}");
        }
    });
}

#[test]
fn the_host_is_the_clients_unless_it_is_set() {
    run(|| async {
        let origin = mirror().await;
        let servers = [origin.address.to_string()];
        for (lines, request, host) in [
            ("", get("/"), "host: a"),
            ("host = \"inner.example\"", get("/"), "host: inner.example"),
            ("", "GET / HTTP/1.0\r\n\r\n".to_owned(), "host: shop.example"),
        ] {
            let edge = edge(&servers, lines);
            let mut client = client(&edge).await;
            client.send(request);
            let response = client.response().await;
            assert!(fields(response.text()).contains(&host.to_owned()), "{}", response.text());
        }
    });
}

#[test]
fn every_method_passes_with_and_without_bodies() {
    run(|| async {
        let origin = mirror().await;
        let edge = to(&origin);
        let mut client = client(&edge).await;
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "BREW"] {
            for (bytes, body) in [
                (get("/x"), ""),
                (post("/x", "sized"), "sized"),
                (post_chunked("/x", &["chu", "nked"]), "chunked"),
            ] {
                let (_, rest) = bytes.split_once(' ').expect("a request line");
                client.send(format!("{method} {rest}"));
                let response = client.response().await;
                let text = response.text();
                assert!(text.starts_with(&format!("{method} /x HTTP/1.1\r\n")), "{text}");
                assert!(text.ends_with(&format!("\r\n\r\n{body}")), "{text}");
                let is_chunked = text.contains("transfer-encoding: chunked");
                assert_eq!(is_chunked, body == "chunked", "{text}");
            }
        }
        client.send("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(client.response().await.text().starts_with("OPTIONS * HTTP/1.1\r\n"));
    });
}

#[test]
fn expect_is_ours_to_answer() {
    run(|| async {
        let origin = mirror().await;
        let edge = to(&origin);
        let mut client = client(&edge).await;
        client.send(
            "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n",
        );
        assert_eq!(client.response_to_head().await.status, 100);
        client.send("body");
        let response = client.response().await;
        assert!(!response.text().contains("expect"), "{}", response.text());
        assert!(response.text().ends_with("body"));
    });
}

#[test]
fn answers_come_back_as_they_were_less_what_is_ours_or_the_hops() {
    for (answer, status, body, framing) in [
        (OK, 200, "ok", "2"),
        (
            "HTTP/1.1 404 No\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX: y\r\n\r\n",
            404,
            "ok",
            "",
        ),
        ("HTTP/1.1 500 Oh\r\nConnection: close\r\n\r\nok", 500, "ok", ""),
        ("HTTP/1.0 301 Go\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", 301, "", "0"),
        ("HTTP/1.1 204 None\r\n\r\n", 204, "", ""),
        ("HTTP/1.1 304 Same\r\nETag: \"a\"\r\n\r\n", 304, "", ""),
    ] {
        run(|| async move {
            let fields = "X-Own: 1\r\nSet-Cookie: a=b\r\nSet-Cookie: c=d\r\nDate: Thu, 01 Jan 1970 \
                          00:00:00 GMT\r\nConnection: x-hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=9\r\n\
                          Penstock-Outcome: confirmed\r\nPenstock-Reason: sold_out\r\nVia: 1.1 b\r\n";
            let (start, rest) = answer.split_once("\r\n").expect("a head");
            let answer: &'static str = format!("{start}\r\n{fields}{rest}").leak();
            let origin = Origin::new(move |mut server| async move {
                server.request().await;
                server.send(answer).await;
            })
            .await;
            let edge = to(&origin);
            let mut client = client(&edge).await;
            let response = client.get("/").await;
            assert_eq!((response.status, response.text()), (status, body), "{answer}");
            assert_eq!(response.field("content-length").unwrap_or_default(), framing, "{answer}");
            let names: Vec<&str> = response.fields.iter().map(|(name, _)| name.as_str()).collect();
            let count = |name: &str| names.iter().filter(|n| **n == name).count();
            assert_eq!((count("x-own"), count("set-cookie"), count("via")), (1, 2, 2), "{names:?}");
            assert_eq!(response.field("date"), Some("Thu, 01 Jan 1970 00:00:00 GMT"));
            for gone in ["x-hop", "keep-alive", "penstock-outcome", "penstock-reason", "x"] {
                assert_eq!(count(gone), 0, "{gone}: {names:?}");
            }
            // The shop's wish to close is the hop's, too.
            assert!(!response.closes(), "{response:?}");
        });
    }
}

#[test]
fn head_has_the_length_of_get_and_no_body() {
    run(|| async {
        let origin = Origin::constant("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n").await;
        let edge = to(&origin);
        let mut client = client(&edge).await;
        for _ in 0..2 {
            client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(client.response_to_head().await.field("content-length"), Some("99"));
        }
        assert_eq!(origin.accepted.get(), 1);
    });
}

/// What a client is told for each kind of failure.
#[test]
fn failures_have_reasons() {
    let cases: [(&'static str, &'static str, u16, Reason); 5] = [
        ("close", "", 502, Reason::BadGateway),
        ("silence", "first_byte_timeout = \"80ms\"", 504, Reason::GatewayTimeout),
        (
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
            "",
            502,
            Reason::BadGateway,
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\nx", "", 502, Reason::BadGateway),
        ("junk", "", 502, Reason::BadGateway),
    ];
    for (what, lines, status, reason) in cases {
        run(|| async move {
            let origin = Origin::new(move |mut server| async move {
                server.request().await;
                match what {
                    "close" => return,
                    "silence" => {}
                    bytes => server.send(format!("{bytes}\r\n")).await,
                }
                server.gone().await;
            })
            .await;
            let edge = edge(&[origin.address.to_string()], lines);
            let mut client = client(&edge).await;
            let response = client.get("/").await;
            assert_eq!(response.status, status, "{what}");
            assert_eq!(response.field("penstock-reason"), Some(reason.label()), "{what}");
            assert!(!response.text().contains("127.0.0.1"), "{}", response.text());
            // The client's connection lives.
            assert_eq!(client.get("/").await.status, status, "{what}");
            until(|| edge.done.borrow().len() == 2).await;
            assert_eq!(edge.done.borrow()[0].reason, Some(reason));
        });
    }
}

#[test]
fn a_body_that_the_client_breaks_is_not_the_shops_fault() {
    run(|| async {
        let origin = mirror().await;
        let edge = to(&origin);
        let mut client = client(&edge).await;
        client.send(post_chunked("/", &["x"]).replace("\r\n0\r\n", "\r\nzz\r\n"));
        let response = client.response().await;
        assert_eq!(response.status, 400, "{}", response.text());
        assert_eq!(response.field("penstock-reason"), Some("bad_request"));
        assert_eq!(response.field("connection"), Some("close"));
        assert_eq!(edge.shared.report()[0].last_error, None);
    });
}

#[test]
fn a_shop_that_is_not_there_is_a_bad_gateway_and_may_come_later() {
    run(|| async {
        let address = mirror().await.address;
        let edge = edge(&[address.to_string()], "");
        let mut client = client(&edge).await;
        let response = client.get("/").await;
        assert_eq!(
            (response.status, response.field("penstock-reason")),
            (502, Some("bad_gateway"))
        );
        let listener = tokio::net::TcpListener::bind(address).await.expect("the address is free");
        let _origin = Origin::on(listener, |mut server| async move {
            while server.request().await.is_some() {
                server.send(OK).await;
            }
        });
        assert_eq!(client.get("/").await.text(), "ok");
    });
}

#[test]
fn a_full_pool_is_overloaded() {
    run(|| async {
        let origin = Origin::new(|mut server| async move {
            server.request().await;
            server.gone().await;
        })
        .await;
        let lines = "connections_max = 1\nqueue_max = 1\nqueue_timeout = \"80ms\"";
        let edge = edge(&[origin.address.to_string()], lines);
        let busy = client(&edge).await;
        busy.send(get("/"));
        until(|| origin.requests() == 1).await;
        let response = client(&edge).await.get("/").await;
        assert_eq!((response.status, response.field("penstock-reason")), (503, Some("overloaded")));
        assert!(response.field("retry-after").is_some(), "{response:?}");
    });
}

#[test]
fn a_site_without_an_upstream_says_so() {
    run(|| async {
        let edge = edge_of("[site.shop]\nhosts = [\"shop.example\"]\n");
        let mut client = client(&edge).await;
        for request in [get("/"), post("/", "order")] {
            client.send(request);
            let response = client.response().await;
            let said = (response.status, response.field("penstock-reason"));
            assert_eq!(said, (502, Some("bad_gateway")));
            assert!(response.text().contains("no upstream"), "{}", response.text());
        }
    });
}

#[test]
fn a_loop_is_broken() {
    run(|| async {
        let origin = mirror().await;
        let edge = to(&origin);
        let mut client = client(&edge).await;
        let via = "Via: 1.1 penstock, 1.1 cdn\r\n".repeat(8);
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{via}\r\n"));
        assert_eq!(client.response().await.status, 502);
        assert_eq!(edge.sink.get(Counter::ForwardingLoops), 1);
        let via = "Via: 1.1 penstock, 1.1 cdn\r\n".repeat(7);
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{via}\r\n"));
        assert_eq!(client.response().await.status, 200);
        assert_eq!(origin.requests(), 1);
    });
}

#[test]
fn a_cut_answer_is_a_cut_answer() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ] {
        run(|| async move {
            let origin = Origin::new(move |mut server| async move {
                server.request().await;
                server.send(answer).await;
            })
            .await;
            let edge = to(&origin);
            let mut client = client(&edge).await;
            client.send(get("/"));
            let rest = String::from_utf8(client.rest().await).expect("text");
            assert!(rest.contains("half") && !rest.ends_with("0\r\n\r\n"), "{rest}");
            assert!(!edge.done.borrow()[0].complete);
        });
    }
}

#[test]
fn a_client_that_leaves_takes_its_request_along() {
    run(|| async {
        let origin = Origin::new(|mut server| async move {
            server.request().await;
            server.gone().await;
        })
        .await;
        let edge = to(&origin);
        let leaver = client(&edge).await;
        leaver.send(post("/", "order"));
        until(|| origin.requests() == 1).await;
        assert_eq!(edge.shared.report()[0].open, 1);
        leaver.leave().await;
        until(|| edge.shared.report()[0].open == 0).await;
    });
}

/// Neither side has a limit but that of silence.
#[test]
fn there_is_no_limit_on_the_whole() {
    run(|| async {
        let origin = Origin::new(|mut server| async move {
            server.request().await;
            server.send("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n").await;
            for _ in 0..8 {
                tokio::time::sleep(SHORT * 2).await;
                server.send("x").await;
            }
        })
        .await;
        let lines = "idle_timeout = \"1s\"\nfirst_byte_timeout = \"1s\"";
        let edge = edge(&[origin.address.to_string()], lines);
        assert_eq!(client(&edge).await.get("/").await.text(), "xxxxxxxx");
    });
}

/// S20, S21: what stands in the body is not a request.
#[test]
fn a_body_that_looks_like_a_request_is_a_body() {
    run(|| async {
        let origin = mirror().await;
        let edge = to(&origin);
        let mut client = client(&edge).await;
        client.send(post("/", &get("/smuggled")));
        client.send(post_chunked("/", &[&get("/smuggled")]));
        for _ in 0..2 {
            assert!(client.response().await.text().contains("GET /smuggled"));
        }
        assert_eq!(client.get("/last").await.status, 200);
        assert_eq!(origin.requests(), 3);
    });
}

/// S24, S25: no tunnel, whatever is asked for.
#[test]
fn there_is_no_tunnel() {
    run(|| async {
        let origin = mirror().await;
        let edge = to(&origin);
        let mut client = client(&edge).await;
        let upgrade =
            "GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
        client.send(format!("{upgrade}{}", get("/behind")));
        let response = client.response().await;
        assert_eq!(response.status, 200);
        assert!(!response.text().contains("upgrade"), "{}", response.text());
        assert!(client.response().await.text().starts_with("GET /behind"));
        client.send(format!("CONNECT t:443 HTTP/1.1\r\nHost: t:443\r\n\r\n{}", get("/behind")));
        assert!(matches!(client.response().await.status, 400 | 405));
        assert!(client.rest().await.is_empty());
        assert_eq!(origin.requests(), 2);
    });
}
