//! Places for upgraded connections: so many for each site, over all workers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::schema;
use crate::ident::Name;

/// The places of all sites.
#[derive(Clone, Debug, Default)]
pub struct Upgrades(BTreeMap<Name, Places>);

impl Upgrades {
    /// For the sites that allow any.
    pub fn new(sites: &BTreeMap<Name, schema::Site>) -> Upgrades {
        let places = |(name, site): (&Name, &schema::Site)| {
            site.upgrade.as_ref().map(|upgrade| (name.clone(), Places::new(upgrade)))
        };
        Upgrades(sites.iter().filter_map(places).collect())
    }

    /// The places by other settings. Those that are taken count on, except where a site has another
    /// number of them now: there the count begins anew.
    pub fn next(&self, sites: &BTreeMap<Name, schema::Site>) -> Upgrades {
        let mut next = Upgrades::new(sites);
        for (name, new) in &mut next.0 {
            if let Some(old) = self.0.get(name).filter(|old| old.most == new.most) {
                new.free = old.free.clone();
            }
        }
        next
    }

    /// Those of `site`.
    pub(super) fn of(&self, site: &Name) -> Option<Places> {
        self.0.get(site).cloned()
    }
}

/// The places of one site.
#[derive(Clone, Debug)]
pub(super) struct Places {
    free: Arc<Semaphore>,
    most: usize,
    /// How long both sides may be silent.
    pub idle: Duration,
}

impl Places {
    fn new(settings: &schema::Upgrade) -> Places {
        let most = usize::try_from(settings.connections_max).unwrap_or(Semaphore::MAX_PERMITS);
        Places {
            free: Arc::new(Semaphore::new(most)),
            most,
            idle: settings.idle_timeout.duration(),
        }
    }

    /// A place, if one is free.
    pub(super) fn take(&self) -> Option<OwnedSemaphorePermit> {
        self.free.clone().try_acquire_owned().ok()
    }
}
