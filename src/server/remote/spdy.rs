//! SPDY/3.1 over a connection: many streams, each with names and values at its beginning, and an end in either direction.
//!
//! Called by `remote` for clients that ask for it, and for those who speak it within a WebSocket.
//!
//! **Invariants**
//! - Of what a peer sends, a few pieces of a stream wait in memory; then the connection waits. There are no windows: as `moby/spdystream`
//!   has it, which is the other end of nearly all of them, nobody sends or heeds them.
//! - What is said before an end arrives before it.
//!
//! **Source**: the SPDY protocol, draft 3.1; `github.com/moby/spdystream`, v0.5.

mod frame;

#[cfg(test)]
pub(in crate::server) use frame::tests::Peer;

use crate::base::ordered::Map;
use bytes::{Bytes, BytesMut};
use frame::{CONTROL_BYTES_MAX, Control, DATA_BYTES_MAX, Frame, HEAD_BYTES, Head, Pairs, REFUSED_STREAM, Reader};
use std::io;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader},
    sync::mpsc,
};

/// Streams of one connection that are open at a time.
const STREAMS_MAX: usize = 1000;
/// Pieces of a stream, and frames of ours, that wait in memory.
const WAITING_MAX: usize = 4;
/// What is read at a time.
const PIECE_BYTES: usize = 64 * 1024;
/// What is written at a time, about.
const WRITE_BYTES: usize = 128 * 1024;

/// A stream that the peer opened.
#[derive(Debug)]
pub(super) struct Stream {
    /// The names and values that it began with.
    pub(super) pairs: Pairs,
    /// What the peer sends; ends with it.
    pub(super) reader: mpsc::Receiver<Bytes>,
    /// What the peer gets.
    pub(super) writer: Writer,
}

impl Stream {
    /// The value of a name that it began with, whatever the case of its letters.
    pub(super) fn value(&self, name: &str) -> &str {
        let found = self.pairs.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map_or("", |(_, value)| value.as_str())
    }
}

/// This side's half of a stream.
#[derive(Clone, Debug)]
pub(super) struct Writer {
    stream: u32,
    frames: mpsc::Sender<Frame>,
}

/// The connection is gone.
#[derive(Debug)]
pub(super) struct Gone;

impl Writer {
    /// Sends bytes.
    pub(super) async fn send(&self, mut bytes: Bytes) -> Result<(), Gone> {
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(DATA_BYTES_MAX));
            self.put(Frame::Data { stream: self.stream, bytes: piece, is_last: false }).await?;
        }
        Ok(())
    }

    /// Says that nothing more comes.
    pub(super) async fn finish(&self) -> Result<(), Gone> {
        self.put(Frame::Data { stream: self.stream, bytes: Bytes::new(), is_last: true }).await
    }

    async fn put(&self, frame: Frame) -> Result<(), Gone> {
        self.frames.send(frame).await.map_err(|_| Gone)
    }
}

/// The server's end of a connection.
pub(super) struct Connection {
    /// The streams that the peer opens; ends with the connection.
    pub(super) streams: mpsc::Receiver<Stream>,
    frames: mpsc::Sender<Frame>,
}

impl Connection {
    /// Says that no more streams are taken.
    pub(super) async fn go_away(&self) {
        // Whoever is gone need not be told.
        drop(self.frames.send(Frame::GoAway).await);
    }
}

/// A connection, and the work of it: until the peer ends it, or it breaks.
pub(super) fn open<S>(stream: S) -> (Connection, impl Future<Output = io::Result<()>> + Send)
where
    S: AsyncRead + AsyncWrite + Send,
{
    let (frames, to_send) = mpsc::channel(WAITING_MAX);
    let (opened, streams) = mpsc::channel(1);
    let (reader, writer) = tokio::io::split(stream);
    let own = frames.clone();
    let work = async move {
        tokio::select! {
            biased;
            read = read_all(reader, opened, own) => read,
            written = write_all(writer, to_send) => written,
        }
    };
    (Connection { streams, frames }, work)
}

