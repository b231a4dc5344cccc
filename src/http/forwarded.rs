//! Who the client is, by trust: the rightmost hop that is not a proxy of ours.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{Head, Peer};

/// The proxies that are believed about addresses.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    nets: Vec<IpNet>,
    unix: bool,
}

/// An entry of `trust.proxies` that is neither a network nor an address nor `unix`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a network like 10.0.1.0/24, an address, or `unix` for the peers of Unix sockets"
)]
pub struct BadProxy(pub String);

impl Trust {
    /// Reads `trust.proxies`.
    pub fn new(proxies: &[String]) -> Result<Trust, BadProxy> {
        let mut trust = Trust::default();
        for text in proxies {
            if text == "unix" {
                trust.unix = true;
            } else if let Ok(net) = text.parse::<IpNet>() {
                trust.nets.push(net);
            } else if let Ok(address) = text.parse::<IpAddr>() {
                trust.nets.push(IpNet::from(address));
            } else {
                return Err(BadProxy(text.clone()));
            }
        }
        Ok(trust)
    }

    /// Whether what this peer says about addresses is believed.
    pub fn is_trusted(&self, peer: &Peer) -> bool {
        match peer {
            Peer::Tcp(address) => self.covers(address.ip()),
            Peer::Unix => self.unix,
        }
    }

    /// Whether a client is one of these.
    pub fn includes(&self, client: &ClientAddr) -> bool {
        match client {
            ClientAddr::Ip(address) => self.covers(*address),
            ClientAddr::Unix => self.unix,
        }
    }

    fn covers(&self, address: IpAddr) -> bool {
        if self.nets.is_empty() {
            return false;
        }
        let address = address.to_canonical();
        self.nets.iter().any(|net| net.contains(&address))
    }
}

/// The client's address, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClientAddr {
    /// An address; IPv4 in its own form, never mapped into IPv6.
    Ip(IpAddr),
    /// A Unix socket's peer that named nobody.
    Unix,
}

impl ClientAddr {
    /// The address of the client of `head`: the rightmost hop of all `X-Forwarded-For` lines that is
    /// not a trusted proxy, if the peer is one; else the peer. A hop that is no address ends the
    /// chain: the trusted proxy that wrote it stands for its client.
    pub fn of(head: &Head<'_>, peer: &Peer, trust: &Trust) -> ClientAddr {
        let mut client = match peer {
            Peer::Tcp(address) => ClientAddr::Ip(address.ip().to_canonical()),
            Peer::Unix => ClientAddr::Unix,
        };
        if !trust.is_trusted(peer) {
            return client;
        }
        let lines: Vec<&[u8]> = head.field_all("x-forwarded-for").collect();
        for hop in lines.iter().rev().flat_map(|line| line.rsplit(|b| *b == b',')) {
            let Some(address) = address_of(hop) else { break };
            client = ClientAddr::Ip(address);
            if !trust.covers(address) {
                break;
            }
        }
        client
    }
}

/// `X-Forwarded-For` for the shop: the chain as a trusted peer sent it, and the peer; of an
/// untrusted peer only its own address.
pub fn chain(head: &Head<'_>, peer: &Peer, trust: &Trust) -> String {
    let own = match peer {
        Peer::Tcp(address) => Some(address.ip().to_canonical().to_string()),
        Peer::Unix => None,
    };
    let mut hops: Vec<&str> = Vec::new();
    if trust.is_trusted(peer) {
        let lines = head.field_all("x-forwarded-for");
        hops.extend(lines.filter_map(|line| std::str::from_utf8(line).ok()));
    }
    hops.extend(own.as_deref());
    hops.join(", ")
}

