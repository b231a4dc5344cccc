//! TLS from outside: certificates by name, their exchange under load, tickets over a fleet, client
//! certificates, HTTP/2 by ALPN, and TLS to the shop.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustix::process::Signal;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned, crypto,
};

use super::client::{Client, PATIENCE, until};
use super::node::{Config, Node, Place, quick_shop};
use super::origin::Origin;
use super::overload::resident;

type Tls = StreamOwned<ClientConnection, TcpStream>;

fn openssl(dir: &Path, words: &str) {
    let mut command = Command::new("openssl");
    command.args(words.split_ascii_whitespace()).current_dir(dir);
    let done = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    let done = done.unwrap_or_else(|e| panic!("openssl cannot be started: {e}"));
    assert!(done.success(), "openssl {words}");
}

/// An authority in a directory of its own.
fn authority() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    openssl(
        dir.path(),
        &format!("req -x509 {KEY} -keyout ca.key -out ca.pem -days 2 -subj /CN=ca"),
    );
    dir
}

/// A certificate of the authority for `who`.
fn certify(dir: &Path, who: &str, names: &str) {
    fs::write(dir.join("names"), format!("subjectAltName={names}\n")).expect("written");
    openssl(dir, &format!("req {KEY} -keyout {who}.key -out {who}.csr -subj /CN={who}"));
    openssl(
        dir,
        &format!(
            "x509 -req -in {who}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \
             -out {who}.pem -extfile names"
        ),
    );
}

const KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
const ASK: &str = "GET /_penstock/time HTTP/1.1\r\nHost: shop.example\r\n\r\n";

/// A client that trusts the authority, with a certificate of its own perhaps.
fn trusting(dir: &Path, own: Option<&str>, protocols: &[&str]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(dir.join("ca.pem")).expect("ca")).expect("added");
    let provider = Arc::new(crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().expect("versions");
    let builder = builder.with_root_certificates(roots);
    let mut config = match own {
        None => builder.with_no_client_auth(),
        Some(own) => {
            let cert = CertificateDer::from_pem_file(dir.join(format!("{own}.pem"))).expect("cert");
            let key = PrivateKeyDer::from_pem_file(dir.join(format!("{own}.key"))).expect("key");
            builder.with_client_auth_cert(vec![cert], key).expect("a pair")
        }
    };
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config)
}

fn connect(config: &Arc<ClientConfig>, to: SocketAddr, name: &str) -> std::io::Result<Tls> {
    shake(config, TcpStream::connect(to)?, name)
}

fn shake(config: &Arc<ClientConfig>, socket: TcpStream, name: &str) -> std::io::Result<Tls> {
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let connection = ClientConnection::new(config.clone(), name).expect("a connection");
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut stream = StreamOwned::new(connection, socket);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(stream)
}

/// Asks once. What comes before the answer, tickets among it, is read with it.
fn ask(stream: Tls) -> std::io::Result<(Tls, String)> {
    say(stream, ASK)
}

fn say(mut stream: Tls, request: &str) -> std::io::Result<(Tls, String)> {
    stream.write_all(request.as_bytes())?;
    let mut buffer = [0; 4096];
    let read = stream.read(&mut buffer)?;
    Ok((stream, String::from_utf8_lossy(&buffer[..read]).into_owned()))
}

fn shown(stream: &Tls) -> CertificateDer<'static> {
    stream.conn.peer_certificates().expect("a chain")[0].clone().into_owned()
}

fn of_file(path: &Path) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(path).expect("a certificate")
}

fn https(tls: &str) -> Config {
    let listen = format!(
        "[listen.http]\naddress = \"127.0.0.1:0\"\nhttp2 = true\n\
         [listen.https]\naddress = \"127.0.0.1:0\"\n[listen.https.tls]\n{tls}\n"
    );
    Config { listen, ..Config::default() }
}

