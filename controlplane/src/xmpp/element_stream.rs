//! Elements over a socket, both ways, once the login is done.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt};
use tokio::time::timeout;
use tokio_xmpp::connect::AsyncReadAndWrite;
use tokio_xmpp::minidom::Element;
use xso::AsXml;

use super::reader::{Item, Reader};

/// Longest that a server may refuse to take what is written to it.
const WRITE_PATIENCE: Duration = Duration::from_secs(20);

/// What carries a stream: TCP or TLS.
pub(super) type Socket = Box<dyn AsyncReadAndWrite + Send>;

/// The rest of a stream whose header and features were exchanged.
pub(super) struct ElementStream {
    socket: Socket,
    reader: Reader,
}

/// Why something was not sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum SendError {
    /// It cannot be written as XML; the stream is as it was.
    #[error("it cannot be written as XML: {0}")]
    Unwritable(String),
    /// The stream is broken.
    #[error("connection lost: {0}")]
    Broken(#[from] io::Error),
}

impl ElementStream {
    pub fn new(socket: Socket) -> Self {
        Self { socket, reader: Reader::default() }
    }

    /// The next item. May be dropped while it waits: nothing is lost.
    pub async fn next(&mut self) -> io::Result<Item> {
        loop {
            let bytes = self.socket.fill_buf().await?;
            if bytes.is_empty() {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed by the server"));
            }
            let mut rest = bytes;
            let item = self.reader.next(&mut rest);
            let taken = bytes.len() - rest.len();
            self.socket.consume(taken);
            if let Some(item) = item {
                return Ok(item);
            }
        }
    }

    /// Sends one element, or several as one write.
    pub async fn send<'a>(&mut self, elements: impl IntoIterator<Item = &'a Element>) -> Result<(), SendError> {
        let mut bytes = Vec::new();
        for element in elements {
            element.write_to(&mut bytes).map_err(|error| SendError::Unwritable(error.to_string()))?;
        }
        self.write(&bytes).await
    }

    /// Sends an element of the stream itself.
    pub async fn send_nonza(&mut self, nonza: &impl AsXml) -> Result<(), SendError> {
        let element: Element =
            xso::transform(nonza).map_err(|error: xso::error::Error| SendError::Unwritable(error.to_string()))?;
        self.send([&element]).await
    }

    /// Says that nothing more comes.
    pub async fn close(&mut self) -> Result<(), SendError> {
        self.write(b"</stream:stream>").await?;
        Ok(self.socket.shutdown().await?)
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), SendError> {
        let written = timeout(WRITE_PATIENCE, async {
            self.socket.write_all(bytes).await?;
            self.socket.flush().await
        });
        let silent = |_| io::Error::new(io::ErrorKind::TimedOut, "the server takes no more data");
        Ok(written.await.map_err(silent)??)
    }
}
