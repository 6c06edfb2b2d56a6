//! Notices the first bytes that a server sends. Changes none of them.
//!
//! In TLS 1.3 a client is through with the handshake before the server has looked at its certificate: only what the server
//! says next tells whether there is a connection.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::oneshot,
};

/// A stream that says when the other side has been heard.
pub(super) struct Heard<S> {
    stream: S,
    first: Option<oneshot::Sender<()>>,
}

impl<S> Heard<S> {
    /// The receiver hears of the first bytes, or that there will be none.
    pub(super) fn new(stream: S) -> (Self, oneshot::Receiver<()>) {
        let (first, heard) = oneshot::channel();
        let stream = Self {
            stream,
            first: Some(first),
        };
        (stream, heard)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Heard<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        if buffer.filled().len() > before
            && let Some(first) = self.first.take()
        {
            // Nobody waits any more where connecting has taken too long.
            first.send(()).unwrap_or_default();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Heard<S> {
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

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    #[tokio::test]
    async fn heard_is_the_first_byte_and_not_the_end() {
        let (ours, mut theirs) = duplex(64);
        let (mut ours, mut heard) = Heard::new(ours);
        ours.write_all(b"who is there?").await.unwrap();
        assert!(heard.try_recv().is_err());
        theirs.write_all(b"me").await.unwrap();
        assert_eq!(ours.read_u8().await.unwrap(), b'm');
        assert!(heard.await.is_ok());

        let (ours, theirs) = duplex(64);
        let (mut ours, heard) = Heard::new(ours);
        drop(theirs);
        assert!(ours.read_u8().await.is_err());
        drop(ours);
        assert!(heard.await.is_err());
    }
}
