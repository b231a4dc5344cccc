//! Every file in `conf/` loads, as a user would load it.

use std::fs;
use std::path::{Path, PathBuf};

use penstock::config::{self, Loaded, reference};

fn conf() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("conf")
}

/// Loads a copy of `conf/NAME` with the key files that it names beside it.
fn load(name: &str) -> Loaded {
    let dir = tempfile::tempdir().unwrap();
    for key in ["jwt.key", "pass.key", "redis.password"] {
        fs::write(dir.path().join(key), "0123456789abcdef0123456789abcdef\n").unwrap();
    }
    let file = dir.path().join(name);
    fs::copy(conf().join(name), &file).unwrap();
    config::load(&file).unwrap_or_else(|problems| {
        let all: Vec<String> = problems.iter().map(ToString::to_string).collect();
        panic!("{}", all.join("\n"))
    })
}

#[test]
fn every_example_loads() {
    let mut seen = 0;
    for entry in fs::read_dir(conf()).unwrap() {
        load(entry.unwrap().file_name().to_str().unwrap());
        seen += 1;
    }
    assert!(seen >= 5, "{seen}");
}

#[test]
fn the_shop_with_envelopes_is_read_as_it_is_meant() {
    let loaded = load("cn-shop.toml");
    let settings = loaded.settings;
    let name = "spring-drop".parse().unwrap();
    assert_eq!(settings.sale_id(&name).unwrap().to_string(), "shop/spring-drop");
    assert_eq!(
        settings.sale[&name].pool.values().filter_map(|pool| pool.stock.own()).sum::<u64>(),
        1000
    );
    let site = &settings.site["shop"];
    assert_eq!(site.purchase_upstream().unwrap().as_str(), "shop");
    let jwt = site.activity.as_ref().unwrap().jwt.as_ref().unwrap();
    assert!(Path::new(&jwt.key_file).is_absolute(), "{} is beside the config", jwt.key_file);
    assert_eq!(settings.answers.reason["sold_out"].code, Some(1001));
    assert_eq!(settings.answers.reason["busy"].msg.as_deref(), Some("排队人数过多,请稍后再试"));
}

/// After a change of the settings: `penstock config reference > conf/reference.toml`, or this test
/// with `PENSTOCK_UPDATE=1`.
#[test]
fn the_reference_is_not_stale() {
    let path = conf().join("reference.toml");
    if std::env::var_os("PENSTOCK_UPDATE").is_some() {
        fs::write(&path, reference::text()).unwrap();
    }
    let (file, text) = (fs::read_to_string(&path).unwrap(), reference::text());
    for (at, (old, new)) in file.lines().zip(text.lines()).enumerate() {
        assert_eq!(old, new, "line {}: penstock config reference > conf/reference.toml", at + 1);
    }
    assert_eq!(file.len(), text.len(), "penstock config reference > conf/reference.toml");
}

#[test]
fn the_reference_shows_the_defaults() {
    // What is written in it changes nothing but the names that have no default.
    let given = config::parse(&reference::text(), "reference.toml").unwrap().settings;
    let minimal = load("minimal.toml").settings;
    for (a, b) in [
        (toml::to_string(&given.http), toml::to_string(&minimal.http)),
        (toml::to_string(&given.limits), toml::to_string(&minimal.limits)),
        (toml::to_string(&given.cache), toml::to_string(&minimal.cache)),
        (toml::to_string(&given.gate), toml::to_string(&minimal.gate)),
        (toml::to_string(&given.store), toml::to_string(&minimal.store)),
        (toml::to_string(&given.upstream), toml::to_string(&minimal.upstream)),
    ] {
        assert_eq!(a.unwrap(), b.unwrap());
    }
}

#[test]
fn what_is_dumped_reads_back_the_same() {
    for name in ["cn-shop.toml", "flash-sale.toml", "reference.toml"] {
        let dumped = toml::to_string(&load(name).settings).unwrap();
        let again = config::parse(&dumped, name).unwrap_or_else(|problems| {
            let all: Vec<String> = problems.iter().map(ToString::to_string).collect();
            panic!("{}\n{dumped}", all.join("\n"))
        });
        assert_eq!(toml::to_string(&again.settings).unwrap(), dumped, "{name}");
    }
}
