//! Every setting: name, meaning, unit, default and range, and how a change applies: by a reload, or, where
//! `x-change` says so, by an upgrade or restart. This file is a table; the reference file is generated
//! from it.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::stock::Stock;
use super::units::{Rate, Size, Span, Time};
use crate::ident::Name;
use crate::outcome::{REASONS, Reason};

/// Everything in `penstock.toml`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Where the journal, the embedded ledger and the admin socket live. Default: `$STATE_DIRECTORY`,
    /// else `./penstock-state`.
    #[schemars(extend("x-example" = "/var/lib/penstock"))]
    #[schemars(extend("x-change" = "upgrade"))]
    pub state_dir: Option<String>,
    /// When journal lines reach the disk: `batch` syncs within 100 ms, `always` before each send.
    #[schemars(extend("x-change" = "upgrade"))]
    pub journal_sync: JournalSync,
    /// Listeners, by a name of your choice.
    #[schemars(extend("x-name" = "http"))]
    pub listen: BTreeMap<Name, Listen>,
    /// Whom to believe about the client's address.
    pub trust: Trust,
    /// Bounds and timers of client connections.
    pub http: Http,
    /// Bounds of HTTP/2 connections, beside those of `http`.
    pub http2: Http2,
    /// Rates and caps for each client.
    pub limits: Limits,
    /// What happens before memory runs out.
    pub memory: Memory,
    /// The shop's servers, by group.
    #[schemars(extend("x-name" = "shop"))]
    pub upstream: BTreeMap<Name, Upstream>,
    /// Where the ledger lives.
    #[schemars(extend("x-change" = "upgrade"))]
    pub store: Store,
    /// Where the shop keeps its own stock numbers, for sales whose stock is one of them.
    #[schemars(extend("x-change" = "upgrade"))]
    pub shop: Shop,
    /// The shops in front of which this node stands.
    #[schemars(extend("x-name" = "shop"))]
    pub site: BTreeMap<Name, Site>,
    /// Sales, as declarations that are applied once.
    #[schemars(extend("x-name" = "spring-drop"))]
    pub sale: BTreeMap<Name, Sale>,
    /// The page cache.
    pub cache: Cache,
    /// The admission gate.
    pub gate: Gate,
    /// What clients are told, in the shop's own words.
    pub answers: Answers,
    /// Control and metrics.
    #[schemars(extend("x-change" = "upgrade"))]
    pub admin: Admin,
    /// The access log and the log of events.
    pub log: Log,
    /// Shutting down.
    pub drain: Drain,
}

/// When journal lines reach the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum JournalSync {
    /// Within 100 ms, for all lines at once.
    #[default]
    Batch,
    /// Before each admitted request is sent.
    Always,
}

/// A socket that accepts clients.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    /// `127.0.0.1:8080`, `[::]:8080`, or `unix:/run/penstock/http.sock`.
    #[schemars(extend("x-example" = "127.0.0.1:8080"))]
    pub address: String,
    /// Path that answers a balancer's health check; absent: `/_penstock/health` only.
    #[serde(default)]
    #[schemars(extend("x-example" = "/healthz"))]
    pub health: Option<String>,
    /// Who may open a Unix socket: its file mode, in octal. Default: `0666`, so that its directory
    /// decides.
    #[serde(default)]
    #[schemars(extend("x-example" = "0660", "x-change" = "upgrade"))]
    pub mode: Option<String>,
    /// Connections begin with a PROXY header (version 1 or 2) that names the client, as balancers of
    /// layer 4 write it. Others than those listed are refused then.
    #[serde(default)]
    pub proxy_protocol: Option<ProxyProtocol>,
    /// Whether HTTP/2 is spoken beside HTTP/1.1: with TLS where the client offers it, without where it
    /// begins with it (prior knowledge). Absent: with TLS yes, without no.
    #[serde(default)]
    #[schemars(extend("x-example" = true))]
    pub http2: Option<bool>,
    /// TLS 1.2 and 1.3; absent: plain text.
    #[serde(default)]
    pub tls: Option<ListenTls>,
}

impl Listen {
    /// Whether HTTP/2 is spoken here.
    pub fn speaks_http2(&self) -> bool {
        self.http2.unwrap_or(self.tls.is_some())
    }
}

/// TLS of a listener. All its files are read again on HUP, and within seconds after they changed; what
/// cannot be used leaves everything as it was, and is said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenTls {
    /// The certificate and those that lead to its authority, in PEM. Clients that name no host, or one
    /// that no certificate of this listener has, get this one.
    #[schemars(extend("x-example" = "shop.pem"))]
    pub cert: String,
    /// The key of `cert`, in PEM.
    #[schemars(extend("x-example" = "shop.key"))]
    pub key: String,
    /// Keys of session tickets, so that all nodes of a fleet know a client again: one a line, each at
    /// least 32 random bytes in base64. The first encrypts, all decrypt. Absent: a key of this process,
    /// renewed every 6 hours.
    #[serde(default)]
    #[schemars(extend("x-example" = "tickets.key"))]
    pub ticket_keys: Option<String>,
    /// Authorities of the certificates that clients show, in PEM. Absent: clients are not asked.
    #[serde(default)]
    #[schemars(extend("x-example" = "clients-ca.pem"))]
    pub client_ca: Option<String>,
    /// Whether a client that has no certificate is refused.
    #[serde(default)]
    pub client_certificate: ClientCertificate,
    /// The oldest version that is spoken.
    #[serde(default)]
    pub version_min: TlsVersion,
    /// Further certificates; the client's SNI chooses among all.
    #[serde(default)]
    pub more: Vec<CertPair>,
}

/// A certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CertPair {
    /// The certificate and those that lead to its authority, in PEM.
    #[schemars(extend("x-example" = "other.pem"))]
    pub cert: String,
    /// Its key, in PEM.
    #[schemars(extend("x-example" = "other.key"))]
    pub key: String,
}

/// What is asked of clients where `client_ca` is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClientCertificate {
    /// A valid certificate.
    #[default]
    Required,
    /// A valid certificate, or none.
    Optional,
}

/// Versions of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TlsVersion {
    /// TLS 1.2, with forward secrecy and authenticated ciphers only.
    #[default]
    #[serde(rename = "1.2")]
    V12,
    /// TLS 1.3.
    #[serde(rename = "1.3")]
    V13,
}

/// Who writes PROXY headers.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProxyProtocol {
    /// Networks or addresses of the balancers, or `unix` for the peers of a Unix socket. All others are
    /// refused: they could name any client.
    #[schemars(extend("x-example" = ["10.0.1.5/32"]))]
    pub from: Vec<String>,
    /// Whether those listed may ask for the health of this listener without a header, as many balancers
    /// do; nothing else is answered then.
    #[serde(default)]
    pub health_without: bool,
    /// From accept to the end of the header.
    #[serde(default = "ProxyProtocol::timeout_default")]
    #[schemars(extend("x-min" = "10ms", "x-max" = "1m"))]
    pub timeout: Span,
}

impl ProxyProtocol {
    fn timeout_default() -> Span {
        Span::from_secs(2)
    }
}

/// Whom to believe about the client's address.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Trust {
    /// Networks of proxies in front of us, like `10.0.1.0/24`. The client is the rightmost address in
    /// `X-Forwarded-For` that is not one of them. None by default.
    #[schemars(extend("x-example" = ["10.0.1.0/24"]))]
    pub proxies: Vec<String>,
}