/// `X-Forwarded-Proto` for the shop: what a trusted peer said, else the connection's own.
pub fn proto(head: &Head<'_>, peer: &Peer, trust: &Trust, is_tls: bool) -> &'static str {
    let said = trust.is_trusted(peer).then(|| head.field("x-forwarded-proto")).flatten();
    match said {
        Some(value) if value.eq_ignore_ascii_case(b"https") => "https",
        Some(value) if value.eq_ignore_ascii_case(b"http") => "http",
        _ if is_tls => "https",
        _ => "http",
    }
}

/// One hop: an address, with a port perhaps, in brackets perhaps.
fn address_of(hop: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(hop.trim_ascii()).ok()?;
    let bare = match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?.0,
        // One colon is a port; more are IPv6 without brackets.
        None => match text.split_once(':') {
            Some((host, port)) if !port.contains(':') => host,
            _ => text,
        },
    };
    bare.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::limits::Limits;
    use crate::http::reader::read_head;

    fn with_head<T>(fields: &str, check: impl FnOnce(&Head<'_>) -> T) -> T {
        let bytes = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let mut storage = Vec::new();
        let request = read_head(bytes.as_bytes(), &Limits::default(), &mut storage)
            .expect("valid")
            .expect("complete");
        check(&request.head)
    }

    fn client(fields: &str, peer: &Peer, proxies: &[&str]) -> ClientAddr {
        let proxies: Vec<String> = proxies.iter().map(ToString::to_string).collect();
        let trust = Trust::new(&proxies).expect("valid proxies");
        with_head(fields, |head| ClientAddr::of(head, peer, &trust))
    }

    fn peer(address: &str) -> Peer {
        Peer::Tcp(format!("{address}:4000").parse().expect("address"))
    }

    fn ip(text: &str) -> ClientAddr {
        ClientAddr::Ip(text.parse().expect("address"))
    }

    #[test]
    fn an_untrusted_peer_is_the_client_whatever_it_says() {
        let says = "X-Forwarded-For: 1.1.1.1\r\n";
        assert_eq!(client(says, &peer("9.9.9.9"), &[]), ip("9.9.9.9"));
        assert_eq!(client(says, &peer("9.9.9.9"), &["10.0.0.0/8"]), ip("9.9.9.9"));
        assert_eq!(client(says, &Peer::Unix, &["10.0.0.0/8"]), ClientAddr::Unix);
    }

    #[test]
    fn the_rightmost_untrusted_hop_is_the_client() {
        let trusted = ["10.0.0.0/8", "::1", "unix"];
        let at = peer("10.0.0.1");
        for (fields, expected) in [
            ("", "10.0.0.1"),
            ("X-Forwarded-For: 1.1.1.1\r\n", "1.1.1.1"),
            ("X-Forwarded-For: 6.6.6.6, 1.1.1.1\r\n", "1.1.1.1"),
            ("X-Forwarded-For: 6.6.6.6, 1.1.1.1, 10.0.0.2\r\n", "1.1.1.1"),
            ("X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 1.1.1.1, 10.2.2.2\r\n", "1.1.1.1"),
            ("X-Forwarded-For: 10.0.0.3, 10.0.0.2\r\n", "10.0.0.3"),
            ("X-Forwarded-For: 1.1.1.1:5000\r\n", "1.1.1.1"),
            ("X-Forwarded-For: [2001:db8::1]:443\r\n", "2001:db8::1"),
            ("X-Forwarded-For: 2001:db8::1\r\n", "2001:db8::1"),
            ("X-Forwarded-For: ::ffff:1.1.1.1\r\n", "1.1.1.1"),
            ("X-Forwarded-For: 1.1.1.1, unknown\r\n", "10.0.0.1"),
            ("X-Forwarded-For: 1.1.1.1, unknown, 10.0.0.2\r\n", "10.0.0.2"),
            ("X-Forwarded-For: \r\n", "10.0.0.1"),
        ] {
            assert_eq!(client(fields, &at, &trusted), ip(expected), "{fields}");
        }
        assert_eq!(client("X-Forwarded-For: 1.1.1.1\r\n", &Peer::Unix, &trusted), ip("1.1.1.1"));
        let mapped = Peer::Tcp("[::ffff:10.0.0.1]:1".parse().expect("address"));
        assert_eq!(client("X-Forwarded-For: 1.1.1.1\r\n", &mapped, &trusted), ip("1.1.1.1"));
    }

    #[test]
    fn the_shop_is_told_a_chain_that_a_stranger_cannot_begin() {
        let fields = "X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-Proto: HTTPS\r\n";
        let trust = Trust::new(&["10.0.0.0/8".to_owned()]).expect("valid");
        with_head(fields, |head| {
            assert_eq!(chain(head, &peer("10.0.0.1"), &trust), "1.1.1.1, 10.0.0.1");
            assert_eq!(chain(head, &peer("9.9.9.9"), &trust), "9.9.9.9");
            assert_eq!(proto(head, &peer("10.0.0.1"), &trust, false), "https");
            assert_eq!(proto(head, &peer("9.9.9.9"), &trust, false), "http");
        });
    }

    #[test]
    fn an_entry_that_is_no_network_is_named() {
        let bad = Trust::new(&["10.0.0.0/8".to_owned(), "lb-1".to_owned()]).map(|_| ());
        assert_eq!(bad, Err(BadProxy("lb-1".to_owned())));
    }
}
