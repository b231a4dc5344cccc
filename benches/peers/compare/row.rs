//! The rows of the table: what is asked, of whom, and what Penstock has to keep to.

use super::server::Kind;

/// One row.
pub struct Row {
    /// What is asked.
    pub work: Work,
    /// Keep-alive connections, all of them busy.
    pub connections: usize,
    /// Who is asked.
    pub entrants: &'static [Entrant],
    /// What Penstock has to keep to.
    pub bounds: &'static [Bound],
    /// Whether `make bench-quick` has it.
    pub is_telling: bool,
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// A cached page of so many KB.
    Hit(usize),
    /// The same over TLS 1.3, by HTTP/1.1.
    TlsHit(usize),
    /// The same over TLS 1.3, by HTTP/2 with ten requests under way on each connection.
    Http2Hit(usize),
    /// The availability of an activity that is sold out.
    Availability,
    /// A purchase, each of another user, that is refused.
    Refusal,
    /// Pages, availability and refused purchases 90/9/1.
    Mixed,
    /// A page that nobody asked for before, of a kind that is not compressed.
    Fill,
    /// The same in HTML, which Penstock compresses once, at fill, and the others do not.
    FillHtml,
    /// A page that nobody may store.
    Proxied,
    /// A small answer made by a handler behind hyper.
    Cold,
}

impl Work {
    /// How h2load asks for it, and for a page of how many KB; nothing for what goes without TLS.
    pub fn over_tls(self) -> Option<(&'static [&'static str], usize)> {
        match self {
            Work::TlsHit(kb) => Some((&["--h1", "-m", "1"], kb)),
            Work::Http2Hit(kb) => Some((&["-m", "10"], kb)),
            _ => None,
        }
    }
}

/// Who is asked: a server, and the way in which it does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entrant {
    /// The bare loop, with an answer as long as Penstock's.
    Floor,
    /// nginx; its refusal is `limit_req`.
    Nginx,
    /// nginx, whose refusal is a constant.
    NginxConstant,
    /// HAProxy; its refusal is a rate in a stick table.
    Haproxy,
    /// HAProxy, whose refusal is a constant.
    HaproxyConstant,
    /// Varnish; its refusal is a constant.
    Varnish,
    /// Penstock.
    Penstock,
    /// hyper alone.
    Hyper,
    /// Penstock's driver in front of hyper.
    Cold,
}

impl Entrant {
    /// The server that runs.
    pub fn kind(self) -> Kind {
        match self {
            Entrant::Floor => Kind::Floor,
            Entrant::Nginx | Entrant::NginxConstant => Kind::Nginx,
            Entrant::Haproxy | Entrant::HaproxyConstant => Kind::Haproxy,
            Entrant::Varnish => Kind::Varnish,
            Entrant::Penstock => Kind::Penstock,
            Entrant::Hyper => Kind::Hyper,
            Entrant::Cold => Kind::Cold,
        }
    }

    /// Whether it is one of the products to be measured by.
    pub fn is_peer(self) -> bool {
        matches!(self.kind(), Kind::Nginx | Kind::Haproxy | Kind::Varnish)
    }

    /// Whether it is us.
    pub fn is_ours(self) -> bool {
        matches!(self, Entrant::Penstock | Entrant::Cold)
    }

    /// Whether it refuses without looking at anything.
    pub fn is_constant(self) -> bool {
        matches!(self, Entrant::NginxConstant | Entrant::HaproxyConstant)
    }
}

/// What a figure of Penstock's is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Against {
    /// CPU per request, as a multiple of the floor's.
    Floor,
    /// CPU per request, as a multiple of the best peer's.
    BestPeer,
    /// CPU per request, as a multiple of Varnish's.
    Varnish,
    /// CPU per request, as a multiple of HAProxy's.
    Haproxy,
    /// CPU per request, as a multiple of plain hyper's.
    Hyper,
    /// Microseconds outside the kernel.
    UserTime,
}

/// A target.
pub struct Bound {
    /// What is compared.
    pub against: Against,
    /// What has to be kept.
    pub must: f64,
    /// What we would like.
    pub goal: Option<f64>,
}

