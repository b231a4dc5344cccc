//! The faithful proxy for everything that is not a sale: any method, the raw target, bodies streamed
//! both ways without any limit but that of silence.
//!
//! The request's head is built anew from what may be forwarded. A site without an upstream answers
//! `bad_gateway`, as one whose servers are all down does. What is proxied on the path of a purchase
//! goes where its purchases go: one path is one service.

mod upgrades;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Version, header};
use tokio::sync::OwnedSemaphorePermit;

use crate::answers::{Answers, Facts, Form};
use crate::config::Settings;
use crate::http::head::BodyKind;
use crate::http::{
    Exchange, Head, Interim, RequestBody, ResponseBody, Route, Step, Trust, forwarded, hop,
};
use crate::ident::Name;
use crate::metrics::{Counter, Sink};
use crate::outcome::Reason;
use crate::upstream::{Body, Group, Request, Response, Stage, Timeouts, UpstreamError, Upstreams};

use self::upgrades::Places;
pub use self::upgrades::Upgrades;

/// One worker's proxy.
#[derive(Debug)]
pub struct Proxy {
    answers: Arc<Answers>,
    trust: Arc<Trust>,
    sites: BTreeMap<Name, Site>,
    upstreams: Rc<Upstreams>,
    sink: Sink,
}

#[derive(Debug)]
struct Site {
    group: Option<Rc<Group>>,
    /// That of the path of purchases.
    orders: Option<Rc<Group>>,
    /// Places for upgraded connections, if there may be any.
    upgrades: Option<Places>,
    /// Host of a request that named none (HTTP/1.0).
    host: String,
}

impl Proxy {
    /// One worker's proxy.
    pub fn new(
        settings: &Settings,
        answers: Arc<Answers>,
        trust: Arc<Trust>,
        upstreams: Rc<Upstreams>,
        upgrades: &Upgrades,
        sink: Sink,
    ) -> Proxy {
        let sites = settings.site.iter().map(|(name, site)| {
            let group = |name: Option<&Name>| name.and_then(|name| upstreams.group(name)).cloned();
            let host = site.hosts.first().map(ToString::to_string).unwrap_or_default();
            let (group, orders) = (group(site.upstream.as_ref()), group(site.purchase_upstream()));
            (name.clone(), Site { group, orders, upgrades: upgrades.of(name), host })
        });
        let sites = sites.collect();
        Proxy { answers, trust, sites, upstreams, sink }
    }

    /// The worker's connections to the shop.
    pub fn upstreams(&self) -> &Rc<Upstreams> {
        &self.upstreams
    }

    /// Sends the request of `head` to the upstream of `site`, or of its purchases where that is its
    /// route, and relays the answer. `upgrade` is the protocol to which it may switch.
    pub fn decide(
        &self,
        site: &Name,
        route: Route,
        upgrade: Option<&str>,
        head: &Head<'_>,
        exchange: &Exchange,
    ) -> Step {
        let form = self.answers.form(head);
        let refuse = |reason, detail| self.refuse(form, reason, detail, exchange);
        let found = self.sites.get(site).and_then(|site| Some((site.group(route)?, site)));
        let Some((group, site)) = found else {
            return refuse(Reason::BadGateway, "this site has no upstream");
        };
        if has_looped(head) {
            self.sink.inc(Counter::ForwardingLoops);
            return refuse(Reason::BadGateway, "the request came back here: a forwarding loop");
        }
        let mut request = Outgoing {
            method: head.method.clone(),
            target: target(head),
            host: host_for(head, group, &site.host),
            headers: self.headers(head, exchange),
            body: head.body,
        };
        let mut switch = None;
        if let Some(protocol) = upgrade {
            let places = site.upgrades.as_ref();
            let Some(place) = places.and_then(Places::take) else {
                self.sink.inc(Counter::UpgradesCapped);
                return refuse(Reason::Overloaded, "too many upgraded connections are open");
            };
            append(&mut request.headers, Some(header::UPGRADE), protocol.as_bytes());
            let idle = places.map(|places| places.idle);
            switch = Some(Switch { place, idle, sink: self.sink.clone() });
        }
        let apology = Apology { answers: self.answers.clone(), form, exchange: exchange.clone() };
        let group = group.clone();
        Step::Work(Box::new(move |body, interim| {
            Box::pin(async move {
                let response = relay(group, request.with(body, interim), apology).await;
                match switch {
                    Some(switch) => switch.after(response),
                    None => response,
                }
            })
        }))
    }

