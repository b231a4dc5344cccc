//! A field or cookie that must say one thing: what a client repeats with another value is not read at
//! all, since the shop might read the other.

use crate::http::Head;

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

/// Every value of cookie `name`, from all `Cookie` lines.
pub fn cookies<'a>(head: &'a Head<'a>, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    head.field_all("cookie").flat_map(|line| line.split(|b| *b == b';')).filter_map(move |pair| {
        let pair = pair.trim_ascii();
        let eq = pair.iter().position(|b| *b == b'=')?;
        (pair[..eq].trim_ascii() == name.as_bytes()).then_some(&pair[eq + 1..])
    })
}
