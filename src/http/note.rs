//! What a decision leaves for the end of its exchange: the route, and what the log will show of the
//! request where its line is wanted. A request whose line is not wanted costs no allocation.

use std::cell::{Cell, OnceCell};
use std::rc::Rc;

use http::Method;

use super::forwarded::ClientAddr;

/// What a request turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Route {
    /// A page of an activity.
    Page,
    /// The availability flag.
    Availability,
    /// A purchase, or another method on its path.
    Purchase,
    /// Everything else that goes to the shop.
    Proxy,
    /// Answered by the edge for itself: `/_penstock/`, health, unknown hosts.
    Own,
}

impl Route {
    /// Name in metrics and logs.
    pub fn label(self) -> &'static str {
        match self {
            Route::Page => "page",
            Route::Availability => "availability",
            Route::Purchase => "purchase",
            Route::Proxy => "proxy",
            Route::Own => "own",
        }
    }
}

/// What the log shows of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The method.
    pub method: Method,
    /// The validated Host.
    pub host: String,
    /// Path and query as they were sent.
    pub target: String,
    /// The client, by trust.
    pub client: ClientAddr,
    /// `User-Agent`.
    pub user_agent: Option<Vec<u8>>,
    /// `Referer`.
    pub referer: Option<Vec<u8>>,
    /// Whether it was answered at once and not refused: from the cache, if it is no sale's.
    pub is_hit: Cell<bool>,
    /// Whether its line is still to be written.
    pub due: Cell<Due>,
}

/// Whether a line is still to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// When the exchange is finished.
    Finished,
    /// When it is known what a purchase came to.
    Known,
    /// Never: it is not wanted, or was written.
    Never,
}

/// Filled by the decision, read when the exchange is finished. Clones share what is kept.
#[derive(Clone, Debug, Default)]
pub struct Note {
    route: Cell<Option<Route>>,
    asked: OnceCell<Rc<Asked>>,
}

impl Note {
    /// Says what the request turned out to be.
    pub fn set_route(&self, route: Route) {
        self.route.set(Some(route));
    }

    /// What the request turned out to be, if a decision was made.
    pub fn route(&self) -> Option<Route> {
        self.route.get()
    }

    /// Keeps what the log shows.
    pub fn keep(&self, asked: Asked) {
        // A second call would say the same of the same request.
        let _ = self.asked.set(Rc::new(asked));
    }

    /// What the log shows, if the line is wanted.
    pub fn asked(&self) -> Option<&Asked> {
        self.asked.get().map(|asked| &**asked)
    }
}
