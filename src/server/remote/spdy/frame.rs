//! The frames of SPDY/3.1: how they are laid out, and how their heads are compressed.
//!
//! **Source**: the SPDY protocol, draft 3.1, sections 2.2 and 2.6; what is laid out otherwise than there is as `moby/spdystream` has it,
//! which all of Kubernetes' clients use.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use std::io;

/// What comes before each frame.
pub(super) const HEAD_BYTES: usize = 8;
/// The longest control frame that is read, and the most that its compressed part may become.
pub(super) const CONTROL_BYTES_MAX: usize = 16 * 1024;
const NAMES_BYTES_MAX: usize = 64 * 1024;
/// The longest part of data in a frame of ours.
pub(super) const DATA_BYTES_MAX: usize = 64 * 1024;

const VERSION: u16 = 3;
const CONTROL: u16 = 0x8000;
const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const FIN: u8 = 1;
const ID_MASK: u32 = 0x7fff_ffff;

/// Why a stream is reset: what its peer asks for is not there.
pub(super) const REFUSED_STREAM: u32 = 3;

/// Names and values, in order.
pub(super) type Pairs = Vec<(String, String)>;

/// The head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Head {
    /// So many bytes of data for a stream follow, its last ones perhaps.
    Data { stream: u32, is_last: bool, length: usize },
    /// A control frame of this type, with so many bytes.
    Control { kind: u16, is_last: bool, length: usize },
}

impl Head {
    /// Reads a head.
    pub(super) fn parse(mut bytes: [u8; HEAD_BYTES]) -> io::Result<Self> {
        let is_control = bytes[0] & 0x80 != 0;
        let is_last = bytes[4] & FIN != 0;
        bytes[4] = 0;
        let (mut first, mut second) = bytes.split_at(4);
        let length = usize::try_from(second.get_u32()).map_err(io::Error::other)?;
        if !is_control {
            return Ok(Self::Data { stream: first.get_u32(), is_last, length });
        }
        let version = first.get_u16() & !CONTROL;
        if version != VERSION || length > CONTROL_BYTES_MAX {
            return Err(bad(&format!("a control frame of version {version} with {length} bytes")));
        }
        Ok(Self::Control { kind: first.get_u16(), is_last, length })
    }
}

/// What a control frame says, as far as this side listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Control {
    /// A stream begins.
    Open { stream: u32, pairs: Pairs, is_last: bool },
    /// A stream ends at once.
    Reset { stream: u32 },
    /// The peer asks whether this side is there.
    Ping(u32),
    /// The peer opens no more streams.
    GoAway,
    /// Settings, windows, more pairs: nothing that changes what is done.
    Other,
}

/// Reads control frames; the compressed parts of all of them are one.
pub(super) struct Reader(Decompress);

impl Reader {
    pub(super) fn new() -> Self {
        Self(Decompress::new(true))
    }

    /// Reads a control frame.
    pub(super) fn control(&mut self, kind: u16, is_last: bool, mut body: Bytes) -> io::Result<Control> {
        let needs = if kind == SYN_STREAM { 10 } else { 4 };
        if matches!(kind, SYN_STREAM | RST_STREAM | PING) && body.len() < needs {
            return Err(bad("a control frame that is too short"));
        }
        Ok(match kind {
            SYN_STREAM => {
                let stream = body.get_u32() & ID_MASK;
                body.advance(6);
                Control::Open { stream, pairs: self.pairs(&body)?, is_last }
            }
            RST_STREAM => Control::Reset { stream: body.get_u32() & ID_MASK },
            PING => Control::Ping(body.get_u32()),
            GOAWAY => Control::GoAway,
            _ => Control::Other,
        })
    }

    fn pairs(&mut self, compressed: &[u8]) -> io::Result<Pairs> {
        let mut plain = self.inflate(compressed)?;
        let count = number(&mut plain)?;
        (0..count).map(|_| Ok((text(&mut plain)?, text(&mut plain)?))).collect()
    }

    fn inflate(&mut self, compressed: &[u8]) -> io::Result<Bytes> {
        let mut plain = Vec::with_capacity(1024);
        let (begun, mut is_known) = (self.0.total_in(), false);
        loop {
            let read = usize::try_from(self.0.total_in() - begun).map_err(io::Error::other)?;
            let inflated = self.0.decompress_vec(&compressed[read..], &mut plain, FlushDecompress::Sync);
            match inflated {
                Err(err) if err.needs_dictionary().is_some() && !is_known => {
                    is_known = true;
                    self.0.set_dictionary(&dictionary()).map_err(io::Error::other)?;
                }
                Err(err) => return Err(io::Error::other(err)),
                Ok(Status::Ok) if plain.len() == plain.capacity() && plain.len() < NAMES_BYTES_MAX => {
                    plain.reserve(plain.len());
                }
                // All of it was read, and what is left over has no room.
                Ok(_) if plain.len() >= NAMES_BYTES_MAX => return Err(bad("names and values that are too long")),
                Ok(_) => return Ok(plain.into()),
            }
        }
    }
}

