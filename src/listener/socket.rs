//! Binding: every option that a client's socket needs is set once, on the listener; Linux hands them
//! down to what it accepts.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

/// Binds `copies` sockets to the same TCP address; the kernel spreads connections over them. Whether
/// another process has it is looked at first, unless it `is_ours` already.
pub(super) fn tcp(
    address: SocketAddr,
    copies: usize,
    is_ours: bool,
) -> io::Result<Vec<std::net::TcpListener>> {
    if !is_ours {
        refuse_if_taken(address)?;
    }
    let first = reusable(address)?;
    // A port of 0 is any free one; the others take the same.
    let taken = first.local_addr()?.as_socket().unwrap_or(address);
    let rest = (1..copies.max(1)).map(|_| reusable(taken));
    let sockets = std::iter::once(Ok(first)).chain(rest);
    sockets.map(|socket| listening(socket?)).collect()
}

/// Sets up sockets that another process bound, and binds more to have `copies`, where it let others
/// share the port. Fewer come back where it did not.
pub(super) fn inherit(
    mut sockets: Vec<std::net::TcpListener>,
    copies: usize,
) -> io::Result<Vec<std::net::TcpListener>> {
    let first = sockets.first().map(socket2::SockRef::from);
    let shares = first.is_some_and(|socket| socket.reuse_port().unwrap_or(false));
    if let Some(address) = sockets.first().map(std::net::TcpListener::local_addr).transpose()? {
        for _ in sockets.len()..if shares { copies } else { 0 } {
            // Refused where the other one is another user's: then all share what there is.
            let Ok(more) = reusable(address) else { break };
            sockets.push(more.into());
        }
    }
    sockets.into_iter().map(|socket| listening(socket.into())).collect()
}

/// `SO_REUSEPORT` would let a second process of the same user share the port without a word: one
/// socket without it finds out.
fn refuse_if_taken(address: SocketAddr) -> io::Result<()> {
    if address.port() == 0 {
        return Ok(());
    }
    let socket = fresh(address)?;
    socket.bind(&address.into())
}

fn reusable(address: SocketAddr) -> io::Result<Socket> {
    let socket = fresh(address)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn fresh(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // Said rather than left to a sysctl: `[::]` takes IPv4 too, any other address only its own.
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    Ok(socket)
}

fn listening(socket: Socket) -> io::Result<std::net::TcpListener> {
    socket.set_tcp_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_AFTER).with_interval(KEEPALIVE_EVERY);
    socket.set_tcp_keepalive(&keepalive.with_retries(KEEPALIVE_RETRIES))?;
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_LONGEST))?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// A bound Unix socket; its file is removed when the last clone is dropped, if it is still ours.
#[derive(Clone, Debug)]
pub struct UnixSocket {
    listener: Arc<UnixListener>,
    file: Arc<File>,
}

impl UnixSocket {
    /// Binds `path` with the file mode `mode`. A file that a dead process left is replaced; one that
    /// somebody listens on is not, nor is anything that is no socket.
    pub fn bind(path: &Path, mode: u32) -> io::Result<UnixSocket> {
        refuse_if_in_use(path)?;
        // Bound under another name and moved into place: at no time is there a socket without its
        // mode, or no socket.
        let mut new = path.as_os_str().to_owned();
        new.push(".new");
        let new = PathBuf::from(new);
        if new.symlink_metadata().is_ok_and(|found| found.file_type().is_socket()) {
            std::fs::remove_file(&new)?;
        }
        let listener = UnixListener::bind(&new)?;
        let placed = place(&listener, &new, path, mode);
        if placed.is_err() {
            let _ = std::fs::remove_file(&new);
        }
        Ok(UnixSocket { listener: Arc::new(listener), file: Arc::new(placed?) })
    }

    /// Takes over a socket that another process bound to `path`. Its file is the other's to remove,
    /// until [`UnixSocket::keep_file`] says otherwise.
    pub(super) fn adopt(listener: UnixListener, path: &Path) -> io::Result<UnixSocket> {
        listener.set_nonblocking(true)?;
        let file = File::found(path, false)?;
        Ok(UnixSocket { listener: Arc::new(listener), file: Arc::new(file) })
    }

