//! Addresses to listen on and addresses of the shop's servers.

use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

/// Where to listen: `127.0.0.1:8080`, `[::]:8080`, `unix:/run/penstock/http.sock`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ListenAddress {
    /// An address of this machine.
    Tcp(SocketAddr),
    /// A path.
    Unix(PathBuf),
}

/// Where a server of the shop is: `host:port`, `[::1]:9000`, `unix:/run/shop.sock`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ServerAddress {
    /// A name or an address (IPv6 without brackets), and a port.
    Tcp {
        /// The host.
        host: String,
        /// The port.
        port: u16,
    },
    /// A path.
    Unix(PathBuf),
}

impl FromStr for ListenAddress {
    type Err = String;
    fn from_str(text: &str) -> Result<ListenAddress, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return unix(path).map(ListenAddress::Unix);
        }
        text.parse().map(ListenAddress::Tcp).map_err(|_| {
            format!("{text:?} is no address to listen on: write one with its port, like 127.0.0.1:8080, [::]:8080 or unix:/run/penstock/http.sock")
        })
    }
}

impl ListenAddress {
    /// Whether other machines can reach it.
    pub fn is_public(&self) -> bool {
        matches!(self, ListenAddress::Tcp(address) if !address.ip().to_canonical().is_loopback())
    }
}

impl FromStr for ServerAddress {
    type Err = String;
    fn from_str(text: &str) -> Result<ServerAddress, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return unix(path).map(ServerAddress::Unix);
        }
        tcp(text).ok_or_else(|| {
            let scheme = text.contains("://");
            let hint = if scheme { " without a scheme or a path" } else { "" };
            format!("{text:?} is no server: write host:port{hint}, like 10.0.0.11:8080 or shop.internal:8080, or unix:/path")
        })
    }
}

fn tcp(text: &str) -> Option<ServerAddress> {
    let (host, port) = text.rsplit_once(':')?;
    let digits = port.bytes().all(|b| b.is_ascii_digit());
    let port: u16 = port.parse().ok().filter(|port| digits && *port != 0)?;
    let host = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']')?.parse::<Ipv6Addr>().ok()?.to_string(),
        None => is_host(host).then(|| host.to_owned())?,
    };
    Some(ServerAddress::Tcp { host, port })
}

/// Whether `host` is spelt like a host name or an IPv4 address.
fn is_host(host: &str) -> bool {
    (1..=253).contains(&host.len())
        && host.trim_end_matches('.').split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        })
}

/// The path of `unix:`, which must be absolute.
fn unix(path: &str) -> Result<PathBuf, String> {
    if !path.starts_with('/') {
        return Err(format!(
            "unix:{path} must name an absolute path, like unix:/run/penstock/http.sock"
        ));
    }
    socket_path(path)
}

/// A socket's path, if it is short enough for the system.
pub fn socket_path(path: &str) -> Result<PathBuf, String> {
    if path.is_empty() || path.len() > UNIX_PATH_BYTES_MAX || path.contains('\0') {
        return Err(format!("a socket's path must have 1 to {UNIX_PATH_BYTES_MAX} bytes"));
    }
    Ok(PathBuf::from(path))
}

/// The mode of a socket's file, written in octal like `0660`.
pub fn socket_mode(text: &str) -> Result<u32, String> {
    let is_octal = matches!(text.len(), 3 | 4) && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
    match u32::from_str_radix(text, 8) {
        Ok(mode) if is_octal && mode <= 0o777 => Ok(mode),
        _ => Err(format!("{text:?} is no file mode: write it in octal, like \"0660\"")),
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAddress::Tcp(address) => write!(f, "{address}"),
            ListenAddress::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServerAddress::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            ServerAddress::Tcp { host, port } => write!(f, "{host}:{port}"),
            ServerAddress::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// `sun_path` less the final zero byte.
const UNIX_PATH_BYTES_MAX: usize = 107;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_hosts_with_ports_or_sockets() {
        for text in ["10.0.0.11:8080", "shop.internal:80", "my_shop:9000", "[::1]:9000", "unix:/a"]
        {
            assert_eq!(text.parse::<ServerAddress>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "shop",
            "shop:",
            ":80",
            "shop:0",
            "shop:65536",
            "shop:+80",
            "http://shop:80",
            "shop:80/",
            "::1:80",
            "[::1]",
            "[::1:80",
            "a..b:80",
            "a b:80",
            "unix:a",
            "unix:",
        ] {
            assert!(text.parse::<ServerAddress>().is_err(), "{text}");
        }
    }

    #[test]
    fn modes_are_octal() {
        let modes = [("0660", 0o660), ("600", 0o600), ("0777", 0o777), ("000", 0)];
        assert!(modes.iter().all(|(text, mode)| socket_mode(text) == Ok(*mode)));
        for bad in ["", "66", "0o660", "0888", "1777", "00660", "+660", "rw-"] {
            assert!(socket_mode(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_what_others_can_reach_is_public() {
        for (text, public) in [
            ("127.0.0.1:80", false),
            ("127.9.9.9:80", false),
            ("[::1]:80", false),
            ("[::ffff:127.0.0.1]:80", false),
            ("unix:/run/a.sock", false),
            ("0.0.0.0:80", true),
            ("[::]:80", true),
            ("10.0.0.1:80", true),
        ] {
            assert_eq!(text.parse::<ListenAddress>().unwrap().is_public(), public, "{text}");
        }
        for text in ["", ":80", "80", "localhost:80", "1.2.3.4", "unix:a"] {
            assert!(text.parse::<ListenAddress>().is_err(), "{text}");
        }
    }
}
