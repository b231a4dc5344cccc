//! A purchase that waits: its body, the checks that needed it, then the answer of a task of its own,
//! which a client that leaves does not end.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Response};

use super::Inner;
use super::body::{Hold, read_whole};
use super::fields::Single;
use super::forward::{self, Errand};
use super::judge::{Open, known_before, passes, sent, standing, won};
use super::order::{Order, Source};
use super::repeat::{Again, Fingerprint, Lead, Relayed, Told, Waiting};
use super::say::{Listener, Said, Voice};
use crate::http::{ResponseBody, Work};
use crate::ident::AttemptId;
use crate::outcome::Reason;

/// The cold path of an open purchase.
pub(super) fn start(inner: Rc<Inner>, open: Open, listener: Listener<'static>) -> Work {
    Box::new(move |body, _| {
        Box::pin(async move {
            let (site, sale) = (open.site.clone(), open.sale.clone());
            let bytes_max = site.order.body_bytes_max;
            let shared = inner.shared.clone();
            let read = read_whole(body, bytes_max, shared.body_timeout, &shared.bodies).await;
            let (told, is_first) = match read {
                Err(said) => (Arc::new(Told::Own(said)), true),
                Ok((body, hold)) => tell(&inner, open, &listener, body, hold).await,
            };
            let voice = Voice { answers: &shared.answers, cors: &site.cors, sale: &sale };
            match &*told {
                Told::Own(said) => voice.response(said, &listener),
                Told::Shop(relayed) => relay(relayed, &voice, &listener, is_first),
            }
        })
    })
}

/// Everything behind the body; whether the answer is this request's own.
async fn tell(
    inner: &Rc<Inner>,
    open: Open,
    listener: &Listener<'_>,
    body: Bytes,
    hold: Option<Hold>,
) -> (Arc<Told>, bool) {
    let own = |said: Said| (Arc::new(Told::Own(said)), true);
    let ready = match prepare(inner, &open, listener, &body) {
        Ok(ready) => ready,
        Err(Early::Said(said)) => return own(said),
        Err(Early::Again(again)) => return repeat(inner, again).await,
    };
    let (order, attempt, fingerprint) = ready;
    match inner.shared.repeats.begin(open.user, attempt, fingerprint) {
        Err(again) => repeat(inner, again).await,
        Ok(None) => own(Said::from(Reason::InProgress)),
        Ok(Some(lead)) => {
            let mut waiting = lead.waiting();
            let errand = errand(open, listener, order, attempt, body, hold);
            let keyed = errand.is_keyed;
            let task = run(inner.clone(), errand, lead, keyed);
            drop(inner.tasks.spawn_local(task));
            match told(&mut waiting).await {
                Some(told) => (told, true),
                // The task panicked: its permit is resolved, and what became of it is not known.
                None => own(Said::from(Reason::Pending)),
            }
        }
    }
}

async fn run(inner: Rc<Inner>, errand: Errand, lead: Lead, is_keyed: bool) {
    let forwarded = forward::run(&inner, errand).await;
    lead.land(forwarded.told, forwarded.is_confirmed && is_keyed);
}

/// Why nothing is claimed.
enum Early {
    Said(Said),
    Again(Again),
}

impl<T: Into<Said>> From<T> for Early {
    fn from(said: T) -> Early {
        Early::Said(said.into())
    }
}

/// Reads the order, tells those who ask again, and checks what the head could not say.
fn prepare(
    inner: &Inner,
    open: &Open,
    listener: &Listener<'_>,
    body: &[u8],
) -> Result<(Order, AttemptId, Fingerprint), Early> {
    let (sale, now) = (&open.sale, &listener.exchange.now);
    let order = match &open.order {
        Some(order) => order.clone(),
        None => read(open, body)?,
    };
    let attempt = match &order.key {
        Some(key) => AttemptId::of_key(&sale.state.salt, &open.user, key),
        None => AttemptId::random(),
    };
    let fingerprint = fingerprint(open, &order, body);
    if open.order.is_none() {
        match inner.shared.repeats.ask(&open.user, &attempt, &fingerprint) {
            Again::New => {}
            again => return Err(Early::Again(again)),
        }
        let known = inner.claims.known(&sale.state.id, &open.user);
        if let Some(said) = known_before(known, &attempt, sale) {
            return Err(Early::Said(said));
        }
        match won(inner, sale, &open.user, &attempt, &open.keys, now) {
            Some(told) => told?,
            None => {
                standing(sale, now)?;
                passes(inner, &open.site, sale, &open.user, &order, &open.keys, now)?;
            }
        }
    }
    Ok((order, attempt, fingerprint))
}

