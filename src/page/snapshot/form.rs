//! One record as bytes. What is read was checked as a whole, and is still read as if a stranger had
//! written it: a piece that makes no sense is left out.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::clock::MonoMs;
use crate::ident::SaleId;
use crate::page::coding::{Bodies, CODINGS, Coding};
use crate::page::entry::{Entry, Parts};
use crate::page::key::KeyRef;
use crate::page::policy::clip::Bound;
use crate::page::policy::judge::Windows;
use crate::page::policy::range::Span;
use crate::page::record::{Record, What};
use crate::page::select::Selector;

/// The bytes of a page or a selector; `None` for a remark, or one that is longer than can be said.
pub fn write(record: &Record, sale: Option<&SaleId>, now: MonoMs) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    match record.what() {
        What::Page(entry) => {
            out.push(PAGE);
            put(&mut out, record.key().bytes());
            put(&mut out, sale.map(SaleId::to_string).unwrap_or_default().as_bytes());
            windows(&mut out, &record.left(now));
            page(&mut out, &entry.parts());
        }
        What::Selector(selector) => {
            out.push(SELECTOR);
            put(&mut out, record.key().bytes());
            number(&mut out, selector.generation());
            list(&mut out, selector.names().iter().map(|name| name.as_bytes()));
            let variants = selector.variants();
            list(&mut out, variants.iter().map(|key| key.bytes()));
        }
        What::HitForMiss | What::Failed(_) => return None,
    }
    u32::try_from(out.len()).is_ok().then_some(out)
}

/// Bytes that a record takes at least: its bodies.
pub fn bytes_min(record: &Record) -> u64 {
    let page = record.page();
    let bodies = CODINGS.into_iter().filter_map(|coding| page?.coded(coding));
    bodies.map(|body| body.len() as u64).sum()
}

fn windows(out: &mut Vec<u8>, windows: &Windows) {
    let Windows { age_ms, fresh_ms, refill_ms, error_ms, overdue_ms, never_stale, alone } =
        *windows;
    for ms in [age_ms, fresh_ms, refill_ms, error_ms, overdue_ms] {
        number(out, ms);
    }
    out.extend([u8::from(never_stale), u8::from(alone)]);
}

fn page(out: &mut Vec<u8>, parts: &Parts) {
    number(out, parts.status.as_u16().into());
    out.push(parts.has_our_tag.into());
    let (span, total) = parts.part.unwrap_or((Span { first: 0, last: 0 }, 0));
    for part in [u64::from(parts.part.is_some()), span.first, span.last, total] {
        number(out, part);
    }
    let bound = parts.bound.unwrap_or(Bound { lifetime_s: 0, ttl_s: 0 });
    for part in [u64::from(parts.bound.is_some()), bound.lifetime_s, bound.ttl_s] {
        number(out, part);
    }
    number(out, 2 * parts.headers.len() as u64);
    for (name, value) in &parts.headers {
        put(out, name.as_str().as_bytes());
        put(out, value.as_bytes());
    }
    list(out, parts.tags.iter().map(|tag| tag.as_bytes()));
    for coding in CODINGS {
        let body = parts.bodies[coding as usize].as_ref();
        out.push(body.is_some().into());
        put(out, body.map_or(&[], |body| body));
    }
}

/// A record that was written so, `passed_ms` later; and the sale that it is pinned for. `None` where it
/// is of no use any more.
pub fn read(bytes: &[u8], passed_ms: u64, now: MonoMs) -> Option<(Arc<Record>, Option<SaleId>)> {
    let mut rest = Rest(bytes);
    let kind = rest.byte()?;
    let key = Arc::new(KeyRef::of(rest.bytes()?).to_key());
    let (what, windows, sale) = match kind {
        PAGE => {
            let sale = std::str::from_utf8(rest.bytes()?).ok()?;
            let sale = if sale.is_empty() { None } else { Some(sale.parse().ok()?) };
            let windows = later(rest.windows()?, passed_ms)?;
            (What::Page(Box::new(rest.page()?)), windows, sale)
        }
        SELECTOR => {
            let generation = rest.number()?;
            let name = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(Box::from);
            let names = rest.list()?.into_iter().map(name).collect::<Option<Vec<Box<str>>>>()?;
            let selector = Selector::new(names, generation);
            for variant in rest.list()? {
                selector.note(&Arc::new(KeyRef::of(variant).to_key()), usize::MAX);
            }
            let forever = Windows { fresh_ms: u64::MAX, ..Windows::default() };
            (What::Selector(selector), forever, None)
        }
        _ => return None,
    };
    rest.0.is_empty().then(|| (Record::new(key, what, windows, now), sale))
}