const fn bound(against: Against, must: f64, goal: f64) -> Bound {
    Bound { against, must, goal: Some(goal) }
}

const VARNISH: Bound = Bound { against: Against::Varnish, must: 0.5, goal: None };
const USER_TIME: Bound = bound(Against::UserTime, 1.0, 0.8);
const HIT_64: &[Bound] =
    &[bound(Against::Floor, 1.20, 1.15), bound(Against::BestPeer, 0.70, 0.67), VARNISH, USER_TIME];
const HIT_512: &[Bound] =
    &[bound(Against::Floor, 1.25, 1.18), bound(Against::BestPeer, 0.62, 0.58), VARNISH];
const HIT_LARGE: &[Bound] =
    &[bound(Against::Floor, 1.12, 1.08), bound(Against::BestPeer, 0.65, 0.60)];
const AVAILABILITY: &[Bound] = &[bound(Against::Floor, 1.20, 1.15)];
const REFUSAL: &[Bound] =
    &[bound(Against::Floor, 1.15, 1.08), bound(Against::BestPeer, 0.87, 0.82)];
const TLS_1: &[Bound] = &[bound(Against::BestPeer, 0.70, 0.62)];
const TLS_16: &[Bound] = &[bound(Against::BestPeer, 0.50, 0.44)];
const HTTP2_1: &[Bound] = &[bound(Against::Haproxy, 0.90, 0.83)];
const HTTP2_16: &[Bound] = &[bound(Against::Haproxy, 0.55, 0.44)];
const COLD: &[Bound] = &[bound(Against::Hyper, 1.15, 1.05)];

const ALL: &[Entrant] =
    &[Entrant::Floor, Entrant::Nginx, Entrant::Haproxy, Entrant::Varnish, Entrant::Penstock];
const PROXIES: &[Entrant] =
    &[Entrant::Nginx, Entrant::Haproxy, Entrant::Varnish, Entrant::Penstock];
/// Varnish has no TLS of its own.
const SECURE: &[Entrant] = &[Entrant::Nginx, Entrant::Haproxy, Entrant::Penstock];
const REFUSERS: &[Entrant] = &[
    Entrant::Floor,
    Entrant::Nginx,
    Entrant::NginxConstant,
    Entrant::Haproxy,
    Entrant::HaproxyConstant,
    Entrant::Varnish,
    Entrant::Penstock,
];
const DRIVERS: &[Entrant] = &[Entrant::Hyper, Entrant::Cold];

const fn row(
    work: Work,
    connections: usize,
    entrants: &'static [Entrant],
    bounds: &'static [Bound],
) -> Row {
    let is_telling =
        connections == 64 && matches!(work, Work::Hit(1) | Work::Availability | Work::Refusal);
    Row { work, connections, entrants, bounds, is_telling }
}

/// Every row. Those that fill caches stand last: they push out what the others ask for.
pub const ROWS: &[Row] = &[
    row(Work::Hit(1), 64, ALL, HIT_64),
    row(Work::Hit(16), 64, ALL, HIT_64),
    row(Work::Hit(100), 64, ALL, HIT_LARGE),
    row(Work::Hit(1), 512, ALL, HIT_512),
    row(Work::Hit(16), 512, ALL, HIT_512),
    row(Work::Hit(100), 512, ALL, HIT_LARGE),
    row(Work::TlsHit(1), 64, SECURE, TLS_1),
    row(Work::TlsHit(16), 64, SECURE, TLS_16),
    row(Work::Http2Hit(1), 64, SECURE, HTTP2_1),
    row(Work::Http2Hit(16), 64, SECURE, HTTP2_16),
    row(Work::Availability, 64, ALL, AVAILABILITY),
    row(Work::Availability, 512, ALL, AVAILABILITY),
    row(Work::Refusal, 64, REFUSERS, REFUSAL),
    row(Work::Refusal, 512, REFUSERS, REFUSAL),
    row(Work::Mixed, 512, ALL, &[]),
    row(Work::Cold, 64, DRIVERS, COLD),
    row(Work::Proxied, 64, PROXIES, &[]),
    row(Work::Fill, 64, PROXIES, &[]),
    row(Work::FillHtml, 64, PROXIES, &[]),
];
