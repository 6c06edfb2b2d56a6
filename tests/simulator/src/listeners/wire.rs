//! A connection under HTTP: lent to the HTTP server, and taken back for what that would not do.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;

use crate::serve::{BEFORE_THE_END, Broken, Ending, Unanswered};

/// A connection that can be reset.
pub(crate) trait Wire: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Dropping it sends a RST from now on, and what has not been sent is lost.
    fn reset_when_dropped(&self);
}

/// A connection that its owner can take back by dropping this.
pub(super) struct Lent<S>(Arc<Mutex<S>>);

impl Wire for TcpStream {
    fn reset_when_dropped(&self) {
        if let Err(error) = self.set_zero_linger() {
            tracing::debug!(%error, "cannot reset the connection");
        }
    }
}

impl Wire for TlsStream<TcpStream> {
    fn reset_when_dropped(&self) {
        self.get_ref().0.reset_when_dropped();
    }
}

impl<S> Lent<S> {
    /// Lends a connection. It is the owner's again when the first value has been dropped.
    pub(super) fn lend(stream: S) -> (Self, Arc<Mutex<S>>) {
        let owned = Arc::new(Mutex::new(stream));
        (Self(Arc::clone(&owned)), owned)
    }

    fn lock(&self) -> MutexGuard<'_, S> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Lent<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.lock()).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Lent<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.lock()).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.lock()).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.lock()).poll_shutdown(context)
    }
}

/// Ends a connection as a fault wants it. The client may be quicker, which is no concern of ours.
pub(super) async fn break_off(mut stream: impl Wire, broken: Broken) -> io::Result<()> {
    let Broken { first, ending } = broken;
    if !first.is_empty() {
        stream.write_all(&first).await?;
        stream.flush().await?;
    }
    match ending {
        Ending::Silence(watched) => {
            wait_for_the_end(&mut stream).await;
            drop(watched);
            Ok(())
        }
        Ending::Now(Unanswered::Reset) => {
            tokio::time::sleep(BEFORE_THE_END).await;
            stream.reset_when_dropped();
            Ok(())
        }
        Ending::Now(Unanswered::Closed | Unanswered::BrokenOff | Unanswered::Handshake) => {
            stream.shutdown().await
        }
    }
}

/// Says nothing until the client has gone.
pub(super) async fn wait_for_the_end(stream: &mut (impl AsyncRead + Unpin)) {
    let mut ignored = [0; 1_024];
    while matches!(stream.read(&mut ignored).await, Ok(length) if length > 0) {}
}