/// Bounds and timers of client connections.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// Worker threads; 0 is one for each processor we may use.
    #[schemars(range(max = 1024))]
    #[schemars(extend("x-change" = "upgrade"))]
    pub workers: u32,
    /// Whole head, request line included.
    #[schemars(extend("x-min" = "1KiB", "x-max" = "1MiB"))]
    pub head_bytes_max: Size,
    /// Request target.
    #[schemars(extend("x-min" = "256B", "x-max" = "64KiB"))]
    pub target_bytes_max: Size,
    /// One field line.
    #[schemars(extend("x-min" = "256B", "x-max" = "1MiB"))]
    pub field_bytes_max: Size,
    /// Field lines in a head.
    #[schemars(range(min = 8, max = 256))]
    pub fields_max: u32,
    /// From accept to the first byte.
    #[schemars(extend("x-min" = "10ms", "x-max" = "1h"))]
    pub first_byte_timeout: Span,
    /// From the first byte of a head to its end.
    #[schemars(extend("x-min" = "10ms", "x-max" = "1h"))]
    pub head_timeout: Span,
    /// Silence within a request body.
    #[schemars(extend("x-min" = "10ms", "x-max" = "1h"))]
    pub body_idle_timeout: Span,
    /// A purchase body, whole.
    #[schemars(extend("x-min" = "10ms", "x-max" = "1h"))]
    pub body_timeout: Span,
    /// A client that takes no byte of its response for so long is cut; also one that, once it has let a
    /// write wait, falls so far behind 1 KiB/s.
    #[schemars(extend("x-min" = "10ms", "x-max" = "1h"))]
    pub write_timeout: Span,
    /// Silence between requests.
    #[schemars(extend("x-min" = "10ms", "x-max" = "1d"))]
    pub keep_alive_timeout: Span,
    /// A connection is closed after its current response at this age, give or take 10 %.
    #[schemars(extend("x-min" = "1s", "x-max" = "30d"))]
    pub connection_age_max: Span,
    /// Unread body that is drained after an early answer, so that the client sees it.
    #[schemars(extend("x-max" = "16MiB"))]
    pub drain_bytes_max: Size,
    /// Longest wait for that.
    #[schemars(extend("x-max" = "10s"))]
    pub drain_timeout: Span,
    /// Bytes of pipelined requests that are read while a response is under way.
    #[schemars(extend("x-min" = "1KiB", "x-max" = "1MiB"))]
    pub read_ahead_bytes_max: Size,
}

impl Default for Http {
    fn default() -> Http {
        Http {
            workers: 0,
            head_bytes_max: Size::from_kib(16),
            target_bytes_max: Size::from_kib(4),
            field_bytes_max: Size::from_kib(8),
            fields_max: 64,
            first_byte_timeout: Span::from_secs(5),
            head_timeout: Span::from_secs(5),
            body_idle_timeout: Span::from_secs(60),
            body_timeout: Span::from_secs(10),
            write_timeout: Span::from_secs(10),
            keep_alive_timeout: Span::from_secs(75),
            connection_age_max: Span::from_secs(3600),
            drain_bytes_max: Size::from_kib(64),
            drain_timeout: Span::from_ms(250),
            read_ahead_bytes_max: Size::from_kib(64),
        }
    }
}

/// Bounds of HTTP/2 connections, beside those of `http`: what is counted within 10 s ends the
/// connection with ENHANCE_YOUR_CALM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Http2 {
    /// Requests that one connection may have open at once.
    #[schemars(range(min = 1, max = 1024))]
    pub streams_max: u32,
    /// Names and values of a head, with 32 bytes more for each field (RFC 9113 6.5.2). The number of
    /// fields is `http.fields_max`, each crumb of a cookie counted.
    #[schemars(extend("x-min" = "1KiB", "x-max" = "1MiB"))]
    pub header_list_bytes_max: Size,
    /// Table of the header compression, in each direction.
    #[schemars(extend("x-max" = "64KiB"))]
    pub header_table_bytes_max: Size,
    /// Body bytes that a client may send ahead in one request.
    #[schemars(extend("x-min" = "64KiB", "x-max" = "16MiB"))]
    pub stream_window_bytes: Size,
    /// The same for all requests of a connection.
    #[schemars(extend("x-min" = "64KiB", "x-max" = "64MiB"))]
    pub connection_window_bytes: Size,
    /// Bytes of one response that are taken from its source before the client takes them.
    #[schemars(extend("x-min" = "16KiB", "x-max" = "1MiB"))]
    pub send_buffer_bytes_max: Size,
    /// Requests that the client gave up, or that broke the protocol, within 10 s.
    #[schemars(range(min = 20, max = 100_000))]
    pub resets_max: u32,
    /// PING frames within 10 s.
    #[schemars(range(min = 5, max = 100_000))]
    pub pings_max: u32,
    /// SETTINGS frames within 10 s.
    #[schemars(range(min = 5, max = 100_000))]
    pub settings_max: u32,
    /// CONTINUATION frames of one head.
    #[schemars(range(min = 1, max = 1_000))]
    pub continuations_max: u32,
    /// DATA frames without data within 10 s.
    #[schemars(range(min = 5, max = 100_000))]
    pub empty_data_max: u32,
    /// Other frames that ask for nothing (PRIORITY, WINDOW_UPDATE, unknown ones) within 10 s, beyond
    /// four for each frame of a request or a response.
    #[schemars(range(min = 50, max = 1_000_000))]
    pub idle_frames_max: u32,
}

impl Default for Http2 {
    fn default() -> Http2 {
        Http2 {
            streams_max: 64,
            header_list_bytes_max: Size::from_kib(8),
            header_table_bytes_max: Size::from_kib(4),
            stream_window_bytes: Size::from_kib(64),
            connection_window_bytes: Size::from_kib(256),
            send_buffer_bytes_max: Size::from_kib(64),
            resets_max: 200,
            pings_max: 100,
            settings_max: 50,
            continuations_max: 20,
            empty_data_max: 100,
            idle_frames_max: 1_000,
        }
    }
}

/// Rates and caps for each client. Peers in `trust.proxies` are exempt from those per address.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Client connections in all.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub connections_max: u32,
    /// Connections of one address (a /64 in IPv6).
    #[schemars(range(min = 1))]
    pub connections_per_address_max: u32,
    /// New connections of one address.
    pub connects_per_address: Rate,
    /// TLS handshakes under way; at more, those that wait longest for their client are given up.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub handshakes_max: u32,
    /// From accept to the end of a TLS handshake.
    #[schemars(extend("x-min" = "10ms", "x-max" = "1h"))]
    pub handshake_timeout: Span,
    /// Purchases of one user.
    pub user: Rate,
    /// Purchases of one address.
    pub address: Rate,
    /// Purchases of one /24 (a /48 in IPv6).
    pub prefix: Rate,
    /// Keys that the rate table remembers; 8 bytes each.
    #[schemars(range(min = 1024, max = 67_108_864))]
    #[schemars(extend("x-change" = "upgrade"))]
    pub table_keys: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections_max: 20_000,
            connections_per_address_max: 4_096,
            connects_per_address: Rate::new(1_000, 1_000),
            handshakes_max: 1_024,
            handshake_timeout: Span::from_secs(5),
            user: Rate::new(3, 1),
            address: Rate::new(100, 50),
            prefix: Rate { burst: 0, per_1000s: 0 },
            table_keys: 1 << 20,
        }
    }
}

