//! HTTP/2 on the wire: frames written by hand against the driver, so that every rule of RFC 9113 and
//! RFC 7541 that a server can be tested for stands in a table, and every flood in another.

mod client;
mod cork;
mod floods;
mod hpack;
mod requests;
mod rfc9113;
mod rig;
mod timers;
