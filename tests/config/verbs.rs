//! `check`, `init` and `config` as processes.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn penstock(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_penstock"))
        .args(args)
        .current_dir(dir)
        .env_remove("PENSTOCK_CONFIG")
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn init_writes_what_check_accepts_and_overwrites_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let init = ["init", "--upstream", "http://shop.internal:8080"];
    let out = penstock(dir.path(), &init);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    let written = fs::read_to_string(dir.path().join("penstock.toml")).unwrap();
    assert!(written.contains("servers = [\"shop.internal:8080\"]"), "{written}");

    for args in [["check"].as_slice(), &["-t"], &["-t", "-c", "penstock.toml"]] {
        let out = penstock(dir.path(), args);
        assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
        assert!(text(&out.stdout).starts_with("penstock.toml: ok\n"), "{}", text(&out.stdout));
        assert!(text(&out.stderr).contains("unverified identity"), "{}", text(&out.stderr));
    }

    let out = penstock(dir.path(), &init);
    assert_eq!(out.status.code(), Some(1));
    assert!(text(&out.stderr).contains("left alone"), "{}", text(&out.stderr));
    assert_eq!(fs::read_to_string(dir.path().join("penstock.toml")).unwrap(), written);
}

#[test]
fn init_takes_other_paths_users_and_addresses() {
    let dir = tempfile::tempdir().unwrap();
    let args = [
        "init",
        "--upstream",
        "10.0.0.1:80",
        "--upstream",
        "http://[::1]",
        "--listen",
        "[::]:80",
        "-o",
        "-",
    ];
    let more = [
        "--activity-page",
        "/item/{activity}.html",
        "--purchase",
        "/buy/{activity}",
        "--availability",
        "/may/{activity}",
    ];
    let out = penstock(
        dir.path(),
        &[args.as_slice(), &more, &["--user", "jwt:header:authorization"]].concat(),
    );
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    let written = text(&out.stdout);
    for part in
        ["\"10.0.0.1:80\", \"[::1]:80\"", "nodes = 1", "key_file = \"jwt.key\"", "/buy/{activity}"]
    {
        assert!(written.contains(part), "{part} in {written}");
    }
    let out = penstock(dir.path(), &["init", "--upstream", "https://shop", "-o", "-"]);
    let written = text(&out.stdout);
    assert!(written.contains("[\"shop:443\"]\ntls = {}"), "{written}");
    let mixed = ["--upstream", "https://shop", "--upstream", "http://shop"];
    for bad in [&mixed[..], &["--upstream", "http://shop/a"], &["--upstream", "shop"]] {
        let out = penstock(dir.path(), &[&["init"], bad].concat());
        assert_eq!(out.status.code(), Some(2), "{bad:?}");
    }
    let out = penstock(dir.path(), &["init", "--upstream", "shop:80", "--activity-page", "/item"]);
    assert_eq!(out.status.code(), Some(2));
    assert!(text(&out.stderr).contains("exactly once"), "{}", text(&out.stderr));
    assert!(!dir.path().join("penstock.toml").exists());
}

#[test]
fn check_names_the_mistakes_and_exits_78() {
    let dir = tempfile::tempdir().unwrap();
    let out = penstock(dir.path(), &["check", "-c", "none.toml"]);
    assert_eq!(out.status.code(), Some(78));
    assert!(
        text(&out.stderr).contains("none.toml: cannot read the config"),
        "{}",
        text(&out.stderr)
    );

    let file = dir.path().join("a.toml");
    fs::write(&file, "[listen.http]\nadress = 1\n").unwrap();
    for args in [
        ["check", "-c", "a.toml"].as_slice(),
        &["-t", "-c", "a.toml"],
        &["config", "dump", "-c", "a.toml"],
    ] {
        let out = penstock(dir.path(), args);
        assert_eq!(out.status.code(), Some(78), "{args:?}");
        assert_eq!(text(&out.stdout), "");
        assert!(
            text(&out.stderr).contains("error: a.toml:2:1: listen.http.adress:"),
            "{}",
            text(&out.stderr)
        );
    }
    fs::write(&file, b"a = \"\xff\"\n").unwrap();
    let out = penstock(dir.path(), &["check", "-c", "a.toml"]);
    assert_eq!(out.status.code(), Some(78));
    assert!(text(&out.stderr).contains("not UTF-8 (line 1)"), "{}", text(&out.stderr));
}