/// What happens before memory runs out, so that the process is never killed for it. Each step ends
/// again five percent below where it began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Memory {
    /// What the process may take. Default: `memory.high` of its control group (version 2), or nine tenths
    /// of `memory.max`; without either there is no guard.
    #[schemars(extend("x-example" = "2GiB", "x-min" = "16MiB", "x-max" = "1024GiB"))]
    pub limit: Option<Size>,
    /// From here on connections that wait 2 s for a request, or for the rest of its head, are closed,
    /// others after their response.
    #[schemars(range(min = 10, max = 100))]
    pub shed_at_percent: u32,
    /// From here on the cache shrinks.
    #[schemars(range(min = 10, max = 100))]
    pub shrink_at_percent: u32,
    /// From here on new connections are refused, and those that wait for a request are closed at once.
    #[schemars(range(min = 10, max = 100))]
    pub refuse_at_percent: u32,
}

impl Default for Memory {
    fn default() -> Memory {
        Memory { limit: None, shed_at_percent: 90, shrink_at_percent: 95, refuse_at_percent: 98 }
    }
}

/// A group of the shop's servers.
#[derive(PartialEq, Eq, Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Upstream {
    /// `host:port` or `unix:/path` of each server. A name that does not resolve is tried again.
    #[schemars(extend("x-shown" = true, "x-example" = ["127.0.0.1:9000"]))]
    pub servers: Vec<String>,
    /// Host field of proxied requests; absent: the client's.
    #[schemars(extend("x-example" = "shop.internal"))]
    pub host: Option<String>,
    /// HTTP/2 instead of HTTP/1.1: with TLS agreed upon in the handshake, without by prior knowledge.
    /// A purchase has its connection for itself, so that it is always known whether it was sent; other
    /// requests share connections, up to 64 on each.
    pub http2: bool,
    /// What an answer to a purchase means: `"status"`, or a table of rules. Required for an upstream
    /// that gets purchases.
    #[schemars(extend("x-shown" = true, "x-example" = "status"))]
    pub outcome: Option<Outcome>,
    /// To connect.
    #[schemars(extend("x-min" = "10ms", "x-max" = "1h"))]
    pub connect_timeout: Span,
    /// From the request's end to the first byte of the answer.
    #[schemars(extend("x-min" = "10ms", "x-max" = "1h"))]
    pub first_byte_timeout: Span,
    /// Silence within an answer.
    #[schemars(extend("x-min" = "10ms", "x-max" = "1h"))]
    pub idle_timeout: Span,
    /// An admitted purchase, from its sending to the whole answer.
    #[schemars(extend("x-min" = "10ms", "x-max" = "1h"))]
    pub purchase_timeout: Span,
    /// Connections to one server.
    #[schemars(range(min = 1, max = 65_535))]
    pub connections_max: u32,
    /// Requests that wait for a connection.
    pub queue_max: u32,
    /// Longest wait for a connection.
    #[schemars(extend("x-max" = "1m"))]
    pub queue_timeout: Span,
    /// An idle connection is closed after this; keep it below the server's own.
    #[schemars(extend("x-min" = "10ms", "x-max" = "1d"))]
    pub keep_alive_timeout: Span,
    /// Purchases on their way to the whole group at once.
    #[schemars(range(min = 1, max = 65_535))]
    pub purchases_max: u32,
    /// Purchases that wait for a place among them.
    pub purchase_queue_max: u32,
    /// Longest wait for such a place; then `busy`.
    #[schemars(extend("x-max" = "1m"))]
    pub purchase_queue_timeout: Span,
    /// Head of an answer.
    #[schemars(extend("x-min" = "1KiB", "x-max" = "1MiB"))]
    pub head_bytes_max: Size,
    /// TLS to the servers; absent: plain text.
    pub tls: Option<UpstreamTls>,
}

/// TLS to the servers of an upstream. Its files are read again on HUP, and within seconds after they
/// changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct UpstreamTls {
    /// Whom to trust, in PEM. Default: the certificate authorities of this machine.
    #[schemars(extend("x-example" = "shop-ca.pem"))]
    pub ca_file: Option<String>,
    /// Our own certificate and those that lead to its authority, in PEM, where the servers ask for it.
    #[schemars(extend("x-example" = "edge.pem"))]
    pub cert_file: Option<String>,
    /// The key of `cert_file`, in PEM.
    #[schemars(extend("x-example" = "edge.key"))]
    pub key_file: Option<String>,
    /// The name that the servers' certificates must have. Default: the host in `servers`.
    #[schemars(extend("x-example" = "shop.internal"))]
    pub server_name: Option<String>,
}

impl Default for Upstream {
    fn default() -> Upstream {
        Upstream {
            servers: Vec::new(),
            host: None,
            http2: false,
            outcome: None,
            connect_timeout: Span::from_secs(1),
            first_byte_timeout: Span::from_secs(60),
            idle_timeout: Span::from_secs(60),
            purchase_timeout: Span::from_secs(8),
            connections_max: 256,
            queue_max: 1_024,
            queue_timeout: Span::from_secs(5),
            keep_alive_timeout: Span::from_secs(10),
            purchases_max: 64,
            purchase_queue_max: 128,
            purchase_queue_timeout: Span::from_secs(2),
            head_bytes_max: Size::from_kib(16),
            tls: None,
        }
    }
}

/// What an upstream's answer to a purchase means.
#[derive(PartialEq, Eq, Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Outcome {
    /// By the status alone.
    Status(OutcomeStatus),
    /// By rules.
    Rules(Box<OutcomeRules>),
}

/// The word `status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeStatus {
    /// 200 201 204 confirm, 4xx fail, everything else is unknown.
    Status,
}

/// Rules that read one value of the answer.
#[derive(PartialEq, Eq, Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OutcomeRules {
    /// Where the value is: in the JSON body, in a header, or the status itself.
    #[schemars(extend("x-example" = "json"))]
    pub read: OutcomeSource,
    /// JSON pointer such as `/code`, or the header's name.
    #[serde(default)]
    #[schemars(extend("x-example" = "/code"))]
    pub at: Option<String>,
    /// Values that mean: the order exists.
    #[serde(default)]
    #[schemars(extend("x-example" = [0]))]
    pub confirmed: Vec<Code>,
    /// Values that mean: no order was made.
    #[serde(default)]
    #[schemars(extend("x-example" = [1002, 1003]))]
    pub failed: Vec<Code>,
    /// Values that mean: no order, and the stock is gone.
    #[serde(default)]
    #[schemars(extend("x-example" = [1001]))]
    pub sold_out: Vec<Code>,
    /// Values that mean: no order, this user has one already.
    #[serde(default)]
    #[schemars(extend("x-example" = [1005]))]
    pub already: Vec<Code>,
    /// Values that mean: accepted, the final word comes later.
    #[serde(default)]
    #[schemars(extend("x-example" = [202]))]
    pub pending: Vec<Code>,
    /// What a value that is not listed means.
    #[serde(default)]
    pub otherwise: Otherwise,
    /// JSON pointer of the order's number, for audit and report.
    #[serde(default)]
    #[schemars(extend("x-example" = "/data/orderNo"))]
    pub order_id: Option<String>,
    /// Prefixes of `Location` by which a 302 or 303 confirms.
    #[serde(default)]
    #[schemars(extend("x-example" = ["/orders/"]))]
    pub redirect_confirmed: Vec<String>,
}

/// Where an outcome is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeSource {
    /// A value in the JSON body.
    Json,
    /// A header.
    Header,
    /// The status.
    Status,
}

/// A code of the shop's: a number or a string. `0` and `"0"` are different codes.
#[derive(
    Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(untagged)]
