//! What the server may ask of the node agent: byte streams of containers, as a trait.

use crate::api::{meta::ObjectKey, status::ApiError};
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use jiff::Timestamp;

/// The query of a `log` request. Source: `PodLogOptions`, core/v1.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogQuery {
    /// Which container; empty: the only one, or the default one.
    pub container: String,
    /// Go on with what comes.
    pub follow: bool,
    /// The container before the last restart.
    pub previous: bool,
    /// Only the last lines.
    pub tail_lines: Option<u64>,
    /// Only what came in the last seconds.
    pub since_seconds: Option<i64>,
    /// Only what came at or after this time.
    pub since_time: Option<Timestamp>,
    /// Begin each line with its time.
    pub timestamps: bool,
    /// Stop after this many bytes.
    pub limit_bytes: Option<u64>,
}

/// Streams of containers, served by the node agent.
#[async_trait]
pub trait PodStreams: Send + Sync + 'static {
    /// A container's log. Errors (no such container, waiting to start …) read as the kubelet's.
    async fn logs(
        &self,
        pod: &ObjectKey,
        query: &LogQuery,
    ) -> Result<BoxStream<'static, Result<Bytes, std::io::Error>>, ApiError>;
}
