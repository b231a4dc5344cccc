use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::super::entry::Source;
use super::super::flight::Landing;
use super::super::key::Fields;
use super::super::policy::judge::Windows;
use super::super::policy::tags::Tags;
use super::super::record::What;
use super::*;
use crate::config::units::Size;

fn cache(change: impl FnOnce(&mut schema::Cache)) -> Arc<Cache> {
    let mut settings = Settings::default();
    change(&mut settings.cache);
    Cache::new(&settings)
}

fn fields<'a>(activity: &'a str, city: Option<&'a str>) -> Fields<'a> {
    Fields { site: "shop", host: "shop.example", path: "/p", activity, city, state: None }
}

fn page(key: Arc<Key>, body: Vec<u8>) -> Arc<Record> {
    let source = Source {
        status: StatusCode::OK,
        headers: HeaderMap::new(),
        body: Bytes::from(body),
        is_faithful: false,
        tags: Tags::default(),
    };
    let windows =
        Windows { fresh_ms: 1_000, refill_ms: 1_000, error_ms: 1_000, ..Windows::default() };
    Record::new(key, What::Page(Box::new(source.into_entry(600))), windows, MonoMs(0))
}

fn begin(cache: &Arc<Cache>, fields: Fields<'_>) -> (Filling, Waiter) {
    let mut buffer = Vec::new();
    let key = fields.key(&mut buffer);
    let seen = cache.get(&key);
    match cache.join(key, seen.as_ref(), MonoMs(0)) {
        Joined::Began(filling, waiter) => (filling, waiter),
        _ => panic!("a fill was under way"),
    }
}

fn fill(cache: &Arc<Cache>, fields: Fields<'_>, body: Vec<u8>) -> bool {
    let (filling, _waiter) = begin(cache, fields);
    let record = page(filling.key().clone(), body);
    filling.store(record, &Sink::detached())
}

fn has(cache: &Arc<Cache>, fields: Fields<'_>) -> bool {
    let mut buffer = Vec::new();
    cache.get(&fields.key(&mut buffer)).is_some()
}

#[test]
fn a_key_with_the_same_hash_is_another_page() {
    let cache = cache(|_| {});
    assert!(fill(&cache, fields("1", None), b"one".to_vec()));
    let (mut one, mut two) = (Vec::new(), Vec::new());
    let stored = fields("1", None).key(&mut one);
    assert!(cache.get(&stored).is_some());
    let forged = fields("2", None).key(&mut two).with_hash(stored.to_key().hash_for_tests());
    assert!(cache.get(&forged).is_none());
}

/// Every body that is allowed is stored, at every size of the cache, with the worst overhead.
#[test]
fn no_allowed_entry_is_refused() {
    for (size, entry) in [(1, 1), (4, 8), (16, 1), (64, 8), (256, 8), (256, 16), (1024, 64)] {
        let cache = cache(|c| {
            c.size = Size::from_mib(size);
            c.entry_bytes_max = Size::from_mib(entry);
        });
        let weight_max = 2 * cache.entry_bytes_max() as u64 + OVERHEAD_BYTES_MAX;
        let hot = cache.records.shard_capacity() as f64 * 0.97;
        assert!((weight_max as f64) < hot, "{size} MiB of {entry} MiB: {weight_max} in {hot}");
        let body = vec![b'x'; cache.entry_bytes_max().min(4 << 20)];
        assert!(fill(&cache, fields("1", None), body));
        assert!(has(&cache, fields("1", None)), "{size} MiB of {entry} MiB");
    }
}

#[test]
fn the_size_bounds_what_is_kept() {
    let cache = cache(|c| c.size = Size::from_mib(1));
    let sink = Sink::detached();
    for i in 0..300u32 {
        let name = i.to_string();
        let (filling, _waiter) = begin(&cache, fields(&name, None));
        let record = page(filling.key().clone(), vec![b'x'; 10_000]);
        assert!(filling.store(record, &sink));
    }
    let report = cache.report();
    assert!(report.bytes <= 1 << 20 && report.entries > 50, "{report:?}");
    assert_eq!(report.entries + report.evictions, 300);
    assert_eq!(sink.get(Counter::CacheEvictions), report.evictions);
    assert_eq!(report.fills, 0);
}