fn number(bytes: &mut Bytes) -> io::Result<u32> {
    take(bytes, 4).map(|mut bytes| bytes.get_u32())
}

fn text(bytes: &mut Bytes) -> io::Result<String> {
    let length = usize::try_from(number(bytes)?).map_err(io::Error::other)?;
    String::from_utf8(take(bytes, length)?.to_vec()).map_err(|_| bad("a name or a value that is not UTF-8"))
}

fn take(bytes: &mut Bytes, length: usize) -> io::Result<Bytes> {
    if bytes.len() < length {
        return Err(bad("names and values that are cut off"));
    }
    Ok(bytes.split_to(length))
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the peer sent {what}"))
}

/// A frame of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// Says that a stream of the peer's is there.
    Reply(u32),
    /// Data for a stream, of at most [`DATA_BYTES_MAX`] bytes, the last ones perhaps.
    Data { stream: u32, bytes: Bytes, is_last: bool },
    /// Ends a stream at once.
    Reset { stream: u32, why: u32 },
    /// Answers a ping.
    Ping(u32),
    /// No more streams are taken.
    GoAway,
}

/// Writes frames; the compressed parts of all of them are one.
pub(super) struct Writer(Compress);

impl Writer {
    pub(super) fn new() -> Self {
        let mut compress = Compress::new(Compression::default(), true);
        compress.set_dictionary(&dictionary()).expect("nothing was compressed before");
        Self(compress)
    }

    /// Puts the bytes of a frame after those that are there.
    pub(super) fn put(&mut self, frame: &Frame, out: &mut BytesMut) -> io::Result<()> {
        match frame {
            Frame::Reply(stream) => {
                let pairs = self.deflate(&0u32.to_be_bytes())?;
                control(out, SYN_REPLY, 4 + pairs.len());
                out.put_u32(*stream);
                out.put_slice(&pairs);
            }
            Frame::Data { stream, bytes, is_last } => {
                out.put_u32(*stream);
                put_length(out, if *is_last { FIN } else { 0 }, bytes.len());
                out.put_slice(bytes);
            }
            Frame::Reset { stream, why } => {
                control(out, RST_STREAM, 8);
                out.put_u32(*stream);
                out.put_u32(*why);
            }
            Frame::Ping(id) => {
                control(out, PING, 4);
                out.put_u32(*id);
            }
            Frame::GoAway => {
                control(out, GOAWAY, 8);
                out.put_u64(0);
            }
        }
        Ok(())
    }

    fn deflate(&mut self, plain: &[u8]) -> io::Result<Vec<u8>> {
        // Room for the head of the whole, too.
        let mut compressed = Vec::with_capacity(plain.len() + 64);
        self.0.compress_vec(plain, &mut compressed, FlushCompress::Sync).map_err(io::Error::other)?;
        Ok(compressed)
    }
}

fn control(out: &mut BytesMut, kind: u16, length: usize) {
    out.put_u16(CONTROL | VERSION);
    out.put_u16(kind);
    put_length(out, 0, length);
}

fn put_length(out: &mut BytesMut, flags: u8, length: usize) {
    let length = u32::try_from(length).expect("frames of ours are short");
    out.put_u32(u32::from(flags) << 24 | length);
}

/// What both sides know of names and values beforehand. Source: section 2.6.10.1.
fn dictionary() -> Vec<u8> {
    const WORDS: &str = "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges \
        age allow authorization cache-control connection content-base content-encoding content-language content-length \
        content-location content-md5 content-range content-type date etag expect expires from host if-match \
        if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma \
        proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade \
        user-agent vary via warning www-authenticate method get status 200_OK version HTTP/1.1 url public set-cookie \
        keep-alive origin";
    const REST: &str = "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505\
        203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized\
        403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable\
        Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT\
        chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,\
        text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.";
    let mut all = Vec::new();
    for word in WORDS.split(' ') {
        let word = word.replace('_', " ");
        all.put_u32(u32::try_from(word.len()).expect("words are short"));
        all.put_slice(word.as_bytes());
    }
    all.put_slice(REST.as_bytes());
    all
}

#[cfg(test)]
pub(in crate::server) mod tests {
    use super::*;

    /// The client's end of the frames, for the tests of all that use them.
    pub(in crate::server) struct Peer(Compress);

    impl Peer {
        pub(in crate::server) fn new() -> Self {
            Self(Writer::new().0)
        }

