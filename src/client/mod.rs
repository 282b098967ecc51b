//! The API as those reach it who are not in the control plane's process: the command line, the data plane and deployers.
//!
//! HTTP/1.1 on hyper, over TLS where the kubeconfig says so. Requests share kept connections, a watch has one of its own.
//! `kubeconfig` says where the server is and who asks, `watch` reads the lines of a watch.
//!
//! **Invariants**: every wait for the server has a bound. An answer that is not a success is an error with the server's words. A request
//! is sent once: only one that certainly was not sent is sent again, on a new connection.
//! **Not here**: typed kinds; who asks knows them. Retries; who asks knows what they mean.

mod connect;
mod kubeconfig;
mod socket;
#[cfg(test)]
mod tests;
mod watch;

use bytes::Bytes;
pub use connect::Wire;
use connect::{Connection, Target};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
pub use kubeconfig::{Kubeconfig, KubeconfigError};
use serde_json::Value;
pub use socket::Socket;
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};
use tokio::time::timeout;
pub use watch::{Chunks, Lines, WatchEvent};

/// How long a request may take, its answer included.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// Connections that are kept for the next request.
const IDLE_MAX: usize = 2;

/// What an answer may hold: a list of all objects of a kind, of any cluster that one machine runs.
const ANSWER_BYTES_MAX: usize = 256 << 20;

const JSON: &str = "application/json";
const USER_AGENT: &str = concat!("skiff/", env!("CARGO_PKG_VERSION"));

/// Why there is no answer, or none that helps.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No connection, or no TLS on it.
    #[error("cannot connect to the API server {server}")]
    Connect {
        /// Host and port.
        server: String,
        /// What the machine says.
        #[source]
        source: std::io::Error,
    },
    /// The file of the client's token cannot be read.
    #[error("cannot read the token {file}")]
    Token {
        /// Its path.
        file: String,
        /// What the machine says.
        #[source]
        source: std::io::Error,
    },
    /// The server, or the way to it, hangs.
    #[error("the API server did not answer {what} within {} s", .within.as_secs())]
    Late {
        /// Method and path.
        what: String,
        /// The bound.
        within: Duration,
    },
    /// The connection ended in the middle.
    #[error("the connection to the API server broke")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The server does not speak as the API does.
    #[error("the API server's answer is not what the API answers")]
    Malformed(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The server said no.
    #[error("the API server refuses it ({code}): {message}")]
    Refused {
        /// The HTTP status.
        code: StatusCode,
        /// The message of the Status.
        message: String,
    },
}

impl ClientError {
    /// The HTTP status, if the server said no.
    pub fn code(&self) -> Option<StatusCode> {
        if let Self::Refused { code, .. } = self { Some(*code) } else { None }
    }

    /// What a Status says.
    fn of_status(code: StatusCode, status: &Value) -> Self {
        Self::Refused { code, message: status["message"].as_str().unwrap_or("no reason given").to_owned() }
    }
}

/// A client of one API server. Its copies share the connections.
#[derive(Clone, Debug)]
pub struct Client(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    target: Target,
    idle: Mutex<Vec<Connection>>,
}

/// A body to send, and what it is.
#[derive(Debug)]
struct Payload {
    content_type: HeaderValue,
    bytes: Bytes,
}

impl Payload {
    fn of(media_type: &'static str, value: &Value) -> Self {
        Self { content_type: HeaderValue::from_static(media_type), bytes: value.to_string().into() }
    }
}

impl Client {
    /// The client that a kubeconfig describes.
    pub fn new(kubeconfig: &Kubeconfig) -> Result<Self, KubeconfigError> {
        Ok(Self(Arc::new(Inner { target: Target::new(kubeconfig)?, idle: Mutex::default() })))
    }

    /// Where the server answers, as the resolver has it now.
    pub async fn server_address(&self) -> std::io::Result<SocketAddr> {
        self.0.target.address().await
    }

    /// Reads an object or a list.
    pub async fn get(&self, path: &str) -> Result<Value, ClientError> {
        self.send(Method::GET, path, None).await
    }