#[test]
fn a_purge_removes_what_it_names_and_nothing_else() {
    let all = [("1", None), ("1", Some("sh")), ("1", Some("bj")), ("12", None)];
    let url = |path, city| Purge::Url { host: "shop.example", path, city };
    for (what, left) in [
        (Purge::Activity { site: "shop", activity: "1" }, vec![all[3]]),
        (Purge::Activity { site: "other", activity: "1" }, all.to_vec()),
        (
            Purge::ActivityCity { site: "shop", activity: "1", city: Some("sh") },
            vec![all[0], all[2], all[3]],
        ),
        (
            Purge::ActivityCity { site: "shop", activity: "1", city: None },
            vec![all[1], all[2], all[3]],
        ),
        (url("/p", Some("bj")), vec![all[0], all[1], all[3]]),
        (url("/p", None), vec![]),
        (url("/q", None), all.to_vec()),
        (Purge::All, vec![]),
    ] {
        let cache = cache(|_| {});
        let sink = Sink::detached();
        for (activity, city) in all {
            assert!(fill(&cache, fields(activity, city), b"page".to_vec()));
        }
        let purged = cache.purge(&what, Mode::Hard, &sink);
        assert_eq!(purged, (all.len() - left.len()) as u64, "{what:?}");
        assert_eq!(sink.get(Counter::CachePurged), purged);
        for (activity, city) in all {
            assert_eq!(has(&cache, fields(activity, city)), left.contains(&(activity, city)));
        }
    }
}

#[test]
fn a_soft_purge_ends_freshness_only() {
    let cache = cache(|_| {});
    assert!(fill(&cache, fields("1", None), b"page".to_vec()));
    let mut buffer = Vec::new();
    let record = cache.get(&fields("1", None).key(&mut buffer)).expect("stored");
    assert_eq!(record.stored().fresh_until, MonoMs(1_000));
    assert_eq!(cache.purge(&Purge::All, Mode::Soft, &Sink::detached()), 1);
    assert_eq!(record.stored().fresh_until, MonoMs(0));
    assert!(record.stands_in(MonoMs(1_999)));
}

#[test]
fn a_fill_from_before_a_purge_is_never_stored_after_it() {
    for mode in [Mode::Hard, Mode::Soft] {
        let cache = cache(|_| {});
        let (old, _waiter) = begin(&cache, fields("1", None));
        cache.purge(&Purge::Activity { site: "shop", activity: "1" }, mode, &Sink::detached());
        // The next request begins a fill of its own, which may store.
        let (new, _waiter) = begin(&cache, fields("1", None));
        let sink = Sink::detached();
        assert!(!old.store(page(old.key().clone(), b"old".to_vec()), &sink));
        drop(old);
        assert!(!has(&cache, fields("1", None)));
        assert!(new.store(page(new.key().clone(), b"new".to_vec()), &sink));
        assert!(has(&cache, fields("1", None)));
    }
}

/// What a request finds before the sweep comes by is refused there, and counted once.
#[test]
fn a_ban_holds_before_its_sweep() {
    let cache = cache(|_| {});
    for name in ["1", "2"] {
        assert!(fill(&cache, fields(name, None), b"page".to_vec()));
    }
    let ban = cache.ban(&Purge::Host { host: "x", canonical: "shop.example" }, Mode::Hard);
    assert!(!has(&cache, fields("1", None)));
    assert_eq!(cache.report().entries, 1);
    assert!(fill(&cache, fields("1", None), b"newer".to_vec()));
    assert_eq!(cache.sweep(&ban, &Sink::detached()), 2);
    assert!(has(&cache, fields("1", None)) && !has(&cache, fields("2", None)));
}

/// Bans are forgotten; a fill from before them cannot be judged and is refused.
#[test]
fn a_fill_that_outlives_the_bans_is_refused() {
    let cache = cache(|_| {});
    let sink = Sink::detached();
    let purge = || cache.purge(&Purge::Activity { site: "x", activity: "y" }, Mode::Hard, &sink);
    assert!(fill(&cache, fields("1", None), b"page".to_vec()));
    let (old, _waiter) = begin(&cache, fields("2", None));
    for _ in 0..1_023 {
        purge();
    }
    let (young, _waiter2) = begin(&cache, fields("3", None));
    purge();
    purge();
    assert!(!old.store(page(old.key(), b"old".to_vec()), &sink));
    assert_eq!(sink.get(Counter::CacheRefusedPurged), 1);
    assert!(young.store(page(young.key(), b"young".to_vec()), &sink));
    assert!(has(&cache, fields("1", None)), "it was looked through by every sweep");
}

#[test]
fn entries_are_bounded_by_number_too() {
    let cache = cache(|c| {
        c.size = Size::from_mib(8);
        c.entries_max = 100;
    });
    let sink = Sink::detached();
    for i in 0..1_000u32 {
        assert!(fill(&cache, fields(&i.to_string(), None), b"x".to_vec()));
    }
    let report = cache.report();
    assert!((50..=100).contains(&report.entries), "{report:?}");
    cache.purge(&Purge::All, Mode::Hard, &sink);
    assert_eq!((cache.report().bytes, cache.report().entries), (0, 0));
}