#[test]
fn key_files_must_be_there_and_are_found_beside_the_config() {
    let dir = tempfile::tempdir().unwrap();
    let conf = dir.path().join("conf");
    fs::create_dir(&conf).unwrap();
    let out = penstock(
        dir.path(),
        &["init", "--upstream", "shop:80", "--user", "jwt:cookie:t", "-o", "conf/p.toml"],
    );
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    let check = || penstock(dir.path(), &["check", "-c", "conf/p.toml"]);
    let out = check();
    assert_eq!(out.status.code(), Some(78));
    assert!(text(&out.stderr).contains("cannot read conf/jwt.key"), "{}", text(&out.stderr));
    fs::write(conf.join("jwt.key"), " \n").unwrap();
    assert!(text(&check().stderr).contains("is empty"));
    fs::write(conf.join("jwt.key"), "a secret that is long enough").unwrap();
    assert_eq!(check().status.code(), Some(0));
    let toml = fs::read_to_string(conf.join("p.toml")).unwrap().replace("HS256", "RS256");
    fs::write(conf.join("p.toml"), toml).unwrap();
    fs::write(conf.join("jwt.key"), "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n")
        .unwrap();
    let out = check();
    assert_eq!(out.status.code(), Some(78), "what `run` refuses, `check` refuses");
    assert!(text(&out.stderr).contains("jwt"), "{}", text(&out.stderr));
    fs::write(conf.join("jwt.key"), "a secret that is long enough").unwrap();
    assert!(text(&check().stderr).contains("no public key in PEM"), "{}", text(&check().stderr));
}

#[test]
fn settings_are_explained() {
    let dir = tempfile::tempdir().unwrap();
    let out = penstock(dir.path(), &["check", "--explain", "upstream.shop.purchase_timeout"]);
    assert_eq!(
        text(&out.stdout),
        "upstream.NAME.purchase_timeout\n    An admitted purchase, from its sending to the whole answer.\n  value    a duration in quotes, like \"250ms\"\n  default  \"8s\"\n  range    10ms to 1h\n  changed  by `penstock reload`\n"
    );
    for (key, part) in [
        ("claim_ttl", "gate.claim_ttl\n"),
        ("store.kind", "\"redis\": In Redis"),
        ("answers.sold_out.code", "answers.NAME.code\n"),
        ("site.shop.activity.page.ttl", "default  \"10s\""),
        ("sale.x.opens_at", "none, it is required"),
        ("listen", "names of your choice"),
    ] {
        let out = penstock(dir.path(), &["check", "--explain", key]);
        assert!(text(&out.stdout).contains(part), "{key}: {}", text(&out.stdout));
    }
    assert_eq!(penstock(dir.path(), &["check", "--explain", "nothing"]).status.code(), Some(1));
}

#[test]
fn the_schema_is_json_and_the_reference_is_the_one_in_the_tree() {
    let dir = tempfile::tempdir().unwrap();
    let schema: serde_json::Value =
        serde_json::from_slice(&penstock(dir.path(), &["config", "schema"]).stdout).unwrap();
    assert_eq!(schema["properties"]["listen"]["type"], "object");
    let reference = penstock(dir.path(), &["config", "reference"]).stdout;
    assert_eq!(text(&reference), penstock::config::reference::text());
}

#[test]
fn a_password_in_the_url_is_shown_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let out = penstock(dir.path(), &["init", "--upstream", "http://127.0.0.1:9000"]);
    assert!(out.status.success(), "{}", text(&out.stderr));
    let file = dir.path().join("penstock.toml");
    let config = fs::read_to_string(&file).unwrap();
    let store = "\n[store]\nkind = \"redis\"\nurl = \"rediss://bob:hunter2@db.example\"\n";
    for (more, status) in [("", 0), ("poll = \"1\"\n", 78), ("username = \"bob\"\n", 78)] {
        fs::write(&file, format!("{config}{store}{more}")).unwrap();
        for verb in [&["check"][..], &["config", "dump"]] {
            let out = penstock(dir.path(), verb);
            let all = text(&out.stdout) + &text(&out.stderr);
            assert_eq!(out.status.code(), Some(status), "{all}");
            assert!(!all.contains("hunter2"), "{all}");
            let is_shown = all.contains("rediss://bob:***@db.example");
            assert!(status != 0 || is_shown, "{all}");
        }
    }
}
