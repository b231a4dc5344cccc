//! Bounds and timers of one client connection, resolved from the settings.

use std::time::Duration;

use crate::config::schema;

/// Everything a connection is bounded by. One value is shared by all connections of a
/// worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Whole head, request line and ending included, in bytes.
    pub head_bytes_max: usize,
    /// Request target, in bytes.
    pub target_bytes_max: usize,
    /// One field line without its CRLF, in bytes.
    pub field_bytes_max: usize,
    /// Field lines of a head.
    pub fields_max: usize,
    /// From accept to the first byte.
    pub first_byte_timeout: Duration,
    /// From the first byte of a head to its end.
    pub head_timeout: Duration,
    /// Silence within a request body that a handler waits for.
    pub body_idle_timeout: Duration,
    /// Time in which the client takes no byte of its response, or falls behind the least rate.
    pub write_timeout: Duration,
    /// Silence between requests.
    pub keep_alive_timeout: Duration,
    /// Age at which a connection closes after its current response; each draws ±10 %.
    pub connection_age_max: Duration,
    /// Unread request body that is drained after an early answer.
    pub drain_bytes_max: usize,
    /// Longest wait for that.
    pub drain_timeout: Duration,
    /// Bytes of further requests that are read while a response is under way.
    pub read_ahead_bytes_max: usize,
    /// What bounds HTTP/2 beside this.
    pub http2: schema::Http2,
}

impl Limits {
    /// The bounds that the settings name.
    pub fn of(http: &schema::Http, http2: &schema::Http2) -> Limits {
        Limits { http2: http2.clone(), ..Limits::from(http) }
    }
}

impl From<&schema::Http> for Limits {
    fn from(http: &schema::Http) -> Limits {
        Limits {
            head_bytes_max: http.head_bytes_max.in_memory(),
            target_bytes_max: http.target_bytes_max.in_memory(),
            field_bytes_max: http.field_bytes_max.in_memory(),
            fields_max: usize::try_from(http.fields_max).unwrap_or(usize::MAX),
            first_byte_timeout: http.first_byte_timeout.duration(),
            head_timeout: http.head_timeout.duration(),
            body_idle_timeout: http.body_idle_timeout.duration(),
            write_timeout: http.write_timeout.duration(),
            keep_alive_timeout: http.keep_alive_timeout.duration(),
            connection_age_max: http.connection_age_max.duration(),
            drain_bytes_max: http.drain_bytes_max.in_memory(),
            drain_timeout: http.drain_timeout.duration(),
            read_ahead_bytes_max: http.read_ahead_bytes_max.in_memory(),
            http2: schema::Http2::default(),
        }
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits::from(&schema::Http::default())
    }
}
