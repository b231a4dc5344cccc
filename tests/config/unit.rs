//! What the package installs: the units pass systemd's own checks, the config is valid.

use std::path::{Path, PathBuf};
use std::process::Command;

use penstock::config;

fn packaging() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging")
}

/// `systemd-analyze` with these arguments; `None` where it is not here.
fn analyze(args: &[&str]) -> Option<(bool, String)> {
    let output = Command::new("systemd-analyze").args(args).output().ok()?;
    let said = [output.stdout, output.stderr].concat();
    Some((output.status.success(), String::from_utf8_lossy(&said).into_owned()))
}

/// The unit with the binary of these tests, which is there to be looked for.
fn unit(dir: &Path) -> PathBuf {
    let text = std::fs::read_to_string(packaging().join("penstock.service")).unwrap();
    let text = text.replace("/usr/bin/penstock", env!("CARGO_BIN_EXE_penstock"));
    // Manual pages are installed with the package.
    let text = text.lines().filter(|line| !line.starts_with("Documentation=")).collect::<Vec<_>>();
    let path = dir.join("penstock.service");
    std::fs::write(&path, text.join("\n")).unwrap();
    path
}

#[test]
fn systemd_finds_no_fault_with_the_units() {
    let dir = tempfile::tempdir().unwrap();
    let unit = unit(dir.path());
    let socket = packaging().join("penstock.socket");
    let (unit, socket) = (unit.to_str().unwrap(), socket.to_str().unwrap());
    let Some((passes, said)) = analyze(&["verify", unit, socket]) else {
        eprintln!("systemd-analyze is not here: not checked");
        return;
    };
    assert!(passes && said.trim().is_empty(), "{said}");
}

#[test]
fn the_unit_exposes_at_most_two_of_ten() {
    let unit = packaging().join("penstock.service");
    let args = ["security", "--offline=true", "--no-pager", "--threshold=20"];
    let args = [&args[..], &[unit.to_str().unwrap()]].concat();
    let Some((passes, said)) = analyze(&args) else {
        eprintln!("systemd-analyze is not here: not checked");
        return;
    };
    assert!(passes, "{said}");
}

#[test]
fn every_line_of_the_unit_has_its_reason() {
    for name in ["penstock.service", "penstock.socket"] {
        let text = std::fs::read_to_string(packaging().join(name)).unwrap();
        for block in text.split("\n\n").filter(|block| !block.contains("[Install]")) {
            assert!(
                block.lines().any(|line| line.starts_with("# ")),
                "{name}: no reason in\n{block}"
            );
        }
    }
}

#[test]
fn the_installed_config_is_valid_and_is_where_the_unit_looks() {
    let path = packaging().join("penstock.toml");
    let loaded = config::load(&path).unwrap();
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    let text = std::fs::read_to_string(packaging().join("penstock.service")).unwrap();
    let state = format!("/var/lib/{}", word(&text, "StateDirectory="));
    assert_eq!(loaded.settings.state_dir(), PathBuf::from(state));
    let run = format!("/run/{}/admin.sock", word(&text, "RuntimeDirectory="));
    assert_eq!(loaded.settings.admin_socket(), PathBuf::from(run));
    let socket = std::fs::read_to_string(packaging().join("penstock.socket")).unwrap();
    let listens: Vec<_> = loaded.settings.listen.values().map(|one| one.address.as_str()).collect();
    assert_eq!(listens, [word(&socket, "ListenStream=")]);
}

fn word<'t>(text: &'t str, key: &str) -> &'t str {
    text.lines().find_map(|line| line.strip_prefix(key)).unwrap()
}

#[test]
fn pages_and_completions_are_made_of_the_verbs() {
    let dir = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_penstock")).args(args).output().unwrap();
        assert!(output.status.success(), "{args:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    run(&["man", dir.path().to_str().unwrap()]);
    for page in ["penstock.1", "penstock-reload.1", "penstock-upgrade.1", "penstock-sale-pause.1"] {
        assert!(dir.path().join(page).exists(), "{page}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let text = run(&["completion", shell]);
        assert!(text.contains("reload") && text.contains("upgrade"), "{shell}");
    }
}

#[test]
fn a_credential_of_the_service_comes_before_the_file_beside_the_config() {
    let (dir, passed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let config = dir.path().join("penstock.toml");
    let text = std::fs::read_to_string(packaging().join("penstock.toml")).unwrap();
    std::fs::write(&config, text + "\n[gate]\npass_key_file = \"pass.key\"\n").unwrap();
    let key = "a secret that is long enough for anybody\n";
    let dump = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_penstock"));
        command.args(["config", "dump", "-c"]).arg(&config);
        command.env("CREDENTIALS_DIRECTORY", passed.path());
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    std::fs::write(dir.path().join("pass.key"), key).unwrap();
    assert!(dump().contains(&format!("\"{}\"", dir.path().join("pass.key").display())));
    std::fs::write(passed.path().join("pass.key"), key).unwrap();
    assert!(dump().contains(&format!("\"{}\"", passed.path().join("pass.key").display())));
}
