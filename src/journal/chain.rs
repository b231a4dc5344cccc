//! The chain: each line is bound to the one before it by a hash under a key of this node's own.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The key under which lines are chained: 32 random bytes, made at the first start.
#[derive(Clone)]
pub struct Key([u8; KEY_BYTES]);

/// The chain's value after a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link(pub [u8; 32]);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(..)")
    }
}

impl Key {
    /// Reads the key. An error of kind `NotFound` says that there is none.
    pub fn load(path: &Path) -> io::Result<Key> {
        let mut bytes = Vec::new();
        File::open(path)?.take(KEY_BYTES as u64 + 1).read_to_end(&mut bytes)?;
        let wrong = |_| io::Error::new(io::ErrorKind::InvalidData, "it is not 32 bytes long");
        bytes.try_into().map(Key).map_err(wrong)
    }

    /// Reads the key, or makes one that only this user can read. It appears whole or not at all.
    pub fn load_or_make(path: &Path) -> io::Result<Key> {
        match Key::load(path) {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {}
            loaded => return loaded,
        }
        let key = Key(rand::random());
        let draft = path.with_extension("key.new");
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        file.write_all(&key.0)?;
        file.sync_all()?;
        std::fs::rename(&draft, path)?;
        Ok(key)
    }

    /// The chain after a line, from the chain before it and the line without its chain.
    pub fn link(&self, before: Link, body: &[u8]) -> Link {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(&before.0).update(body);
        Link(*hasher.finalize().as_bytes())
    }
}

impl Link {
    /// 64 hexadecimal digits.
    pub fn hex(self) -> String {
        blake3::Hash::from_bytes(self.0).to_hex().to_string()
    }

    /// Reads [`Link::hex`].
    pub fn of_hex(text: &str) -> Option<Link> {
        blake3::Hash::from_hex(text).ok().map(|hash| Link(*hash.as_bytes()))
    }
}

/// Splits a whole line, without its line end, into what is chained and the chain it says.
pub fn split(line: &[u8]) -> Option<(Vec<u8>, Link)> {
    let at = line.len().checked_sub(CHAIN_FIELD.len() + 64 + CHAIN_END.len())?;
    let hex = line.get(at..)?.strip_prefix(CHAIN_FIELD)?.strip_suffix(CHAIN_END)?;
    let link = Link::of_hex(std::str::from_utf8(hex).ok()?)?;
    let mut body = line.get(..at)?.to_vec();
    body.push(b'}');
    Some((body, link))
}

/// Adds the chain to a rendered line that has none, and the line end.
pub fn seal(body: &[u8], link: Link, out: &mut Vec<u8>) {
    out.extend_from_slice(body.strip_suffix(b"}").unwrap_or(body));
    out.extend_from_slice(CHAIN_FIELD);
    out.extend_from_slice(link.hex().as_bytes());
    out.extend_from_slice(CHAIN_END);
    out.push(b'\n');
}

const KEY_BYTES: usize = 32;
const CHAIN_FIELD: &[u8] = b",\"chain\":\"";
const CHAIN_END: &[u8] = b"\"}";

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_read_by_nobody_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.key");
        let made = Key::load_or_make(&path).unwrap();
        assert_eq!(made.0, Key::load_or_make(&path).unwrap().0);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(&path, b"short").unwrap();
        assert_eq!(Key::load_or_make(&path).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_sealed_line_splits_again() {
        let key = Key([7; KEY_BYTES]);
        let link = key.link(Link::default(), b"{\"a\":1}");
        let mut out = Vec::new();
        seal(b"{\"a\":1}", link, &mut out);
        assert_eq!(split(out.strip_suffix(b"\n").unwrap()), Some((b"{\"a\":1}".to_vec(), link)));
        assert_eq!(split(b"{}"), None);
    }
}