#[test]
fn names_choose_certificates_and_protocols() {
    let shop = quick_shop();
    let dir = authority();
    certify(dir.path(), "one", "DNS:one.example,DNS:*.one.example");
    certify(dir.path(), "two", "DNS:two.example,IP:127.0.0.1");
    let more = "cert = \"one.pem\"\nkey = \"one.key\"\n\
                more = [{ cert = \"two.pem\", key = \"two.key\" }]";
    let node = Place::in_dir(dir, shop.address(), &https(more)).start();
    let (to, dir) = (node.address("https"), node.place.dir.path());
    let h1 = trusting(dir, None, &["http/1.1"]);
    for (name, file) in
        [("one.example", "one.pem"), ("a.one.example", "one.pem"), ("two.example", "two.pem")]
    {
        let (stream, answer) =
            ask(connect(&h1, to, name).expect("a handshake")).expect("an answer");
        assert_eq!(shown(&stream), of_file(&dir.join(file)), "{name}");
        assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
    }
    // Nobody's name: the first certificate, which is not for it.
    assert!(connect(&h1, to, "three.example").is_err());
    let both = trusting(dir, None, &["h2", "http/1.1"]);
    let stream = connect(&both, to, "one.example").expect("a handshake");
    assert_eq!(stream.conn.alpn_protocol(), Some(&b"h2"[..]));
    let none = trusting(dir, None, &[]);
    assert!(ask(connect(&none, to, "one.example").expect("a handshake")).is_ok());
    let unknown = trusting(dir, None, &["h3"]);
    assert!(connect(&unknown, to, "one.example").is_err(), "no protocol in common");
    // What is no TLS at all, and TLS where there is none.
    let mut plain = Client::tcp(to);
    plain.send(ASK);
    assert!(plain.answer().is_none());
    assert!(connect(&h1, node.address("http"), "one.example").is_err());
    until("handshakes are counted", || {
        node.metric("penstock_tls_handshakes_total{kind=\"full\"}") >= 5.0
            && node.metric("penstock_closes_total{reason=\"handshake_failed\"}") >= 3.0
    });
}