        /// The bytes that open a stream.
        pub(in crate::server) fn open(&mut self, stream: u32, pairs: &[(&str, &str)]) -> Vec<u8> {
            let mut plain = Vec::new();
            plain.put_u32(u32::try_from(pairs.len()).unwrap());
            for text in pairs.iter().flat_map(|(name, value)| [name, value]) {
                plain.put_u32(u32::try_from(text.len()).unwrap());
                plain.put_slice(text.as_bytes());
            }
            let mut compressed = Vec::with_capacity(plain.len() + 64);
            self.0.compress_vec(&plain, &mut compressed, FlushCompress::Sync).unwrap();
            let mut out = BytesMut::new();
            control(&mut out, SYN_STREAM, 10 + compressed.len());
            out.put_u32(stream);
            out.put_slice(&[0; 6]);
            out.put_slice(&compressed);
            out.to_vec()
        }

        /// The bytes of data.
        pub(in crate::server) fn data(stream: u32, bytes: &[u8], is_last: bool) -> Vec<u8> {
            let mut out = BytesMut::new();
            let frame = Frame::Data { stream, bytes: Bytes::copy_from_slice(bytes), is_last };
            Writer::new().put(&frame, &mut out).unwrap();
            out.to_vec()
        }
    }

    fn body(frame: &[u8]) -> (Head, Bytes) {
        let (head, body) = frame.split_at(HEAD_BYTES);
        (Head::parse(head.try_into().unwrap()).unwrap(), Bytes::copy_from_slice(body))
    }

    #[test]
    fn the_dictionary_is_the_protocols() {
        let adler = dictionary().iter().fold((1u32, 0u32), |(a, b), byte| {
            let a = (a + u32::from(*byte)) % 65521;
            (a, (b + a) % 65521)
        });
        assert_eq!((dictionary().len(), adler.1 << 16 | adler.0), (1423, 0xe3c6_a7c2));
    }

    #[test]
    fn streams_open_with_names_and_values_one_after_another() {
        let (mut peer, mut reader) = (Peer::new(), Reader::new());
        for (stream, pairs) in
            [(1, [("streamType", "error"), ("port", "80")]), (3, [("streamType", "data"), ("é", "")])]
        {
            let (head, body) = body(&peer.open(stream, &pairs));
            let Head::Control { kind, is_last, .. } = head else { panic!("{head:?}") };
            let owned = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
            let opened = reader.control(kind, is_last, body).unwrap();
            assert_eq!(opened, Control::Open { stream, pairs: owned, is_last: false });
        }
    }

    #[test]
    fn long_names_are_read_and_too_long_ones_are_not() {
        let (mut peer, mut reader) = (Peer::new(), Reader::new());
        let mut open = |length: usize| {
            let (_, body) = body(&peer.open(1, &[("a", &"x".repeat(length))]));
            reader.control(SYN_STREAM, false, body)
        };
        assert!(matches!(open(5000), Ok(Control::Open { pairs, .. }) if pairs[0].1.len() == 5000));
        assert!(open(NAMES_BYTES_MAX * 4).is_err());
    }

    #[test]
    fn frames_of_ours_are_laid_out_as_the_protocol_says() {
        let mut writer = Writer::new();
        let mut bytes = |frame: Frame| {
            let mut out = BytesMut::new();
            writer.put(&frame, &mut out).unwrap();
            out.to_vec()
        };
        let data = Frame::Data { stream: 5, bytes: Bytes::from_static(b"hi"), is_last: true };
        assert_eq!(bytes(data), [0, 0, 0, 5, 1, 0, 0, 2, b'h', b'i']);
        assert_eq!(bytes(Frame::Ping(7)), [0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 7]);
        let reset = Frame::Reset { stream: 9, why: REFUSED_STREAM };
        assert_eq!(bytes(reset), [0x80, 3, 0, 3, 0, 0, 0, 8, 0, 0, 0, 9, 0, 0, 0, 3]);
        let mut reader = Reader::new();
        for stream in [1, 3] {
            let (head, body) = body(&bytes(Frame::Reply(stream)));
            assert!(matches!(head, Head::Control { kind: SYN_REPLY, .. }), "{head:?}");
            assert_eq!(reader.pairs(&body[4..]).unwrap(), []);
        }
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        assert!(Head::parse([0x80, 2, 0, 1, 0, 0, 0, 10]).is_err(), "version 2");
        assert!(Head::parse([0x80, 3, 0, 1, 0, 0xff, 0, 0]).is_err(), "too long");
        let mut reader = Reader::new();
        assert!(reader.control(SYN_STREAM, false, Bytes::from_static(b"short")).is_err());
        assert!(reader.control(SYN_STREAM, false, Bytes::from_static(&[0xff; 40])).is_err(), "nothing to inflate");
    }
}
