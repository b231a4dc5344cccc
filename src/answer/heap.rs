//! What things take on the heap, as the allocator deals it out: for tables that are bounded in bytes,
//! and hold so many small things that their lengths alone would say half of it.

/// What an allocation of `bytes` takes (glibc, on 64 bits): a length in front of it, steps of 16, at
/// least 32. Nothing is allocated for nothing.
pub const fn block(bytes: usize) -> usize {
    match (bytes + 8).next_multiple_of(16) {
        _ if bytes == 0 => 0,
        small if small < 32 => 32,
        block => block,
    }
}

/// The same behind an `Arc`, with its two counts.
pub const fn shared(bytes: usize) -> usize {
    block(bytes + 16)
}

/// Bytes that are cloned: they get a count of their own then.
pub const fn bytes(length: usize) -> usize {
    match length {
        0 => 0,
        length => block(length) + block(size_of::<[usize; 3]>()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allocation_is_a_few_bytes_more_than_it_holds() {
        let blocks = [0, 1, 24, 25, 40, 41, 1000].map(block);
        assert_eq!(blocks, [0, 32, 32, 48, 48, 64, 1008]);
        assert_eq!((shared(8), bytes(0), bytes(24)), (32, 0, 64));
    }
}
