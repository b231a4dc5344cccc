//! The tables of the file, and the core's view of one sale inside a write transaction.
//!
//! | table | key | value |
//! |---|---|---|
//! | `meta` | `format` | [`FORMAT`] |
//! | `sales` | `site/sale` | the state, JSON |
//! | `records` | `site/sale`, user | the user's records ([`super::form`]) |
//! | `due` | `site/sale`, deadline, user, claim | nothing |
//! | `voids` | `site/sale`, claim | nothing |
//! | `failed` | `site/sale`, claim | nothing |
//! | `nodes` | `site/sale`, node | the node, JSON |

use redb::{ReadableTable, Table, TableDefinition, WriteTransaction};

use crate::clock::UnixMs;
use crate::ident::{ClaimId, NodeId, SaleId, ServerId, UserKey};
use crate::ledger::{Due, Peer, Record, Shard};
use crate::sale::SaleState;

use super::form;

/// Format of the tables. A file of a newer one is refused.
pub(super) const FORMAT: u64 = 1;

pub(super) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
pub(super) const SALES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("sales");
pub(super) const RECORDS: TableDefinition<'_, (&str, &[u8; 16]), &[u8]> =
    TableDefinition::new("records");
const DUE: TableDefinition<'_, DueKey<'_>, ()> = TableDefinition::new("due");
const VOIDS: TableDefinition<'_, (&str, &[u8; 12]), ()> = TableDefinition::new("voids");
const FAILED: TableDefinition<'_, (&str, &[u8; 12]), ()> = TableDefinition::new("failed");
const NODES: TableDefinition<'_, (&str, &[u8; 8]), &[u8]> = TableDefinition::new("nodes");

type DueKey<'a> = (&'a str, u64, &'a [u8; 16], &'a [u8; 12]);

/// Why a transaction failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// The file.
    #[error("{0}")]
    File(Box<redb::Error>),
    /// A value that is not as we write it.
    #[error("{0} cannot be read")]
    Value(String),
    /// Another process has taken the file to a newer format.
    #[error("a newer version of Penstock has changed the file to format {0}")]
    Newer(u64),
    /// A panic of the storage.
    #[error("the storage panicked: {0}")]
    Panic(String),
}

impl<E: Into<redb::Error>> From<E> for Fault {
    fn from(error: E) -> Fault {
        Fault::File(Box::new(error.into()))
    }
}

/// All tables of one write transaction.
pub(super) struct Tables<'t> {
    pub(super) sales: Table<'t, &'static str, &'static [u8]>,
    records: Table<'t, (&'static str, &'static [u8; 16]), &'static [u8]>,
    due: Table<'t, DueKey<'static>, ()>,
    voids: Table<'t, (&'static str, &'static [u8; 12]), ()>,
    failed: Table<'t, (&'static str, &'static [u8; 12]), ()>,
    nodes: Table<'t, (&'static str, &'static [u8; 8]), &'static [u8]>,
}

impl<'t> Tables<'t> {
    /// Opens them, where the file has our format still.
    pub(super) fn open(tx: &'t WriteTransaction) -> Result<Tables<'t>, Fault> {
        let format = tx.open_table(META)?.get("format")?.map_or(0, |v| v.value());
        if format != FORMAT {
            return Err(Fault::Newer(format));
        }
        Ok(Tables {
            sales: tx.open_table(SALES)?,
            records: tx.open_table(RECORDS)?,
            due: tx.open_table(DUE)?,
            voids: tx.open_table(VOIDS)?,
            failed: tx.open_table(FAILED)?,
            nodes: tx.open_table(NODES)?,
        })
    }
}

/// One sale inside a write transaction.
pub(super) struct FileShard<'a, 't> {
    pub(super) tables: &'a mut Tables<'t>,
    pub(super) id: &'a SaleId,
    pub(super) key: String,
}

impl<'a, 't> FileShard<'a, 't> {
    pub(super) fn new(tables: &'a mut Tables<'t>, id: &'a SaleId) -> FileShard<'a, 't> {
        FileShard { tables, id, key: id.to_string() }
    }
}

impl Shard for FileShard<'_, '_> {
    type Error = Fault;

    fn id(&self) -> &SaleId {
        self.id
    }

    fn sale(&mut self) -> Result<Option<SaleState>, Fault> {
        let value = self.tables.sales.get(self.key.as_str())?;
        value.map(|v| state(&self.key, v.value())).transpose()
    }

