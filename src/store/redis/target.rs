//! Where Redis is and how to log in, from the settings.

use std::path::PathBuf;
use std::time::Duration;

use redis::{ConnectionAddr, IntoConnectionInfo, ProtocolVersion, RedisConnectionInfo};

use crate::config::schema::Store;

/// The address and the login. The password never shows in debug output.
#[derive(Clone)]
pub struct Target {
    pub(super) address: Address,
    pub(super) connect_timeout: Duration,
    username: Option<String>,
    password: Option<String>,
    password_file: Option<PathBuf>,
    db: i64,
}

/// Where to connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    Tcp(String, u16),
    Unix(PathBuf),
}

/// Why `[store]` cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadStore {
    /// No `url`.
    #[error("store.url is missing: write url = \"redis://host:6379\"")]
    NoUrl,
    /// TLS is not built in.
    #[error(
        "store.url: TLS to Redis is not supported by this version: use redis:// on a private network"
    )]
    Tls,
    /// Not a URL of Redis.
    #[error("store.url: {0}; write redis://host:6379/0 or redis+unix:///path/to/redis.sock")]
    Url(String),
    /// The same thing twice.
    #[error("store.{0} and a {1} in store.url: write it once")]
    Twice(&'static str, &'static str),
}

impl Target {
    /// Reads the settings; touches neither the network nor the password file.
    pub fn of(settings: &Store) -> Result<Target, BadStore> {
        let url = settings.url.as_deref().ok_or(BadStore::NoUrl)?;
        if url.starts_with("rediss:") || url.starts_with("valkeys:") {
            return Err(BadStore::Tls);
        }
        let info = url.into_connection_info().map_err(|e| BadStore::Url(e.to_string()))?;
        let address = match info.addr() {
            ConnectionAddr::Tcp(host, port) => Address::Tcp(host.clone(), *port),
            ConnectionAddr::Unix(path) => Address::Unix(path.clone()),
            _ => return Err(BadStore::Tls),
        };
        let login = info.redis_settings();
        if login.username().is_some() && settings.username.is_some() {
            return Err(BadStore::Twice("username", "user"));
        }
        if login.password().is_some() && settings.password_file.is_some() {
            return Err(BadStore::Twice("password_file", "password"));
        }
        if login.db() < 0 {
            return Err(BadStore::Url("the database number is negative".into()));
        }
        Ok(Target {
            address,
            connect_timeout: settings.connect_timeout.duration(),
            username: settings.username.clone().or(login.username().map(Into::into)),
            password: login.password().map(Into::into),
            password_file: settings.password_file.as_ref().map(PathBuf::from),
            db: login.db(),
        })
    }

    /// The login. The password's file is read for every connection, so that a password may change
    /// while we run. A blocking read: the file is small and local, and connecting is rare.
    pub(super) fn login(&self, protocol: ProtocolVersion) -> Result<RedisConnectionInfo, String> {
        // No CLIENT SETINFO: some managed servers refuse it, and it tells nobody anything.
        let mut login = RedisConnectionInfo::default()
            .set_db(self.db)
            .set_protocol(protocol)
            .set_skip_set_lib_name();
        if let Some(username) = &self.username {
            login = login.set_username(username);
        }
        if let Some(password) = &self.password {
            login = login.set_password(password);
        }
        if let Some(path) = &self.password_file {
            let text = std::fs::read_to_string(path).map_err(|e| {
                format!("store.password_file {} cannot be read: {e}", path.display())
            })?;
            login = login.set_password(text.trim_end_matches(['\r', '\n']));
        }
        Ok(login)
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.address {
            Address::Tcp(host, port) => write!(f, "{host}:{port}"),
            Address::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Target").field("address", &self.address).field("db", &self.db).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(url: &str) -> Store {
        Store { url: Some(url.into()), ..Store::default() }
    }

    #[test]
    fn a_url_is_read() {
        let target = Target::of(&settings("redis://bob:pw@db.example:7000/3")).expect("a target");
        assert_eq!(target.address, Address::Tcp("db.example".into(), 7000));
        let login = target.login(ProtocolVersion::RESP2).expect("a login");
        assert_eq!((login.db(), login.username(), login.password()), (3, Some("bob"), Some("pw")));
        assert!(!format!("{target:?}").contains("pw"));
        let target = Target::of(&settings("redis+unix:///run/redis.sock")).expect("a target");
        assert_eq!(target.address, Address::Unix("/run/redis.sock".into()));
    }

    #[test]
    fn bad_settings_say_what_to_do() {
        let bad = |settings: &Store| Target::of(settings).expect_err("refused").to_string();
        assert!(bad(&Store::default()).contains("store.url is missing"));
        assert!(bad(&settings("rediss://db.example")).contains("TLS"));
        assert!(bad(&settings("http://db.example")).contains("redis://"));
        assert!(bad(&settings("redis://db.example/minus")).contains("database number"));
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
            let login = target.login(ProtocolVersion::RESP2).expect("a login");
            assert_eq!(login.password(), Some(password));
        }
        drop(file);
        let error = target.login(ProtocolVersion::RESP2).expect_err("no file");
        assert!(error.contains("store.password_file"), "{error}");
    }
}