    /// Reads an object or a list in another form than JSON as it is: a table, say.
    pub async fn get_as(&self, path: &str, media_type: &'static str) -> Result<Value, ClientError> {
        let mut request = self.request(&Method::GET, path, None)?;
        request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static(media_type));
        within(ANSWER_WITHIN, &Method::GET, path, self.exchange(request)).await
    }

    /// Reads what is no JSON.
    pub async fn get_bytes(&self, path: &str) -> Result<Vec<u8>, ClientError> {
        let request = self.request(&Method::GET, path, None)?;
        let reading = async {
            let (_connection, response) = self.begin(request).await?;
            if response.status().is_success() {
                Ok(body(response).await?.to_vec())
            } else {
                Err(read(response).await.err().unwrap_or_else(none))
            }
        };
        within(ANSWER_WITHIN, &Method::GET, path, reading).await
    }

    /// Replaces an object.
    pub async fn put(&self, path: &str, object: &Value) -> Result<Value, ClientError> {
        self.send(Method::PUT, path, Some(Payload::of(JSON, object))).await
    }

    /// Creates an object.
    pub async fn post(&self, path: &str, object: &Value) -> Result<Value, ClientError> {
        self.send(Method::POST, path, Some(Payload::of(JSON, object))).await
    }

    /// Deletes an object; `options` is a `DeleteOptions`.
    pub async fn delete(&self, path: &str, options: &Value) -> Result<Value, ClientError> {
        self.send(Method::DELETE, path, Some(Payload::of(JSON, options))).await
    }

    /// Patches an object.
    pub async fn patch(&self, path: &str, kind: PatchKind, change: &Value) -> Result<Value, ClientError> {
        self.send(Method::PATCH, path, Some(Payload::of(kind.media_type(), change))).await
    }

    /// Watches a kind from a revision on, until the server ends it.
    pub async fn watch(&self, collection: &str, revision: &str) -> Result<Lines, ClientError> {
        let (connection, body) = self.open(&watch::path(collection, revision)).await?;
        Ok(Lines::new(connection, body))
    }

    /// Reads what goes on until the server has no more, like the log of a container.
    pub async fn follow(&self, path: &str) -> Result<Chunks, ClientError> {
        let (connection, body) = self.open(path).await?;
        Ok(Chunks::new(connection, body))
    }

    /// Begins to read an answer, on a connection of its own.
    async fn open(&self, path: &str) -> Result<(Connection, Incoming), ClientError> {
        let request = self.request(&Method::GET, path, None)?;
        let begun = async {
            let mut connection = self.0.target.connect().await?;
            let response = connection.send(request).await.map_err(|failed| failed.error)?;
            Ok::<_, ClientError>((connection, response))
        };
        let (connection, response) = within(ANSWER_WITHIN, &Method::GET, path, begun).await?;
        if response.status().is_success() {
            return Ok((connection, response.into_body()));
        }
        let reading = read(response);
        Err(within(ANSWER_WITHIN, &Method::GET, path, reading).await.err().unwrap_or_else(none))
    }

    async fn send(&self, method: Method, path: &str, payload: Option<Payload>) -> Result<Value, ClientError> {
        let request = self.request(&method, path, payload)?;
        within(ANSWER_WITHIN, &method, path, self.exchange(request)).await
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Value, ClientError> {
        let (mut connection, response) = self.begin(request).await?;
        let answer = read(response).await;
        // What was read to its end leaves the connection free.
        if connection.is_free().await {
            let mut idle = self.idle();
            idle.truncate(IDLE_MAX - 1);
            idle.push(connection);
        }
        answer
    }

    /// Sends on a kept connection, or on a new one when that has ended meanwhile.
    async fn begin(&self, request: Request<Full<Bytes>>) -> Result<(Connection, Response<Incoming>), ClientError> {
        let mut request = request;
        loop {
            let kept = self.idle().pop();
            let Some(mut connection) = kept else { break };
            match connection.send(request).await {
                Ok(response) => return Ok((connection, response)),
                Err(failed) => request = failed.unsent.ok_or(failed.error)?,
            }
        }
        let mut connection = self.0.target.connect().await?;
        let response = connection.send(request).await.map_err(|failed| failed.error)?;
        Ok((connection, response))
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.0.idle.lock().expect("no one panics while holding the lock")
    }

    fn request(
        &self,
        method: &Method,
        path: &str,
        payload: Option<Payload>,
    ) -> Result<Request<Full<Bytes>>, ClientError> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, self.0.target.authority())
            .header(header::USER_AGENT, USER_AGENT)
            .header(header::ACCEPT, JSON);
        if let (Some(headers), Some(token)) = (request.headers_mut(), self.0.target.authorization()?) {
            headers.insert(header::AUTHORIZATION, token);
        }
        let body = payload.map(|payload| {
            request.headers_mut().map(|headers| headers.insert(header::CONTENT_TYPE, payload.content_type));
            payload.bytes
        });
        request.body(Full::new(body.unwrap_or_default())).map_err(|err| ClientError::Malformed(err.into()))
    }
}

/// How a patch is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchKind {
    /// RFC 7386.
    Merge,
    /// Kubernetes' own, which knows the keys of lists.
    Strategic,
    /// RFC 6902.
    Json,
    /// Server-side apply: what the applier wants, all of it.
    Apply,
}

impl PatchKind {
    fn media_type(self) -> &'static str {
        match self {
            Self::Merge => "application/merge-patch+json",
            Self::Strategic => "application/strategic-merge-patch+json",
            Self::Json => "application/json-patch+json",
            // JSON is YAML.
            Self::Apply => "application/apply-patch+yaml",
        }
    }
}

fn none() -> ClientError {
    ClientError::Malformed("a success that is none".into())
}

async fn body(response: Response<Incoming>) -> Result<Bytes, ClientError> {
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await.map_err(ClientError::Broken)?;
    Ok(body.to_bytes())
}

/// The whole answer.
async fn read(response: Response<Incoming>) -> Result<Value, ClientError> {
    let code = response.status();
    let value: Result<Value, _> = serde_json::from_slice(&body(response).await?);
    if code.is_success() {
        return value.map_err(|err| ClientError::Malformed(err.into()));
    }
    Err(ClientError::of_status(code, &value.unwrap_or_default()))
}

async fn within<T>(
    bound: Duration,
    method: &Method,
    path: &str,
    work: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, ClientError> {
    let late = || ClientError::Late { what: format!("{method} {path}"), within: bound };
    timeout(bound, work).await.unwrap_or_else(|_| Err(late()))
}