/// What is left of windows after `passed_ms`; `None`: nothing.
fn later(windows: Windows, passed_ms: u64) -> Option<Windows> {
    let left = |ms: u64| windows.fresh_ms.saturating_add(ms).saturating_sub(passed_ms);
    let fresh_ms = windows.fresh_ms.saturating_sub(passed_ms);
    let (refill_ms, error_ms) = (left(windows.refill_ms), left(windows.error_ms));
    let over_ms = passed_ms.saturating_sub(windows.fresh_ms);
    (fresh_ms.max(refill_ms).max(error_ms) > 0).then_some(Windows {
        age_ms: windows.age_ms.saturating_add(passed_ms),
        fresh_ms,
        refill_ms: refill_ms - fresh_ms,
        error_ms: error_ms - fresh_ms,
        overdue_ms: windows.overdue_ms.saturating_add(over_ms),
        ..windows
    })
}

/// What is still to be read.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn flag(&mut self) -> Option<bool> {
        self.byte().map(|byte| byte != 0)
    }

    fn number(&mut self) -> Option<u64> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*first))
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    fn list(&mut self) -> Option<Vec<&'a [u8]>> {
        let count = self.number()?;
        // Each takes its length at least: no claim of a count takes more memory than the bytes do.
        (count <= self.0.len() as u64).then(|| (0..count).map(|_| self.bytes()).collect())?
    }

    fn windows(&mut self) -> Option<Windows> {
        Some(Windows {
            age_ms: self.number()?,
            fresh_ms: self.number()?,
            refill_ms: self.number()?,
            error_ms: self.number()?,
            overdue_ms: self.number()?,
            never_stale: self.flag()?,
            alone: self.flag()?,
        })
    }

    fn page(&mut self) -> Option<Entry> {
        let status = StatusCode::from_u16(u16::try_from(self.number()?).ok()?).ok()?;
        let has_our_tag = self.flag()?;
        let [is_part, first, last, total] =
            [self.number()?, self.number()?, self.number()?, self.number()?];
        let part = (is_part != 0).then_some((Span { first, last }, total));
        let [is_bound, lifetime_s, ttl_s] = [self.number()?, self.number()?, self.number()?];
        let bound = (is_bound != 0).then_some(Bound { lifetime_s, ttl_s });
        let mut headers = HeaderMap::new();
        for pair in self.list()?.chunks(2) {
            let [name, value] = pair else { return None };
            let name = HeaderName::from_bytes(name).ok()?;
            headers.append(name, HeaderValue::from_bytes(value).ok()?);
        }
        let tag = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(Box::from);
        let tags = self.list()?.into_iter().map(tag).collect::<Option<Vec<Box<str>>>>()?.into();
        let mut bodies: Bodies = Default::default();
        for coding in CODINGS {
            let is_there = self.flag()?;
            let body = self.bytes()?;
            // A copy: a piece would keep the whole snapshot in memory.
            bodies[coding as usize] = is_there.then(|| Bytes::from(Box::<[u8]>::from(body)));
        }
        let length = bodies[Coding::Identity as usize].as_ref()?.len() as u64;
        let is_sound = part.is_none_or(|(span, _)| {
            span.first <= span.last && span.last - span.first < u64::MAX && span.length() == length
        });
        is_sound.then(|| {
            Entry::of_parts(Parts { status, headers, bodies, has_our_tag, part, bound, tags })
        })
    }
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn number(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn list<'b>(out: &mut Vec<u8>, items: impl Iterator<Item = &'b [u8]> + Clone) {
    number(out, items.clone().count() as u64);
    items.for_each(|item| put(out, item));
}

const PAGE: u8 = 0;
const SELECTOR: u8 = 1;
