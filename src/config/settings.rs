//! What the settings mean where one depends on another, in one place for all who ask.

use std::path::PathBuf;

use super::schema::{Sale, Settings, Site, Store, StoreKind};
use crate::ident::{Name, SaleId};

impl Settings {
    /// Where the journal, the embedded ledger and the admin socket live: the setting, else the first
    /// directory of `$STATE_DIRECTORY` (systemd sets it), else `./penstock-state`.
    pub fn state_dir(&self) -> PathBuf {
        if let Some(dir) = &self.state_dir {
            return PathBuf::from(dir);
        }
        let given = std::env::var("STATE_DIRECTORY").unwrap_or_default();
        match given.split(':').next() {
            Some(dir) if !dir.is_empty() => PathBuf::from(dir),
            _ => PathBuf::from("penstock-state"),
        }
    }

    /// The admin socket: the setting, else `admin.sock` in the state directory.
    pub fn admin_socket(&self) -> PathBuf {
        match &self.admin.socket {
            Some(path) => PathBuf::from(path),
            None => self.state_dir().join("admin.sock"),
        }
    }

    /// A hash of what all nodes of a fleet must agree on: sites, sales, upstreams, limits, gate and
    /// answers. Sockets, directories, logs and sizes may differ.
    pub fn fleet_hash(&self) -> String {
        let shared = (
            (&self.site, &self.sale, &self.upstream, &self.trust),
            (&self.limits, &self.gate, &self.answers),
        );
        // Settings are names, numbers and texts: they always render.
        let text = serde_json::to_vec(&shared).unwrap_or_default();
        let hash = blake3::hash(&text).to_hex();
        hash.as_str().chars().take(HASH_CHARS).collect()
    }

    /// The site of `[sale.NAME]`: its own word, else the only one. `None` if that names none.
    pub fn site_of<'s>(&'s self, sale: &'s Sale) -> Option<(&'s Name, &'s Site)> {
        match &sale.site {
            Some(name) => self.site.get_key_value(name),
            None if self.site.len() == 1 => self.site.first_key_value(),
            None => None,
        }
    }

    /// The full name of `[sale.NAME]`; `None` if it names no site there is.
    pub fn sale_id(&self, name: &Name) -> Option<SaleId> {
        let (site, _) = self.site_of(self.sale.get(name)?)?;
        Some(SaleId { site: site.clone(), sale: name.clone() })
    }
}

impl Site {
    /// The upstream of its purchases, where it has any.
    pub fn purchase_upstream(&self) -> Option<&Name> {
        let activity = self.activity.as_ref().filter(|activity| activity.purchase.is_some())?;
        activity.purchase_upstream.as_ref().or(self.upstream.as_ref())
    }
}

impl Sale {
    /// The activity it sells: its own word, else the name of the sale.
    pub fn activity_of<'s>(&'s self, name: &'s Name) -> &'s Name {
        self.activity.as_ref().unwrap_or(name)
    }
}

impl Store {
    /// Whether it is Redis.
    pub fn is_redis(&self) -> bool {
        self.kind == StoreKind::Redis
    }
}

/// Enough to tell configs apart, short enough to read aloud.
const HASH_CHARS: usize = 12;