    /// Says whether the file goes with this process's socket, or is another process's by now.
    pub fn keep_file(&self, is_ours: bool) {
        self.file.is_ours.store(is_ours, Ordering::Release);
    }

    /// The listener, not blocking. The file stays for as long as `self` does.
    pub fn listener(&self) -> io::Result<UnixListener> {
        self.listener.try_clone()
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.file.path
    }
}

/// The file of a socket, to know it again.
#[derive(Debug)]
struct File {
    path: PathBuf,
    device: u64,
    inode: u64,
    is_ours: AtomicBool,
}

impl File {
    fn found(path: &Path, is_ours: bool) -> io::Result<File> {
        let found = path.symlink_metadata()?;
        let (device, inode) = (found.dev(), found.ino());
        Ok(File { path: path.to_owned(), device, inode, is_ours: is_ours.into() })
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // Another process may have replaced it meanwhile.
        let ours = self
            .path
            .symlink_metadata()
            .is_ok_and(|found| (found.dev(), found.ino()) == (self.device, self.inode));
        if ours && self.is_ours.load(Ordering::Acquire) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn refuse_if_in_use(path: &Path) -> io::Result<()> {
    let found = match path.symlink_metadata() {
        Ok(found) => found,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(cause) => return Err(cause),
    };
    if !found.file_type().is_socket() {
        let said = "there is a file of that name which is no socket";
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, said));
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "somebody listens there already")),
        Err(_) => Ok(()),
    }
}

fn place(listener: &UnixListener, new: &Path, path: &Path, mode: u32) -> io::Result<File> {
    std::fs::set_permissions(new, std::fs::Permissions::from_mode(mode))?;
    listener.set_nonblocking(true)?;
    std::fs::rename(new, path)?;
    File::found(path, true)
}

/// Connections that wait to be accepted; the kernel cuts it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;
/// A silent peer is asked for a sign of life after this.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(30);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(10);
const KEEPALIVE_RETRIES: u32 = 3;
/// A peer that does not acknowledge what it was sent is given up after this.
const UNACKNOWLEDGED_LONGEST: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_share_a_port_but_processes_do_not() {
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let sockets = tcp(any, 3, false).unwrap();
        let taken = sockets[0].local_addr().unwrap();
        assert!(sockets.iter().all(|s| s.local_addr().unwrap() == taken));
        assert_eq!(tcp(taken, 1, false).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(sockets);
        assert_eq!(tcp(taken, 2, false).unwrap().len(), 2);
    }

    #[test]
    fn accepted_sockets_inherit_the_options() {
        let sockets = tcp("127.0.0.1:0".parse().unwrap(), 1, false).unwrap();
        sockets[0].set_nonblocking(false).unwrap();
        let _near = std::net::TcpStream::connect(sockets[0].local_addr().unwrap()).unwrap();
        let far = Socket::from(sockets[0].accept().unwrap().0);
        assert!(far.tcp_nodelay().unwrap());
        assert!(far.keepalive().unwrap());
        assert_eq!(far.tcp_keepalive_time().unwrap(), KEEPALIVE_AFTER);
        assert_eq!(far.tcp_user_timeout().unwrap(), Some(UNACKNOWLEDGED_LONGEST));
    }

    #[test]
    fn the_unspecified_address_of_ipv6_takes_ipv4_too() {
        // A machine without IPv6 has nothing to show here.
        let Ok(sockets) = tcp("[::]:0".parse().unwrap(), 1, false) else { return };
        let port = sockets[0].local_addr().unwrap().port();
        assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("http.sock");
        drop(UnixListener::bind(&path).unwrap());
        let socket = UnixSocket::bind(&path, 0o600).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(UnixStream::connect(&path).is_ok());
        let second = UnixSocket::bind(&path, 0o600).unwrap_err();
        assert_eq!(second.kind(), io::ErrorKind::AddrInUse);
        drop(socket);
        assert!(!path.exists(), "the file goes with the socket");
    }

    #[test]
    fn only_sockets_are_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("precious");
        std::fs::write(&path, "x").unwrap();
        assert!(UnixSocket::bind(&path, 0o600).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"x");
    }

    #[test]
    fn a_file_that_was_replaced_meanwhile_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("http.sock");
        let socket = UnixSocket::bind(&path, 0o600).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "another's").unwrap();
        drop(socket);
        assert!(path.exists());
    }
}
