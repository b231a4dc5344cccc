//! Where Redis is, in one line: `store.url`.
//!
//! ```text
//! redis://[USER[:PASSWORD]@]HOST[:6379][/DATABASE]                    one server
//! redis+sentinel://[…@]HOST[:26379][,HOST[:PORT]…]/MASTER[/DATABASE]  the master that Sentinel names
//! redis+cluster://[…@]HOST[:6379][,HOST[:PORT]…]                      a cluster, by some of its nodes
//! redis+unix:///PATH                                                  one server, by its socket
//! ```
//!
//! `rediss` in place of `redis` is TLS. User and password are percent-encoded. No text of an error
//! repeats what might be a password.

use std::fmt;
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::str::FromStr;

use crate::ident::authority;

/// `store.url`, read. Shown without its password.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl {
    /// Whether to speak TLS, to Redis and to its Sentinels.
    pub is_tls: bool,
    /// Where it is.
    pub place: Place,
    /// The user of Redis's ACLs.
    pub username: Option<String>,
    /// The password, if it stands in the URL.
    pub password: Option<String>,
    /// The database's number.
    pub database: u16,
}

/// Where Redis is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// One server.
    Server(Host),
    /// One server of this machine.
    Socket(PathBuf),
    /// The server that the Sentinels name as master.
    Sentinel {
        /// Where they are.
        sentinels: Vec<Host>,
        /// What they call the master.
        master: String,
    },
    /// The masters of a cluster.
    Cluster(Vec<Host>),
}

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Host {
    /// A name or an address; IPv6 without brackets.
    pub name: String,
    /// From 1 on.
    pub port: u16,
}

impl RedisUrl {
    /// Whether it names a cluster.
    pub fn is_cluster(&self) -> bool {
        matches!(self.place, Place::Cluster(_))
    }

    /// Whether it names Sentinels.
    pub fn is_sentinel(&self) -> bool {
        matches!(self.place, Place::Sentinel { .. })
    }
}

impl FromStr for RedisUrl {
    type Err = String;
    fn from_str(text: &str) -> Result<RedisUrl, String> {
        let (scheme, rest) = text.split_once("://").ok_or(BAD_SCHEME)?;
        let (base, kind) = scheme.split_once('+').unwrap_or((scheme, ""));
        let is_tls = match base {
            "redis" => false,
            "rediss" => true,
            _ => return Err(BAD_SCHEME.into()),
        };
        if rest.contains(['?', '#']) || rest.contains(|c: char| c.is_control() || c == ' ') {
            return Err(
                "holds one of `?`, `#`, a space or a control character: percent-encode it \
                        in a password; there is nothing else to say behind the database"
                    .into(),
            );
        }
        let (authority, path) = rest.split_once('/').map_or((rest, None), |(a, p)| (a, Some(p)));
        if path.is_some_and(|path| path.contains('@')) {
            return Err(
                "has an `@` behind a `/`: write a `/` of a password as %2F and an `@` as %40, \
                        or put it into store.password_file"
                    .into(),
            );
        }
        let (login, hosts) = match authority.rsplit_once('@') {
            Some((login, hosts)) => (Some(login), hosts),
            None => (None, authority),
        };
        let (username, password) = login.map(read_login).transpose()?.unwrap_or_default();
        let (place, database) = match kind {
            "" => (Place::Server(one_host(hosts)?), path.unwrap_or_default()),
            "cluster" => {
                if path.is_some_and(|path| !matches!(path, "" | "0")) {
                    return Err("a cluster has no databases: end it behind the hosts".into());
                }
                (Place::Cluster(read_hosts(hosts, REDIS_PORT)?), "")
            }
            "sentinel" => {
                let (master, database) = path
                    .map(|path| path.split_once('/').unwrap_or((path, "")))
                    .filter(|(master, _)| !master.is_empty())
                    .ok_or("does not say what the Sentinels call the master")?;
                let sentinels = read_hosts(hosts, SENTINEL_PORT)?;
                (Place::Sentinel { sentinels, master: decoded(master)? }, database)
            }
            "unix" if is_tls => return Err("a socket needs no TLS: write redis+unix://".into()),
            "unix" if !authority.is_empty() => {
                return Err("a socket has no host: write redis+unix:///path/to/redis.sock".into());
            }
            "unix" => match path {
                Some(path) if !path.is_empty() => (Place::Socket(format!("/{path}").into()), ""),
                _ => return Err("does not say which socket".into()),
            },
            _ => return Err(BAD_SCHEME.into()),
        };
        let database = read_database(database)?;
        Ok(RedisUrl { is_tls, place, username, password, database })
    }
}

