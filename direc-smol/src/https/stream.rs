//! TLS 1.3 over TCP: rustls's own state machine, which does no I/O, and a socket that never blocks.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    sync::Arc,
    task::{Context, Poll, ready},
};

use async_io::Async;
use rustls::{ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection, pki_types::ServerName};

/// What may wait inside TLS to be written: some records, so that a write to the socket carries several.
const WRITE_BUFFER: usize = 128 << 10;

pub(crate) struct TlsStream {
    io: Async<TcpStream>,
    tls: Connection,
}

impl TlsStream {
    pub(crate) fn client(
        io: Async<TcpStream>,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<Self, rustls::Error> {
        Ok(Self::new(io, ClientConnection::new(config, name)?.into()))
    }

    pub(crate) fn server(io: Async<TcpStream>, config: Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        Ok(Self::new(io, ServerConnection::new(config)?.into()))
    }

    fn new(io: Async<TcpStream>, mut tls: Connection) -> Self {
        tls.set_buffer_limit(Some(WRITE_BUFFER));
        Self { io, tls }
    }

    /// Done when both sides have proven what they have to.
    pub(crate) fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.tls.is_handshaking() {
            ready!(self.poll_flush(cx))?;
            if self.tls.is_handshaking() && ready!(self.poll_fill(cx))? == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
        self.poll_flush(cx)
    }

    /// What is spoken inside, as far as the two sides have agreed on it (RFC 7301).
    #[cfg(feature = "acme")]
    pub(crate) fn protocol(&self) -> Option<&[u8]> {
        self.tls.alpn_protocol()
    }

    /// Writes what waits inside TLS.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut self.io.get_ref()) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(self.io.poll_writable(cx))?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Takes bytes into TLS, as many as there is room for; they leave with [`Self::poll_flush`].
    pub(crate) fn buffer(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.tls.writer().write(bytes)
    }

    /// Gives what has come, decrypted; 0 after the other side's good-bye.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            match self.tls.reader().read(buf) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
            // TLS itself may have something to say first.
            if let Poll::Ready(Err(error)) = self.poll_flush(cx) {
                return Poll::Ready(Err(error));
            }
            ready!(self.poll_fill(cx))?;
        }
    }

    /// Reads from the socket once; 0 at its end.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        loop {
            match self.tls.read_tls(&mut self.io.get_ref()) {
                Ok(count) => {
                    if let Err(error) = self.tls.process_new_packets() {
                        // The other side is told what was wrong, if that can be done at once.
                        let _ = self.tls.write_tls(&mut self.io.get_ref());
                        return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
                    }
                    return Poll::Ready(Ok(count));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(self.io.poll_readable(cx))?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Says good-bye, as far as the socket takes it at once.
    pub(crate) fn say_goodbye(&mut self) {
        self.tls.send_close_notify();
        while self.tls.wants_write() && self.tls.write_tls(&mut self.io.get_ref()).is_ok_and(|count| count > 0) {}
    }
}
