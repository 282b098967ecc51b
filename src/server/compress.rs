//! Large answers go out compressed to clients that take that.
//!
//! Called by `handle` for reads of objects; what goes on for as long as the client wants (watches, logs) is never held back for it.
//!
//! **Source**: `k8s.io/apiserver/pkg/endpoints/handlers/responsewriters/writers.go`, v1.37: gzip, from 128 KiB on, at the fastest level.

use super::respond::{self, Body, Response};
use bytes::{Bytes, BytesMut};
use flate2::{Compression, write::GzEncoder};
use futures::{StreamExt as _, stream};
use http::{HeaderMap, HeaderValue, header};
use http_body_util::BodyExt as _;
use std::io::{self, Write as _};

/// Smaller answers go out as they are.
const BYTES_MIN: usize = 128 * 1024;

/// Whether a client takes gzip.
pub(super) fn is_taken(headers: &HeaderMap) -> bool {
    let codings = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|v| v.to_str().ok());
    codings.flat_map(|v| v.split(',')).any(|coding| {
        let (name, quality) = coding.split_once(';').unwrap_or((coding, ""));
        name.trim() == "gzip" && !matches!(quality.trim().trim_start_matches("q="), "0" | "0.0")
    })
}

/// The answer, compressed if it is a large one of objects. Its beginning is read for that.
pub(super) async fn compressed(response: Response) -> Response {
    let content_type = response.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let is_objects = ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"]
        .iter()
        .any(|t| content_type.starts_with(t.as_bytes()));
    if response.status() != 200 || !is_objects || response.headers().contains_key(header::CONTENT_ENCODING) {
        return response;
    }
    let (mut head, body) = response.into_parts();
    head.headers.append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    let body = match beginning(body).await {
        Beginning::All(bytes) => respond::full(bytes),
        Beginning::Large(first, rest) => {
            head.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            head.headers.remove(header::CONTENT_LENGTH);
            gzip(first, rest)
        }
        Beginning::Failed(err) => respond::streamed(stream::once(async { Err(err) })),
    };
    Response::from_parts(head, body)
}

enum Beginning {
    /// The whole body, which is small.
    All(Bytes),
    /// The first bytes, and the rest.
    Large(Bytes, Body),
    Failed(io::Error),
}

async fn beginning(mut body: Body) -> Beginning {
    let mut first = BytesMut::new();
    loop {
        match body.frame().await {
            None => return Beginning::All(first.freeze()),
            Some(Err(err)) => return Beginning::Failed(err),
            Some(Ok(frame)) => first.extend_from_slice(frame.data_ref().map(AsRef::as_ref).unwrap_or_default()),
        }
        if first.len() >= BYTES_MIN {
            return Beginning::Large(first.freeze(), body);
        }
    }
}

fn gzip(first: Bytes, rest: Body) -> Body {
    let rest = rest.into_data_stream();
    let chunks = stream::once(async { Ok(first) }).chain(rest).map(Some).chain(stream::once(async { None }));
    let encoder = Some(GzEncoder::new(Vec::new(), Compression::fast()));
    let written = chunks.scan(encoder, |encoder, chunk| {
        let written = write(encoder, chunk);
        async { Some(written) }
    });
    // What the encoder still keeps to itself is nothing to send.
    respond::streamed(written.filter(|chunk| {
        let is_empty = chunk.as_ref().is_ok_and(Bytes::is_empty);
        async move { !is_empty }
    }))
}

/// What an encoder has to say after a chunk; after the last (`None`) all that is left.
fn write(encoder: &mut Option<GzEncoder<Vec<u8>>>, chunk: Option<io::Result<Bytes>>) -> io::Result<Bytes> {
    let Some(mut open) = encoder.take() else { return Ok(Bytes::new()) };
    let Some(chunk) = chunk else { return open.finish().map(Bytes::from) };
    open.write_all(&chunk?)?;
    let written = std::mem::take(open.get_mut());
    *encoder = Some(open);
    Ok(written.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::read::GzDecoder;
    use std::io::Read as _;

    async fn sent(response: Response) -> (Option<HeaderValue>, Vec<u8>) {
        let encoding = response.headers().get(header::CONTENT_ENCODING).cloned();
        (encoding, response.into_body().collect().await.unwrap().to_bytes().to_vec())
    }

    #[tokio::test]
    async fn large_answers_are_compressed_and_small_ones_are_not() {
        let chunk = Bytes::from("ab".repeat(10_000));
        let of = |n: usize| {
            let chunk = chunk.clone();
            let chunks = stream::iter((0..n).map(move |_| Ok(chunk.clone())));
            compressed(respond::respond(200, "application/json", respond::streamed(chunks)))
        };
        assert_eq!(sent(of(2).await).await, (None, chunk.repeat(2)));
        let (encoding, bytes) = sent(of(20).await).await;
        assert_eq!(encoding.unwrap(), "gzip");
        assert!(bytes.len() < chunk.len());
        let mut plain = Vec::new();
        GzDecoder::new(&bytes[..]).read_to_end(&mut plain).unwrap();
        assert_eq!(plain, chunk.repeat(20));
        let log = respond::text(200, "x".repeat(BYTES_MIN));
        assert_eq!(sent(compressed(log).await).await.0, None);
        let failing = stream::iter([Ok(chunk.repeat(20).into()), Err(io::Error::other("gone"))]);
        let broken = compressed(respond::respond(200, "application/json", respond::streamed(failing))).await;
        assert!(broken.into_body().collect().await.is_err(), "a client must not take half for all");
    }

    #[test]
    fn a_client_says_whether_it_takes_gzip() {
        let of = |text: &'static str| {
            is_taken(&HeaderMap::from_iter([(header::ACCEPT_ENCODING, HeaderValue::from_static(text))]))
        };
        assert!(of("gzip") && of("deflate, gzip;q=0.5") && !of("gzip;q=0") && !of("identity"));
        assert!(!is_taken(&HeaderMap::new()));
    }
}
