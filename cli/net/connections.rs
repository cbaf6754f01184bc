//! The connections of one listener: how many there may be, and which of them are dropped.
//!
//! A connection costs a descriptor, which stores and files need too. So there are fewer of them than the process may have
//! descriptors, and those without a request give way: when they have said nothing for too long, and when others need their
//! place. One that serves a request is never dropped for another.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tonic::transport::server::{Connected, TcpConnectInfo};
use tracing::warn;

/// How often connections are looked through.
const SWEEP: Duration = Duration::from_secs(1);
/// The pause after an accept that failed for lack of descriptors or memory; doubled each time, up to the longer one.
const FIRST_WAIT: Duration = Duration::from_millis(10);
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// Between two warnings of one listener.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// The limits of one listener.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at a time.
    pub most: usize,
    /// How long one may stand before its first request.
    pub greeting: Duration,
    /// How long one may stand between two requests.
    pub idle: Duration,
}

impl Limits {
    /// Connections take at most three quarters of the descriptors: stores and files need the rest. Workers, and clients that
    /// watch a merge, always have a request under way, so the limits on idle connections do not meet them.
    pub fn of_process() -> Limits {
        let descriptors = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
        let most = usize::try_from(descriptors / 4 * 3).unwrap_or(usize::MAX);
        Limits { most: most.clamp(16, 8192), greeting: Duration::from_secs(20), idle: Duration::from_secs(300) }
    }
}

/// The connections of one listener. Clones share them.
#[derive(Debug, Clone)]
pub struct Connections(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    limits: Limits,
    open: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    by_peer: HashMap<SocketAddr, Entry>,
    counter: u64,
    warned: Option<Instant>,
}

#[derive(Debug)]
struct Entry {
    number: u64,
    /// Requests under way.
    requests: u32,
    /// Whether there ever was one.
    greeted: bool,
    /// Since when it has as many requests as now.
    since: Instant,
    /// Ends the connection when it is dropped.
    _close: oneshot::Sender<()>,
}

impl Connections {
    /// No connections yet.
    pub fn new(limits: Limits) -> Self {
        Connections(Arc::new(Shared { limits, open: Mutex::default() }))
    }

    /// The connections that a listener accepts. Never yields an error: an accept that fails is tried again, after a pause if
    /// descriptors or memory have run out.
    pub fn accept_from(&self, listener: TcpListener) -> impl Stream<Item = io::Result<Connection>> + Send + use<> {
        futures::stream::unfold((listener, self.clone()), async |(listener, connections)| {
            let connection = connections.accept(&listener).await;
            Some((Ok(connection), (listener, connections)))
        })
    }

    async fn accept(&self, listener: &TcpListener) -> Connection {
        let mut wait = FIRST_WAIT;
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    wait = FIRST_WAIT;
                    // If this fails, small messages are sent later; nothing else changes.
                    let _ = stream.set_nodelay(true);
                    if let Some(connection) = self.admit(stream, peer) {
                        return connection;
                    }
                }
                Err(e) if is_of_the_peer(&e) => {}
                Err(error) => {
                    // The connection stays in the kernel's queue, so trying again at once would be a busy loop.
                    let freed = if self.table().give_way() { "an idle one is closed" } else { "none is idle" };
                    self.warn(format_args!("connections cannot be accepted: {error}; {freed}"));
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(LONGEST_WAIT);
                }
            }
        }
    }

    /// `None` if the limit is reached and every connection serves a request.
    fn admit(&self, stream: TcpStream, peer: SocketAddr) -> Option<Connection> {
        let mut table = self.table();
        if table.by_peer.len() >= self.0.limits.most && !table.give_way() {
            drop(table);
            metrics::counter!("shardfuse_connections_refused_total").increment(1);
            self.warn(format_args!("{} connections serve requests, no more are taken", self.0.limits.most));
            return None;
        }
        table.counter += 1;
        let number = table.counter;
        let (close, closed) = oneshot::channel();
        let entry = Entry { number, requests: 0, greeted: false, since: Instant::now(), _close: close };
        table.by_peer.insert(peer, entry);
        drop(table);
        let open = Open { connections: self.clone(), peer, number };
        Some(Connection { stream, closed: Some(closed), _open: open })
    }

    /// Drops connections that have had no request for too long. Runs until it is dropped.
    pub async fn sweep(&self) {
        let mut every = tokio::time::interval(SWEEP);
        loop {
            every.tick().await;
            let (now, limits) = (Instant::now(), self.0.limits);
            let overdue = |e: &Entry| {
                let longest = if e.greeted { limits.idle } else { limits.greeting };
                e.requests == 0 && now.saturating_duration_since(e.since) >= longest
            };
            let mut table = self.table();
            let before = table.by_peer.len();
            table.by_peer.retain(|_, entry| !overdue(entry));
            let dropped = before - table.by_peer.len();
            drop(table);
            if dropped > 0 {
                metrics::counter!("shardfuse_connections_dropped_total").increment(dropped as u64);
            }
        }
    }

    /// A request begins on a peer's connection.
    pub fn begin(&self, peer: SocketAddr) -> Busy {
        if let Some(entry) = self.table().by_peer.get_mut(&peer) {
            entry.requests += 1;
            entry.greeted = true;
        }
        Busy { connections: self.clone(), peer }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn warn(&self, why: std::fmt::Arguments<'_>) {
        let now = Instant::now();
        let mut table = self.table();
        if table.warned.is_none_or(|at| now.saturating_duration_since(at) >= WARN_EVERY) {
            table.warned = Some(now);
            drop(table);
            warn!("{why}");
        }
    }
}

impl Table {
    /// Drops the connection that has been without a request for the longest; false if each has one.
    fn give_way(&mut self) -> bool {
        let idle = self.by_peer.iter().filter(|(_, entry)| entry.requests == 0);
        let Some(peer) = idle.min_by_key(|(_, entry)| entry.since).map(|(peer, _)| *peer) else { return false };
        self.by_peer.remove(&peer);
        metrics::counter!("shardfuse_connections_dropped_total").increment(1);
        true
    }
}

/// Whether an accept failed because of the peer that was about to connect: the next one is another matter.
fn is_of_the_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// A request that is under way, until this is dropped.
#[derive(Debug)]
pub struct Busy {
    connections: Connections,
    peer: SocketAddr,
}

impl Drop for Busy {
    fn drop(&mut self) {
        if let Some(entry) = self.connections.table().by_peer.get_mut(&self.peer) {
            entry.requests = entry.requests.saturating_sub(1);
            entry.since = Instant::now();
        }
    }
}

/// The place of a connection, given back when it is dropped.
#[derive(Debug)]
struct Open {
    connections: Connections,
    peer: SocketAddr,
    number: u64,
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut table = self.connections.table();
        // The peer may have connected again from the same port.
        if table.by_peer.get(&self.peer).is_some_and(|entry| entry.number == self.number) {
            table.by_peer.remove(&self.peer);
        }
    }
}

/// A connection that ends when the listener wants its place.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    closed: Option<oneshot::Receiver<()>>,
    _open: Open,
}

impl Connection {
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if let Some(closed) = &mut self.closed
            && Pin::new(closed).poll(context).is_pending()
        {
            return Ok(());
        }
        self.closed = None;
        Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the listener dropped the connection"))
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_read(context, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_write(context, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_write_vectored(context, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