#[test]
fn one_fill_for_a_key_and_a_bound_on_all() {
    let cache = cache(|c| {
        c.fills_max = 2;
        c.waiters_max = 2;
    });
    let (mut one, mut two) = (Vec::new(), Vec::new());
    let (_first, waiter) = begin(&cache, fields("1", None));
    let key = fields("1", None).key(&mut one);
    let Joined::Waits(_second) = cache.join(key, None, MonoMs(0)) else { panic!("not joined") };
    assert!(matches!(cache.join(key, None, MonoMs(0)), Joined::Full));
    drop(waiter);
    assert!(matches!(cache.join(key, None, MonoMs(0)), Joined::Waits(_)));
    let (other, _waiter) = begin(&cache, fields("2", None));
    assert!(matches!(cache.join(fields("3", None).key(&mut two), None, MonoMs(0)), Joined::Busy));
    assert_eq!(cache.report().fills, 2);
    drop(other);
    assert!(matches!(
        cache.join(fields("3", None).key(&mut two), None, MonoMs(0)),
        Joined::Began(..)
    ));
}

#[test]
fn who_comes_between_a_fill_and_its_end_finds_the_page() {
    let cache = cache(|_| {});
    assert!(fill(&cache, fields("1", None), b"page".to_vec()));
    let mut buffer = Vec::new();
    let key = fields("1", None).key(&mut buffer);
    assert!(matches!(cache.join(key, None, MonoMs(0)), Joined::Found(_)));
    let seen = cache.get(&key);
    assert!(matches!(cache.join(key, seen.as_ref(), MonoMs(0)), Joined::Began(..)));
}

#[test]
fn a_fill_that_vanishes_is_told() {
    let cache = cache(|_| {});
    let (filling, waiter) = begin(&cache, fields("1", None));
    drop(filling);
    let interim = crate::http::Interim::default();
    let mut landing = std::pin::pin!(waiter.landing(&interim));
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    let landed = landing.as_mut().poll(&mut cx);
    assert!(matches!(landed, std::task::Poll::Ready(Landing::Failed(_))));
}

#[test]
fn one_refill_at_a_time_and_none_is_lost() {
    let cache = cache(|_| {});
    assert!(fill(&cache, fields("1", None), b"page".to_vec()));
    let mut buffer = Vec::new();
    let record = cache.get(&fields("1", None).key(&mut buffer)).expect("stored");
    let now = MonoMs(1_500);
    let refill = cache.refill(&record, now).expect("the first");
    assert!(cache.refill(&record, now).is_none());
    drop(refill);
    let refill = cache.refill(&record, now).expect("after one that came to nothing");
    record.hold(MonoMs(1_600));
    drop(refill);
    assert!(cache.refill(&record, now).is_none(), "held after an error");
    assert!(cache.refill(&record, MonoMs(1_600)).is_some());
}

#[test]
fn a_page_that_is_being_encoded_holds_no_place_of_a_fill() {
    let cache = cache(|c| c.fills_max = 1);
    let (filling, _waiter) = begin(&cache, fields("1", None));
    let (mut one, mut two) = (Vec::new(), Vec::new());
    assert!(matches!(cache.join(fields("2", None).key(&mut one), None, MonoMs(0)), Joined::Busy));
    filling.answered();
    let (_other, _) = begin(&cache, fields("2", None));
    assert_eq!(cache.report().fills, 1);
    drop(filling);
    assert_eq!(cache.report().fills, 1, "a place is given back once");
    assert!(matches!(cache.join(fields("3", None).key(&mut two), None, MonoMs(0)), Joined::Busy));
}

#[tokio::test]
async fn so_many_pages_wait_to_be_encoded_and_no_more() {
    let cache = cache(|_| {});
    let mut turns = Vec::new();
    for _ in 0..ENCODERS {
        turns.push(cache.encoding_turn().await.expect("a turn"));
    }
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    let mut waiting: Vec<_> =
        (0..ENCODER_WAITS_MAX).map(|_| Box::pin(cache.encoding_turn())).collect();
    for waits in &mut waiting {
        assert!(waits.as_mut().poll(&mut cx).is_pending());
    }
    assert!(cache.encoding_turn().await.is_none(), "it is stored as it came");
    turns.clear();
    waiting.clear();
    assert!(cache.encoding_turn().await.is_some());
}