impl FromStr for Host {
    type Err = String;
    /// `HOST:PORT`.
    fn from_str(text: &str) -> Result<Host, String> {
        let host = read_host(text, 0)?;
        if host.port == 0 { Err(format!("{host} has no port")) } else { Ok(host) }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name.contains(':') {
            true => write!(f, "[{}]:{}", self.name, self.port),
            false => write!(f, "{}:{}", self.name, self.port),
        }
    }
}

/// Without the password.
impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let base = if self.is_tls { "rediss" } else { "redis" };
        let login = match (&self.username, &self.password) {
            (None, None) => String::new(),
            (user, None) => format!("{}@", user.as_deref().unwrap_or_default()),
            (user, Some(_)) => format!("{}:***@", user.as_deref().unwrap_or_default()),
        };
        let list =
            |hosts: &[Host]| hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        match &self.place {
            Place::Server(host) => write!(f, "{base}://{login}{host}")?,
            Place::Socket(path) => write!(f, "{base}+unix://{}", path.display())?,
            Place::Cluster(hosts) => write!(f, "{base}+cluster://{login}{}", list(hosts))?,
            Place::Sentinel { sentinels, master } => {
                write!(f, "{base}+sentinel://{login}{}/{master}", list(sentinels))?;
            }
        }
        match self.database {
            0 => Ok(()),
            number => write!(f, "/{number}"),
        }
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

fn read_login(login: &str) -> Result<(Option<String>, Option<String>), String> {
    let (user, password) = login.split_once(':').map_or((login, None), |(u, p)| (u, Some(p)));
    let some = |text: &str| Ok::<_, String>(Some(decoded(text)?).filter(|text| !text.is_empty()));
    Ok((some(user)?, password.map(some).transpose()?.flatten()))
}

fn one_host(hosts: &str) -> Result<Host, String> {
    match hosts.contains(',') {
        true => Err("names several hosts: write redis+sentinel:// or redis+cluster://".into()),
        false => read_host(hosts, REDIS_PORT),
    }
}

fn read_hosts(hosts: &str, port: u16) -> Result<Vec<Host>, String> {
    let mut read = Vec::new();
    for host in hosts.split(',') {
        let host = read_host(host, port)?;
        if read.contains(&host) {
            return Err(format!("names {host} twice"));
        }
        read.push(host);
    }
    match read.len() > HOSTS_MAX {
        true => Err(format!("names more than {HOSTS_MAX} hosts; a few are enough")),
        false => Ok(read),
    }
}

/// Never repeats a port that is none: it may be a password whose host was forgotten.
fn read_host(text: &str, port: u16) -> Result<Host, String> {
    let end = if text.starts_with('[') { text.find(']').map_or(0, |at| at + 1) } else { 0 };
    let (name, port) = match text[end..].find(':').map(|at| end + at) {
        None => (text, port),
        Some(at) => {
            let port = text[at + 1..].parse::<u16>().ok().filter(|port| *port > 0);
            (&text[..at], port.ok_or("has a port that is no number from 1 to 65535")?)
        }
    };
    if name.is_empty() {
        return Err("names no host".into());
    }
    if let Some(inner) = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
        let address: Ipv6Addr = inner.parse().map_err(|_| format!("{name} is no IPv6 address"))?;
        return Ok(Host { name: address.to_string(), port });
    }
    match authority::normalise(name.as_bytes()) {
        Some(_) => Ok(Host { name: name.to_ascii_lowercase(), port }),
        None => Err(format!("{name:?} is no host")),
    }
}

fn read_database(text: &str) -> Result<u16, String> {
    match text {
        "" => Ok(0),
        text => text.parse().map_err(|_| format!("{text:?} is no number of a Redis database")),
    }
}

/// Percent-decoding of UTF-8.
fn decoded(text: &str) -> Result<String, String> {
    let bad = || "has a `%` that is not followed by two hex digits: write it as %25".to_owned();
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|b| char::from(b).to_digit(16));
        let (high, low) = (digit().ok_or_else(bad)?, digit().ok_or_else(bad)?);
        bytes.push(u8::try_from(high * 16 + low).map_err(|_| bad())?);
    }
    String::from_utf8(bytes).map_err(|_| "is not UTF-8 when decoded".into())
}