    /// The servers and the request that [`Proxy::decide`] would send, for a GET or HEAD that a cache
    /// may answer. `None` where there is no server, or where the request goes round in circles.
    pub fn forward(
        &self,
        site: &Name,
        head: &Head<'_>,
        exchange: &Exchange,
    ) -> Option<(Rc<Group>, Request)> {
        let site = self.sites.get(site)?;
        let group = site.group.as_ref().filter(|_| !has_looped(head))?;
        let request = Request {
            method: head.method.clone(),
            target: target(head),
            host: host_for(head, group, &site.host),
            headers: self.headers(head, exchange),
            body: Body::Empty,
            interim: None,
        };
        Some((group.clone(), request))
    }

    fn refuse(&self, form: Form, reason: Reason, detail: &str, exchange: &Exchange) -> Step {
        let facts = Facts { detail: Some(detail), ..Facts::default() };
        let answer = self.answers.make(form, reason, &facts);
        Step::Answer(self.answers.ready(answer, reason, exchange))
    }

    /// What is forwarded of the client's fields, and ours.
    fn headers(&self, head: &Head<'_>, exchange: &Exchange) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(head.fields.len() + OWN_FIELDS);
        for field in hop::forwardable(head) {
            append(&mut headers, HeaderName::from_bytes(field.name).ok(), field.value);
        }
        let chain = forwarded::chain(head, &exchange.peer, &self.trust);
        if !chain.is_empty() {
            append(&mut headers, Some(X_FORWARDED_FOR), chain.as_bytes());
        }
        // Where TLS ends here, the driver will say so; this one speaks plain HTTP.
        let proto = forwarded::proto(head, &exchange.peer, &self.trust, exchange.is_tls);
        append(&mut headers, Some(X_FORWARDED_PROTO), proto.as_bytes());
        let asked = self.asked_host(head, exchange);
        if !asked.is_empty() {
            append(&mut headers, Some(X_FORWARDED_HOST), asked);
        }
        append(&mut headers, Some(header::VIA), via(head.version).as_bytes());
        headers
    }

    /// The Host that the client asked for: what a trusted peer says of it, else what came.
    fn asked_host<'h>(&self, head: &'h Head<'_>, exchange: &Exchange) -> &'h [u8] {
        let said = if self.trust.is_trusted(&exchange.peer) {
            head.field("x-forwarded-host")
        } else {
            None
        };
        said.unwrap_or(head.host.as_bytes())
    }
}

impl Site {
    fn group(&self, route: Route) -> Option<&Rc<Group>> {
        match route {
            Route::Purchase => self.orders.as_ref(),
            _ => self.group.as_ref(),
        }
    }
}

/// A request without its body.
struct Outgoing {
    method: http::Method,
    target: String,
    host: String,
    headers: HeaderMap,
    body: BodyKind,
}

impl Outgoing {
    fn with(self, body: RequestBody, interim: Interim) -> Request {
        let Outgoing { method, target, host, headers, body: kind } = self;
        let body = match kind {
            BodyKind::None => Body::Empty,
            BodyKind::Sized(_) | BodyKind::Chunked => Body::Stream(body),
        };
        let hears = move |status, headers: &HeaderMap| interim.say(status, headers);
        Request { method, target, host, headers, body, interim: Some(Arc::new(hears)) }
    }
}

/// What a request that may leave HTTP takes with it.
struct Switch {
    place: OwnedSemaphorePermit,
    idle: Option<Duration>,
    sink: Sink,
}

impl Switch {
    /// Hands the place on to the connection, or back where the shop did not switch.
    fn after(self, mut response: http::Response<ResponseBody>) -> http::Response<ResponseBody> {
        match response.body_mut() {
            ResponseBody::Upgraded(upgraded) => {
                upgraded.place = Some(self.place);
                upgraded.idle = self.idle.unwrap_or(upgraded.idle);
            }
            _ => self.sink.inc(Counter::UpgradesRefused),
        }
        response
    }
}