pub enum Code {
    /// A number.
    Number(i64),
    /// A string.
    Text(String),
}

/// What an answer without a rule means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Otherwise {
    /// Unknown: counted, shouted about, kept in limbo.
    #[default]
    Unknown,
    /// Non-2xx by the status table; 2xx unknown.
    Status,
}

/// Where the ledger lives.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Store {
    /// `embedded` for one node, `redis` for a fleet.
    pub kind: StoreKind,
    /// Where Redis is: `redis://host:6379/0` one server, `redis+sentinel://s1:26379,s2:26379/mymaster`
    /// the master that Sentinel names, `redis+cluster://a:6379,b:6379` a cluster by some of its nodes,
    /// `redis+unix:///run/redis.sock` a socket; `rediss` in place of `redis` is TLS. `user:password@`
    /// may stand before the hosts, percent-encoded; better in the settings below.
    #[schemars(extend("x-example" = "redis://10.0.0.5:6379"))]
    pub url: Option<String>,
    /// Redis user, for ACLs. Default: Redis's own `default`.
    #[schemars(extend("x-example" = "penstock"))]
    pub username: Option<String>,
    /// File that holds the password; read anew for every connection, so that it may change.
    #[schemars(extend("x-example" = "redis.password"))]
    pub password_file: Option<String>,
    /// User of the Sentinels, where they have ACLs. Default: none, or their own `default`.
    #[schemars(extend("x-example" = "penstock"))]
    pub sentinel_username: Option<String>,
    /// File that holds the password of the Sentinels. Default: they want none.
    #[schemars(extend("x-example" = "sentinel.password"))]
    pub sentinel_password_file: Option<String>,
    /// Certificates, where the URL begins with `rediss`. Sentinels are reached the same way.
    pub tls: StoreTls,
    /// How many nodes share the ledger; the embedded store on a public listener needs `nodes = 1`.
    #[schemars(range(min = 1, max = 1000))]
    #[schemars(extend("x-example" = 1))]
    pub nodes: Option<u32>,
    /// From sending a batch of claims to giving up on its answer; purchases that wait for it are told
    /// `unavailable` then. Absent: 20 ms for `redis`, which answers in well under 1 ms; 1 s for
    /// `embedded`, which syncs each batch to a disk, and a busy cloud disk may take that long.
    #[schemars(extend("x-example" = "20ms", "x-min" = "1ms", "x-max" = "10s"))]
    pub claim_deadline: Option<Span>,
    /// To connect to Redis.
    #[schemars(extend("x-min" = "10ms", "x-max" = "1m"))]
    pub connect_timeout: Span,
    /// How often the mirror is read again.
    #[schemars(extend("x-min" = "10ms", "x-max" = "1m"))]
    pub poll: Span,
    /// Claims in one batch.
    #[schemars(range(min = 1, max = 256))]
    pub batch_max: u32,
    /// Claims that wait for a batch.
    pub queue_max: u32,
    /// So many replicas must have acknowledged an admission before it is sent, so that a failover does
    /// not lose it; 0: none. Every batch of claims takes a round trip to the replicas longer.
    #[schemars(range(max = 8))]
    pub wait_replicas: u32,
    /// How long a batch of claims waits for the replicas; without them it is refused and undone.
    #[schemars(extend("x-min" = "1ms", "x-max" = "10s"))]
    pub wait_timeout: Span,
    /// When replicas have been missing for so long, purchases go on without them: a server that has
    /// just taken over has none. Until then nobody is admitted; `365d` means never.
    #[schemars(extend("x-max" = "365d"))]
    pub wait_alone: Span,
    /// How a ledger that may have forgotten admissions is found out: `server` asks Redis in every
    /// script which server it is; `sequence` compares a number that rises with every purchase, for
    /// Redis behind a proxy that hides `INFO` or answers it for another server. That is weaker: a
    /// loss shows only to nodes that have seen a higher number.
    pub fence: StoreFence,
    /// When the ledger may have forgotten something nobody is admitted for so long, while the nodes
    /// re-assert what they know; less where all nodes that live have done it. A node that comes later
    /// may have admitted what others admit again by then: leave time to connect, at most 2 s.
    #[schemars(extend("x-min" = "100ms", "x-max" = "1m"))]
    pub learn: Span,
}

impl Default for Store {
    fn default() -> Store {
        Store {
            kind: StoreKind::Embedded,
            url: None,
            username: None,
            password_file: None,
            sentinel_username: None,
            sentinel_password_file: None,
            tls: StoreTls::default(),
            nodes: None,
            claim_deadline: None,
            connect_timeout: Span::from_ms(250),
            poll: Span::from_ms(500),
            batch_max: 64,
            queue_max: 1_024,
            wait_replicas: 0,
            wait_timeout: Span::from_ms(50),
            wait_alone: Span::from_secs(5),
            fence: StoreFence::Server,
            learn: Span::from_secs(5),
        }
    }
}

/// Where the shop keeps its own stock numbers, and how often they are read.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Shop {
    /// The Redis with the shop's keys, one server: `redis://host:6379/0`; `rediss` is TLS, as
    /// `[store.tls]` says. Default: the store's, where `store.kind` is `redis`.
    #[schemars(extend("x-example" = "redis://10.0.0.6:6379"))]
    pub redis_url: Option<String>,
    /// Its user, for ACLs; it needs no more than `TYPE GET HGET LLEN SCARD SSCAN` on the shop's keys.
    #[schemars(extend("x-example" = "penstock-reader"))]
    pub redis_username: Option<String>,
    /// File that holds the password.
    #[schemars(extend("x-example" = "shop-redis.password"))]
    pub redis_password_file: Option<String>,
    /// How often the numbers are read; by one node of a fleet each time.
    #[schemars(extend("x-min" = "50ms", "x-max" = "1s"))]
    pub poll: Span,
    /// Longest wait for them.
    #[schemars(extend("x-min" = "10ms", "x-max" = "1s"))]
    pub timeout: Span,
    /// How often the sets `already`, `only` and `deny` of sales are read whole; less often where that
    /// would take more than a twentieth of the time.
    #[schemars(extend("x-min" = "100ms", "x-max" = "1h"))]
    pub sets_refresh: Span,
    /// Nobody is let in by sets that were read longer ago: `unavailable`.
    #[schemars(extend("x-min" = "1s", "x-max" = "1d"))]
    pub sets_age_max: Span,
    /// Members of one set; each takes 16 to 32 bytes. A set with more counts as one that cannot be read.
    #[schemars(range(min = 1, max = 50_000_000))]
    pub set_members_max: u64,
}

impl Default for Shop {
    fn default() -> Shop {
        Shop {
            redis_url: None,
            redis_username: None,
            redis_password_file: None,
            poll: Span::from_ms(250),
            timeout: Span::from_ms(200),
            sets_refresh: Span::from_secs(5),
            sets_age_max: Span::from_secs(60),
            set_members_max: 1_000_000,
        }
    }
}

/// How a ledger that forgot something is found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StoreFence {
    /// By the server's identity.
    Server,
    /// By the number of changes alone.
    Sequence,
}

impl Store {
    /// The claim deadline that applies.
    pub fn claim_deadline(&self) -> Span {
        self.claim_deadline.unwrap_or(match self.kind {
            StoreKind::Embedded => Span::from_secs(1),
            StoreKind::Redis => Span::from_ms(20),
        })
    }
}

