//! The scripts: their text, their hash, and how they are called.
//!
//! A script is `common.lua`, the functions it needs and one call. It is sent by its hash; a server
//! that does not know it (a restart, `SCRIPT FLUSH`) gets the text, which it then remembers.

use std::sync::LazyLock;

use redis::Cmd;

use super::keys::{self, Part};
use crate::ident::SaleId;

/// One family of operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(super) enum Family {
    Claim,
    Resolve,
    Reap,
    Declare,
    Control,
    Read,
    Inbox,
    Have,
    Probe,
    Reassert,
    Observe,
}

/// A script's text and hash.
#[derive(Debug)]
struct Script {
    text: &'static str,
    sha1: String,
}

macro_rules! text {
    ($call:literal, $($file:literal),*) => {
        concat!(include_str!("common.lua"), $(include_str!($file),)* "return ", $call, "()\n")
    };
}

/// In the order of [`Family`].
const TEXTS: [&str; 11] = [
    text!("claim", "claim.lua"),
    text!("resolve", "resolve.lua"),
    text!("reap", "reap.lua"),
    text!("declare", "declare.lua"),
    text!("control", "control.lua"),
    text!("read", "read.lua"),
    text!("inbox", "resolve.lua", "control.lua", "inbox.lua"),
    text!("have", "have.lua"),
    concat!(include_str!("probe.lua"), "return probe()\n"),
    text!("reassert", "resolve.lua", "reassert.lua"),
    text!("observe", "observe.lua"),
];

static SCRIPTS: LazyLock<Vec<Script>> = LazyLock::new(|| {
    let script = |text| Script { text, sha1: redis::Script::new(text).get_hash().to_owned() };
    TEXTS.into_iter().map(script).collect()
});

/// The call of a script by its hash.
pub(super) fn by_hash(family: Family, sale: &SaleId, args: &[String]) -> Cmd {
    let keys = Part::ALL.map(|part| keys::of(sale, part));
    command("EVALSHA", &SCRIPTS[family as usize].sha1, &keys, args)
}

/// The call of a script by its text.
pub(super) fn by_text(family: Family, sale: &SaleId, args: &[String]) -> Cmd {
    let keys = Part::ALL.map(|part| keys::of(sale, part));
    command("EVAL", SCRIPTS[family as usize].text, &keys, args)
}

/// The call that tries every command on keys that no sale has.
pub(super) fn probe(tag: &str) -> Cmd {
    let keys = Part::ALL.map(|part| keys::of_probe(tag, part));
    command("EVAL", SCRIPTS[Family::Probe as usize].text, &keys, &[])
}

fn command(verb: &str, script: &str, keys: &[String], args: &[String]) -> Cmd {
    let mut cmd = redis::cmd(verb);
    cmd.arg(script).arg(keys.len()).arg(keys).arg(args);
    cmd
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> impl Iterator<Item = &str> {
        text.lines().map(|line| line.split("--").next().unwrap_or_default())
    }

    #[test]
    fn scripts_speak_the_dialect_of_managed_redis() {
        for text in TEXTS {
            for line in code(text) {
                for banned in ["unpack", "PUBLISH", "pcall", "_G", "loadstring", "'KEYS'"] {
                    assert!(!line.contains(banned), "{banned} in {line:?}");
                }
                for call in line.split("redis.").skip(1) {
                    let rest = call.strip_prefix("call('").unwrap_or_else(|| {
                        panic!("only redis.call with a literal command: {line:?}")
                    });
                    let (command, rest) = rest.split_once('\'').expect("a literal command");
                    let key = rest.strip_prefix(", KEYS[").and_then(|key| key.split_once(']'));
                    let is_literal = key.is_some_and(|(n, _)| n.parse::<usize>().is_ok());
                    assert!(
                        ["TIME", "INFO"].contains(&command) || is_literal,
                        "no literal key in {line:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn scripts_set_no_globals() {
        for text in TEXTS {
            for line in code(text) {
                assert!(!line.starts_with("function"), "a global function: {line:?}");
                let is_assignment = line.starts_with(|c: char| c.is_ascii_alphabetic())
                    && !["local ", "end", "return "].iter().any(|w| line.starts_with(w));
                assert!(!is_assignment, "a global: {line:?}");
            }
        }
    }

    #[test]
    fn every_file_says_its_keys_arguments_return_and_cost() {
        for text in [
            include_str!("claim.lua"),
            include_str!("resolve.lua"),
            include_str!("reap.lua"),
            include_str!("declare.lua"),
            include_str!("control.lua"),
            include_str!("read.lua"),
            include_str!("inbox.lua"),
            include_str!("have.lua"),
            include_str!("probe.lua"),
            include_str!("reassert.lua"),
            include_str!("observe.lua"),
        ] {
            for word in ["-- KEYS ", "-- ARGV ", "-- Returns ", "-- Cost "] {
                assert!(text.contains(word), "{word} is missing in {:?}", text.lines().next());
            }
        }
    }

    #[test]
    fn the_commands_of_the_scripts_are_all_probed() {
        let commands = |text: &str| -> std::collections::BTreeSet<String> {
            let calls = text.split("redis.call('").skip(1);
            calls.filter_map(|c| c.split('\'').next().map(str::to_owned)).collect()
        };
        let probed = commands(TEXTS[Family::Probe as usize]);
        for text in TEXTS {
            assert!(commands(text).is_subset(&probed), "{:?}", commands(text));
        }
    }
}
