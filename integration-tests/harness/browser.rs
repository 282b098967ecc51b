//! A real browser, driven as people drive theirs: Chromium, by the WebDriver protocol.

use super::{tools, wait::eventually};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use std::{
    io::{self, BufRead, BufReader, Write as _},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

/// How long the driver has for its start, and for an answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long the page has for what it is waited for.
const SOON: Duration = Duration::from_secs(15);

/// A browser with one window. It ends with the value.
pub struct Browser {
    driver: Child,
    port: u16,
    session: String,
}

impl Browser {
    /// Starts one, with a window of this size. `None`: there is no Chromium, which is said.
    pub fn start(width: u32, height: u32) -> Option<Self> {
        let Some(program) = &*tools::CHROMEDRIVER else {
            eprintln!("skipped: there is no chromedriver here; install the packages chromium and chromium-driver");
            return None;
        };
        let port = super::ports::free_port();
        let mut command = Command::new(program);
        command.arg(format!("--port={port}")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut browser = Self { driver: command.spawn().unwrap(), port, session: String::new() };
        eventually("chromedriver answers", PATIENCE, || browser.call("GET", "/status", &Value::Null));
        let size = format!("--window-size={width},{height}");
        let args = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", &size];
        let wanted = json!({ "goog:chromeOptions": { "args": args }, "goog:loggingPrefs": { "browser": "ALL" } });
        let made = browser.call("POST", "/session", &json!({ "capabilities": { "alwaysMatch": wanted } })).unwrap();
        browser.session = format!("/session/{}", made["sessionId"].as_str().unwrap());
        Some(browser)
    }

    /// Opens a URL.
    pub fn open(&self, url: &str) {
        self.ask("POST", "/url", &json!({ "url": url }));
    }

    /// Runs a function's body in the page, and gives what it returns.
    pub fn run(&self, script: &str) -> Value {
        self.ask("POST", "/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Runs a function's body in the page that calls its last argument when it is done.
    pub fn run_async(&self, script: &str) -> Value {
        self.ask("POST", "/execute/async", &json!({ "script": script, "args": [] }))
    }

    /// A command of Chromium's own. Source: Chrome DevTools Protocol, by ChromeDriver's `goog/cdp/execute`.
    pub fn command(&self, name: &str, parameters: &Value) -> Value {
        self.ask("POST", "/goog/cdp/execute", &json!({ "cmd": name, "params": parameters }))
    }

    /// Waits until an expression is something, and gives it.
    #[track_caller]
    pub fn until(&self, expression: &str) -> Value {
        eventually(expression, SOON, || match self.run(&format!("return {expression}")) {
            Value::Null | Value::Bool(false) => Err(self.text()),
            found => Ok(found),
        })
    }

    /// Presses keys, one after the other, wherever the focus is. Source of the codes of keys that are no letters: WebDriver, 17.4.2.
    pub fn press(&self, keys: &[char]) {
        let strokes =
            keys.iter().flat_map(|key| ["keyDown", "keyUp"].map(|what| json!({ "type": what, "value": key })));
        let source = json!({ "type": "key", "id": "keyboard", "actions": strokes.collect::<Vec<_>>() });
        self.ask("POST", "/actions", &json!({ "actions": [source] }));
    }

    /// What can be read on the page.
    pub fn text(&self) -> String {
        self.run("return document.body.innerText").as_str().unwrap_or_default().to_owned()
    }

    /// What the browser complained of: errors, and whatever the page's policy forbade.
    pub fn complaints(&self) -> Vec<String> {
        let log = self.ask("POST", "/se/log", &json!({ "type": "browser" }));
        let entries = log.as_array().into_iter().flatten();
        let bad = entries.filter(|entry| {
            entry["level"] == "SEVERE" || entry["message"].as_str().unwrap_or_default().contains("Content Security")
        });
        bad.map(|entry| entry["message"].to_string()).collect()
    }

    /// Keeps a picture of the window, for whoever looks at it after the test.
    pub fn keep_picture(&self, name: &str) {
        let picture = self.ask("GET", "/screenshot", &Value::Null);
        let bytes = STANDARD.decode(picture.as_str().unwrap()).unwrap();
        std::fs::write(Path::new(env!("CARGO_TARGET_TMPDIR")).join(name), bytes).unwrap();
    }

    #[track_caller]
    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        self.call(method, &format!("{}{path}", self.session), body).unwrap_or_else(|why| panic!("{path}: {why}"))
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> Result<Value, String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).map_err(|err| err.to_string())?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(|err| err.to_string())?;
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all((head + &body).as_bytes()).map_err(|err| err.to_string())?;
        let body = read_body(&mut BufReader::new(stream)).map_err(|err| err.to_string())?;
        let mut value: Value = serde_json::from_slice(&body).map_err(|err| format!("{err}: {}", tools::text(&body)))?;
        let value = value["value"].take();
        if value["error"].is_string() { Err(value["message"].to_string()) } else { Ok(value) }
    }
}

/// The body of an answer. The driver keeps connections open, whatever it is asked.
fn read_body(stream: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut length = 0;
    for line in stream.by_ref().lines() {
        let line = line?;
        match line.to_ascii_lowercase().strip_prefix("content-length:") {
            Some(value) => length = value.trim().parse().map_err(io::Error::other)?,
            None if line.is_empty() => break,
            None => {}
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok(body)
}

/// Ends the browser by the driver's own command, and then the driver.
impl Drop for Browser {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Ok(log) = self.call("POST", &format!("{}/se/log", self.session), &json!({ "type": "browser" }))
        {
            eprintln!("the browser says: {log}");
        }
        drop(self.call("DELETE", &self.session, &Value::Null));
        drop(self.driver.kill());
        drop(self.driver.wait());
    }
}