/// TLS to Redis. The files are read anew for every connection, so that they may be renewed.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StoreTls {
    /// Whom to trust, in PEM. Default: the certificate authorities of this machine.
    #[schemars(extend("x-example" = "redis-ca.pem"))]
    pub ca_file: Option<String>,
    /// Our own certificate and those that lead to its authority, in PEM, where Redis asks for it.
    #[schemars(extend("x-example" = "redis-client.pem"))]
    pub cert_file: Option<String>,
    /// The key of `cert_file`, in PEM.
    #[schemars(extend("x-example" = "redis-client.key"))]
    pub key_file: Option<String>,
    /// The name that the certificates of all servers must have. Default: the host in the URL, or what
    /// Sentinel or the cluster calls the server.
    #[schemars(extend("x-example" = "redis.internal"))]
    pub server_name: Option<String>,
}

/// Kinds of store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StoreKind {
    /// In this process, in one file, for one node.
    Embedded,
    /// In Redis, for a fleet.
    Redis,
}

/// A shop.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Site {
    /// Host names; the first is canonical, other hosts get 421. None: any host.
    #[schemars(extend("x-example" = ["shop.example"]))]
    pub hosts: Vec<String>,
    /// Whether only clients that showed a certificate to a listener with `client_ca` are served; others
    /// get 421, by whatever listener they come.
    pub client_certificate: bool,
    /// The upstream of everything that is not answered here.
    #[schemars(extend("x-shown" = true, "x-example" = "shop"))]
    pub upstream: Option<Name>,
    /// Requests that may leave HTTP: WebSocket and the like. Absent: none.
    pub upgrade: Option<Upgrade>,
    /// The URLs of activities.
    #[schemars(extend("x-shown" = true))]
    pub activity: Option<Activity>,
    /// How everything else is cached, by RFC 9111; absent: not at all. An empty table is enough.
    pub cache: Option<RouteCache>,
    /// Paths that are cached otherwise.
    #[schemars(extend("x-name" = "assets"))]
    pub route: BTreeMap<Name, OrdinaryRoute>,
}

/// Ordinary paths that are cached in their own way; the longest that fits counts.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OrdinaryRoute {
    /// Every path that begins so.
    #[schemars(extend("x-example" = "/assets/"))]
    pub path: String,
    /// How they are cached.
    #[serde(default)]
    pub cache: RouteCache,
}

/// How ordinary routes are cached.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RouteCache {
    /// Whether at all.
    pub mode: CacheMode,
    /// Fresh for so long where a response gives neither freshness nor `Last-Modified`; 0: such a
    /// response is not stored.
    #[schemars(extend("x-max" = "365d"))]
    pub ttl: Span,
    /// Served for so long after its freshness where the shop fails, unless the response forbids it.
    #[schemars(extend("x-max" = "365d"))]
    pub stale: Span,
    /// Freshness of what says only when it last changed: so much of the time since then, in per cent.
    #[schemars(range(max = 100))]
    pub heuristic_percent: u32,
    /// At most so long.
    #[schemars(extend("x-max" = "365d"))]
    pub heuristic_max: Span,
    /// The query parameters that count; empty: all. What does not count is not forwarded either. A
    /// name may end with `*`.
    #[schemars(extend("x-example" = ["page", "sort"]))]
    pub query: Vec<String>,
    /// Query parameters that never count.
    #[schemars(extend("x-example" = ["utm_*", "fbclid"]))]
    pub query_ignored: Vec<String>,
    /// Whether parameters in another order are the same request, and are forwarded sorted.
    pub query_sorted: bool,
    /// Request headers that count, whatever `Vary` says.
    #[schemars(extend("x-example" = ["X-Country"]))]
    pub headers: Vec<String>,
    /// Cookies that count.
    #[schemars(extend("x-example" = ["theme"]))]
    pub cookies: Vec<String>,
    /// What becomes of a response that sets a cookie.
    pub set_cookie: SetCookie,
    /// What the client's `Cache-Control` is worth.
    pub client_control: ClientControl,
    /// Response headers that speak to this cache alone, before `Cache-Control`; the first valid one
    /// counts.
    pub targeted: Vec<String>,
    /// Whether text is compressed once, when it is stored. Adds `Vary: accept-encoding`.
    pub compress: bool,
    /// Variants of one URL; the oldest gives way to the next.
    #[schemars(range(min = 1, max = 10000))]
    pub variants_max: u32,
}

impl Default for RouteCache {
    fn default() -> RouteCache {
        RouteCache {
            mode: CacheMode::Http,
            ttl: Span::from_secs(0),
            stale: Span::from_secs(3600),
            heuristic_percent: 10,
            heuristic_max: Span::from_secs(86_400),
            query: Vec::new(),
            query_ignored: Vec::new(),
            query_sorted: false,
            headers: Vec::new(),
            cookies: Vec::new(),
            set_cookie: SetCookie::Store,
            client_control: ClientControl::Honour,
            targeted: vec!["surrogate-control".to_owned(), "cdn-cache-control".to_owned()],
            compress: false,
            variants_max: 64,
        }
    }
}

/// Whether ordinary routes are cached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CacheMode {
    /// By RFC 9111.
    #[default]
    Http,
    /// Not at all.
    Off,
}

/// What becomes of a response that sets a cookie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SetCookie {
    /// It is stored with it, as RFC 9111 7.3 reads: a shop that means one client says `private`.
    #[default]
    Store,
    /// It is stored without it, and nobody gets the cookie.
    Strip,
    /// It is not stored.
    Refuse,
}

/// What the client's `Cache-Control` is worth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClientControl {
    /// `no-cache`, `max-age`, `min-fresh`, `max-stale`, `no-store` and `only-if-cached` count.
    #[default]
    Honour,
    /// A client cannot get past the cache.
    Ignore,
}

/// Requests that may leave HTTP. Bytes are relayed only after the shop's own 101, and never on the
/// routes of a sale; elsewhere `Upgrade` is ignored.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Upgrade {
    /// Paths that may: one ending in `/` stands for all below it.
    #[schemars(extend("x-example" = ["/live", "/socket.io/"]))]
    pub paths: Vec<String>,
    /// Protocols that may be switched to.
    #[serde(default = "Upgrade::protocols_default")]
    pub protocols: Vec<String>,
    /// Upgraded connections at once; they do not count among an upstream's `connections_max`.
    #[serde(default = "Upgrade::connections_max_default")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub connections_max: u32,
    /// An upgraded connection on which neither side says anything is closed after this.
    #[serde(default = "Upgrade::idle_timeout_default")]
    #[schemars(extend("x-min" = "10ms", "x-max" = "1d"))]
    pub idle_timeout: Span,
}

impl Upgrade {
    fn protocols_default() -> Vec<String> {
        vec!["websocket".to_owned()]
    }
    fn connections_max_default() -> u32 {
        1_024
    }
    fn idle_timeout_default() -> Span {
        Span::from_secs(60)
    }
}

