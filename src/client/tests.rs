//! The client against servers that misbehave. What a real one answers is held by `roles::proxy` and the integration tests.

use super::*;
use crate::base::task;
use serde_json::json;
use std::net::Ipv4Addr;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// What a connection to the server does with one request after the other.
#[derive(Clone, Copy)]
enum Answer {
    /// These bytes.
    Bytes(&'static str),
    /// These bytes, and the connection is at its end.
    Last(&'static str),
    /// Nothing, and the connection is at its end.
    Hangup,
    /// Nothing, for ever.
    Silence,
}

/// A server whose connections answer as told, one list each; the requests' heads are kept.
struct Server {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn start(connections: Vec<Vec<Answer>>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        task::spawn("server", async move {
            let mut open = Vec::new();
            for answers in connections {
                let (mut stream, _) = listener.accept().await.unwrap();
                if serve(&mut stream, &answers, &seen).await {
                    open.push(stream);
                }
            }
            std::future::pending::<()>().await;
        });
        Self { address, asked }
    }

    fn client(&self) -> Client {
        let server = format!("http://{}", self.address);
        Client::new(&Kubeconfig { server, ca_pem: None, identity_pem: None, token: None, token_file: None }).unwrap()
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// Whether the connection stays.
async fn serve(stream: &mut TcpStream, answers: &[Answer], seen: &Mutex<Vec<String>>) -> bool {
    for answer in answers {
        let mut buffer = vec![0; 4096];
        let length = stream.read(&mut buffer).await.unwrap();
        let text = String::from_utf8_lossy(&buffer[..length]);
        seen.lock().unwrap().push(text.lines().next().unwrap_or_default().to_owned());
        match answer {
            Answer::Bytes(bytes) => stream.write_all(bytes.as_bytes()).await.unwrap(),
            Answer::Last(bytes) => {
                stream.write_all(bytes.as_bytes()).await.unwrap();
                return false;
            }
            Answer::Hangup => return false,
            Answer::Silence => {}
        }
    }
    true
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n{\"a\":1}";
const GONE: &str = "HTTP/1.1 410 Gone\r\nContent-Length: 21\r\n\r\n{\"message\":\"too old\"}";
const STREAM: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n";

#[tokio::test]
async fn requests_share_a_connection_and_one_that_ended_is_replaced() {
    let last = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}";
    let server = Server::start(vec![vec![Answer::Bytes(OK), Answer::Last(last)], vec![Answer::Bytes(OK)]]).await;
    let client = server.client();
    assert_eq!(client.get("/one").await.unwrap(), json!({"a": 1}));
    assert_eq!(client.post("/two", &json!({})).await.unwrap(), json!({}));
    assert_eq!(client.get("/three").await.unwrap(), json!({"a": 1}));
    assert_eq!(server.asked(), ["GET /one HTTP/1.1", "POST /two HTTP/1.1", "GET /three HTTP/1.1"]);
}

#[tokio::test]
async fn a_request_that_may_have_arrived_is_not_sent_again() {
    let server = Server::start(vec![vec![Answer::Bytes(OK), Answer::Hangup], vec![Answer::Bytes(OK)]]).await;
    let client = server.client();
    client.get("/one").await.unwrap();
    let err = client.post("/two", &json!({})).await.unwrap_err();
    assert!(matches!(err, ClientError::Broken(_)), "{err:?}");
    client.get("/three").await.unwrap();
    assert_eq!(server.asked(), ["GET /one HTTP/1.1", "POST /two HTTP/1.1", "GET /three HTTP/1.1"]);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_says_nothing_is_waited_for_with_a_bound() {
    let server = Server::start(vec![vec![Answer::Silence], vec![Answer::Silence], vec![Answer::Bytes(STREAM)]]).await;
    let client = server.client();
    let err = client.get("/one").await.unwrap_err();
    assert_eq!(err.to_string(), "the API server did not answer GET /one within 30 s");
    let err = client.watch("/two", "5").await.unwrap_err();
    assert!(err.to_string().starts_with("the API server did not answer GET /two?watch=true"), "{err}");
    let mut lines = client.watch("/three", "5").await.unwrap();
    let err = lines.next().await.unwrap_err();
    assert_eq!(err.to_string(), "the API server did not answer a watch within 320 s");
}

#[tokio::test]
async fn what_is_no_answer_of_the_api_is_an_error() {
    let text = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
    let server =
        Server::start(vec![vec![Answer::Bytes(GONE), Answer::Bytes(text)], vec![Answer::Last("what?\r\n\r\n")]]);
    let server = server.await;
    let client = server.client();
    let err = client.get("/one").await.unwrap_err();
    assert_eq!(
        (err.code(), err.to_string()),
        (Some(StatusCode::GONE), "the API server refuses it (410 Gone): too old".into())
    );
    assert!(matches!(client.get("/two").await.unwrap_err(), ClientError::Malformed(_)));
    let err = server.client().get("/three").await.unwrap_err();
    assert!(matches!(err, ClientError::Broken(_)), "{err:?}");
}

#[tokio::test]
async fn nobody_there_is_said_with_the_address() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let client = Client::new(&Kubeconfig {
        server: format!("http://{address}"),
        ca_pem: None,
        identity_pem: None,
        token: None,
        token_file: None,
    })
    .unwrap();
    let err = client.get("/").await.unwrap_err();
    assert_eq!(err.to_string(), format!("cannot connect to the API server {address}"));
}

#[test]
fn a_server_that_cannot_be_is_refused() {
    let said = |server: &str| {
        let kubeconfig =
            Kubeconfig { server: server.to_owned(), ca_pem: None, identity_pem: None, token: None, token_file: None };
        crate::base::chain::chain(&Client::new(&kubeconfig).unwrap_err())
    };
    let cannot = "the kubeconfig's server cannot be used";
    assert_eq!(said("here"), format!("{cannot}: \"here\": the scheme is neither https nor http"));
    assert_eq!(said("/here"), format!("{cannot}: \"/here\": it needs a scheme and a host"));
    assert_eq!(said("ftp://here"), format!("{cannot}: \"ftp://here\": the scheme is neither https nor http"));
    assert_eq!(said("https://here"), "the kubeconfig has no certificate-authority-data");
}

#[tokio::test]
async fn a_watch_tells_its_lines_however_they_arrive() {
    let watch = concat!(
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
        r#"{"type":"ADDED","object":{"n":1}}"#,
        "\n",
        r#"{"type":"MODIFIED","object":{"n":2}}"#,
        "\n",
        r#"{"type":"DELETED","object":{"n":3}}"#,
        "\n",
        r#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"7"}}}"#,
        "\n",
    );
    let server = Server::start(vec![vec![Answer::Last(watch)]]).await;
    let mut lines = server.client().watch("/things", "5").await.unwrap();
    assert_eq!(lines.next().await.unwrap(), Some(WatchEvent::Set(json!({"n": 1}))));
    assert_eq!(lines.next().await.unwrap(), Some(WatchEvent::Set(json!({"n": 2}))));
    assert_eq!(lines.next().await.unwrap(), Some(WatchEvent::Gone(json!({"n": 3}))));
    assert_eq!(lines.next().await.unwrap(), Some(WatchEvent::Bookmark("7".into())));
    assert_eq!(lines.next().await.unwrap(), None);
    let path = "/things?watch=true&allowWatchBookmarks=true&timeoutSeconds=290&resourceVersion=5";
    assert_eq!(server.asked(), [format!("GET {path} HTTP/1.1")]);
}

#[tokio::test]
async fn a_watch_that_is_too_old_says_so_at_once_or_in_its_course() {
    let late = concat!(
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
        r#"{"type":"ERROR","object":{"kind":"Status","code":410,"message":"too old"}}"#,
        "\n",
    );
    let server = Server::start(vec![vec![Answer::Last(GONE)], vec![Answer::Last(late)]]).await;
    assert_eq!(server.client().watch("/things", "5").await.unwrap_err().code(), Some(StatusCode::GONE));
    let mut lines = server.client().watch("/things", "5").await.unwrap();
    assert_eq!(lines.next().await.unwrap_err().code(), Some(StatusCode::GONE));
}

#[tokio::test]
async fn a_watch_that_breaks_off_or_makes_no_sense_is_an_error() {
    let half = "HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n{\"type\":\"ADDED\"";
    let strange = concat!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", r#"{"type":"BORED","object":{}}"#, "\n");
    let server = Server::start(vec![vec![Answer::Last(half)], vec![Answer::Last(strange)]]).await;
    let mut lines = server.client().watch("/things", "5").await.unwrap();
    let err = lines.next().await.unwrap_err();
    assert!(matches!(err, ClientError::Broken(_)), "{err:?}");
    let mut lines = server.client().watch("/things", "5").await.unwrap();
    let err = lines.next().await.unwrap_err();
    assert!(matches!(err, ClientError::Malformed(_)), "{err:?}");
}
