//! Opens connections to a server: TCP or Unix socket, TLS, sign-in, database.
//!
//! The streams are our own, so that time limits, keep-alive and TLS are as everywhere in the gateway;
//! the `redis` crate speaks the protocol over them.

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, ErrorKind, ProtocolVersion, PushInfo, RedisConnectionInfo, RedisError,
};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::secret::Secret;

/// Commands that wait to be written.
const BUFFER: usize = 1024;
/// Limit on opening a TCP connection: a packet that was lost is not waited for, a new attempt is sooner.
const OPEN: Duration = Duration::from_millis(400);
/// After how long a peer that acknowledges nothing is given up by the kernel.
const SILENCE: Duration = Duration::from_secs(2);

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Server {
    /// Host name or address, and port.
    Tcp(String, u16),
    /// Path of a socket.
    Unix(PathBuf),
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Who signs in.
#[derive(Clone, Debug, Default)]
pub(super) struct Account {
    pub(super) user: Option<String>,
    pub(super) password: Option<Secret>,
}

/// How connections are opened.
#[derive(Clone)]
pub(super) struct Dialer {
    pub(super) account: Account,
    pub(super) database: i64,
    pub(super) tls: Option<Arc<ClientConfig>>,
    /// The name that certificates must have, where it is not the host's.
    pub(super) server_name: Option<String>,
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialer").field("tls", &self.tls.is_some()).finish_non_exhaustive()
    }
}

/// Runs a connection; ends with it.
pub(super) type Driver = Pin<Box<dyn Future<Output = ()> + Send>>;
/// Takes what a server tells without being asked, in order with its answers.
pub(super) type OnPush = Box<dyn Fn(PushInfo) + Send + Sync>;

impl Dialer {
    /// Connects and signs in; the caller limits the time, and runs the driver.
    pub(super) async fn dial(
        &self,
        server: &Server,
        push: Option<OnPush>,
    ) -> Result<(MultiplexedConnection, Driver), RedisError> {
        let (host, port) = match server {
            Server::Unix(path) => {
                return self.sign_in(UnixStream::connect(path).await?, push).await;
            }
            Server::Tcp(host, port) => (host, *port),
        };
        let connecting = TcpStream::connect((host.as_str(), port));
        let stream = timeout(OPEN, connecting).await.map_err(|_| {
            std::io::Error::new(std::io::ErrorKind::TimedOut, "the server does not answer")
        })??;
        stream.set_nodelay(true)?;
        let socket = SockRef::from(&stream);
        socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(SILENCE).with_interval(SILENCE))?;
        #[cfg(target_os = "linux")]
        socket.set_tcp_user_timeout(Some(SILENCE))?;
        let Some(config) = &self.tls else { return self.sign_in(stream, push).await };
        let name = self.server_name.as_ref().unwrap_or(host).clone();
        let name = ServerName::try_from(name).map_err(std::io::Error::other)?;
        let connector = tokio_rustls::TlsConnector::from(Arc::clone(config));
        self.sign_in(connector.connect(name, stream).await?, push).await
    }

    async fn sign_in<S>(
        &self,
        stream: S,
        push: Option<OnPush>,
    ) -> Result<(MultiplexedConnection, Driver), RedisError>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        // Time is limited by those who ask: the crate must not add limits of its own.
        let mut config = AsyncConnectionConfig::new()
            .set_response_timeout(None)
            .set_connection_timeout(None)
            .set_pipeline_buffer_size(BUFFER);
        if let Some(push) = push {
            config = config.set_push_sender(move |info| {
                push(info);
                Ok::<(), ()>(())
            });
        }
        let info = self.sign_in_info()?;
        let (connection, driver) =
            MultiplexedConnection::new_with_config(&info, stream, config).await?;
        Ok((connection, Box::pin(driver)))
    }

    fn sign_in_info(&self) -> Result<RedisConnectionInfo, RedisError> {
        let Account { user, password } = &self.account;
        let mut info = RedisConnectionInfo::default()
            .set_protocol(ProtocolVersion::RESP3)
            .set_db(self.database)
            .set_skip_set_lib_name();
        if let Some(password) = password {
            info = info.set_password(password.expose());
            if let Some(user) = user {
                info = info.set_username(user);
            }
        } else if user.is_some() {
            let what = "a user needs a password";
            return Err((ErrorKind::InvalidClientConfig, what).into());
        }
        Ok(info)
    }
}
