//! `exec` and `attach`: what is typed goes to a container's program, what it prints comes back.
//!
//! **Source**: the protocol `v5.channel.k8s.io`, and what is said: `kubectl/pkg/cmd/exec/exec.go`, `k8s.io/client-go/util/exec`, v1.37.

use super::{
    resource::{Named, Scope},
    verbs::pod_path,
};
use crate::{
    cli::{exit::Terminated, output, watching::text},
    client::Socket,
};
use anyhow::{Context as _, bail};
use futures::{SinkExt as _, Stream, StreamExt as _};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use serde_json::{Value, json};
use signal_hook::{consts::SIGWINCH, iterator::Signals};
use std::{
    io::{self, IsTerminal as _, Read as _, stdin, stdout},
    pin::pin,
    thread,
};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;

const PROTOCOL: &str = "v5.channel.k8s.io";
/// The channels of a message, its first byte.
const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const STATUS: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;
/// What is read of standard input at a time.
const PIECE_BYTES: usize = 32 << 10;
/// How many pieces wait for the server.
const PIECES_MAX: usize = 4;

/// How the user and the program are connected.
pub(super) struct Wish {
    pub(super) container: Option<String>,
    pub(super) stdin: bool,
    pub(super) tty: bool,
}

impl Wish {
    fn query(&self) -> String {
        let container = self.container.as_ref().map(|name| format!("&container={}", encoded(name)));
        let (stdin, tty) = (self.stdin, self.tty);
        format!("stdin={stdin}&stdout=true&stderr={}&tty={tty}{}", !tty, container.unwrap_or_default())
    }
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// Runs a command in a container, and ends as it ends.
pub(super) async fn exec(scope: &Scope, of: &Named, wish: &Wish, command: &[String]) -> anyhow::Result<()> {
    let command: String = command.iter().map(|word| format!("&command={}", encoded(word))).collect();
    let path = format!("{}/exec?{}{command}", pod_path(scope, of).await?, wish.query());
    converse(scope, &path, wish).await
}

/// Connects with the program that a container runs.
pub(super) async fn attach(scope: &Scope, of: &Named, wish: &Wish) -> anyhow::Result<()> {
    let path = format!("{}/attach?{}", pod_path(scope, of).await?, wish.query());
    if wish.stdin {
        output::aside("If you don't see a command prompt, try pressing enter.");
    }
    converse(scope, &path, wish).await
}

async fn converse(scope: &Scope, path: &str, wish: &Wish) -> anyhow::Result<()> {
    let socket = scope.client.socket(path, PROTOCOL).await?;
    let is_typed = wish.stdin && wish.tty && stdin().is_terminal();
    if wish.tty && !is_typed {
        output::aside("Unable to use a TTY - input is not a terminal or the right kind of file");
    }
    let _raw = is_typed.then(Raw::begin).transpose().context("cannot pass single keys on")?;
    let (sender, said) = mpsc::channel(PIECES_MAX);
    if is_typed {
        tell_sizes(sender.clone())?;
    }
    if wish.stdin {
        thread::spawn(move || read_input(&sender));
    }
    relay(socket, said).await
}

/// The terminal, passing every key on as it is pressed. Dropped, it is as it was.
struct Raw(Termios);

impl Raw {
    fn begin() -> io::Result<Self> {
        let usual = tcgetattr(stdin())?;
        let mut raw = usual.clone();
        raw.make_raw();
        tcsetattr(stdin(), OptionalActions::Now, &raw)?;
        Ok(Self(usual))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        tcsetattr(stdin(), OptionalActions::Now, &self.0).ok();
    }
}

/// Passes standard input on until it ends, and says that it has.
fn read_input(to: &mpsc::Sender<Vec<u8>>) {
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let message = match stdin().lock().read(&mut piece) {
            Ok(0) | Err(_) => vec![CLOSE, STDIN],
            Ok(n) => [&[STDIN], &piece[..n]].concat(),
        };
        let is_last = message[0] == CLOSE;
        if to.blocking_send(message).is_err() || is_last {
            return;
        }
    }
}

/// Tells the size of the terminal, now and whenever it changes.
fn tell_sizes(to: mpsc::Sender<Vec<u8>>) -> io::Result<()> {
    let mut changes = Signals::new([SIGWINCH])?;
    let size = || {
        let size = tcgetwinsize(stdout()).ok()?;
        let text = json!({ "Width": size.ws_col, "Height": size.ws_row }).to_string();
        Some([&[RESIZE], text.as_bytes()].concat())
    };
    thread::spawn(move || {
        let mut is_heard = size().is_none_or(|first| to.blocking_send(first).is_ok());
        while is_heard && changes.wait().next().is_some() {
            is_heard = size().is_none_or(|size| to.blocking_send(size).is_ok());
        }
    });
    Ok(())
}