#[test]
fn certificates_are_exchanged_under_load() {
    let shop = quick_shop();
    let dir = authority();
    for who in ["old", "new", "own"] {
        certify(dir.path(), who, "DNS:shop.example");
    }
    let put = |dir: &Path, from: &str, what: &str| {
        let temporary = dir.join("temporary");
        fs::copy(dir.join(format!("{from}.{what}")), &temporary).expect("copied");
        fs::rename(temporary, dir.join(format!("used.{what}"))).expect("moved");
    };
    put(dir.path(), "old", "pem");
    put(dir.path(), "old", "key");
    let tls = "cert = \"used.pem\"\nkey = \"used.key\"";
    let node = Place::in_dir(dir, shop.address(), &https(tls)).start();
    let (to, dir) = (node.address("https"), node.place.dir.path().to_owned());
    // A client that is known again sees no certificate at all.
    let mut client = Arc::unwrap_or_clone(trusting(&dir, None, &[]));
    client.resumption = Resumption::disabled();
    let client = Arc::new(client);
    let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let load = {
        let (client, stop, asked) = (client.clone(), stop.clone(), asked.clone());
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let stream = connect(&client, to, "shop.example").expect("a handshake");
                let (_, answer) = ask(stream).expect("an answer");
                assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
                asked.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    let used = || shown(&connect(&client, to, "shop.example").expect("a handshake"));
    until("there is load", || asked.load(Ordering::Relaxed) > 5);
    // Half of a pair changes nothing but is said.
    put(&dir, "new", "pem");
    node.signal(Signal::HUP);
    until("the half is refused", || node.said("do not belong together"));
    assert_eq!(used(), of_file(&dir.join("old.pem")));
    // The other half; without a word from anybody.
    put(&dir, "new", "key");
    until("the new one is used", || used() == of_file(&dir.join("new.pem")));
    fs::write(dir.join("used.pem"), "-----BEGIN CERTIFICATE-----\nrubbish").expect("written");
    node.signal(Signal::HUP);
    until("rubbish is refused", || node.metric("penstock_tls_reload_errors_total") >= 2.0);
    assert_eq!(used(), of_file(&dir.join("new.pem")));
    let before = asked.load(Ordering::Relaxed);
    until("the load goes on", || asked.load(Ordering::Relaxed) > before + 5);
    stop.store(true, Ordering::Relaxed);
    load.join().expect("not one request failed");
}

#[test]
fn a_fleet_knows_its_clients_again() {
    let shop = quick_shop();
    let dir = authority();
    certify(dir.path(), "shop", "DNS:shop.example");
    let client = trusting(dir.path(), None, &[]);
    let node = |key: &str| {
        let own = tempfile::tempdir().expect("a directory");
        for file in ["shop.pem", "shop.key"] {
            fs::copy(dir.path().join(file), own.path().join(file)).expect("copied");
        }
        fs::write(own.path().join("tickets.key"), key).expect("written");
        let tls = "cert = \"shop.pem\"\nkey = \"shop.key\"\nticket_keys = \"tickets.key\"";
        Place::in_dir(own, shop.address(), &https(tls)).start()
    };
    let (old, new) = ("A".repeat(43) + "=", "E".repeat(43) + "=");
    let (one, other) = (node(&old), node(&old));
    let kind = |node: &Node| {
        let stream = connect(&client, node.address("https"), "shop.example").expect("a handshake");
        let (stream, _) = ask(stream).expect("an answer");
        stream.conn.handshake_kind()
    };
    assert_eq!(kind(&one), Some(HandshakeKind::Full));
    assert_eq!(kind(&other), Some(HandshakeKind::Resumed));
    // A new key comes: what the old one encrypted is still known.
    fs::write(one.place.path("tickets.key"), format!("{new}\n{old}\n")).expect("written");
    one.signal(Signal::HUP);
    until("files were read", || one.said("reloaded: config"));
    assert_eq!(kind(&one), Some(HandshakeKind::Resumed));
    // The ticket that came with it is of the new key, of which the other has not heard.
    assert_eq!(kind(&other), Some(HandshakeKind::Full));
    assert_eq!(one.metric("penstock_tls_handshakes_total{kind=\"resumed\"}"), 1.0);
}

#[test]
fn clients_show_certificates_where_that_is_asked() {
    let shop = quick_shop();
    let dir = authority();
    certify(dir.path(), "shop", "DNS:shop.example");
    certify(dir.path(), "client", "DNS:client");
    let tls = "cert = \"shop.pem\"\nkey = \"shop.key\"\nclient_ca = \"ca.pem\"";
    let node = Place::in_dir(dir, shop.address(), &https(tls)).start();
    let (to, dir) = (node.address("https"), node.place.dir.path());
    let with = trusting(dir, Some("client"), &[]);
    assert!(connect(&with, to, "shop.example").and_then(ask).is_ok());
    let without = trusting(dir, None, &[]);
    let refused = connect(&without, to, "shop.example").and_then(ask);
    assert!(refused.is_err());
}

/// A head for `host`, of which only the status is looked at: HEAD has no body that could be cut.
fn status(stream: Tls, host: &str) -> (Tls, u16) {
    let request = format!("HEAD /activity/8848 HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let (stream, answer) = say(stream, &request).expect("an answer");
    (stream, answer[9..12].parse().expect("a status"))
}

/// RFC 9110 15.5.20: browsers share a connection between names of one certificate, and of no other.
#[test]
fn a_connection_is_for_the_hosts_of_its_certificate() {
    let shop = quick_shop();
    for trust in ["", "[trust]\nproxies = [\"127.0.0.1/32\"]\n"] {
        let dir = authority();
        certify(dir.path(), "one", "DNS:one.example,DNS:also.example");
        certify(dir.path(), "two", "DNS:two.example,DNS:also.example,IP:127.0.0.1");
        let tls = "cert = \"one.pem\"\nkey = \"one.key\"\n\
                   more = [{ cert = \"two.pem\", key = \"two.key\" }]";
        let config = Config { site: String::new(), more: trust.to_owned(), ..https(tls) };
        let node = Place::in_dir(dir, shop.address(), &config).start();
        let (to, dir) = (node.address("https"), node.place.dir.path());
        let client = trusting(dir, None, &["http/1.1"]);
        let other = if trust.is_empty() { 421 } else { 200 };
        let rows: [(&str, &[(&str, u16)]); 2] = [
            (
                "one.example",
                &[
                    ("one.example", 200),
                    ("ONE.example:443", 200),
                    ("two.example", other),
                    ("also.example", 200),
                    // No certificate here is for it: whoever asks has looked at none.
                    ("three.example", 200),
                    ("one.example", 200),
                ],
            ),
            ("two.example", &[("also.example", 200), ("one.example:443", other)]),
        ];
        for (name, hosts) in rows {
            let mut stream = connect(&client, to, name).expect("a handshake");
            for (host, expected) in hosts {
                let (same, status) = status(stream, host);
                assert_eq!(status, *expected, "{host} by a connection for {name}; {trust}");
                stream = same;
            }
        }
    }
}

#[test]
fn a_host_for_certified_clients_is_for_nobody_else() {
    let shop = quick_shop();
    let dir = authority();
    certify(dir.path(), "shop", "DNS:shop.example,DNS:open.example");
    certify(dir.path(), "client", "DNS:client");
    let tls = "cert = \"shop.pem\"\nkey = \"shop.key\"\nclient_ca = \"ca.pem\"\n\
               client_certificate = \"optional\"";
    let site = "hosts = [\"shop.example\"]\nclient_certificate = true\n".to_owned();
    let open = "site = \"shop\"\n[site.open]\nupstream = \"shop\"\nhosts = [\"open.example\"]\n";
    let sale = Config::default().sale + open;
    let node = Place::in_dir(dir, shop.address(), &Config { site, sale, ..https(tls) }).start();
    let (to, dir) = (node.address("https"), node.place.dir.path());
    let (with, without) = (trusting(dir, Some("client"), &[]), trusting(dir, None, &[]));
    // Twice: the second time by a ticket, which says who it was given to.
    for (client, expected) in [(&without, 421), (&with, 200), (&without, 421), (&with, 200)] {
        let stream = connect(client, to, "shop.example").expect("a handshake");
        // One connection for both names, as browsers do it over HTTP/2.
        let (stream, open) = status(stream, "open.example");
        assert_eq!(open, 200, "no site is open to fewer than it says");
        let (stream, certified) = status(stream, "shop.example");
        assert_eq!(certified, expected);
        drop(stream);
    }
    assert!(node.metric("penstock_tls_handshakes_total{kind=\"resumed\"}") >= 2.0);
    let mut plain = Client::tcp(node.address("http"));
    let answer = plain.ask("GET /activity/8848 HTTP/1.1\r\nHost: shop.example\r\n\r\n");
    assert_eq!((answer.status, answer.reason()), (421, "unknown_host"));
    assert!(answer.body.contains("clients that show a certificate"), "{answer:?}");
}

#[test]
fn a_balancer_names_the_client_before_the_handshake() {
    let origin = Origin::mirror();
    let dir = authority();
    certify(dir.path(), "shop", "DNS:shop.example");
    let listen = "[listen.https]\naddress = \"127.0.0.1:0\"\n\
                  proxy_protocol = { from = [\"127.0.0.1\"], timeout = \"5s\" }\n\
                  tls = { cert = \"shop.pem\", key = \"shop.key\" }\n";
    let config = Config { listen: listen.to_owned(), ..Config::default() };
    let node = Place::in_dir(dir, origin.address, &config).start();
    let client = trusting(node.place.dir.path(), None, &["http/1.1"]);
    let socket = |header: &str| {
        let mut socket = TcpStream::connect(node.address("https")).expect("connected");
        socket.write_all(header.as_bytes()).expect("written");
        socket
    };
    for (header, told) in [
        ("PROXY TCP4 198.51.100.7 10.0.0.1 4000 443\r\n", "198.51.100.7"),
        ("PROXY TCP6 2001:db8::7 2001:db8::1 4000 443\r\n", "2001:db8::7"),
        ("PROXY UNKNOWN\r\n", "127.0.0.1"),
    ] {
        let stream = shake(&client, socket(header), "shop.example").expect("a handshake");
        say(stream, "GET /who HTTP/1.1\r\nHost: shop.example\r\n\r\n").expect("an answer");
        let heard = origin.heads().pop().expect("it came to the shop");
        assert!(heard.contains(&format!("x-forwarded-for: {told}\r\n")), "{heard}");
    }
    // Without one there is no handshake.
    assert!(shake(&client, socket(""), "shop.example").is_err());
}

/// `cargo test --test edge tls::an_idle -- --nocapture` prints what it is. By HTTP/2 it is more: the library
/// keeps a buffer of 16 KiB to write and one of 8 KiB to read.
#[test]
fn an_idle_connection_takes_at_most_14_kib() {
    let shop = quick_shop();
    for (protocol, kib_max) in [("http/1.1", 14.0), ("h2", 36.0)] {
        let dir = authority();
        certify(dir.path(), "shop", "DNS:shop.example");
        let tls = https("cert = \"shop.pem\"\nkey = \"shop.key\"");
        let node = Place::in_dir(dir, shop.address(), &tls).start();
        let client = trusting(node.place.dir.path(), None, &[protocol]);
        let open = || {
            let stream = connect(&client, node.address("https"), "shop.example");
            let stream = stream.expect("a handshake");
            if protocol == "h2" { head_by_http2(stream) } else { status(stream, "shop.example").0 }
        };
        // What is made once is made now.
        drop((0..20).map(|_| open()).collect::<Vec<_>>());
        let before = resident(&node);
        let idle: Vec<Tls> = (0..IDLE).map(|_| open()).collect();
        let kib = resident(&node).saturating_sub(before) as f64 / 1024.0 / idle.len() as f64;
        println!("an idle connection over TLS, {protocol}: {kib:.1} KiB, {IDLE} of them");
        assert!(kib <= kib_max, "{protocol}: {kib:.1} KiB");
    }
}

/// HEAD of a page, and the frame that answers it.
fn head_by_http2(mut stream: Tls) -> Tls {
    let mut asked = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    // HEAD has no index, https is 7, :authority 1, :path 4.
    let block = b"\x02\x04HEAD\x87\x01\x0cshop.example\x04\x0e/activity/8848";
    asked.extend([0, 0, u8::try_from(block.len()).expect("short"), 1, 5, 0, 0, 0, 1]);
    asked.extend(block);
    stream.write_all(&asked).expect("written");
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).expect("a frame");
        let mut content = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
        stream.read_exact(&mut content).expect("its content");
        if head[3] == 1 {
            assert_eq!((head[4] & 1, content[0]), (1, 0x88), "the end, and 200: {content:?}");
            return stream;
        }
    }
}

