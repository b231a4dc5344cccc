//! What went wrong with Redis, in words that say what to do.

use redis::{ErrorKind, RedisError, ServerError};

use crate::config::redis_url::Host;
use crate::store::StoreError;

/// Why a command has no good answer.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    /// Provably not sent; the text says why.
    NotSent(String),
    /// Sent, perhaps, and no answer.
    Maybe,
    /// Provably not applied: the master of this sale cannot be used now, others may be. The text says
    /// why.
    Away(String),
    /// The server answered with an error: the command did nothing.
    Server {
        /// First word of the error, such as `READONLY`.
        code: String,
        /// The rest.
        detail: String,
    },
    /// The answer is not of the expected form.
    Form(String),
}

impl Fault {
    /// An error that the server answered. What happens inside a script has the code `ERR` on some
    /// versions, and the real one stands in the text.
    pub(super) fn of_server(error: &ServerError) -> Fault {
        let (code, detail) = (error.code(), error.details().unwrap_or_default());
        let is_right = detail.contains("executing the script can't");
        let inner = IN_SCRIPTS.into_iter().find(|inner| detail.contains(inner));
        let code = match inner {
            _ if code != "ERR" => code,
            _ if is_right => "NOPERM",
            Some(inner) => inner,
            None => code,
        };
        Fault::Server { code: code.to_owned(), detail: detail.to_owned() }
    }

    /// Whether the script has to be sent as text.
    pub(super) fn is_no_script(&self) -> bool {
        matches!(self, Fault::Server { code, .. } if code == "NOSCRIPT")
    }

    /// What else may be done about a command that was provably not applied.
    pub(super) fn again(&self) -> Option<Again> {
        let Fault::Server { code, detail } = self else { return None };
        match code.as_str() {
            "MOVED" => redirect(detail).map(Again::Moved),
            "ASK" => redirect(detail).map(Again::Ask),
            "TRYAGAIN" | "CLUSTERDOWN" | "LOADING" | "READONLY" | "MASTERDOWN" | "BUSY" => {
                Some(Again::Later)
            }
            _ => None,
        }
    }

    /// Whether nothing was heard of the keys themselves.
    pub(super) fn is_unheard(&self) -> bool {
        matches!(self, Fault::NotSent(_) | Fault::Maybe | Fault::Away(_)) || self.again().is_some()
    }

    /// Whether the server is not what it was taken for.
    pub(super) fn is_of_role(&self) -> bool {
        matches!(self, Fault::Server { code, .. } if code == "READONLY" || code == "MASTERDOWN")
    }

    /// What is wrong and what to do.
    pub(super) fn text(self) -> String {
        match StoreError::from(self) {
            StoreError::Refused(why) | StoreError::NotSent(why) => why,
            StoreError::MaybeApplied | StoreError::NotDurable => "no answer".into(),
        }
    }

    /// Whether a key holds something of another type.
    pub(super) fn is_wrong_type(&self) -> bool {
        matches!(self, Fault::Server { code, .. } if code == "WRONGTYPE")
    }
}

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> StoreError {
        match fault {
            Fault::NotSent(why) => StoreError::NotSent(why),
            Fault::Maybe => StoreError::MaybeApplied,
            Fault::Away(why) => StoreError::Refused(why),
            // The server is not there for anybody, and nothing was done.
            Fault::Server { ref code, ref detail } if fault.again().is_some() => {
                StoreError::NotSent(advice(code, detail))
            }
            Fault::Server { code, detail } => StoreError::Refused(advice(&code, &detail)),
            Fault::Form(what) => StoreError::Refused(what),
        }
    }
}

/// What to do with a command that the server did not apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Again {
    /// Send it to this master, now and from now on. Without a name: the server that was asked knows
    /// the port only.
    Moved(Host),
    /// Send it there this once.
    Ask(Host),
    /// Send it again in a moment.
    Later,
}

/// `SLOT HOST:PORT`, where the host may be empty and IPv6 has no brackets.
fn redirect(detail: &str) -> Option<Host> {
    let (name, port) = detail.split_once(' ')?.1.rsplit_once(':')?;
    let name = if name == "?" { "" } else { name };
    Some(Host { name: name.to_owned(), port: port.parse().ok().filter(|port| *port > 0)? })
}