fn read(open: &Open, body: &[u8]) -> Result<Order, Said> {
    let content_type = match sent(&open.headers, &http::header::CONTENT_TYPE) {
        Single::Absent => None,
        Single::One(value) => Some(value),
        Single::Several => {
            return Err(Said::because(Reason::BadRequest, "Content-Type comes more than once"));
        }
    };
    let source = Source { content_type, query: open.query.as_deref(), body };
    let read = open.site.order.read(&open.sale.state, source, |name| sent(&open.headers, name));
    Ok(read?)
}

/// What an attempt asks for, as a hash: pool, units, target and body.
fn fingerprint(open: &Open, order: &Order, body: &[u8]) -> Fingerprint {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(order.pool as u64).to_le_bytes());
    hasher.update(&order.units.to_le_bytes());
    hasher.update(&(open.target.len() as u64).to_le_bytes());
    hasher.update(open.target.as_bytes());
    hasher.update(body);
    let mut fingerprint = Fingerprint::default();
    fingerprint.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    fingerprint
}

fn errand(
    open: Open,
    listener: &Listener<'_>,
    order: Order,
    attempt: AttemptId,
    body: Bytes,
    hold: Option<Hold>,
) -> Errand {
    Errand {
        site: open.site,
        sale: open.sale,
        user: open.user,
        attempt,
        pool: order.pool,
        units: order.units,
        is_keyed: order.key.is_some(),
        headers: open.headers,
        target: open.target,
        host: open.host,
        body,
        _hold: hold,
        started: open.started,
        now: listener.exchange.now,
        request: listener.exchange.id,
        note: listener.exchange.note.clone(),
    }
}

/// What is said to those who ask again; never this request's own answer.
async fn repeat(inner: &Inner, again: Again) -> (Arc<Told>, bool) {
    let own = |reason: Reason| Arc::new(Told::Own(Said::from(reason)));
    let told = match again {
        Again::Replay(first) => first,
        Again::Reused => own(Reason::KeyReused),
        // Nothing is known after all: the first one's answer was not kept.
        Again::New => own(Reason::InProgress),
        Again::Join(mut waiting) => {
            let first = tokio::time::timeout(inner.shared.join_timeout, told(&mut waiting)).await;
            first.ok().flatten().unwrap_or_else(|| own(Reason::InProgress))
        }
    };
    (told, false)
}

async fn told(waiting: &mut Waiting) -> Option<Arc<Told>> {
    waiting.wait_for(Option::is_some).await.ok()?.clone()
}

/// The shop's own answer, untouched but for our own fields.
fn relay(
    relayed: &Relayed,
    voice: &Voice<'_>,
    listener: &Listener<'_>,
    is_first: bool,
) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::Full(relayed.body.clone()));
    *response.status_mut() = relayed.status;
    let headers = response.headers_mut();
    *headers = relayed.headers.clone();
    voice.cors.add(listener.origin, headers);
    let reason = if is_first { Reason::Admitted } else { Reason::Replayed };
    headers.insert("penstock-reason", HeaderValue::from_static(reason.label()));
    headers.insert("penstock-time", HeaderValue::from(listener.exchange.now.ledger.0));
    if let Ok(id) = HeaderValue::from_str(&listener.exchange.id.to_string()) {
        headers.insert("penstock-request", id);
    }
    if !is_first {
        headers.insert("idempotent-replayed", HeaderValue::from_static("true"));
    }
    response
}
