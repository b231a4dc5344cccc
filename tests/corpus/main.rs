//! Every input that a fuzzer found worth keeping, through the same checks, in the ordinary test run.

#[path = "../../fuzz/checks/head.rs"]
mod head;
#[path = "../../fuzz/checks/ids.rs"]
mod ids;
#[path = "../../fuzz/checks/outcome.rs"]
mod outcome;
#[path = "../../fuzz/checks/proxy_header.rs"]
mod proxy_header;
#[path = "../../fuzz/checks/redis.rs"]
mod redis;
#[path = "../../fuzz/checks/settings.rs"]
mod settings;
#[path = "../../fuzz/checks/split.rs"]
mod split;
#[path = "../../fuzz/checks/walker.rs"]
mod walker;

/// Replays `fuzz/corpus/TARGET`.
fn replay(target: &str, check: fn(&[u8])) {
    let dir = format!("{}/fuzz/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
    let mut inputs = 0;
    for entry in std::fs::read_dir(&dir).expect(&dir) {
        let path = entry.expect("an entry").path();
        let data = std::fs::read(&path).expect("a readable file");
        let held = std::panic::catch_unwind(|| check(&data));
        assert!(held.is_ok(), "{} fails", path.display());
        inputs += 1;
    }
    assert!(inputs > 0, "no corpus in {dir}");
}

macro_rules! targets {
    ($($name:ident)*) => {$(
        #[test]
        fn $name() {
            replay(stringify!($name), $name::check);
        }
    )*};
}

targets! { head ids outcome proxy_header redis settings split walker }