/// Enough that what a process grows by otherwise does not count.
const IDLE: usize = 500;

#[test]
fn a_handshake_has_its_time() {
    let shop = quick_shop();
    let dir = authority();
    certify(dir.path(), "shop", "DNS:shop.example");
    let tls = "cert = \"shop.pem\"\nkey = \"shop.key\"";
    let more = https(tls);
    let limits = "[limits]\nhandshake_timeout = \"200ms\"\n";
    let config = Config { listen: more.listen + limits, ..Config::default() };
    let node = Place::in_dir(dir, shop.address(), &config).start();
    let mut silent = Client::tcp(node.address("https"));
    assert!(silent.is_closed());
    assert_eq!(node.metric("penstock_closes_total{reason=\"handshake_timeout\"}"), 1.0);
}

#[test]
fn what_does_not_fit_is_said_before_the_start() {
    let shop = quick_shop();
    let dir = authority();
    certify(dir.path(), "one", "DNS:one.example");
    certify(dir.path(), "two", "DNS:two.example");
    let tls = "cert = \"one.pem\"\nkey = \"two.key\"";
    let place = Place::in_dir(dir, shop.address(), &https(tls));
    for verb in ["check", "run"] {
        let output = place.verb(&[verb]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(78), "{said}");
        assert!(
            said.contains("listen.https.tls") && said.contains("do not belong together"),
            "{said}"
        );
    }
}

