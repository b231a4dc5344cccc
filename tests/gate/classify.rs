//! `penstock classify` as a process: the same verdict as the gate's, and how to mend what has none.

use std::path::Path;
use std::process::{Command, Output};

const CONFIG: &str = r#"
[listen.http]
address = "127.0.0.1:8080"
[upstream.pages]
servers = ["127.0.0.1:9000"]
[upstream.shop]
servers = ["127.0.0.1:9000"]
outcome = { read = "json", at = "/code", confirmed = [0], failed = [1002], sold_out = [1001], order_id = "/orderNo" }
[site.shop]
upstream = "shop"
[site.shop.activity]
purchase = "/activity/{activity}/orders"
user = ["cookie:uid"]
"#;

fn classify(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_penstock"))
        .arg("classify")
        .args(args)
        .args(["-c", "penstock.toml"])
        .current_dir(dir)
        .output()
        .expect("a process")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn an_answer_is_read_as_the_gate_would() {
    let dir = tempfile::tempdir().expect("directory");
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    write("penstock.toml", CONFIG);
    write("won.txt", "HTTP/1.1 200 OK\r\nServer: shop\r\n\r\n{\"code\":0,\"orderNo\":\"A-7\"}");
    write("lost.json", "{\"code\":1001}");
    write("odd.json", "{\"code\":1007}");
    for (args, expected) in [
        (
            &["--response", "won.txt"][..],
            "verdict  confirmed: the order exists, its units are sold\n\
             decided  the list `confirmed`\ncode     0\norder    A-7\n",
        ),
        (
            &["--upstream", "shop", "--status", "200", "--body", "lost.json"][..],
            "verdict  failed: no order was made, its units are free again\n\
             decided  the list `sold_out`\ncode     1001\n\
             besides  evidence that the shop's stock is gone\n",
        ),
        (
            &["--status", "200", "--body", "odd.json"][..],
            "verdict  unknown: nobody knows, its units wait in limbo\n\
             decided  no rule: the code is in no list\ncode     1007\n\
             fix      put 1007 (\"1007\", if the answer has it in quotes) into confirmed, failed, \
             sold_out, already or pending of upstream.shop.outcome\n",
        ),
        (
            &["--status", "500", "--header", "Penstock-Outcome: pending"][..],
            "verdict  pending: accepted, its units are held until the final word\n\
             decided  Penstock-Outcome, read as `pending`\n",
        ),
    ] {
        let out = classify(dir.path(), args);
        assert_eq!(text(&out.stdout), expected, "{}", text(&out.stderr));
        assert_eq!(out.status.code(), Some(0));
    }
    let out = classify(dir.path(), &["--explain"]);
    assert_eq!(out.status.code(), Some(0));
    assert!(
        text(&out.stdout).contains("4. the code in the JSON body at /code"),
        "{}",
        text(&out.stdout)
    );
}

#[test]
fn a_mistake_on_the_command_line_is_2() {
    let dir = tempfile::tempdir().expect("directory");
    std::fs::write(dir.path().join("penstock.toml"), CONFIG).expect("written");
    for (args, said) in [
        (&[][..], "give --response FILE"),
        (&["--response", "none.txt"][..], "none.txt"),
        (&["--response", "penstock.toml"][..], "no status line"),
        (&["--status", "200", "--header", "x"][..], "`x` is no field"),
        (&["--status", "200", "--upstream", "pages"][..], "upstream.pages has no outcome"),
        (&["--status", "200", "--upstream", "none"][..], "there is no upstream `none`"),
        (&["--status", "99"][..], "99 is not in 200..=999"),
        (&["--status", "200", "--response", "x"][..], "cannot be used with"),
    ] {
        let out = classify(dir.path(), args);
        assert_eq!(out.status.code(), Some(2), "{args:?} {}", text(&out.stdout));
        assert!(text(&out.stderr).contains(said), "{args:?} {}", text(&out.stderr));
    }
}
