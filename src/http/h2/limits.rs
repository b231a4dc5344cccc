//! Bounds of an HTTP/2 connection, resolved from the settings.

use crate::config::schema;

/// Everything an HTTP/2 connection is bounded by beside what bounds every connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Requests that are open at once.
    pub streams_max: u32,
    /// A head as RFC 9113 6.5.2 counts it, in bytes.
    pub header_list_bytes_max: u32,
    /// The table of the header compression, in bytes.
    pub header_table_bytes_max: u32,
    /// Window of a request's body, in bytes.
    pub stream_window_bytes: u32,
    /// Window of all bodies together, in bytes.
    pub connection_window_bytes: u32,
    /// Bytes of a response that are taken before the client takes them.
    pub send_buffer_bytes_max: usize,
    /// RST_STREAM in 10 s, in either direction.
    pub resets_max: u32,
    /// PING in 10 s.
    pub pings_max: u32,
    /// SETTINGS in 10 s.
    pub settings_max: u32,
    /// CONTINUATION in one head.
    pub continuations_max: u32,
    /// DATA without data in 10 s.
    pub empty_data_max: u32,
    /// Frames that ask for nothing in 10 s.
    pub idle_frames_max: u32,
}

impl From<&schema::Http2> for Limits {
    fn from(http2: &schema::Http2) -> Limits {
        let size =
            |size: crate::config::units::Size| u32::try_from(size.in_memory()).unwrap_or(u32::MAX);
        Limits {
            streams_max: http2.streams_max,
            header_list_bytes_max: size(http2.header_list_bytes_max),
            header_table_bytes_max: size(http2.header_table_bytes_max),
            stream_window_bytes: size(http2.stream_window_bytes),
            connection_window_bytes: size(http2.connection_window_bytes),
            send_buffer_bytes_max: http2.send_buffer_bytes_max.in_memory(),
            resets_max: http2.resets_max,
            pings_max: http2.pings_max,
            settings_max: http2.settings_max,
            continuations_max: http2.continuations_max,
            empty_data_max: http2.empty_data_max,
            idle_frames_max: http2.idle_frames_max,
        }
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits::from(&schema::Http2::default())
    }
}