/// One node in front of another stands for a shop that speaks TLS and HTTP/2.
#[test]
fn the_shop_is_spoken_to_by_tls_and_http2() {
    let shop = quick_shop();
    for http2 in [false, true] {
        let dir = authority();
        certify(dir.path(), "shop", "IP:127.0.0.1");
        certify(dir.path(), "edge", "DNS:edge");
        let inner = tempfile::tempdir().expect("a directory");
        for file in ["shop.pem", "shop.key", "ca.pem"] {
            fs::copy(dir.path().join(file), inner.path().join(file)).expect("copied");
        }
        let tls = "cert = \"shop.pem\"\nkey = \"shop.key\"\nclient_ca = \"ca.pem\"";
        let behind = Place::in_dir(inner, shop.address(), &https(tls)).start();
        let upstream = format!(
            "http2 = {http2}\ntls = {{ ca_file = \"ca.pem\", cert_file = \"edge.pem\", \
             key_file = \"edge.key\" }}\n"
        );
        let config = Config { upstream, ..Config::default() };
        let node = Place::in_dir(dir, behind.address("https"), &config).start();
        let mut client = node.client();
        for n in 0..3 {
            let ask = format!("GET /thing?{n} HTTP/1.1\r\nHost: shop.example\r\n\r\n");
            let answer = client.ask(ask);
            assert_eq!(answer.status, 404, "{answer:?}");
            let via = if http2 { "2 penstock" } else { "1.1 penstock" };
            assert!(answer.all("via").any(|said| said == via), "{answer:?}");
        }
        let page = client.ask("GET /activity/8848 HTTP/1.1\r\nHost: shop.example\r\n\r\n");
        assert_eq!(page.status, 200);
        let spoken = behind.metric("penstock_http2_connections_total") > 0.0;
        assert_eq!(spoken, http2);
        assert!(behind.metric("penstock_tls_handshakes_total{kind=\"full\"}") >= 1.0);
    }
}