/// An answer that we cannot read.
pub(super) fn odd(what: &str) -> Fault {
    Fault::Form(format!(
        "Redis answered something unexpected ({what}): is another program writing our keys?"
    ))
}

/// What to do about an error of the server.
fn advice(code: &str, detail: &str) -> String {
    let what_to_do = match code {
        "READONLY" => "this Redis is a replica: a failover, or store.url must name the master",
        "OOM" => "Redis is out of memory: raise maxmemory or free some",
        "LOADING" => "Redis is loading its data: it answers when that is done",
        "BUSY" => "another script blocks Redis: look at SLOWLOG, use SCRIPT KILL",
        "MISCONF" => "Redis cannot save to its disk and refuses writes: look at its log",
        "NOREPLICAS" => "too few replicas are in sync for min-replicas-to-write",
        "MASTERDOWN" => "this replica has lost its master: point store.url at the master",
        "NOAUTH" => "Redis wants a password: set store.password_file",
        "WRONGPASS" => "the user or password is refused: look at store.username and password_file",
        "NOPERM" => "the Redis user lacks a right: see the ACL line in the manual",
        "MOVED" | "ASK" => "the cluster moves this slot from master to master",
        "TRYAGAIN" => "the cluster is moving the keys of this sale: it answers when that is done",
        "CLUSTERDOWN" => "the cluster has lost masters: it answers when a replica took over",
        "CROSSSLOT" => "this is a Redis Cluster: begin store.url with redis+cluster://",
        "WRONGTYPE" => "a key of ours holds something else",
        "CORRUPT" => "a value in the ledger makes no sense: another program wrote it",
        _ => "unexpected",
    };
    format!("{what_to_do} ({code} {detail})")
}

/// Codes that may hide in the text of an error of a script.
const IN_SCRIPTS: [&str; 6] = ["WRONGTYPE", "CORRUPT", "OOM", "READONLY", "MISCONF", "NOREPLICAS"];

/// Why a connection could not be made.
pub(super) fn connecting(error: &RedisError) -> String {
    match error.kind() {
        ErrorKind::AuthenticationFailed => advice("WRONGPASS", error.detail().unwrap_or_default()),
        _ => match error.code() {
            Some(code) => advice(code, error.detail().unwrap_or_default()),
            None => error.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(code: &str, detail: &str) -> Fault {
        Fault::Server { code: code.into(), detail: detail.into() }
    }

    #[test]
    fn what_was_not_applied_is_never_unknown() {
        for code in ["TRYAGAIN", "CLUSTERDOWN", "LOADING", "READONLY", "MASTERDOWN", "BUSY"] {
            let fault = server(code, "x");
            assert_eq!(fault.again(), Some(Again::Later), "{code}");
            assert!(matches!(StoreError::from(fault), StoreError::NotSent(_)), "{code}");
        }
        for code in ["NOPERM", "OOM", "WRONGTYPE", "CORRUPT", "ERR", "MISCONF", "NOREPLICAS"] {
            let fault = server(code, "x");
            assert_eq!(fault.again(), None, "{code}");
            assert!(matches!(StoreError::from(fault), StoreError::Refused(_)), "{code}");
        }
        assert_eq!(StoreError::from(Fault::Maybe), StoreError::MaybeApplied);
    }

    #[test]
    fn redirects_are_read() {
        let host = |name: &str, port| Host { name: name.into(), port };
        let moved = |detail| server("MOVED", detail).again();
        assert_eq!(moved("3999 10.0.0.1:6381"), Some(Again::Moved(host("10.0.0.1", 6381))));
        assert_eq!(moved("3999 fd00::1:6381"), Some(Again::Moved(host("fd00::1", 6381))));
        assert_eq!(moved("3999 :6381"), Some(Again::Moved(host("", 6381))));
        assert_eq!(server("ASK", "1 a:2").again(), Some(Again::Ask(host("a", 2))));
        for bad in ["", "3999", "3999 a", "3999 a:0", "3999 a:x"] {
            assert_eq!(moved(bad), None, "{bad}");
            assert!(matches!(StoreError::from(server("MOVED", bad)), StoreError::Refused(_)));
        }
    }
}
