//! The state directory: journal, embedded ledger, admin socket. One process at a time.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::config::Settings;

/// Where the state is: `state_dir`, else `$STATE_DIRECTORY`, else `./penstock-state`.
pub fn path(settings: &Settings) -> PathBuf {
    match &settings.state_dir {
        Some(dir) => PathBuf::from(dir),
        // systemd lists several with colons; ours is the first.
        None => match std::env::var("STATE_DIRECTORY") {
            Ok(dirs) if !dirs.is_empty() => {
                PathBuf::from(dirs.split(':').next().unwrap_or_default())
            }
            _ => PathBuf::from("penstock-state"),
        },
    }
}

/// Where the admin socket is: `admin.socket`, else in the state directory.
pub fn admin_socket(settings: &Settings) -> PathBuf {
    match &settings.admin.socket {
        Some(socket) => PathBuf::from(socket.strip_prefix("unix:").unwrap_or(socket)),
        None => path(settings).join("admin.sock"),
    }
}

/// The state directory of this process, for as long as this lives.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    _lock: File,
}

impl StateDir {
    /// Makes the directory if it is not there, readable by us only, and locks it. An error says what
    /// is in the way.
    pub fn open(path: &Path) -> Result<StateDir, String> {
        let said = |what: &str, cause: &io::Error| {
            format!("state_dir: cannot {what} {}: {cause}", path.display())
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|cause| said("make", &cause))?;
        let lock = lock(&path.join("lock")).map_err(|taken| match taken {
            Taken::By(process) => format!(
                "state_dir: {} is in use by {process}; one process at a time may have it",
                path.display()
            ),
            Taken::Cause(cause) => said("lock", &cause),
        })?;
        Ok(StateDir { path: path.to_owned(), _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

enum Taken {
    By(String),
    Cause(io::Error),
}

fn lock(path: &Path) -> Result<File, Taken> {
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let mut file = options.open(path).map_err(Taken::Cause)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(Taken::By(holder(&mut file))),
        Err(TryLockError::Error(cause)) => return Err(Taken::Cause(cause)),
    }
    // For whoever comes second; the lock itself goes with the process.
    let note = || -> io::Result<()> {
        file.set_len(0)?;
        file.rewind()?;
        write!(file, "{}", std::process::id())
    };
    { note }().map_err(Taken::Cause)?;
    Ok(file)
}

fn holder(file: &mut File) -> String {
    let mut said = String::new();
    let read = file.take(32).read_to_string(&mut said);
    match said.trim().parse::<u32>() {
        Ok(process) if read.is_ok() => format!("process {process}"),
        _ => "another process".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn it_is_made_for_us_alone_and_has_one_owner() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/state");
        let first = StateDir::open(&path).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        let said = StateDir::open(&path).unwrap_err();
        assert!(said.contains(&format!("process {}", std::process::id())), "{said}");
        drop(first);
        assert!(StateDir::open(&path).is_ok());
    }

    #[test]
    fn what_is_in_the_way_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "").unwrap();
        assert!(StateDir::open(&path).unwrap_err().contains("/file"));
    }

    #[test]
    fn the_admin_socket_stands_in_it() {
        let mut settings = Settings { state_dir: Some("/x".to_owned()), ..Settings::default() };
        assert_eq!(admin_socket(&settings), Path::new("/x/admin.sock"));
        settings.admin.socket = Some("/run/p.sock".to_owned());
        assert_eq!(admin_socket(&settings), Path::new("/run/p.sock"));
    }
}
