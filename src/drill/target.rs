//! Whom the drill is aimed at: a URL, its address, the paths below it.

use std::net::{Ipv4Addr, SocketAddr};

use super::DrillError;

/// A plain HTTP URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Host name or address, as in the URL.
    pub host: String,
    /// Port, 80 if the URL names none.
    pub port: u16,
    /// Path of the activity page.
    pub path: String,
}

/// Why a URL cannot be drilled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// HTTPS, or no URL at all.
    #[error(
        "write a plain URL such as http://127.0.0.1:8080/activity/8848 (https is not supported)"
    )]
    Scheme,
    /// No host, or a port that is none.
    #[error("the URL has no valid host and port")]
    Host,
    /// A query, blanks or control characters.
    #[error("the path must be plain: no query, fragment or blanks")]
    Path,
}

/// What is asked for at the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// The page.
    pub page: Option<String>,
    /// The availability flag.
    pub availability: Option<String>,
    /// The purchase.
    pub purchase: Option<String>,
}

impl std::str::FromStr for Target {
    type Err = TargetError;

    fn from_str(url: &str) -> Result<Target, TargetError> {
        let rest = url.strip_prefix("http://").ok_or(TargetError::Scheme)?;
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, "/"),
        };
        let plain = |b: u8| b.is_ascii_graphic() && !matches!(b, b'?' | b'#');
        if !path.bytes().all(plain) {
            return Err(TargetError::Path);
        }
        let (host, port) = match authority.rsplit_once(':') {
            // A colon within brackets belongs to an IPv6 address.
            Some((host, port)) if !port.ends_with(']') => {
                (host, port.parse().map_err(|_| TargetError::Host)?)
            }
            _ => (authority, 80),
        };
        let named = |b: u8| b.is_ascii_alphanumeric() || b".-_[]:".contains(&b);
        if host.is_empty() || !host.bytes().all(named) {
            return Err(TargetError::Host);
        }
        Ok(Target { host: host.to_owned(), port, path: path.to_owned() })
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "http://{}:{}{}", self.host, self.port, self.path)
    }
}

impl Target {
    /// Host and port, as the Host field has them.
    pub fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// The first address of the host.
    pub async fn resolve(&self) -> Result<SocketAddr, DrillError> {
        let unreachable =
            |cause: String| DrillError::Unreachable { target: self.authority(), cause };
        tokio::net::lookup_host(self.authority())
            .await
            .map_err(|cause| unreachable(cause.to_string()))?
            .next()
            .ok_or_else(|| unreachable("the name has no address".to_owned()))
    }
}

impl Paths {
    /// The usual paths below an activity page.
    pub fn of_page(page: &str) -> Paths {
        let base = page.trim_end_matches('/');
        Paths {
            page: Some(page.to_owned()),
            availability: Some(format!("{base}/availability")),
            purchase: Some(format!("{base}/orders")),
        }
    }
}

/// The loopback address from which number `index` comes: 127.16.0.1 and up, never .0 or .255.
pub fn source_of(index: u32) -> Ipv4Addr {
    let byte = |n: u32| u8::try_from(n % 256).unwrap_or(0);
    let (rest, last) = (index / 254, index % 254 + 1);
    Ipv4Addr::new(127, byte(16 + rest / 256 % 200), byte(rest), byte(last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let target: Target = "http://127.0.0.1:8080/activity/8848".parse().unwrap();
        assert_eq!((target.host.as_str(), target.port), ("127.0.0.1", 8080));
        assert_eq!(target.to_string(), "http://127.0.0.1:8080/activity/8848");
        assert_eq!("http://shop".parse::<Target>().unwrap().path, "/");
        assert_eq!("http://[::1]:81/".parse::<Target>().unwrap().host, "[::1]");
        assert_eq!("http://[::1]/".parse::<Target>().unwrap().port, 80);
        assert_eq!("https://shop/".parse::<Target>(), Err(TargetError::Scheme));
        assert_eq!("http://:80/".parse::<Target>(), Err(TargetError::Host));
        assert_eq!("http://a:b/".parse::<Target>(), Err(TargetError::Host));
        assert_eq!("http://a/?x=1".parse::<Target>(), Err(TargetError::Path));
        assert_eq!("http://a/x y".parse::<Target>(), Err(TargetError::Path));
    }

    #[test]
    fn everyone_has_an_address() {
        assert_eq!(source_of(0), Ipv4Addr::new(127, 16, 0, 1));
        assert_eq!(source_of(253), Ipv4Addr::new(127, 16, 0, 254));
        assert_eq!(source_of(254), Ipv4Addr::new(127, 16, 1, 1));
        assert_eq!(source_of(254 * 256), Ipv4Addr::new(127, 17, 0, 1));
        let all: std::collections::HashSet<_> = (0..200_000).map(source_of).collect();
        assert_eq!(all.len(), 200_000);
        assert!(all.iter().all(|a| a.is_loopback() && a.octets()[3] != 0 && a.octets()[3] != 255));
    }
}
