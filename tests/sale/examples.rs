//! The examples of `docs/examples/` against a node and a real Redis: what a shop's developer copies works.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::redis::Redis;
use crate::rig::{Plan, Stage, buy, until};

/// A language's command, which is run where it is installed.
struct Example {
    program: &'static str,
    file: &'static str,
    /// Whether a machine that runs the tests has it.
    is_needed: bool,
}

const EXAMPLES: [Example; 3] = [
    Example { program: "python3", file: "shop.py", is_needed: true },
    // Not every machine that builds Rust has these.
    Example { program: "java", file: "Shop.java", is_needed: false },
    Example { program: "php", file: "shop.php", is_needed: false },
];

impl Example {
    fn is_there(&self) -> bool {
        let found = Command::new(self.program).arg("--version").output();
        let is_there = found.is_ok_and(|output| output.status.success());
        assert!(is_there || !self.is_needed, "{} is needed", self.program);
        is_there
    }

    fn run(&self, args: &[&str]) -> Output {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/examples").join(self.file);
        let mut command = Command::new(self.program);
        command.arg(file).args(args).output().expect("it runs")
    }

    fn good(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{} {args:?}: {said}", self.file);
        String::from_utf8(output.stdout).expect("text").trim().to_owned()
    }
}

fn declaration(stage: &Stage, stock: u64, revision: u64) -> PathBuf {
    let text = json!({"activity": "9", "opens_at": "2099-12-01T20:00:00+08:00",
        "pools": {"1001": {"stock": stock}}, "revision": revision});
    stage.write("want.json", &text.to_string())
}

#[test]
fn the_examples_of_the_docs_do_what_they_say() {
    let redis = Redis::start(&[]);
    let plan = plan(redis.at);
    let stage = Stage::set(plan);
    let key = stage.write("pass.key", "a key of the shop\n");
    let edge = stage.opened();
    let (at, key) = (redis.at.to_string(), key.display().to_string());
    let other = stage.write("other.key", "another key");
    for example in EXAMPLES.iter().filter(|example| example.is_there()) {
        // A pass is good for seconds only, so each language gets its own.
        assert_eq!(buy(edge.at, example.program).expect("an answer").status, 201);
        let orders = stage.shop.backend().orders();
        let pass = orders.last().and_then(|order| order.ask.admission.clone()).expect("a pass");
        let forged = format!("{}AAAA", &pass[..pass.len() - 4]);
        let told: Value =
            serde_json::from_str(&example.good(&["verify", &key, &pass])).expect("JSON");
        assert_eq!((&told["sale"], &told["units"]), (&json!("shop/spring-drop"), &json!(1)));
        for (key, pass) in
            [(&key, &forged), (&other.display().to_string(), &pass), (&key, &String::new())]
        {
            assert!(
                !example.run(&["verify", key, pass]).status.success(),
                "{}: {pass}",
                example.file
            );
        }

        let sale = format!("shop/{}", example.program);
        let show = || edge.json(&["sale", "show", &sale, "--json"]);
        let want = declaration(&stage, 300, 1).display().to_string();
        // An activity has one sale: the last language's is over.
        let have = example.good(&["declare", &at, &sale, &want]);
        assert!(have.contains("not_started"), "{have}");
        assert_eq!(show()["stock"], 300);
        for _ in 0..2 {
            example.good(&["add-stock", &at, &sale, "1001", "50", "change-1"]);
        }
        until("the stock is added once", || show()["stock"] == 350);
        let bad = declaration(&stage, 0, 2).display().to_string();
        let refused = example.run(&["declare", &at, &sale, &bad]);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(
            !refused.status.success() && said.contains("pools.1001.stock"),
            "{}: {said}",
            example.file
        );
        let ended = edge.verb(&["sale", "end", &sale]);
        assert!(ended.status.success());
    }
}

fn plan(redis: SocketAddr) -> Plan {
    Plan {
        more: format!(
            "[store]\nkind = \"redis\"\nurl = \"redis://{redis}\"\nclaim_deadline = \"1s\"\n\
             [gate]\npass_key_file = \"pass.key\""
        ),
        ..Plan::default()
    }
}
