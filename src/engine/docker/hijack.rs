//! Connections to the engine that become a program's streams.
//!
//! Called by `docker` for `exec_session` and `attach`. bollard's own reader takes bytes that a terminal prints for the head of a frame when
//! they are small, and keeps a frame until it is whole; so this opens the connection itself.
//!
//! **Source**: "Attach to a container", Docker Engine API 1.41: the stream format.

use super::connect::Endpoint;
use crate::{
    base::{chain::chain, duplex::Duplex, task},
    engine::Printed,
};
use bollard::errors::Error;
use bytes::{Buf as _, Bytes, BytesMut};
use futures::{Stream, stream};
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::{client::conn::http1, upgrade::Upgraded};
use hyper_util::rt::TokioIo;
use std::io;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    net::{TcpStream, UnixStream},
};
use tracing::debug;

/// What is read at a time.
const CHUNK_BYTES: usize = 64 * 1024;
/// Before each part of what a program without a terminal prints: the stream, three zeroes, the length.
const HEAD_BYTES: usize = 8;

/// The connection, once the engine has handed it over.
pub(super) type Hijacked = TokioIo<Upgraded>;

/// Posts JSON to a path of the engine, and takes the connection.
pub(super) async fn open(endpoint: &Endpoint, path: &str, body: Vec<u8>) -> Result<Hijacked, Error> {
    let stream: Box<dyn Duplex> = match endpoint {
        Endpoint::Unix(socket) => Box::new(UnixStream::connect(socket).await?),
        Endpoint::Tcp(address) => Box::new(TcpStream::connect(address).await?),
    };
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    drop(task::spawn("engine stream", async move {
        if let Err(err) = connection.with_upgrades().await {
            debug!(component = "engine", err = chain(&err), "a stream of the engine broke");
        }
    }));
    let request = Request::post(path)
        .header(header::HOST, "docker")
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "tcp")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    if status == StatusCode::SWITCHING_PROTOCOLS {
        return Ok(TokioIo::new(hyper::upgrade::on(response).await?));
    }
    let text = response.into_body().collect().await?.to_bytes();
    let told = serde_json::from_slice::<serde_json::Value>(&text).ok();
    let told = told.and_then(|body| Some(body.get("message")?.as_str()?.to_owned()));
    let message = told.unwrap_or_else(|| String::from_utf8_lossy(&text).into_owned());
    Err(Error::DockerResponseServerError { status_code: status.as_u16(), message })
}

/// What a program prints, in pieces as they come.
pub(super) fn printed<R>(reader: R, tty: bool) -> impl Stream<Item = io::Result<Printed>> + Send + use<R>
where
    R: AsyncRead + Unpin + Send,
{
    let buffer = BytesMut::with_capacity(CHUNK_BYTES);
    stream::try_unfold((reader, buffer, Frame::default()), move |(mut reader, mut buffer, mut frame)| async move {
        loop {
            if let Some(piece) = if tty { whole(&mut buffer) } else { frame.next(&mut buffer)? } {
                return Ok(Some((piece, (reader, buffer, frame))));
            }
            buffer.reserve(CHUNK_BYTES);
            if reader.read_buf(&mut buffer).await? == 0 {
                return Ok(None);
            }
        }
    })
}

fn whole(buffer: &mut BytesMut) -> Option<Printed> {
    (!buffer.is_empty()).then(|| Printed::Stdout(buffer.split().freeze()))
}

/// The part that is being read.
#[derive(Debug, Default)]
struct Frame {
    is_error: bool,
    left: usize,
}

impl Frame {
    /// What of it has come.
    fn next(&mut self, buffer: &mut BytesMut) -> io::Result<Option<Printed>> {
        while self.left == 0 {
            if buffer.len() < HEAD_BYTES {
                return Ok(None);
            }
            let head = buffer.split_to(HEAD_BYTES);
            // 0 is standard input, which no engine sends; 3 is an error of the engine, in words.
            let [stream @ 0..=3, 0, 0, 0] = head[..4] else {
                return Err(io::Error::other(format!("the engine sent no head of a part: {head:?}")));
            };
            self.is_error = stream >= 2;
            self.left = usize::try_from((&head[4..]).get_u32()).map_err(io::Error::other)?;
        }
        if buffer.is_empty() {
            return Ok(None);
        }
        let bytes = buffer.split_to(self.left.min(buffer.len())).freeze();
        self.left -= bytes.len();
        Ok(Some(if self.is_error { Printed::Stderr(bytes) } else { Printed::Stdout(bytes) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::TryStreamExt as _;
    use tokio::io::AsyncWriteExt as _;

    async fn read(parts: &[&'static [u8]], tty: bool) -> io::Result<Vec<Printed>> {
        let (mut engine, reader) = tokio::io::duplex(7);
        let send = async {
            for part in parts {
                engine.write_all(part).await.unwrap();
            }
            drop(engine);
        };
        let ((), all) = tokio::join!(send, printed(reader, tty).try_collect::<Vec<_>>());
        let mut joined: Vec<Printed> = Vec::new();
        for piece in all? {
            match (joined.last_mut(), piece) {
                (Some(Printed::Stdout(last)), Printed::Stdout(more))
                | (Some(Printed::Stderr(last)), Printed::Stderr(more)) => *last = [&last[..], &more].concat().into(),
                (_, piece) => joined.push(piece),
            }
        }
        Ok(joined)
    }

    #[tokio::test]
    async fn streams_are_told_apart_and_pieces_of_a_part_come_as_they_are_there() {
        let out = |text: &'static [u8]| Printed::Stdout(Bytes::from_static(text));
        let err = |text: &'static [u8]| Printed::Stderr(Bytes::from_static(text));
        let parts: [&[u8]; 3] = [b"\x01\0\0\0\0\0\0\x0bhello ", b"world", b"\x02\0\0\0\0\0\0\x01!\x01\0\0\0\0\0\0\0"];
        assert_eq!(read(&parts, false).await.unwrap(), [out(b"hello world"), err(b"!")]);
    }

    #[tokio::test]
    async fn a_terminals_bytes_are_never_a_head() {
        let typed: [&[u8]; 1] = [b"\x01\0\0\0\xff\xff\xff\xff\x02"];
        assert_eq!(read(&typed, true).await.unwrap(), [Printed::Stdout(Bytes::from_static(typed[0]))]);
    }

    #[tokio::test]
    async fn what_is_no_head_ends_the_stream() {
        assert!(read(&[b"HTTP/1.1 "], false).await.is_err());
    }
}
