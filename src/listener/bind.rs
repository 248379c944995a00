//! Listening sockets: one per worker on the same address, so the kernel spreads the connections.
//!
//! Opens sockets; accepts nothing.

use std::io;
use std::net::{SocketAddr, TcpListener};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Protocol, Socket, Type};

/// Connections that wait to be accepted; the kernel may cap it (`net.core.somaxconn`).
const BACKLOG: i32 = 4096;

/// A listening socket that shares its address with others of this process's user
/// (`SO_REUSEPORT`): non-blocking, with `TCP_NODELAY` for what it accepts.
///
/// # Errors
/// When the address cannot be used.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = open(address)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    // Linux hands this on to accepted sockets: one system call less per connection.
    socket.set_tcp_nodelay(true)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// One listening socket per worker on `address`. With port 0 the system chooses one port for all.
///
/// # Errors
/// When the address cannot be used, or another program listens there: sharing a port by accident
/// would silently lose it half of its connections.
pub fn bind_all(address: SocketAddr, workers: usize) -> io::Result<Vec<TcpListener>> {
    if address.port() != 0 {
        // Without SO_REUSEPORT the kernel tells us of a listener; not of connections that linger.
        open(address)?.bind(&address.into())?;
    }
    let first = bind(address)?;
    let address = first.local_addr()?;
    let mut listeners = vec![first];
    for _ in 1..workers {
        listeners.push(bind(address)?);
    }
    Ok(listeners)
}

fn open(address: SocketAddr) -> io::Result<Socket> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // The same everywhere, whatever the machine's default is.
        socket.set_only_v6(false)?;
    }
    Ok(socket)
}

/// Raises the number of files and sockets that this process may have open to the most that it may
/// ask for; gives the number then in force, `None` for no limit.
pub fn raise_nofile() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return limit.current;
    }
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(error) => {
            tracing::warn!(%error, "cannot raise the limit on open files");
            limit.current
        }
    }
}
