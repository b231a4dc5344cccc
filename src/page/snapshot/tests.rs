use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use proptest::prelude::*;

use super::*;
use crate::clock::MonoMs;
use crate::config::Settings;
use crate::page::entry::Source;
use crate::page::key::{Fields, KeyRef, Url};
use crate::page::policy::judge::Windows;
use crate::page::record::What;
use crate::page::select::Selector;

fn now(ms: u64) -> Now {
    Now { mono: MonoMs(ms), wall: UnixMs(1_000_000 + ms), ..Now::default() }
}

fn fields(activity: &str) -> Fields<'_> {
    Fields { site: "shop", host: "h", path: "/a", activity, city: None, state: None }
}

fn windows() -> Windows {
    Windows {
        age_ms: 500,
        fresh_ms: 10_000,
        refill_ms: 5_000,
        error_ms: 60_000,
        ..Windows::default()
    }
}

fn put(cache: &Cache, activity: &str, windows: Windows, ms: u64) -> Arc<Record> {
    let mut headers = HeaderMap::new();
    headers.append("content-type", HeaderValue::from_static("text/html"));
    headers.append("x", HeaderValue::from_bytes(b"\xff a").unwrap());
    headers.append("x", HeaderValue::from_static("b"));
    let body = Bytes::from(format!("<p>{activity}</p>").repeat(200));
    let tags = ["shelf-7".into()].into();
    let source = Source { status: StatusCode::OK, headers, body, is_faithful: false, tags };
    let key = Arc::new(fields(activity).key(&mut Vec::new()).to_key());
    let what = What::Page(Box::new(source.into_entry(600)));
    let record = Record::new(key.clone(), what, windows, MonoMs(ms));
    cache.put(key, record.clone(), &Sink::detached());
    record
}

fn get(cache: &Cache, activity: &str) -> Option<Arc<Record>> {
    cache.get(&fields(activity).key(&mut Vec::new()))
}

fn bounds(bytes_max: u64) -> Bounds {
    Bounds { bytes_max, until: Instant::now() + Duration::from_secs(60) }
}

fn meta(ms: u64) -> Meta {
    Meta { written: now(ms).wall, store: "s".to_owned(), place: Some("3-1".to_owned()) }
}

fn write(cache: &Cache, bytes_max: u64, ms: u64) -> (Vec<u8>, Count) {
    let mut bytes = Vec::new();
    let count = cache.write_snapshot(&mut bytes, &meta(ms), bounds(bytes_max), now(ms)).unwrap();
    (bytes, count)
}

/// Reads it into a cache of a process that began `gap_ms` after it was written.
fn read(bytes: &[u8], written_ms: u64, gap_ms: u64) -> Result<(Arc<Cache>, Count), Refused> {
    let cache = Cache::new(&Settings::default());
    let now = Now { mono: MonoMs(7), wall: now(written_ms + gap_ms).wall, ..Now::default() };
    let until = Instant::now() + Duration::from_secs(60);
    let (told, count) = cache.read_snapshot(bytes, |_| Ok(()), until, now, &Sink::detached())?;
    assert_eq!(told, meta(written_ms));
    Ok((cache, count))
}

#[test]
fn what_is_stored_comes_back_as_old_as_it_is() {
    let cache = Cache::new(&Settings::default());
    let old = put(&cache, "1", windows(), 1_000);
    let (bytes, count) = write(&cache, 1 << 20, 5_000);
    assert_eq!((count.entries, count.left_out, count.bytes), (1, 0, bytes.len() as u64 - 32));
    for (gap_ms, fresh_ms, over_ms) in [(0, 6_000, 0), (2_000, 4_000, 0), (8_000, 0, 2_000)] {
        let (cache, _) = read(&bytes, 5_000, gap_ms).unwrap();
        let new = get(&cache, "1").unwrap();
        let (page, before) = (new.page().unwrap(), old.page().unwrap());
        assert_eq!((page.headers(), page.body()), (before.headers(), before.body()));
        assert_eq!(page.parts().bodies, before.parts().bodies);
        assert_eq!(new.weight(), old.weight());
        let (stored, life) = (new.stored(), new.life());
        assert_eq!(stored.fresh_until, MonoMs(7 + fresh_ms), "{gap_ms}");
        assert_eq!(stored.error_until.0, (7 + 66_000 - gap_ms).max(7));
        assert_eq!((life.age_ms, life.overdue_ms), (4_500 + gap_ms, over_ms));
    }
    let (cache, count) = read(&bytes, 5_000, 66_000).unwrap();
    assert_eq!((count.entries, count.left_out), (0, 1), "its windows are over");
    assert!(get(&cache, "1").is_none());
}