/// What it takes to answer ourselves.
struct Apology {
    answers: Arc<Answers>,
    form: Form,
    exchange: Exchange,
}

impl Apology {
    fn answer(&self, error: &UpstreamError) -> http::Response<ResponseBody> {
        let (reason, detail) = reason_of(error);
        let facts = Facts { detail: Some(detail), ..Facts::default() };
        let answer = self.answers.make(self.form, reason, &facts);
        let ready = self.answers.ready(answer, reason, &self.exchange);
        ready.answer.response(&ready.fill).map(ResponseBody::Full)
    }
}

async fn relay(
    group: Rc<Group>,
    request: Request,
    apology: Apology,
) -> http::Response<ResponseBody> {
    let settings = group.settings();
    let timeouts = Timeouts {
        first_byte: settings.first_byte_timeout.duration(),
        idle: settings.idle_timeout.duration(),
        until: None,
    };
    match group.send(request, timeouts).await {
        Ok(answer) => relayed(answer),
        Err(error) => apology.answer(&error),
    }
}

/// The shop's answer as the client gets it.
fn relayed(answer: Response) -> http::Response<ResponseBody> {
    let Response { status, version, mut headers, body, .. } = answer;
    hop::strip_penstock(&mut headers);
    append(&mut headers, Some(header::VIA), via(version).as_bytes());
    let mut response = http::Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// Which reason stands for an error, and what the client's developer may know of it.
fn reason_of(error: &UpstreamError) -> (Reason, &'static str) {
    match (error.at, error.timed_out) {
        (Stage::Queue, _) => (Reason::Overloaded, "no connection to the shop became free"),
        (Stage::Connect, true) => (Reason::GatewayTimeout, "connecting to the shop took too long"),
        (Stage::Connect, false) => (Reason::BadGateway, "the shop cannot be reached"),
        (Stage::Send, true) => (Reason::GatewayTimeout, "the shop did not take the request"),
        (Stage::Send, false) => (Reason::BadGateway, "the request could not be sent to the shop"),
        (Stage::Body, true) => (Reason::BadRequest, "the body came too slowly"),
        (Stage::Body, false) => (Reason::BadRequest, "the body is malformed or broke off"),
        (Stage::FirstByte, true) => (Reason::GatewayTimeout, "the shop did not answer in time"),
        (Stage::FirstByte, false) => (Reason::BadGateway, "the shop closed without an answer"),
        (Stage::Invalid, _) => (Reason::BadGateway, "the shop's answer is not valid HTTP"),
    }
}

fn target(head: &Head<'_>) -> String {
    match head.query {
        Some(query) => format!("{}?{query}", head.path),
        None => head.path.to_owned(),
    }
}

fn host_for(head: &Head<'_>, group: &Group, canonical: &str) -> String {
    match &group.settings().host {
        Some(host) => host.clone(),
        None if head.host.is_empty() => canonical.to_owned(),
        None => head.host.to_string(),
    }
}

/// Whether so many proxies of our name forwarded a request that it must be going round in circles.
fn has_looped(head: &Head<'_>) -> bool {
    let hops = head.field_all("via").flat_map(|line| line.split(|byte| *byte == b','));
    hops.filter(|hop| hop.trim_ascii().ends_with(b" penstock")).count() >= LOOP_HOPS
}

/// `Via` for a message received in `version` (RFC 9110 7.6.3).
fn via(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "1.0 penstock",
        Version::HTTP_2 => "2 penstock",
        _ => "1.1 penstock",
    }
}

/// Appends a field; the reader has seen to it that names and values are valid.
fn append(headers: &mut HeaderMap, name: Option<HeaderName>, value: &[u8]) {
    if let (Some(name), Ok(value)) = (name, HeaderValue::from_bytes(value)) {
        headers.append(name, value);
    }
}

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// Fields that we add.
const OWN_FIELDS: usize = 4;
/// Edges behind edges are few; a request with so many has met us again and again.
const LOOP_HOPS: usize = 8;
