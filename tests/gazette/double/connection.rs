//! Connections that a broker takes, counts, and breaks when a test says so.
//!
//! *Invariants.* A broken connection ends for both sides at once, whatever waits on it.
//!
//! *Does not* know what goes over it.

use std::future::Future;
use std::io;
use std::net::TcpListener;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tonic::codegen::tokio_stream::Stream;
use tonic::transport::server::Connected;

use super::Cluster;

/// The connections of one broker, as they come.
pub(super) struct Incoming {
    listener: tokio::net::TcpListener,
    cluster: Arc<Cluster>,
    at: usize,
}

impl Incoming {
    pub(super) fn new(listener: TcpListener, cluster: Arc<Cluster>, at: usize) -> Self {
        listener.set_nonblocking(true).unwrap();
        Self { listener: tokio::net::TcpListener::from_std(listener).unwrap(), cluster, at }
    }
}

impl Stream for Incoming {
    type Item = io::Result<Connection>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let (stream, _) = ready!(self.listener.poll_accept(context))?;
        stream.set_nodelay(true)?;
        let broker = &self.cluster.brokers[self.at];
        broker.accepted.fetch_add(1, Ordering::Relaxed);
        let mut cut = broker.cut.subscribe();
        let cut = Box::pin(async move { drop(cut.changed().await) });
        Poll::Ready(Some(Ok(Connection { stream, cut })))
    }
}

/// A connection that can be broken.
pub(super) struct Connection {
    stream: TcpStream,
    /// Ready once it is broken.
    cut: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.cut.as_mut().poll(context).is_ready() {
            self.cut = Box::pin(std::future::ready(()));
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
