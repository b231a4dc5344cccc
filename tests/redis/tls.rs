//! TLS with a real server: certificates are checked, and what is wrong with them is said.

use std::path::Path;
use std::process::{Command, Stdio};

use penstock::config::schema;
use penstock::store::Store;

use crate::rig::{Node, one, opened, until};
use crate::server::{Server, settings};

/// An authority, and a certificate of it for the server and for a client; another authority.
fn certificates(dir: &Path) {
    let openssl = |words: &str| {
        let done = Command::new("openssl")
            .args(words.split_ascii_whitespace())
            .current_dir(dir)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        let done = done.unwrap_or_else(|e| panic!("openssl cannot be started: {e}"));
        assert!(done.success(), "openssl {words}");
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    for ca in ["ca", "other"] {
        openssl(&format!("req -x509 {key} -keyout {ca}.key -out {ca}.pem -days 2 -subj /CN={ca}"));
    }
    std::fs::write(dir.join("names"), "subjectAltName=IP:127.0.0.1,DNS:redis.internal\n")
        .expect("written");
    for who in ["server", "client"] {
        openssl(&format!("req {key} -keyout {who}.key -out {who}.csr -subj /CN={who}"));
        openssl(&format!(
            "x509 -req -in {who}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \
             -out {who}.pem -extfile names"
        ));
    }
}

/// A server that speaks TLS only.
fn server(clients: &str) -> Server {
    let mut server = Server::stopped(&[
        "--tls-port",
        "{port}",
        "--tls-cert-file",
        "{dir}/server.pem",
        "--tls-key-file",
        "{dir}/server.key",
        "--tls-ca-cert-file",
        "{dir}/ca.pem",
        "--tls-auth-clients",
        clients,
        "--requirepass",
        "secret",
    ]);
    certificates(server.dir());
    server.run();
    server
}

fn secured(server: &Server, ca: &str) -> schema::Store {
    let mut settings = settings(format!("rediss://:secret@{}", server.address()));
    settings.tls.ca_file = Some(file(server, ca));
    settings
}

fn file(server: &Server, name: &str) -> String {
    server.dir().join(name).display().to_string()
}

async fn is_said(settings: &schema::Store, what: &str) {
    let node = Node::open(settings);
    node.store.tried().await;
    let why = node.store.health().expect_err("it cannot be used");
    assert!(why.contains(what) && !why.contains("secret"), "{what} is not in: {why}");
}

#[tokio::test]
async fn a_server_with_a_good_certificate_is_used() {
    let server = server("no");
    let mut node = Node::open(&secured(&server, "ca.pem"));
    node.mirror();
    until("the book is in sync", async || node.book.is_synced()).await;
    opened(&node, 5).await;
    node.claim(vec![one(1)]).await;
    until("the mirror tells it", async || {
        node.book.sale(&crate::rig::sale()).is_some_and(|known| known.state.pools[0].held == 1)
    })
    .await;
    let mut named = secured(&server, "ca.pem");
    named.tls.server_name = Some("redis.internal".into());
    let node = Node::open(&named);
    until("the other name is good too", async || node.store.health().is_ok()).await;
}

#[tokio::test]
async fn a_certificate_that_is_not_good_is_refused_and_named() {
    let server = server("no");
    is_said(&secured(&server, "other.pem"), "store.tls.ca_file").await;
    let mut named = secured(&server, "ca.pem");
    named.tls.server_name = Some("elsewhere.internal".into());
    is_said(&named, "store.tls.server_name").await;
    is_said(&secured(&server, "missing.pem"), "store.tls.ca_file").await;
    is_said(&secured(&server, "server.key"), "has no certificate in PEM").await;
    // TLS to a port without it, and the other way round.
    let plain = Server::start(&[]);
    let mut settings = secured(&server, "ca.pem");
    settings.url = Some(format!("rediss://{}", plain.address()));
    is_said(&settings, "the port for TLS?").await;
    is_said(&settings_without(&server), "Redis at").await;
}

fn settings_without(server: &Server) -> schema::Store {
    settings(format!("redis://:secret@{}", server.address()))
}

#[tokio::test]
async fn a_server_that_asks_for_our_certificate_gets_it() {
    let server = server("yes");
    is_said(&secured(&server, "ca.pem"), "store.tls.cert_file").await;
    let mut settings = secured(&server, "ca.pem");
    settings.tls.cert_file = Some(file(&server, "client.pem"));
    settings.tls.key_file = Some(file(&server, "server.key"));
    is_said(&settings, "cannot be used together").await;
    settings.tls.key_file = Some(file(&server, "client.key"));
    let node = Node::open(&settings);
    until("the node is healthy", async || node.store.health().is_ok()).await;
}