/// The URLs of activities and how to read them. `{activity}` stands for the id, `{city}` for the
/// city, `{_}` for any one segment.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Activity {
    /// Path of the page, cached; a string, or a table with more settings.
    #[schemars(extend("x-shown" = true, "x-example" = "/activity/{activity}"))]
    pub page: Option<PageRoute>,
    /// Path of the availability flag.
    #[schemars(extend("x-shown" = true, "x-example" = "/activity/{activity}/availability"))]
    pub availability: Option<String>,
    /// Path of the purchase: POST is the gate's.
    #[schemars(extend("x-shown" = true, "x-example" = "/activity/{activity}/orders"))]
    pub purchase: Option<String>,
    /// Upstream of the purchase path, of every method; absent: the site's.
    #[schemars(extend("x-example" = "shop"))]
    pub purchase_upstream: Option<Name>,
    /// Where the city is read, in order: `path`, `query:NAME`, `cookie:NAME`, `header:NAME`.
    #[schemars(extend("x-shown" = true, "x-example" = ["query:city", "cookie:city_id"]))]
    pub city: Vec<String>,
    /// The cities there are; empty: any valid id.
    #[schemars(extend("x-example" = ["sh", "bj"]))]
    pub cities: Vec<Name>,
    /// Who buys, in order: `jwt:header:NAME`, `jwt:cookie:NAME`, `hmac:cookie:NAME`,
    /// `hmac:header:NAME`, `cookie:NAME`, `header:NAME`, `address`.
    #[schemars(extend("x-shown" = true, "x-example" = ["cookie:uid"]))]
    pub user: Vec<String>,
    /// How a JWT is verified.
    pub jwt: Option<Jwt>,
    /// How a signed value is verified.
    pub hmac: Option<Hmac>,
    /// How an order is read from a purchase.
    pub order: Option<Order>,
    /// What becomes of an activity without a sale: `refuse` (404) or `proxy`.
    pub unlisted: Unlisted,
    /// Origins that may buy from scripts (CORS), like `https://m.shop.example`; `*` is any.
    #[schemars(extend("x-example" = ["https://m.shop.example"]))]
    pub cors_origins: Vec<String>,
    /// How long a CDN may keep an availability answer, in whole seconds; 0: not at all, the default.
    #[schemars(extend("x-max" = "1m", "x-example" = "1s"))]
    pub availability_cache: Option<Span>,
}

/// The page's route.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum PageRoute {
    /// Only its path.
    Path(String),
    /// With settings.
    Table(PageSettings),
}

/// Settings of a page route.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PageSettings {
    /// The path, with `{activity}` and perhaps `{city}`.
    #[schemars(extend("x-example" = "/activity/{activity}"))]
    pub path: String,
    /// Fresh for so long where the shop says nothing.
    #[serde(default = "PageSettings::ttl_default")]
    #[schemars(extend("x-max" = "365d"))]
    pub ttl: Span,
    /// Served stale for so long after that: at once while it is fetched again, and on errors.
    #[serde(default = "PageSettings::stale_default")]
    #[schemars(extend("x-max" = "365d"))]
    pub stale: Span,
    /// Cache even what says `no-store` or `private`.
    #[serde(default)]
    pub force: bool,
    /// One page for each public state of its sale, which changes at the same instant as the flag. The
    /// shop is asked for one by the field `Penstock-State`, before its time too.
    #[serde(default)]
    pub by_state: bool,
}

impl PageSettings {
    /// Default of `ttl`.
    pub fn ttl_default() -> Span {
        Span::from_secs(10)
    }

    /// Default of `stale`.
    pub fn stale_default() -> Span {
        Span::from_secs(3600)
    }
}

impl PageRoute {
    /// With every default filled in.
    pub fn settings(&self) -> PageSettings {
        match self {
            PageRoute::Path(path) => PageSettings {
                path: path.clone(),
                ttl: PageSettings::ttl_default(),
                stale: PageSettings::stale_default(),
                force: false,
                by_state: false,
            },
            PageRoute::Table(settings) => settings.clone(),
        }
    }
}

/// How a JWT is verified.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Jwt {
    /// The one algorithm that is accepted.
    #[schemars(extend("x-example" = "HS256"))]
    pub alg: JwtAlg,
    /// The secret, or the public key in PEM.
    #[schemars(extend("x-example" = "jwt.key"))]
    pub key_file: String,
    /// The claim that names the user.
    #[serde(default = "Jwt::claim_default")]
    pub claim: String,
    /// Required `iss`, if set.
    #[serde(default)]
    #[schemars(extend("x-example" = "https://login.shop.example"))]
    pub issuer: Option<String>,
    /// Required `aud`, if set.
    #[serde(default)]
    #[schemars(extend("x-example" = "shop"))]
    pub audience: Option<String>,
    /// Allowed clock difference for `exp` and `nbf`.
    #[serde(default = "Jwt::leeway_default")]
    #[schemars(extend("x-max" = "1h"))]
    pub leeway: Span,
}

impl Jwt {
    fn claim_default() -> String {
        "sub".to_owned()
    }
    fn leeway_default() -> Span {
        Span::from_secs(5)
    }
}

/// Algorithms of a JWT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum JwtAlg {
    /// HMAC with SHA-256.
    HS256,
    /// RSA with SHA-256.
    RS256,
    /// ECDSA on P-256.
    ES256,
    /// Ed25519.
    EdDSA,
}

/// How a signed value `id.base64url(HMAC-SHA256(id))` is verified.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hmac {
    /// The secret.
    #[schemars(extend("x-example" = "sid.key"))]
    pub key_file: String,
}

/// How an order is read from a purchase.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Order {
    /// Form of the body.
    pub body: OrderBody,
    /// Where the pool is: JSON pointer, or field name for `form` and `query`. Absent: the only pool.
    #[schemars(extend("x-example" = "/skuId"))]
    pub pool: Option<String>,
    /// Where the quantity is. Absent: 1.
    #[schemars(extend("x-example" = "/num"))]
    pub quantity: Option<String>,
    /// Where the client's own key is, in order: `header:NAME`, or a pointer or field name in the body.
    /// Default: `header:Idempotency-Key`.
    #[schemars(extend("x-example" = ["header:Idempotency-Key", "/requestId"]))]
    pub key: Option<Vec<String>>,
    /// Longest body of a purchase. Default: 16 KiB.
    #[schemars(extend("x-min" = "1B", "x-max" = "1MiB", "x-example" = "16KiB"))]
    pub body_bytes_max: Option<Size>,
    /// Largest quantity that is understood at all. Default: 1000.
    #[schemars(range(min = 1, max = 1000))]
    #[schemars(extend("x-example" = 10))]
    pub quantity_max: Option<u32>,
}

/// Form of a purchase's body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OrderBody {
    /// `application/json`.
    #[default]
    Json,
    /// `application/x-www-form-urlencoded`.
    Form,
    /// The query string.
    Query,
}

/// What becomes of an activity without a sale.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unlisted {
    /// Availability and purchase answer 404 `unknown_activity`.
    #[default]
    Refuse,
    /// They are proxied, for shops that sell ordinary goods on the same pattern.
    Proxy,
}

