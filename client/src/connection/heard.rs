//! Notices the first bytes that a server sends. Changes none of them.
//!
//! In TLS 1.3 a client is through with the handshake before the server has looked at its certificate: only what the server
//! says next tells whether there is a connection. A refusal closes the connection while the client still writes; what the
//! server has said before is then the better reason.

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

impl<S: AsyncRead + Unpin> Heard<S> {
    /// What became of a write; if it failed, as the other side explains it, where nothing but that was heard of it.
    fn explained<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let Poll::Ready(Err(broken)) = written else {
            return written;
        };
        let mut nothing = [0; 1];
        let mut buffer = ReadBuf::new(&mut nothing);
        let read = self
            .first
            .is_some()
            .then(|| Pin::new(&mut self.stream).poll_read(context, &mut buffer));
        match read {
            Some(Poll::Ready(Err(explanation))) => Poll::Ready(Err(explanation)),
            // What closed the connection is on its way up from the network.
            Some(Poll::Pending) => Poll::Pending,
            Some(Poll::Ready(Ok(()))) | None => Poll::Ready(Err(broken)),
        }
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

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Heard<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.explained(context, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let written = Pin::new(&mut self.stream).poll_flush(context);
        self.explained(context, written)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.explained(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    /// Closed, with last words or without.
    struct Closed {
        last_words: Option<io::ErrorKind>,
    }

    impl AsyncRead for Closed {
        fn poll_read(
            self: Pin<&mut Self>,
            _context: &mut Context<'_>,
            _buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Poll::Ready(self.last_words.map_or(Ok(()), |kind| Err(kind.into())))
        }
    }

    impl AsyncWrite for Closed {
        fn poll_write(
            self: Pin<&mut Self>,
            _context: &mut Context<'_>,
            _bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
        }

        fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

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

    #[tokio::test]
    async fn heard_explains_a_broken_write_by_the_last_words() {
        for (last_words, expected) in [
            (Some(io::ErrorKind::InvalidData), io::ErrorKind::InvalidData),
            (None, io::ErrorKind::BrokenPipe),
        ] {
            let (mut stream, _heard) = Heard::new(Closed { last_words });
            assert_eq!(stream.write_u8(1).await.unwrap_err().kind(), expected);
            assert_eq!(stream.flush().await.unwrap_err().kind(), expected);
        }
    }
}