    fn put_sale(&mut self, state: &SaleState) -> Result<(), Fault> {
        let json = json(&self.key, state)?;
        self.tables.sales.insert(self.key.as_str(), json.as_slice())?;
        Ok(())
    }

    fn user(&mut self, user: &UserKey) -> Result<Vec<Record>, Fault> {
        match self.tables.records.get((self.key.as_str(), &user.0))? {
            Some(value) => records(&self.key, *user, value.value()),
            None => Ok(Vec::new()),
        }
    }

    fn put_user(&mut self, user: &UserKey, records: &[Record]) -> Result<(), Fault> {
        let key = (self.key.as_str(), &user.0);
        if records.is_empty() {
            self.tables.records.remove(key)?;
        } else {
            self.tables.records.insert(key, form::encode(records).as_slice())?;
        }
        Ok(())
    }

    fn due(&mut self, now: UnixMs, max: usize) -> Result<Vec<Due>, Fault> {
        let key = self.key.as_str();
        let range = (key, 0, &[0; 16], &[0; 12])..=(key, now.0, &[0xff; 16], &[0xff; 12]);
        let mut due = Vec::new();
        for entry in self.tables.due.range::<DueKey<'_>>(range)?.take(max) {
            let (entry, _) = entry?;
            let (_, at, user, claim) = entry.value();
            due.push(Due { at: UnixMs(at), user: UserKey(*user), claim: ClaimId(*claim) });
        }
        Ok(due)
    }

    fn add_due(&mut self, due: Due) -> Result<(), Fault> {
        self.tables.due.insert((self.key.as_str(), due.at.0, &due.user.0, &due.claim.0), ())?;
        Ok(())
    }

    fn remove_due(&mut self, due: Due) -> Result<(), Fault> {
        self.tables.due.remove((self.key.as_str(), due.at.0, &due.user.0, &due.claim.0))?;
        Ok(())
    }

    fn is_void(&mut self, claim: &ClaimId) -> Result<bool, Fault> {
        Ok(self.tables.voids.get((self.key.as_str(), &claim.0))?.is_some())
    }

    fn put_void(&mut self, claim: &ClaimId) -> Result<(), Fault> {
        self.tables.voids.insert((self.key.as_str(), &claim.0), ())?;
        Ok(())
    }

    fn is_failed(&mut self, claim: &ClaimId) -> Result<bool, Fault> {
        Ok(self.tables.failed.get((self.key.as_str(), &claim.0))?.is_some())
    }

    fn put_failed(&mut self, claim: &ClaimId) -> Result<(), Fault> {
        self.tables.failed.insert((self.key.as_str(), &claim.0), ())?;
        Ok(())
    }

    /// What is committed to the file stays: no process that opens it has forgotten anything.
    fn server(&mut self) -> Result<ServerId, Fault> {
        Ok(ServerId::default())
    }

    fn nodes(&mut self) -> Result<Vec<(NodeId, Peer)>, Fault> {
        let key = self.key.as_str();
        let range = (key, &[0; 8])..=(key, &[0xff; 8]);
        let mut nodes = Vec::new();
        for entry in self.tables.nodes.range::<(&str, &[u8; 8])>(range)? {
            let (entry, value) = entry?;
            let peer = serde_json::from_slice(value.value())
                .map_err(|e| Fault::Value(format!("a node of {key}: {e}")))?;
            nodes.push((NodeId(*entry.value().1), peer));
        }
        Ok(nodes)
    }

    fn put_node(&mut self, node: NodeId, peer: Option<Peer>) -> Result<(), Fault> {
        let key = (self.key.as_str(), &node.0);
        match peer {
            Some(peer) => {
                self.tables.nodes.insert(key, json(&self.key, &peer)?.as_slice())?;
            }
            None => drop(self.tables.nodes.remove(key)?),
        }
        Ok(())
    }
}

/// A sale's value.
pub(super) fn state(key: &str, value: &[u8]) -> Result<SaleState, Fault> {
    serde_json::from_slice(value).map_err(|e| Fault::Value(format!("the state of {key}: {e}")))
}

/// A user's value.
pub(super) fn records(key: &str, user: UserKey, value: &[u8]) -> Result<Vec<Record>, Fault> {
    form::decode(user, value)
        .ok_or_else(|| Fault::Value(format!("the records of user {user} of {key}")))
}

fn json<T: serde::Serialize + ?Sized>(key: &str, value: &T) -> Result<Vec<u8>, Fault> {
    serde_json::to_vec(value).map_err(|e| Fault::Value(format!("{key}: {e}")))
}