/// The tools that operators use; where one is not here, or cannot speak HTTP/2, there is nothing to see.
#[test]
fn curl_and_h2load_are_served() {
    let shop = quick_shop();
    let dir = authority();
    certify(dir.path(), "shop", "IP:127.0.0.1");
    let tls = "cert = \"shop.pem\"\nkey = \"shop.key\"";
    let config = Config { site: String::new(), ..https(tls) };
    let node = Place::in_dir(dir, shop.address(), &config).start();
    let (https, http) = (node.address("https"), node.address("http"));
    let curl = |args: &[&str]| {
        let ca = node.place.path("ca.pem");
        let mut command = Command::new("curl");
        command.args(["-sS", "--max-time", "20", "-o", "/dev/null", "--cacert"]).arg(ca);
        command.args(["-w", "%{http_code} %{http_version}"]).args(args);
        String::from_utf8(command.output().expect("curl runs").stdout).expect("text")
    };
    let features = Command::new("curl").arg("--version").output();
    if features.is_ok_and(|said| String::from_utf8_lossy(&said.stdout).contains(" HTTP2")) {
        let page = format!("https://{https}/activity/8848");
        assert_eq!(curl(&["--http2", &page]), "200 2");
        assert_eq!(curl(&["--http1.1", &page]), "200 1.1");
        let orders = format!("https://{https}/activity/8848/orders");
        let order = ["--http2", "-d", "{}", "-b", "uid=1", &orders];
        assert_eq!(curl(&order), "403 2", "the sale was past when it was declared: paused");
        let plain = format!("http://{http}/activity/8848");
        assert_eq!(curl(&["--http2-prior-knowledge", &plain]), "200 2");
        assert_eq!(curl(&[&plain]), "200 1.1");
    }
    // What no preface is HTTP/1.1's to answer where both are spoken: with TLS ALPN says which it is.
    let suite = Command::new("h2spec")
        .args(["-t", "-k", "--strict", "-h", "127.0.0.1", "-P", "/activity/8848"])
        .args(["-p", &https.port().to_string()])
        .output();
    if let Ok(suite) = suite {
        let said = String::from_utf8_lossy(&suite.stdout);
        assert!(said.contains("147 passed, 0 skipped, 0 failed"), "{said}");
    }
    let load = Command::new("h2load")
        .args(["-n", "2000", "-c", "10", "-m", "20"])
        .arg(format!("https://{https}/activity/8848"))
        .output();
    if let Ok(load) = load {
        let said = String::from_utf8_lossy(&load.stdout);
        assert!(said.contains("2000 succeeded, 0 failed"), "{said}");
    }
}
