//! Why the driver answers a request itself, mostly before anybody decides about it: one table row
//! each.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;

use crate::answer::{Answer, AnswerBuilder, SlotKind};
use crate::outcome::Reason;

/// One row of the table of refusals.
#[derive(Clone, Copy, Debug)]
pub struct RefusalRow {
    /// The refusal.
    pub refusal: Refusal,
    /// Status of the answer; the connection closes after it.
    pub status: u16,
    /// The reason that is shown and counted.
    pub reason: Reason,
    /// What was wrong, for the client's developer.
    pub detail: &'static str,
}

macro_rules! refusals {
    ($($variant:ident, $status:literal, $reason:ident, $detail:literal;)*) => {
        /// Why the driver answered itself: a head or a body was refused, or a handler failed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Refusal { $(#[doc = $detail] $variant,)* }

        /// All rows, in the order of the enum.
        pub const REFUSALS: &[RefusalRow] = &[$(RefusalRow {
            refusal: Refusal::$variant, status: $status,
            reason: Reason::$reason, detail: $detail,
        },)*];
    };
}

refusals! {
    BlankLines, 400, BadRequest, "more than two empty lines before the request";
    BareLf, 400, BadRequest, "a line ends in LF without CR";
    BareCr, 400, BadRequest, "CR without LF";
    Method, 400, BadRequest, "the method is not a token";
    MethodTooLong, 501, BadRequest, "the method is longer than 32 bytes";
    MethodRefused, 405, Method, "this method is not allowed";
    Target, 400, BadRequest, "the request target is not a path, or has bytes that must be encoded";
    TargetTooLong, 414, BadRequest, "the request target is too long";
    Version, 400, BadRequest, "the request line does not end in an HTTP version";
    VersionUnknown, 505, BadRequest, "only HTTP/1.0 and HTTP/1.1 are spoken here";
    Folded, 400, BadRequest, "a field line begins with white space";
    FieldName, 400, BadRequest, "a field name is not a token followed by a colon";
    FieldValue, 400, BadRequest, "a field value has a control character";
    FieldTooLong, 431, BadRequest, "a field line is too long";
    TooManyFields, 431, BadRequest, "too many field lines";
    HeadTooLarge, 431, BadRequest, "the head is too large";
    HostMissing, 400, BadRequest, "no Host";
    HostRepeated, 400, BadRequest, "more than one Host";
    Host, 400, BadRequest, "the Host is not a name or address with an optional port";
    HostMismatch, 400, BadRequest, "the target's authority is not the Host";
    ContentLength, 400, BadRequest, "Content-Length is not one decimal number";
    ContentLengthRepeated, 400, BadRequest, "more than one Content-Length";
    LengthAndCoding, 400, BadRequest, "both Content-Length and Transfer-Encoding";
    TransferEncoding, 400, BadRequest, "Transfer-Encoding is not chunked";
    CodingUnknown, 501, BadRequest, "only the chunked transfer coding is supported";
    TransferEncodingOld, 400, BadRequest, "Transfer-Encoding in HTTP/1.0";
    ConnectionNames, 400, BadRequest, "Connection names a field that is not hop-by-hop";
    Expect, 417, BadRequest, "the expectation cannot be met";
    ChunkSize, 400, BadRequest, "a chunk size is not 1 to 8 hexadecimal digits and CRLF";
    ChunkExtension, 400, BadRequest, "chunk extensions are not accepted";
    ChunkEnd, 400, BadRequest, "chunk data does not end in CRLF";
    Trailer, 400, BadRequest, "a trailer line is malformed";
    TrailersTooLarge, 431, BadRequest, "too many or too large trailers";
    HeadTimeout, 408, BadRequest, "the head came too slowly";
    BodyTimeout, 408, BadRequest, "the body came too slowly";
    Interim, 502, BadGateway, "the shop answered with an interim status";
    ResponseCut, 502, BadGateway, "the shop's response broke off";
    Panic, 500, Internal, "something went wrong here";
}

impl Refusal {
    /// The refusal's row.
    pub fn row(self) -> &'static RefusalRow {
        &REFUSALS[self as usize]
    }

    /// The answer: an RFC 9457 problem. The writer adds `connection: close`.
    pub fn answer(self) -> Arc<Answer> {
        let row = self.row();
        // Every status of the table is a valid one; the test below walks them all.
        let status = StatusCode::from_u16(row.status).unwrap_or(StatusCode::BAD_REQUEST);
        let body = format!(
            "{{\"title\":\"{}\",\"status\":{},\"detail\":\"{}\",\"reason\":\"{}\"}}\n",
            row.reason.row().title,
            row.status,
            row.detail,
            row.reason.label(),
        );
        let mut builder = AnswerBuilder::new(status)
            .field("content-type", "application/problem+json")
            .field("cache-control", "no-store")
            .field("penstock-reason", row.reason.label())
            .slot("penstock-request", SlotKind::RequestId);
        if self == Refusal::MethodRefused {
            builder = builder.field("allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
        }
        builder.body(Bytes::from(body)).build()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::Fill;
    use crate::answer::tests::agree;

    #[test]
    fn rows_stand_in_the_order_of_their_enum_and_make_answers() {
        for (i, row) in REFUSALS.iter().enumerate() {
            assert_eq!(row.refusal as usize, i, "{}", row.detail);
            let told = agree::response(&row.refusal.answer(), &Fill::default());
            assert_eq!(told.status().as_u16(), row.status);
            assert!(!row.detail.contains(['"', '\\']), "{} needs no escaping", row.detail);
        }
    }
}
