//! The flag's age: news come from one thread at a time, requests read all the while.

use loom::sync::Arc;
use loom::thread;

use crate::clock::MonoMs;
use crate::heard::Heard;

#[test]
fn what_is_read_never_goes_back_and_busy_has_one_beginning() {
    loom::model(|| {
        let heard = Arc::new(Heard::default());
        let bringer = {
            let heard = heard.clone();
            thread::spawn(move || {
                heard.note(MonoMs(5), false);
                heard.note(MonoMs(7), false);
                // Word that was overtaken on its way.
                heard.note(MonoMs(6), true);
            })
        };
        let (first, second) = (heard.at(), heard.at());
        assert!(first <= second, "{first:?} before {second:?}");
        let since = heard.full_since();
        assert!(since.is_none_or(|since| since == MonoMs(5)), "{since:?}");
        bringer.join().expect("no panic");
        assert_eq!((heard.at(), heard.full_since()), (MonoMs(7), None));
    });
}

#[test]
fn two_that_find_no_room_agree_since_when() {
    loom::model(|| {
        let heard = Arc::new(Heard::default());
        let other = {
            let heard = heard.clone();
            thread::spawn(move || heard.note(MonoMs(5), false))
        };
        heard.note(MonoMs(6), false);
        let seen = heard.full_since();
        other.join().expect("no panic");
        assert!(seen.is_some());
        assert_eq!((heard.full_since(), heard.at()), (seen, MonoMs(6)));
    });
}