#[test]
fn a_soft_purge_is_kept() {
    let cache = Cache::new(&Settings::default());
    put(&cache, "1", windows(), 0).purge_softly();
    let (bytes, _) = write(&cache, 1 << 20, 1_000);
    let (cache, _) = read(&bytes, 1_000, 0).unwrap();
    let stored = get(&cache, "1").unwrap().stored();
    assert_eq!((stored.fresh_until, stored.refill_until), (MonoMs(7), MonoMs(7 + 14_000)));
}

#[test]
fn what_is_pinned_or_used_most_has_the_first_places() {
    let cache = Cache::new(&Settings::default());
    for n in 0..20 {
        put(&cache, &n.to_string(), windows(), 0);
    }
    let sale: crate::ident::SaleId = "shop/drop".parse().unwrap();
    assert!(cache.pin(&fields("17").key(&mut Vec::new()), &sale));
    (0..3).for_each(|_| assert!(get(&cache, "5").is_some()));
    let one = form::write(&get(&cache, "5").unwrap(), None, MonoMs(0)).unwrap().len() as u64;
    let (bytes, count) = write(&cache, 3 * one, 0);
    assert_eq!((count.entries, count.left_out), (2, 18));
    assert!(bytes.len() as u64 <= 3 * one);
    let (cache, _) = read(&bytes, 0, 0).unwrap();
    assert!(get(&cache, "5").is_some());
    assert!(get(&cache, "17").is_some_and(|record| record.is_pinned()));
    assert_eq!(cache.pinned().0, 1);
    assert_eq!(cache.unpin(|id| *id == sale), 1);
}

#[test]
fn variants_are_found_by_their_selector_and_no_generation_is_given_twice() {
    let cache = Cache::new(&Settings::default());
    let mut buffer = Vec::new();
    let url = Url { site: "s", host: "h", path: "/v", query: None }.bytes(&mut buffer).to_vec();
    cache.generation.store(9, Ordering::Relaxed);
    let selector = Selector::new(vec!["accept-language".into()], 8);
    let value = |_: &str| Some(b"de".to_vec());
    let variant = Arc::new(KeyRef::of(&selector.key(&url, value)).to_key());
    selector.note(&variant, 8);
    let key = Arc::new(KeyRef::of(&url).to_key());
    let forever = Windows { fresh_ms: u64::MAX, ..Windows::default() };
    let record = Record::new(key.clone(), What::Selector(selector), forever, MonoMs(0));
    cache.put(key.clone(), record, &Sink::detached());
    let (bytes, _) = write(&cache, 1 << 20, 0);
    let (cache, _) = read(&bytes, 0, 0).unwrap();
    let found = cache.get(&KeyRef::of(&url)).unwrap();
    let selector = found.selector().unwrap();
    assert_eq!(selector.key(&url, value), variant.bytes());
    assert_eq!(selector.variants(), [variant]);
    assert_eq!(cache.generation.load(Ordering::Relaxed), 9);
}

#[test]
fn what_is_torn_or_foreign_is_refused() {
    let cache = Cache::new(&Settings::default());
    put(&cache, "1", windows(), 0);
    let (bytes, _) = write(&cache, 1 << 20, 0);
    assert_eq!(read(b"", 0, 0).err(), Some(Refused::Foreign));
    assert_eq!(read(b"something else", 0, 0).err(), Some(Refused::Foreign));
    for end in (0..bytes.len()).step_by(7) {
        assert!(read(&bytes[..end], 0, 0).is_err(), "{end}");
    }
    for at in (0..bytes.len()).step_by(11) {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        assert!(read(&changed, 0, 0).is_err(), "{at}");
    }
    let unfit = cache.read_snapshot(
        &bytes,
        |_| Err("no".to_owned()),
        Instant::now(),
        now(0),
        &Sink::detached(),
    );
    assert_eq!(unfit.err(), Some(Refused::Unfit("no".to_owned())));
}

proptest! {
    /// Whatever the bytes of a record are, reading them ends.
    #[test]
    fn no_bytes_are_too_strange(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = form::read(&bytes, 0, MonoMs(0));
    }

    #[test]
    fn no_change_of_a_record_is_too_strange(at in any::<usize>(), to in any::<u8>()) {
        let cache = Cache::new(&Settings::default());
        let record = put(&cache, "1", windows(), 0);
        let mut bytes = form::write(&record, None, MonoMs(0)).unwrap();
        let at = at % 160;
        bytes[at] = to;
        let _ = form::read(&bytes, 0, MonoMs(0));
    }
}
