//! The admin interface's sockets.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;

use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use super::AppError;
use crate::admin::{self, Context, Token};
use crate::config::Settings;
use crate::listener::UnixSocket;

/// The admin interface's own worker: neither the edge nor the store can keep an operator waiting.
pub(super) struct Desk(Option<Runtime>);

impl Desk {
    /// Starts the thread.
    pub(super) fn open() -> io::Result<Desk> {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(1).max_blocking_threads(1).thread_name("admin").enable_all();
        builder.build().map(Some).map(Desk)
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // Its tasks are ended by whoever has them; to wait here would block another runtime.
            runtime.shutdown_background();
        }
    }
}

/// The sockets, bound.
pub(super) struct Operator {
    unix: UnixSocket,
    tcp: Option<(TcpListener, SocketAddr, Token)>,
}

impl Operator {
    /// Binds the Unix socket, and the TCP address if one is set; that one needs a token.
    pub(super) fn bind(settings: &Settings) -> Result<Operator, AppError> {
        let tcp = settings.admin.address.as_ref().map(|address| tcp(settings, address));
        let tcp = tcp.transpose()?;
        let path = settings.admin_socket();
        let unix = UnixSocket::bind(&path, PRIVATE_MODE).map_err(|cause| {
            AppError::Boot(format!("admin.socket: cannot listen on {}: {cause}", path.display()))
        })?;
        Ok(Operator { unix, tcp })
    }

    /// Where it listens, for people.
    pub(super) fn addresses(&self) -> impl Iterator<Item = String> {
        let unix = format!("admin=unix:{}", self.unix.path().display());
        let tcp = self.tcp.as_ref().map(|(_, address, _)| format!("admin={address}"));
        std::iter::once(unix).chain(tcp)
    }

    /// Serves from now on, at `desk`. What is returned keeps the socket's file.
    pub(super) fn serve(
        self,
        context: &Arc<Context>,
        desk: &Desk,
        tasks: &mut JoinSet<String>,
    ) -> io::Result<UnixSocket> {
        let Some(runtime) = &desk.0 else { return Err(io::ErrorKind::NotConnected.into()) };
        let ended = |ended: io::Result<()>| format!("the admin interface ended: {ended:?}");
        tasks.spawn(admin::keep_live(context.clone()));
        let (listener, to) = (self.unix.listener()?, context.clone());
        tasks.spawn_on(
            async move { ended(admin::serve_unix(listener, to).await) },
            runtime.handle(),
        );
        if let Some((listener, _, token)) = self.tcp {
            let to = context.clone();
            tasks.spawn_on(
                async move { ended(admin::serve_tcp(listener, token, to).await) },
                runtime.handle(),
            );
        }
        Ok(self.unix)
    }
}

fn tcp(settings: &Settings, address: &str) -> Result<(TcpListener, SocketAddr, Token), AppError> {
    let address: SocketAddr = address.parse().map_err(|_| {
        AppError::Config(format!("admin.address: `{address}` is not an address with a port"))
    })?;
    let Some(file) = &settings.admin.token_file else {
        let said = "admin.token_file: the TCP address needs a token; write one to a file";
        return Err(AppError::Config(said.to_owned()));
    };
    let file = Path::new(file);
    let token = Token::read(file).map_err(AppError::Config)?;
    let cannot =
        |cause| AppError::Boot(format!("admin.address: cannot listen on {address}: {cause}"));
    let listener = TcpListener::bind(address).map_err(cannot)?;
    listener.set_nonblocking(true).map_err(cannot)?;
    let address = listener.local_addr().map_err(cannot)?;
    Ok((listener, address, token))
}

/// Whoever can open the socket can end a sale.
const PRIVATE_MODE: u32 = 0o600;
