//! Buffers that all connections of a thread share, so that an idle connection owns none.

use std::cell::Cell;

use crate::http::head::Field;

/// Bytes read at once.
const READ_BYTES: usize = 32 * 1024;
/// An output buffer that grew beyond this is not kept.
const OUT_BYTES_KEPT_MAX: usize = 64 * 1024;

thread_local! {
    static READ: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    static OUT: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    static FIELDS: Cell<Vec<Field<'static>>> = const { Cell::new(Vec::new()) };
}

/// Lends the thread's read buffer. Its contents are those of the last reader.
pub(in crate::http) fn with_read_buffer<T>(work: impl FnOnce(&mut [u8]) -> T) -> T {
    // Taken out rather than borrowed: a second borrower on the way would get a new one.
    let mut buffer = READ.take();
    if buffer.is_empty() {
        buffer = vec![0; READ_BYTES];
    }
    let result = work(&mut buffer);
    READ.set(buffer);
    result
}

/// An empty output buffer, to be given back by [`return_out`].
pub(in crate::http) fn take_out() -> Vec<u8> {
    OUT.take()
}

/// Gives an output buffer back for the next connection.
pub(in crate::http) fn return_out(mut out: Vec<u8>) {
    if out.capacity() <= OUT_BYTES_KEPT_MAX {
        out.clear();
        OUT.set(out);
    }
}

/// Lends storage for the fields of one head.
pub(in crate::http) fn with_fields<'b, T>(work: impl FnOnce(&mut Vec<Field<'b>>) -> T) -> T {
    let mut fields: Vec<Field<'b>> = FIELDS.take();
    let result = work(&mut fields);
    fields.clear();
    // Collecting an emptied vector into one of the same layout keeps its allocation, and is how it
    // gets its lifetime back.
    FIELDS.set(fields.into_iter().map(|_| Field { name: b"", value: b"" }).collect());
    result
}