/// What is wrong with everything else.
const BAD_SCHEME: &str = "must begin with redis://, redis+sentinel://, redis+cluster:// or \
                          redis+unix://, or with rediss for TLS";

const REDIS_PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

/// Hosts in one URL.
const HOSTS_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> RedisUrl {
        text.parse().unwrap_or_else(|why| panic!("{text}: {why}"))
    }

    fn host(name: &str, port: u16) -> Host {
        Host { name: name.into(), port }
    }

    #[test]
    fn one_server() {
        let url = read("redis://bob:p%40s%2Fs:w@DB.example:7000/3");
        assert_eq!(url.place, Place::Server(host("db.example", 7000)));
        assert_eq!((url.is_tls, url.database), (false, 3));
        assert_eq!(url.username.as_deref(), Some("bob"));
        assert_eq!(url.password.as_deref(), Some("p@s/s:w"));
        assert_eq!(read("rediss://:pw@[::1]").place, Place::Server(host("::1", 6379)));
        assert_eq!(read("redis://:pw@a").username, None);
        assert!(read("rediss://a").is_tls);
        assert_eq!(
            read("redis+unix:///run/redis.sock").place,
            Place::Socket("/run/redis.sock".into())
        );
    }

    #[test]
    fn sentinels_and_clusters() {
        let url = read("rediss+sentinel://u:p@s1,s2:26380,[::1]:1/my-master/2");
        let sentinels = vec![host("s1", 26379), host("s2", 26380), host("::1", 1)];
        assert_eq!(url.place, Place::Sentinel { sentinels, master: "my-master".into() });
        assert_eq!((url.is_tls, url.database), (true, 2));
        let url = read("redis+cluster://a,b:7001/");
        assert_eq!(url.place, Place::Cluster(vec![host("a", 6379), host("b", 7001)]));
    }

    #[test]
    fn what_is_shown_reads_the_same_but_for_the_password() {
        for text in [
            "redis://db.example:6379",
            "rediss://bob@db.example:6379/3",
            "redis+sentinel://s1:26379,s2:26379/mymaster",
            "rediss+cluster://[::1]:6379,b:7000",
            "redis+unix:///run/redis.sock",
        ] {
            assert_eq!(read(text).to_string(), text);
        }
        let url = read("redis+sentinel://bob:secret@s1/mymaster/1");
        assert_eq!(url.to_string(), "redis+sentinel://bob:***@s1:26379/mymaster/1");
        assert!(!format!("{url:?}").contains("secret"));
    }

    #[test]
    fn mistakes_are_named_and_no_password_is_repeated() {
        for (text, says) in [
            ("db.example:6379", "must begin with redis://"),
            ("http://db.example", "must begin with redis://"),
            ("redis+cloud://db.example", "must begin with redis://"),
            ("redis://", "names no host"),
            ("redis://a,b", "redis+cluster://"),
            ("redis://a:0", "no number from 1 to 65535"),
            ("redis://user:secret", "no number from 1 to 65535"),
            ("redis://:secret", "no number from 1 to 65535"),
            ("redis://:secret@", "names no host"),
            ("redis://:sec/ret@a", "%2F"),
            ("redis://:secret%@a", "%25"),
            ("redis://:se?cret@a", "percent-encode"),
            ("redis://[::g]", "no IPv6 address"),
            ("redis://a_!", "is no host"),
            ("redis://a/one", "no number of a Redis database"),
            ("redis://a/-1", "no number of a Redis database"),
            ("redis+sentinel://a", "call the master"),
            ("redis+sentinel://a/", "call the master"),
            ("redis+sentinel://a,a/m", "names a:26379 twice"),
            ("redis+cluster://a/1", "no databases"),
            ("redis+cluster://a,,b", "names no host"),
            ("rediss+unix:///run/a", "needs no TLS"),
            ("redis+unix://a/b", "has no host"),
            ("redis+unix://", "which socket"),
        ] {
            let why = text.parse::<RedisUrl>().expect_err(text);
            assert!(why.contains(says) && !why.contains("secret"), "{text}: {why}");
        }
    }
}