/// Everything else is pushed out, and a pin is on the key.
#[test]
fn what_is_pinned_stays() {
    let cache = cache(|c| c.size = Size::from_mib(1));
    let sale = "shop/drop".parse().unwrap();
    let noise = |n: u32| -> Vec<u8> {
        (0..500)
            .flat_map(|i: u32| {
                *blake3::hash(&(u64::from(n) << 32 | u64::from(i)).to_le_bytes()).as_bytes()
            })
            .collect()
    };
    assert!(!cache.pin(&fields("1", None).key(&mut Vec::new()), &sale), "there is no page");
    assert!(fill(&cache, fields("1", None), noise(0)));
    assert!(cache.pin(&fields("1", None).key(&mut Vec::new()), &sale));
    for n in 0..500 {
        // Used, so that it takes the place of what is not.
        let activity = format!("x{n}");
        fill(&cache, fields(&activity, None), noise(n));
        assert!(has(&cache, fields(&activity, None)));
    }
    assert!(has(&cache, fields("1", None)), "it was not used all the while");
    assert!((0..20).any(|n| !has(&cache, fields(&format!("x{n}"), None))), "nor were these");
    // Filled again it is pinned, purged and filled again too.
    assert!(fill(&cache, fields("1", None), noise(7)));
    assert_eq!(cache.pinned().0, 1);
    cache.purge(&Purge::All, Mode::Hard, &Sink::detached());
    assert_eq!(cache.pinned(), (0, 0));
    assert!(fill(&cache, fields("1", None), noise(7)));
    assert_eq!(cache.pinned().0, 1);
    assert_eq!(cache.unpin(|id| id.to_string() == "shop/other"), 0);
    assert_eq!((cache.unpin(|id| *id == sale), cache.pinned()), (1, (0, 0)));
}

#[test]
fn pins_take_half_of_the_cache() {
    let cache = cache(|c| c.size = Size::from_mib(2));
    let sale = "shop/drop".parse().unwrap();
    let mut pinned = 0;
    for n in 0..64 {
        let activity = n.to_string();
        assert!(fill(&cache, fields(&activity, None), vec![b'x'; 100_000]));
        pinned += u64::from(cache.pin(&fields(&activity, None).key(&mut Vec::new()), &sale));
    }
    let (count, bytes) = cache.pinned();
    assert_eq!(count, pinned);
    assert!(bytes <= cache.report().bytes_max / 2 && bytes > cache.report().bytes_max / 4);
    // One that grows is let go, and is not pushed out before its time for that.
    assert!(fill(&cache, fields("0", None), vec![b'x'; 250_000]));
    assert!(cache.pinned().1 <= cache.report().bytes_max / 2);
}

fn tag(n: u32) -> String {
    format!("tag-{n}")
}

/// A shop that purges all day does not empty the cache of what is asked for once a day.
#[test]
fn what_no_purge_meant_stays_whatever_the_number_of_purges() {
    let (cache, sink) = (cache(|_| {}), Sink::detached());
    assert!(fill(&cache, fields("cold", None), b"cold".to_vec()));
    for n in 0..3_000 {
        cache.purge(&Purge::Tag { site: Some("shop"), tag: &tag(n) }, Mode::Hard, &sink);
        assert!(cache.bans.list().after(0).count() <= 1, "{n}: nothing is left that it could mean");
    }
    assert!(has(&cache, fields("cold", None)));
}

/// A ban stays as long as a fill is under way that began before it, and no longer.
#[test]
fn a_ban_expires_with_the_last_fill_that_is_older() {
    let (cache, sink) = (cache(|_| {}), Sink::detached());
    let purge = |n| cache.purge(&Purge::Tag { site: None, tag: &tag(n) }, Mode::Hard, &sink);
    let kept = || cache.bans.list().after(0).count();
    let (old, _waiter) = begin(&cache, fields("1", None));
    assert_eq!((0..10).map(purge).sum::<u64>(), 0);
    let (new, _waiter) = begin(&cache, fields("2", None));
    assert_eq!((purge(10), kept()), (0, 11));
    drop(old);
    assert_eq!((purge(11), kept()), (0, 2), "the last two are newer than the second fill");
    drop(new);
    assert_eq!((purge(12), kept()), (0, 0));
}

/// A fill that outlives very many purges is refused: nobody knows any more whether one meant it.
#[test]
fn a_fill_that_is_older_than_every_ban_is_refused() {
    let (cache, sink) = (cache(|_| {}), Sink::detached());
    let (filling, _waiter) = begin(&cache, fields("1", None));
    for n in 0..1_100 {
        cache.purge(&Purge::Tag { site: None, tag: &tag(n) }, Mode::Hard, &sink);
    }
    assert!(cache.bans.list().after(0).count() <= 1_024, "they are bounded");
    assert!(!filling.store(page(filling.key(), b"old".to_vec()), &sink));
    assert!(!has(&cache, fields("1", None)));
}
