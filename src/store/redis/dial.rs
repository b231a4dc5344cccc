//! Making one connection: TCP or a socket, TLS, the login.

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, ProtocolVersion, RedisConnectionInfo, Value};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::fault::{self, Fault};
use super::target::{Peer, Server, Target};
use super::tls;

/// A connection and the token of its end: cancelled when it is lost, and ends it when cancelled, so
/// that a server that hangs does not keep it.
pub(super) type Opened = (MultiplexedConnection, CancellationToken);

/// Connects and logs in within the target's time.
pub(super) async fn open(
    target: &Target,
    server: &Server,
    peer: Peer,
    protocol: ProtocolVersion,
    config: AsyncConnectionConfig,
) -> Result<Opened, String> {
    let connecting = async {
        let login = target.login(peer, protocol)?;
        match server {
            Server::Tcp(host) => {
                let stream = TcpStream::connect((host.name.as_str(), host.port)).await;
                let stream = stream.map_err(|e| format!("cannot connect: {e}"))?;
                // Batches are small and latency is all: never wait for more bytes.
                stream.set_nodelay(true).map_err(|e| format!("TCP_NODELAY: {e}"))?;
                match &target.tls {
                    None => drive(login, stream, config).await,
                    Some(tls) => {
                        let stream = tls.connect(&host.name, stream).await?;
                        drive(login, stream, config).await.map_err(tls::after)
                    }
                }
            }
            Server::Unix(path) => {
                let stream = UnixStream::connect(path).await;
                let stream = stream.map_err(|e| format!("cannot connect: {e}"))?;
                drive(login, stream, config).await
            }
        }
    };
    match timeout(target.connect_timeout, connecting).await {
        Ok(result) => result,
        Err(_) if target.tls.is_some() => {
            Err("cannot connect: no answer in time; is this the port for TLS?".into())
        }
        Err(_) => Err("cannot connect: no answer in time".into()),
    }
}

/// Asks one thing. `Err`: the connection is of no use any more.
pub(super) async fn ask(
    connection: &mut MultiplexedConnection,
    cmd: &Cmd,
) -> Result<Result<Value, Fault>, String> {
    match connection.send_packed_command(cmd).await {
        Ok(Value::ServerError(error)) => Ok(Err(Fault::of_server(&error))),
        Ok(value) => Ok(Ok(value)),
        Err(error) => Err(error.to_string()),
    }
}

async fn drive<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    login: RedisConnectionInfo,
    stream: S,
    config: AsyncConnectionConfig,
) -> Result<Opened, String> {
    let (connection, driver) = MultiplexedConnection::new_with_config(&login, stream, config)
        .await
        .map_err(|e| fault::connecting(&e))?;
    let closed = CancellationToken::new();
    let token = closed.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = driver => {}
            () = token.cancelled() => {}
        }
        token.cancel();
    });
    Ok((connection, closed))
}
