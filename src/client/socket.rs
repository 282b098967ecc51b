//! WebSockets of the API: commands in containers, and connections to the ports of pods.

use super::{ANSWER_WITHIN, Client, ClientError, USER_AGENT, connect::Wire, within};
use http::{HeaderValue, Method, Request, Response, header};
use serde_json::Value;
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{self, handshake::client::generate_key, protocol::WebSocketConfig},
};

/// What a message of the server's may hold: the server sends pieces of 32 KiB.
const MESSAGE_BYTES_MAX: usize = 4 << 20;

/// A WebSocket to the API server.
pub type Socket = WebSocketStream<Wire>;

impl Client {
    /// Opens a WebSocket that speaks a protocol, on a connection of its own.
    ///
    /// # Errors
    /// Those of every request; the server does not speak the protocol.
    pub async fn socket(&self, path: &str, protocol: &'static str) -> Result<Socket, ClientError> {
        let request = self.handshake(path, protocol)?;
        let opening = async {
            let wire = self.0.target.wire().await?;
            let config = WebSocketConfig::default().max_message_size(Some(MESSAGE_BYTES_MAX));
            let (socket, response) = client_async_with_config(request, wire, Some(config)).await.map_err(refusal)?;
            let spoken = response.headers().get(header::SEC_WEBSOCKET_PROTOCOL);
            if spoken.is_some_and(|spoken| spoken == protocol) {
                return Ok(socket);
            }
            Err(ClientError::Malformed(format!("the server does not speak {protocol}").into()))
        };
        within(ANSWER_WITHIN, &Method::GET, path, opening).await
    }

    fn handshake(&self, path: &str, protocol: &'static str) -> Result<Request<()>, ClientError> {
        let authority = self.0.target.authority();
        let malformed = |err: http::Error| ClientError::Malformed(err.into());
        let mut request = Request::get(format!("ws://{}{path}", authority.to_str().unwrap_or_default()))
            .header(header::HOST, authority)
            .header(header::USER_AGENT, USER_AGENT)
            .header(header::CONNECTION, "Upgrade")
            .header(header::UPGRADE, "websocket")
            .header(header::SEC_WEBSOCKET_VERSION, "13")
            .header(header::SEC_WEBSOCKET_KEY, generate_key())
            .header(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol))
            .body(())
            .map_err(malformed)?;
        if let Some(token) = self.0.target.authorization()? {
            request.headers_mut().insert(header::AUTHORIZATION, token);
        }
        Ok(request)
    }
}

/// Why there is no WebSocket: the server's words, when it has said no.
fn refusal(err: tungstenite::Error) -> ClientError {
    match err {
        tungstenite::Error::Http(response) => said(*response),
        other => ClientError::Broken(other.into()),
    }
}

fn said(response: Response<Option<Vec<u8>>>) -> ClientError {
    let (code, body) = (response.status(), response.into_body().unwrap_or_default());
    let status = serde_json::from_slice::<Value>(&body);
    // Of a long answer only the beginning was read.
    let status = status.unwrap_or_else(|_| serde_json::json!({ "message": String::from_utf8_lossy(&body) }));
    ClientError::of_status(code, &status)
}
