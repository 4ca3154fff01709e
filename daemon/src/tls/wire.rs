//! A connection, secured or not.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::standing::Shown;

/// A stream of bytes to whoever is on the other side.
#[derive(Debug)]
pub enum Wire {
    /// As they are.
    Plain(TcpStream),
    /// Inside TLS. Boxed: it is many times larger.
    Secure(Box<Secured>),
}

/// A connection inside TLS.
#[derive(Debug)]
pub struct Secured {
    stream: TlsStream<TcpStream>,
    /// What the other side has shown, and when that does not hold any more.
    shown: Option<(Arc<Shown>, Pin<Box<WaitForCancellationFutureOwned>>)>,
}

impl Secured {
    /// # Errors
    /// Where what the other side has shown does not hold any more. Whoever waits to read is woken then.
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let cut = self.shown.as_mut().map(|(_, cut)| cut.as_mut().poll(cx));
        match cut {
            Some(Poll::Ready(())) => Err(no_more()),
            Some(Poll::Pending) | None => Ok(()),
        }
    }

    /// The stream to write to.
    ///
    /// # Errors
    /// The same.
    fn writable(&mut self) -> io::Result<Pin<&mut TlsStream<TcpStream>>> {
        let shown = self.shown.as_ref();
        match shown.is_some_and(|(shown, _)| shown.cut.is_cancelled()) {
            true => Err(no_more()),
            false => Ok(Pin::new(&mut self.stream)),
        }
    }
}

fn no_more() -> io::Error {
    io::Error::new(
        io::ErrorKind::ConnectionAborted,
        "the certificate of the other side does not hold any more",
    )
}

impl Wire {
    /// One inside TLS, which is cut when what the other side has shown does not hold any more.
    pub(super) fn secure(stream: TlsStream<TcpStream>, shown: Option<Arc<Shown>>) -> Wire {
        let shown = shown.map(|shown| {
            let cut = Box::pin(shown.cut.clone().cancelled_owned());
            (shown, cut)
        });
        Wire::Secure(Box::new(Secured { stream, shown }))
    }

    /// What is beneath.
    pub fn tcp(&self) -> &TcpStream {
        match self {
            Wire::Plain(stream) => stream,
            Wire::Secure(secured) => secured.stream.get_ref().0,
        }
    }

    /// Whether it is inside TLS.
    pub fn is_secure(&self) -> bool {
        matches!(self, Wire::Secure(_))
    }
}

/// What HTTP makes of an end without a word is its own affair: rustls only says so at length.
fn in_words(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => io::Error::new(error.kind(), "the connection was cut"),
        _ => error,
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Wire::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Wire::Secure(secured) => {
                secured.check(cx)?;
                let stream = Pin::new(&mut secured.stream);
                stream.poll_read(cx, buf).map_err(in_words)
            }
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Wire::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Wire::Secure(secured) => secured.writable()?.poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Wire::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Wire::Secure(secured) => secured.writable()?.poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Wire::Plain(stream) => stream.is_write_vectored(),
            Wire::Secure(secured) => secured.stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Wire::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Wire::Secure(secured) => secured.writable()?.poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Wire::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Wire::Secure(secured) => Pin::new(&mut secured.stream).poll_shutdown(cx),
        }
    }
}
