//! Starting: what is wrong is said, with the exit code that tells a supervisor what to do.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use super::client::get;
use super::node::{Config, Place, quick_shop};

/// Runs a node that must not start; its exit code and what it said.
fn refused(place: &Place) -> (Option<i32>, String) {
    let output = place.verb(&["run"]);
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_taken_port_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let listen = format!("[listen.front]\naddress = \"{address}\"\n");
    let place = Place::new(address, &Config { listen, ..Config::default() });
    let (code, said) = refused(&place);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("listen.front") && said.contains(&address.to_string()), "{said}");
}

#[test]
fn a_second_node_does_not_share_a_port_or_a_state_directory() {
    let shop = quick_shop();
    let node = Place::new(shop.address(), &Config::default()).start();
    let (code, said) = refused(&node.place);
    assert_eq!(code, Some(1), "{said}");
    assert_eq!(node.client().ask(get("/health")).status, 200, "the first one goes on");
    assert_eq!(node.place.verb(&["ctl", "ready"]).status.code(), Some(0), "its socket too");
    let listen = format!("[listen.http]\naddress = \"{}\"\n", node.address("http"));
    let second = Place::new(shop.address(), &Config { listen, ..Config::default() });
    let (code, said) = refused(&second);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("listen.http"), "{said}");
}

#[test]
fn a_config_that_makes_no_sense_is_78() {
    let shop = quick_shop();
    for (config, word) in [
        (Config { more: "nonsense = 1\n".to_owned(), ..Config::default() }, "nonsense"),
        (Config { listen: String::new(), ..Config::default() }, "listen"),
        (
            Config { admin: "address = \"127.0.0.2:0\"\n".to_owned(), ..Config::default() },
            "token_file",
        ),
    ] {
        let (code, said) = refused(&Place::new(shop.address(), &config));
        assert_eq!(code, Some(78), "{said}");
        assert!(said.contains(word), "{said}");
    }
}

#[test]
fn an_upstream_that_does_not_resolve_is_no_reason_not_to_start() {
    let shop = quick_shop();
    let place = Place::new(shop.address(), &Config::default());
    let text = std::fs::read_to_string(place.config()).unwrap();
    let text = text.replace(&shop.address().to_string(), "nowhere.invalid:80");
    std::fs::write(place.config(), text).unwrap();
    let node = place.start();
    let mut client = node.client();
    assert_eq!(client.ask(get("/health")).status, 200);
    assert_eq!(client.ask(get("/activity/8848/availability")).status, 200);
    let page = client.ask(get("/activity/8848"));
    assert!(page.status >= 500 && page.reason() == "bad_gateway", "{page:?}");
}

#[test]
fn the_state_directory_and_the_admin_socket_are_ours_alone() {
    let shop = quick_shop();
    let node = Place::new(shop.address(), &Config::default()).start();
    let mode = |name: &str| node.place.path(name).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("state"), mode("state/admin.sock")), (0o700, 0o600));
}
