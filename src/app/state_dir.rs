//! The state directory: journal, embedded ledger, admin socket.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

/// Makes the directory if it is not there, for us alone. An error says what is in the way. That one
/// process at a time has it is the journal's to see to.
pub(super) fn make(path: &Path) -> Result<(), String> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|cause| format!("state_dir: cannot make {}: {cause}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn it_is_made_for_us_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/state");
        make(&path).unwrap();
        make(&path).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn what_is_in_the_way_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "").unwrap();
        assert!(make(&path).unwrap_err().contains("/file"));
    }
}
