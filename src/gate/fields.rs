//! A field or cookie that must say one thing: what a client repeats with another value is not read at
//! all, since the shop might read the other.

/// What a repeatable thing says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Single<'a> {
    /// It is not there, or empty.
    Absent,
    /// One value.
    One(&'a [u8]),
    /// Several that differ.
    Several,
}

/// The one value of `values`; empty ones count as absent.
pub fn single<'a>(values: impl Iterator<Item = &'a [u8]>) -> Single<'a> {
    let mut found = Single::Absent;
    for value in values.map(<[u8]>::trim_ascii).filter(|v| !v.is_empty()) {
        found = match found {
            Single::Absent => Single::One(value),
            Single::One(first) if first == value => found,
            _ => return Single::Several,
        };
    }
    found
}
