//! The admin interface's sockets.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use super::AppError;
use crate::admin::{self, Context, Token};
use crate::config::Settings;
use crate::config::address::ListenAddress;
use crate::listener::{self, Inherited, UnixSocket};

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
    pub(super) fn bind(
        settings: &Settings,
        inherited: &mut Inherited,
    ) -> Result<Operator, AppError> {
        let tcp = settings.admin.address.as_ref();
        let tcp = tcp.map(|address| bind_tcp(settings, address, inherited));
        let tcp = tcp.transpose()?;
        let path = settings.admin_socket();
        let unix = listener::bind_private(&path, inherited).map_err(|cause| {
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
    ) -> io::Result<Served> {
        let Some(runtime) = &desk.0 else { return Err(io::ErrorKind::NotConnected.into()) };
        let tcp = self.tcp.as_ref();
        let copy = |(socket, at, token): &(TcpListener, SocketAddr, Token)| {
            Ok((at.to_string(), socket.try_clone()?, token.clone()))
        };
        let tcp = tcp.map(copy);
        let tcp = tcp.transpose().map_err(|cause: io::Error| cause)?;
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
        Ok(Served { unix: self.unix, tcp })
    }
}

/// The sockets, served.
#[derive(Debug)]
pub(super) struct Served {
    unix: UnixSocket,
    /// A copy, to hand over, and what it asks for.
    tcp: Option<(String, TcpListener, Token)>,
}

impl Served {
    /// Copies of the sockets with their addresses.
    pub(super) fn sockets(&self) -> io::Result<Vec<(String, OwnedFd)>> {
        let unix = ListenAddress::Unix(self.unix.path().to_owned()).to_string();
        let mut sockets = vec![(unix, self.unix.listener()?.into())];
        if let Some((address, socket, _)) = &self.tcp {
            sockets.push((address.clone(), socket.try_clone()?.into()));
        }
        Ok(sockets)
    }

    /// Reads the token's file again. An error names the setting; the old token counts then.
    pub(super) fn next_token(&self, settings: &Settings) -> Result<Option<Token>, String> {
        let file = settings.admin.token_file.as_ref().filter(|_| self.tcp.is_some());
        file.map(|file| Token::read(Path::new(file))).transpose()
    }

    /// What that read counts from now on.
    pub(super) fn set_token(&self, new: Option<&Token>) {
        if let (Some((_, _, token)), Some(new)) = (&self.tcp, new) {
            token.replace(new);
        }
    }

    /// The socket's file is this process's to remove.
    pub(super) fn keep_file(&self) {
        self.unix.keep_file(true);
    }

    /// Another process has the sockets.
    pub(super) fn hand_over(&mut self) {
        self.unix.keep_file(false);
        self.tcp = None;
    }
}

fn bind_tcp(
    settings: &Settings,
    address: &str,
    inherited: &mut Inherited,
) -> Result<(TcpListener, SocketAddr, Token), AppError> {
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
    let listener = listener::bind_one(address, inherited).map_err(cannot)?;
    let address = listener.local_addr().map_err(cannot)?;
    Ok((listener, address, token))
}
