//! Where Redis is and how to log in, from the settings.

use std::path::PathBuf;
use std::time::Duration;

use redis::{ProtocolVersion, RedisConnectionInfo};

use super::tls::Tls;
use crate::config::redis_url::{Host, Place, RedisUrl};
use crate::config::schema::Store;

/// The place and the logins. No password shows in debug output.
#[derive(Clone)]
pub struct Target {
    pub(super) place: Place,
    pub(super) connect_timeout: Duration,
    pub(super) tls: Option<Tls>,
    database: u16,
    /// To Redis.
    login: Login,
    /// To its Sentinels, which have users of their own.
    sentinel_login: Login,
    /// What the settings say, without the password.
    shown: String,
}

/// One server's address.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Server {
    Tcp(Host),
    Unix(PathBuf),
}

/// Whom a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    Redis,
    Sentinel,
}

/// A user and a password.
#[derive(Clone, Default)]
struct Login {
    username: Option<String>,
    password: Option<String>,
    password_file: Option<PathBuf>,
    /// What the file's setting is called.
    setting: &'static str,
}

/// Why `[store]` cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadStore {
    /// No `url`.
    #[error("store.url is missing: write url = \"redis://host:6379\"")]
    NoUrl,
    /// Not a URL of Redis.
    #[error("store.url: {0}")]
    Url(String),
    /// The same thing twice.
    #[error("store.{0} and a {1} in store.url: write it once")]
    Twice(&'static str, &'static str),
}

impl Target {
    /// Reads the settings; touches neither the network nor a file.
    pub fn of(settings: &Store) -> Result<Target, BadStore> {
        let url = settings.url.as_deref().ok_or(BadStore::NoUrl)?;
        let url: RedisUrl = url.parse().map_err(BadStore::Url)?;
        if url.username.is_some() && settings.username.is_some() {
            return Err(BadStore::Twice("username", "user"));
        }
        if url.password.is_some() && settings.password_file.is_some() {
            return Err(BadStore::Twice("password_file", "password"));
        }
        let shown = url.to_string();
        Ok(Target {
            place: url.place,
            connect_timeout: settings.connect_timeout.duration(),
            tls: url.is_tls.then(|| Tls::of(&settings.tls)),
            database: url.database,
            login: Login {
                username: settings.username.clone().or(url.username),
                password: url.password,
                password_file: settings.password_file.as_ref().map(PathBuf::from),
                setting: "store.password_file",
            },
            sentinel_login: Login {
                username: settings.sentinel_username.clone(),
                password: None,
                password_file: settings.sentinel_password_file.as_ref().map(PathBuf::from),
                setting: "store.sentinel_password_file",
            },
            shown,
        })
    }

    /// The login. A password's file is read for every connection, so that a password may change
    /// while we run. A blocking read: the file is small and local, and connecting is rare.
    pub(super) fn login(
        &self,
        peer: Peer,
        protocol: ProtocolVersion,
    ) -> Result<RedisConnectionInfo, String> {
        let (login, database) = match peer {
            Peer::Redis => (&self.login, self.database),
            Peer::Sentinel => (&self.sentinel_login, 0),
        };
        // No CLIENT SETINFO: some managed servers refuse it, and it tells nobody anything.
        let mut info = RedisConnectionInfo::default()
            .set_db(i64::from(database))
            .set_protocol(protocol)
            .set_skip_set_lib_name();
        if let Some(username) = &login.username {
            info = info.set_username(username);
        }
        if let Some(password) = &login.password {
            info = info.set_password(password);
        }
        if let Some(path) = &login.password_file {
            let text = std::fs::read_to_string(path)
                .map_err(|e| format!("{} {} cannot be read: {e}", login.setting, path.display()))?;
            info = info.set_password(text.trim_end_matches(['\r', '\n']));
        }
        Ok(info)
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.shown)
    }
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Target({})", self.shown)
    }
}

impl std::fmt::Display for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Server::Tcp(host) => host.fmt(f),
            Server::Unix(path) => path.display().fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(url: &str) -> Store {
        Store { url: Some(url.into()), ..Store::default() }
    }

    #[test]
    fn the_login_is_read() {
        let target = Target::of(&settings("redis://bob:pw@db.example:7000/3")).expect("a target");
        let login = target.login(Peer::Redis, ProtocolVersion::RESP2).expect("a login");
        assert_eq!((login.db(), login.username(), login.password()), (3, Some("bob"), Some("pw")));
        assert!(!format!("{target:?} {target}").contains("pw"));
        let login = target.login(Peer::Sentinel, ProtocolVersion::RESP2).expect("a login");
        assert_eq!((login.db(), login.username(), login.password()), (0, None, None));
    }

    #[test]
    fn bad_settings_say_what_to_do() {
        let bad = |settings: &Store| Target::of(settings).expect_err("refused").to_string();
        assert!(bad(&Store::default()).contains("store.url is missing"));
        assert!(bad(&settings("http://db.example")).contains("redis://"));
        let mut twice = settings("redis://:pw@db.example");
        twice.password_file = Some("/etc/pw".into());
        assert!(bad(&twice).contains("write it once"));
    }

    #[test]
    fn the_password_is_read_for_every_connection() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let mut settings = settings("redis://db.example");
        settings.password_file = Some(file.path().display().to_string());
        let target = Target::of(&settings).expect("a target");
        for password in ["first", "second"] {
            std::fs::write(file.path(), format!("{password}\n")).expect("written");
            let login = target.login(Peer::Redis, ProtocolVersion::RESP2).expect("a login");
            assert_eq!(login.password(), Some(password));
        }
        drop(file);
        let error = target.login(Peer::Redis, ProtocolVersion::RESP2).expect_err("no file");
        assert!(error.contains("store.password_file"), "{error}");
    }
}