async fn read_all<R>(reader: R, opened: mpsc::Sender<Stream>, frames: mpsc::Sender<Frame>) -> io::Result<()>
where
    R: AsyncRead + Send,
{
    let reader = std::pin::pin!(reader);
    let mut reader = BufReader::with_capacity(PIECE_BYTES, reader);
    let mut controls = Reader::new();
    let mut streams: Map<u32, mpsc::Sender<Bytes>> = Map::new();
    let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
    loop {
        let mut head = [0; HEAD_BYTES];
        match reader.read_exact(&mut head).await {
            Err(err) if err.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            read => read?,
        };
        match Head::parse(head)? {
            Head::Data { stream, is_last, length } => {
                read_data(&mut reader, length, streams.get(&stream)).await?;
                if is_last {
                    streams.remove(&stream);
                }
            }
            Head::Control { kind, is_last, length } => {
                debug_assert!(length <= CONTROL_BYTES_MAX, "the head was read");
                let mut body = BytesMut::zeroed(length);
                reader.read_exact(&mut body).await?;
                match controls.control(kind, is_last, body.freeze())? {
                    Control::Open { stream, .. } if streams.len() >= STREAMS_MAX => {
                        frames.send(Frame::Reset { stream, why: REFUSED_STREAM }).await.map_err(gone)?;
                    }
                    Control::Open { stream, pairs, is_last } => {
                        let (sender, receiver) = mpsc::channel(WAITING_MAX);
                        if !is_last {
                            streams.insert(stream, sender);
                        }
                        frames.send(Frame::Reply(stream)).await.map_err(gone)?;
                        let writer = Writer { stream, frames: frames.clone() };
                        // Whoever takes no more streams does not miss one.
                        drop(opened.send(Stream { pairs, reader: receiver, writer }).await);
                    }
                    Control::Reset { stream } => drop(streams.remove(&stream)),
                    Control::Ping(id) => frames.send(Frame::Ping(id)).await.map_err(gone)?,
                    Control::GoAway | Control::Other => {}
                }
            }
        }
    }
}

/// Reads so many bytes, and hands them on piece by piece; what nobody wants is dropped.
async fn read_data<R>(reader: &mut R, mut left: usize, wanted: Option<&mpsc::Sender<Bytes>>) -> io::Result<()>
where
    R: AsyncRead + Unpin,
{
    while left > 0 {
        let mut piece = BytesMut::with_capacity(left.min(PIECE_BYTES));
        let n = (&mut *reader).take(left.min(PIECE_BYTES) as u64).read_buf(&mut piece).await?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        left -= n;
        if let Some(wanted) = wanted {
            drop(wanted.send(piece.freeze()).await);
        }
    }
    Ok(())
}

async fn write_all<W>(writer: W, mut frames: mpsc::Receiver<Frame>) -> io::Result<()>
where
    W: AsyncWrite + Send,
{
    let mut writer = std::pin::pin!(writer);
    let mut laid_out = frame::Writer::new();
    let mut out = BytesMut::with_capacity(WRITE_BYTES);
    while let Some(frame) = frames.recv().await {
        laid_out.put(&frame, &mut out)?;
        while out.len() < WRITE_BYTES
            && let Ok(frame) = frames.try_recv()
        {
            laid_out.put(&frame, &mut out)?;
        }
        writer.write_all_buf(&mut out).await?;
        writer.flush().await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{frame::tests::Peer, *};
    use crate::base::task;

    #[tokio::test]
    async fn streams_go_both_ways_and_end_one_by_one() {
        let (mut client, server) = tokio::io::duplex(64);
        let (mut connection, work) = open(server);
        drop(task::spawn("spdy", async move { drop(work.await) }));
        drop(task::spawn("answers", async move {
            while let Some(mut stream) = connection.streams.recv().await {
                drop(task::spawn("answer", async move {
                    let name = stream.value("STREAMTYPE").to_owned();
                    let mut said = Vec::new();
                    while let Some(bytes) = stream.reader.recv().await {
                        said.extend_from_slice(&bytes);
                    }
                    stream.writer.send(format!("{name} {}", said.len()).into()).await.unwrap();
                    stream.writer.finish().await.unwrap();
                }));
            }
        }));
        let (mut peer, large) = (Peer::new(), vec![b'x'; 100_000]);
        let mut sent = [peer.open(1, &[("streamType", "a")]), peer.open(3, &[("streamType", "b")])].concat();
        sent.extend(Peer::data(1, &large, false));
        sent.extend(Peer::data(3, b"", true));
        sent.extend(Peer::data(1, b"y", true));
        client.write_all(&sent).await.unwrap();
        let mut heard: Map<u32, String> = Map::new();
        let mut ended = Vec::new();
        while ended.len() < 2 {
            let mut first = [0; HEAD_BYTES];
            client.read_exact(&mut first).await.unwrap();
            let (stream, is_last, length) = match Head::parse(first).unwrap() {
                Head::Data { stream, is_last, length } => (Some(stream), is_last, length),
                Head::Control { length, .. } => (None, false, length),
            };
            let mut body = vec![0; length];
            client.read_exact(&mut body).await.unwrap();
            if let Some(stream) = stream {
                heard.entry(stream).or_default().push_str(&String::from_utf8(body).unwrap());
                ended.extend(is_last.then_some(stream));
            }
        }
        assert_eq!(heard, Map::from([(1, "a 100001".to_owned()), (3, "b 0".to_owned())]));
        assert_eq!(ended, [3, 1]);
    }
}
