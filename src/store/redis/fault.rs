//! What went wrong with Redis, in words that say what to do.

use redis::{ErrorKind, RedisError, ServerError};

use crate::store::StoreError;

/// Why a command has no good answer.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    /// Provably not sent; the text says why.
    NotSent(String),
    /// Sent, perhaps, and no answer.
    Maybe,
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
            Fault::Server { code, detail } => StoreError::Refused(advice(&code, &detail)),
            Fault::Form(what) => StoreError::Refused(what),
        }
    }
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
        "READONLY" => "this Redis is a replica: point store.url at the master",
        "OOM" => "Redis is out of memory: raise maxmemory or free some",
        "LOADING" => "Redis is loading its data: it answers when that is done",
        "BUSY" => "another script blocks Redis: look at SLOWLOG, use SCRIPT KILL",
        "MISCONF" => "Redis cannot save to its disk and refuses writes: look at its log",
        "NOREPLICAS" => "too few replicas are in sync for min-replicas-to-write",
        "MASTERDOWN" => "this replica has lost its master: point store.url at the master",
        "NOAUTH" => "Redis wants a password: set store.password_file",
        "WRONGPASS" => "the user or password is refused: look at store.username and password_file",
        "NOPERM" => "the Redis user lacks a right: see the ACL line in the manual",
        "MOVED" | "ASK" | "CROSSSLOT" | "CLUSTERDOWN" | "TRYAGAIN" => {
            "this is a Redis Cluster, which this version does not speak: use a standalone Redis"
        }
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