/// A sale, declared.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sale {
    /// The site; absent: the only one.
    #[serde(default)]
    #[schemars(extend("x-example" = "shop"))]
    pub site: Option<Name>,
    /// The activity's id; absent: the sale's name.
    #[serde(default)]
    #[schemars(extend("x-shown" = true, "x-example" = "8848"))]
    pub activity: Option<Name>,
    /// T0, with its offset.
    #[schemars(extend("x-example" = "2026-12-01T20:00:00+08:00"))]
    pub opens_at: Time,
    /// The end; absent: by `penstock sale end`.
    #[serde(default)]
    #[schemars(extend("x-example" = "2026-12-01T22:00:00+08:00"))]
    pub ends_at: Option<Time>,
    /// Units, where there is one pool; or where the shop says how many are left, such as
    /// `{ redis = "stock:{activity}" }`.
    #[serde(default)]
    #[schemars(extend("x-shown" = true, "x-example" = 1000))]
    pub stock: Option<Stock>,
    /// Pools by id, where there are several.
    #[serde(default)]
    #[schemars(extend("x-name" = "1001"))]
    pub pool: BTreeMap<Name, Pool>,
    /// What one user may buy, over all pools.
    #[serde(default)]
    pub per_user: PerUser,
    /// Users who have bought elsewhere: refused as `already`. Of this node, like `only` and `deny`: the
    /// ledger does not know it.
    #[serde(default)]
    pub already: Option<UserSet>,
    /// The only users who may buy; others are refused as `not_eligible`.
    #[serde(default)]
    pub only: Option<UserSet>,
    /// Users who may not buy: refused as `not_eligible`.
    #[serde(default)]
    pub deny: Option<UserSet>,
    /// Admissions in flight per unit that is still unsold; 1.0 admits exactly what there is.
    #[serde(default = "Sale::overshoot_default")]
    #[schemars(range(min = 1.0, max = 2.0))]
    pub overshoot: f64,
    /// What becomes of units that come back after the sale was sold out.
    #[serde(default)]
    pub restock: Restock,
    /// With `restock = "auto"`: a pool that is sold out opens again when so many of its units have come
    /// back. Fewer wait for `penstock sale restock`.
    #[serde(default = "Sale::restock_batch_default")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub restock_batch: u64,
    /// With `restock = "auto"`: a batch that has come back waits so long for more, so that the sale
    /// does not open again for every single unit.
    #[serde(default = "Sale::restock_debounce_default")]
    #[schemars(extend("x-max" = "1d"))]
    pub restock_debounce: Span,
}

impl Sale {
    /// Default of `restock_batch`.
    pub fn restock_batch_default() -> u64 {
        1
    }

    /// Default of `restock_debounce`.
    pub fn restock_debounce_default() -> Span {
        Span::from_secs(30)
    }

    fn overshoot_default() -> f64 {
        1.0
    }
}

/// One stock number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// Units; or where the shop says how many are left, such as `{ redis = "stock:{pool}" }`.
    #[schemars(extend("x-example" = 300))]
    pub stock: Stock,
}

impl Pool {
    /// A pool with units of its own.
    pub fn of(units: u64) -> Pool {
        Pool { stock: Stock::Own(units) }
    }
}

/// A set of users in the shop's Redis.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UserSet {
    /// Its key. The members are identities, as the first of `user` that is present says them.
    /// `{activity}` and `{pool}` stand for their ids; with `{pool}` there is one for each pool.
    #[schemars(extend("x-example" = "bought:{pool}"))]
    pub redis_set: String,
}

/// What one user may buy in a sale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PerUser {
    /// Orders.
    #[schemars(range(min = 1, max = 8))]
    pub orders: u32,
    /// Units in all of them.
    #[schemars(range(min = 1, max = 1000))]
    pub units: u32,
}

impl Default for PerUser {
    fn default() -> PerUser {
        PerUser { orders: 1, units: 1 }
    }
}

/// What becomes of units that come back after the latch.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Restock {
    /// They stay back; `sold_out` is final.
    Never,
    /// `penstock sale restock` sells them.
    #[default]
    Manual,
    /// They are sold by themselves, in batches: see `restock_batch` and `restock_debounce`.
    Auto,
}

/// The page cache.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Cache {
    /// What all entries together may take.
    #[schemars(extend("x-min" = "1MiB", "x-max" = "1024GiB"))]
    #[schemars(extend("x-change" = "upgrade"))]
    pub size: Size,
    /// Largest body that is stored.
    #[schemars(extend("x-min" = "1KiB", "x-max" = "1GiB"))]
    #[schemars(extend("x-change" = "upgrade"))]
    pub entry_bytes_max: Size,
    /// Requests that wait for one fill.
    #[schemars(range(min = 1))]
    pub waiters_max: u32,
    /// Longest wait for a fill; then stale, or 503.
    #[schemars(extend("x-min" = "10ms", "x-max" = "1h"))]
    pub wait_timeout: Span,
    /// A fill, whole.
    #[schemars(extend("x-min" = "10ms", "x-max" = "1h"))]
    pub fill_timeout: Span,
    /// Fills under way at once.
    #[schemars(range(min = 1))]
    pub fills_max: u32,
    /// After an error a key is not asked for again for so long.
    #[schemars(extend("x-max" = "1h"))]
    pub error_hold: Span,
    /// How long a key that proved uncacheable is remembered as such.
    #[schemars(extend("x-max" = "1h"))]
    pub hit_for_miss: Span,
    /// Bodies shorter than this are not compressed.
    #[schemars(extend("x-max" = "1GiB"))]
    pub compress_bytes_min: Size,
    /// How fast keys may come that nothing is known of. Beyond it a sale page is refused, so that
    /// invented ids never reach the shop, and an ordinary request passes without being stored.
    pub new_keys: Rate,
    /// What the snapshot may take that is written when the node drains or makes way and read by the next
    /// start, pinned pages and those that are used most first. 0: none is written or read.
    #[schemars(extend("x-max" = "1024GiB"))]
    pub snapshot_size: Size,
    /// How long writing it may take, and reading it; what is not done by then is left out.
    #[schemars(extend("x-min" = "10ms", "x-max" = "10m"))]
    pub snapshot_timeout: Span,
    /// An older one is not read.
    #[schemars(extend("x-min" = "1s", "x-max" = "30d"))]
    pub snapshot_age_max: Span,
    /// Entries, remarks included; 0: as many as `size` holds.
    #[schemars(extend("x-change" = "upgrade"))]
    pub entries_max: u32,
    /// Tags that one page may have (`Surrogate-Key`, `Cache-Tag`). One with more is not stored: it could
    /// not be purged by all of them.
    #[schemars(range(max = 1024))]
    pub tags_max: u32,
    /// Longest tag; a page with a longer one is not stored.
    #[schemars(extend("x-min" = "1B", "x-max" = "1KiB"))]
    pub tag_bytes_max: Size,
    /// Whether clients get `Surrogate-Key` and `Cache-Tag`.
    pub show_tags: bool,
    /// Who may `PURGE` at the edge: networks, addresses, or `unix`. Without this and a token nobody may,
    /// and `PURGE` is for the shop; with both, both are asked for.
    #[schemars(extend("x-example" = ["10.0.1.0/24"]))]
    pub purge_from: Vec<String>,
    /// File with the token that a `PURGE` at the edge needs, as a bearer.
    #[schemars(extend("x-example" = "purge.token"))]
    pub purge_token_file: Option<String>,
}

impl Default for Cache {
    fn default() -> Cache {
        Cache {
            size: Size::from_mib(256),
            entry_bytes_max: Size::from_mib(8),
            waiters_max: 20_000,
            wait_timeout: Span::from_secs(10),
            fill_timeout: Span::from_secs(30),
            fills_max: 256,
            error_hold: Span::from_secs(1),
            hit_for_miss: Span::from_secs(10),
            compress_bytes_min: Size { bytes: 600 },
            new_keys: Rate::new(20_000, 2_000),
            snapshot_size: Size::from_mib(256),
            snapshot_timeout: Span::from_secs(5),
            snapshot_age_max: Span::from_secs(3600),
            entries_max: 0,
            tags_max: 128,
            tag_bytes_max: Size { bytes: 256 },
            show_tags: false,
            purge_from: Vec::new(),
            purge_token_file: None,
        }
    }
}