/// Says what is to be said, and prints what comes, until the server tells how it ended.
async fn relay(socket: Socket, mut said: mpsc::Receiver<Vec<u8>>) -> anyhow::Result<()> {
    let (mut sink, stream) = socket.split();
    let speaking = async {
        while let Some(message) = said.recv().await {
            sink.send(Message::binary(message)).await?;
        }
        // There is no more to say; what is heard decides.
        std::future::pending::<Result<(), tokio_tungstenite::tungstenite::Error>>().await
    };
    let mut speaking = pin!(speaking);
    let mut hearing = pin!(hear(stream));
    tokio::select! { biased;
        heard = &mut hearing => heard,
        // That nobody listens any more is told by what is heard last.
        _ = &mut speaking => hearing.await,
    }
}

async fn hear(
    stream: impl Stream<Item = Result<Message, tokio_tungstenite::tungstenite::Error>>,
) -> anyhow::Result<()> {
    let mut stream = pin!(stream);
    while let Some(message) = stream.next().await {
        let bytes = match message.context("the connection to the API server broke")? {
            Message::Binary(bytes) => bytes,
            Message::Close(_) => break,
            _ => continue,
        };
        match bytes.split_first() {
            Some((&STDOUT, bytes)) => print(&mut stdout().lock(), bytes)?,
            Some((&STDERR, bytes)) => print(&mut io::stderr().lock(), bytes)?,
            Some((&STATUS, bytes)) => return ended(&serde_json::from_slice(bytes).unwrap_or_default()),
            _ => {}
        }
    }
    bail!("the API server ended the connection before it said how the command ended")
}

/// Prints bytes at once. That nobody reads them ends what goes on.
fn print(out: &mut impl io::Write, bytes: &[u8]) -> anyhow::Result<()> {
    out.write_all(bytes).and_then(|()| out.flush()).context("nobody reads the output any more")
}

/// What a Status says of a command that has ended.
fn ended(status: &Value) -> anyhow::Result<()> {
    if text(status, "/status") == "Success" {
        return Ok(());
    }
    let causes = status.pointer("/details/causes").and_then(Value::as_array).into_iter().flatten();
    let code =
        causes.filter(|cause| cause["reason"] == "ExitCode").find_map(|cause| text(cause, "/message").parse().ok());
    match code.filter(|_| text(status, "/reason") == "NonZeroExitCode") {
        Some(code) => Err(Terminated(code).into()),
        None => bail!("{}", text(status, "/message")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::exit;

    #[test]
    fn a_command_ends_as_the_server_says() {
        let failed = |code: &str| {
            let causes = json!([{ "reason": "ExitCode", "message": code }]);
            json!({ "status": "Failure", "reason": "NonZeroExitCode", "message": "no", "details": { "causes": causes } })
        };
        assert!(ended(&json!({ "status": "Success" })).is_ok());
        let err = ended(&failed("42")).unwrap_err();
        assert_eq!((err.to_string().as_str(), exit::code(&err)), ("command terminated with exit code 42", 42));
        let err = ended(&json!({ "status": "Failure", "message": "no such container" })).unwrap_err();
        assert_eq!((err.to_string().as_str(), exit::code(&err)), ("no such container", 1));
    }

    #[tokio::test]
    async fn a_conversation_without_an_end_is_told() {
        let say = |bytes: &[u8]| Ok(Message::binary(bytes.to_vec()));
        let heard = hear(futures::stream::iter([say(&[STDOUT]), say(&[])])).await;
        assert!(heard.unwrap_err().to_string().contains("before it said how the command ended"));
        let heard = hear(futures::stream::iter([say(b"\x03{\"status\":\"Success\"}"), say(b"\x01late")])).await;
        assert!(heard.is_ok());
    }

    #[test]
    fn a_terminal_has_one_output() {
        let wish = |tty| Wish { container: Some("a/b".into()), stdin: true, tty }.query();
        assert_eq!(wish(false), "stdin=true&stdout=true&stderr=true&tty=false&container=a%2Fb");
        assert_eq!(wish(true), "stdin=true&stdout=true&stderr=false&tty=true&container=a%2Fb");
    }
}