/// The admission gate.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Gate {
    /// Key of the pass that the shop can verify; absent: no pass is sent.
    #[schemars(extend("x-example" = "pass.key"))]
    pub pass_key_file: Option<String>,
    /// How long a repeated attempt waits for the first one's answer.
    #[schemars(extend("x-max" = "1m"))]
    pub join_timeout: Span,
    /// Answers that are kept for repeats.
    #[schemars(range(min = 16))]
    #[schemars(extend("x-change" = "upgrade"))]
    pub replay_entries_max: u32,
    /// Largest answer that is kept for repeats.
    #[schemars(extend("x-max" = "1MiB"))]
    #[schemars(extend("x-change" = "upgrade"))]
    pub replay_bytes_max: Size,
    /// How long a pending order is held before it goes to limbo.
    #[schemars(extend("x-min" = "1s", "x-max" = "30d"))]
    pub pay_ttl: Span,
    /// Between deciding to send and giving up on a claim: a record past it goes to limbo. At
    /// least the upstream's `purchase_timeout` plus 2 s.
    #[schemars(extend("x-min" = "1s", "x-max" = "1d"))]
    pub claim_ttl: Span,
    /// Purchase bodies in memory at once.
    #[schemars(extend("x-min" = "64KiB", "x-max" = "1024GiB"))]
    #[schemars(extend("x-change" = "upgrade"))]
    pub body_memory_max: Size,
    /// Largest answer of the shop to a purchase. A longer one is not read to its end: the outcome is
    /// unknown, and the client is told `pending`.
    #[schemars(extend("x-min" = "1KiB", "x-max" = "64MiB"))]
    pub answer_bytes_max: Size,
}

impl Default for Gate {
    fn default() -> Gate {
        Gate {
            pass_key_file: None,
            join_timeout: Span::from_secs(2),
            replay_entries_max: 65_536,
            replay_bytes_max: Size::from_kib(16),
            pay_ttl: Span::from_secs(900),
            claim_ttl: Span::from_secs(15),
            body_memory_max: Size::from_mib(64),
            answer_bytes_max: Size::from_mib(1),
        }
    }
}

/// What clients are told.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Answers {
    /// `problem` (RFC 9457) or `envelope` (status 200 and the shop's own template).
    pub style: Style,
    /// Status of every envelope. Default: 200.
    #[schemars(range(min = 200, max = 599))]
    #[schemars(extend("x-example" = 200))]
    pub status: Option<u16>,
    /// The envelope: JSON in which `{code}`, `{msg}`, `{data}` and `{request_id}` stand for values that
    /// are put in with their quotes; other braces are JSON's own. Default: `code`, `msg` and `data`.
    #[schemars(extend("x-example" = "{\"code\":{code},\"msg\":{msg},\"data\":{data},\"traceId\":{request_id}}"))]
    pub envelope: Option<String>,
    /// Language of the texts.
    pub language: Language,
    /// Base of `type` in a problem.
    #[schemars(extend("x-example" = "https://shop.example/problems/"))]
    pub type_base: Option<String>,
    /// Directory of HTML pages, `REASON.html` each, for browsers that navigate.
    #[schemars(extend("x-example" = "answers"))]
    pub html_dir: Option<String>,
    /// Behind a CDN that replaces 5xx: `busy` and `unavailable` become 429.
    pub behind_cdn: bool,
    /// `[answers.REASON]`: the shop's own code, text and status for a reason of the edge.
    #[serde(flatten)]
    #[schemars(schema_with = "answer_texts")]
    pub reason: BTreeMap<String, AnswerText>,
    /// Other styles for some clients, tried in order.
    pub variant: Vec<AnswerVariant>,
}

/// Whether the shop may say a reason in its own words: two of them relay the shop's answer.
fn has_own_words(reason: Reason) -> bool {
    !matches!(reason, Reason::Admitted | Reason::Replayed)
}

/// One table for each reason, so that a misspelt one is found.
fn answer_texts(generator: &mut SchemaGenerator) -> Schema {
    let labels: Vec<&str> =
        REASONS.iter().filter(|row| has_own_words(row.reason)).map(|row| row.label).collect();
    let pattern = format!("^({})$", labels.join("|"));
    let text = generator.subschema_for::<AnswerText>();
    json_schema!({ "type": "object", "patternProperties": { pattern: text }, "x-name": "sold_out" })
}

/// Styles of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Style {
    /// RFC 9457.
    #[default]
    Problem,
    /// The shop's own template.
    Envelope,
}

/// Languages of the built-in texts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Language {
    /// English.
    #[default]
    En,
    /// Chinese.
    Zh,
}

/// The shop's own code and text for a reason.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AnswerText {
    /// Code in the envelope.
    #[schemars(extend("x-example" = 1001))]
    pub code: Option<i64>,
    /// Text.
    #[schemars(extend("x-example" = "Gone"))]
    pub msg: Option<String>,
    /// Status in the problem style.
    #[schemars(range(min = 200, max = 599))]
    #[schemars(extend("x-example" = 409))]
    pub status: Option<u16>,
}

/// Another style for some clients.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AnswerVariant {
    /// Which clients.
    pub when: VariantWhen,
    /// Their style.
    #[schemars(extend("x-example" = "problem"))]
    pub style: Style,
}

/// Which clients a variant is for.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VariantWhen {
    /// A header's name.
    #[schemars(extend("x-example" = "X-Client"))]
    pub header: String,
    /// What its value begins with.
    #[schemars(extend("x-example" = "app/2."))]
    pub prefix: String,
}

/// Control and metrics.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    /// Unix socket; absent: `STATE_DIR/admin.sock`.
    #[schemars(extend("x-example" = "/run/penstock/admin.sock"))]
    pub socket: Option<String>,
    /// TCP address, by choice; the dashboard is its page `/`.
    #[schemars(extend("x-example" = "127.0.0.1:9901"))]
    pub address: Option<String>,
    /// File with the token that the TCP address asks for: as a bearer, or as a browser's password.
    #[schemars(extend("x-example" = "admin.token"))]
    pub token_file: Option<String>,
}

/// Logs.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// File of the access log, `-` for standard output; absent: none.
    #[schemars(extend("x-example" = "/var/log/penstock/access.log"))]
    pub access: Option<String>,
    /// One in how many page hits is logged; 0: none.
    pub sample_pages: u32,
    /// One in how many availability answers.
    pub sample_availability: u32,
    /// One in how many refusals.
    pub sample_refusals: u32,
    /// One in how many proxied requests.
    pub sample_proxied: u32,
    /// Lines that wait for the disk; more are dropped and counted.
    #[schemars(range(min = 16))]
    pub queue_max: u32,
    /// Least level of events on standard error: `error`, `warn`, `info`, `debug`.
    #[schemars(extend("enum" = ["error", "warn", "info", "debug"]))]
    #[schemars(extend("x-change" = "upgrade"))]
    pub level: String,
}

impl Default for Log {
    fn default() -> Log {
        Log {
            access: None,
            sample_pages: 100,
            sample_availability: 100,
            sample_refusals: 100,
            sample_proxied: 1,
            queue_max: 8_192,
            level: "info".to_owned(),
        }
    }
}

/// Shutting down.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Drain {
    /// Readiness is red for so long before listeners close.
    #[schemars(extend("x-max" = "10m"))]
    pub notice: Span,
    /// Connections may finish for so long after that. Admitted purchases are awaited even longer, until
    /// the `purchase_timeout` of their upstream.
    #[schemars(extend("x-max" = "1h"))]
    pub timeout: Span,
}

impl Default for Drain {
    fn default() -> Drain {
        Drain { notice: Span::from_ms(0), timeout: Span::from_secs(30) }
    }
}
