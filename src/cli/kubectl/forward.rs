//! `port-forward`: ports of this machine lead to those of a pod. The pod is looked up anew for each connection, so that one that was
//! replaced is followed.
//!
//! **Source** of the protocol: `k8s.io/kubelet/pkg/cri/streaming/portforward/websocket.go`; of what is said:
//! `k8s.io/client-go/tools/portforward/portforward.go`, v1.37.

use super::{
    resource::{Named, Scope},
    verbs::pod_path,
};
use crate::{
    base::task,
    cli::{
        exit::{Class, of_class},
        output,
        watching::{number, text},
    },
};
use anyhow::{Context as _, anyhow, bail};
use futures::{SinkExt as _, StreamExt as _, future::try_join_all};
use serde_json::Value;
use std::{net::IpAddr, sync::Arc};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_tungstenite::tungstenite::Message;

const PROTOCOL: &str = "v4.channel.k8s.io";
/// The channels of a message, its first byte.
const DATA: u8 = 0;
const ERROR: u8 = 1;
/// What is read of a client at a time.
const PIECE_BYTES: usize = 32 << 10;

/// A port here, and one there: `8080:80`, `80`, `:http`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pair {
    /// 0: any that is free.
    local: u16,
    remote: String,
}

/// Reads a pair.
pub(super) fn pair(word: &str) -> anyhow::Result<Pair> {
    let wrong = || {
        of_class(Class::Usage, anyhow!("{word}: give LOCAL:REMOTE, :REMOTE for any local port, or one port for both"))
    };
    let (local, remote) = word.split_once(':').unwrap_or((word, word));
    let local = match local {
        "" => 0,
        // A name is no port of this machine.
        text => text.parse().ok().filter(|port| *port > 0).ok_or_else(wrong)?,
    };
    if remote.is_empty() || remote.contains(':') {
        return Err(wrong());
    }
    Ok(Pair { local, remote: remote.to_owned() })
}

/// Forwards until it is interrupted.
pub(super) async fn forward(scope: Scope, of: Named, pairs: &[Pair], address: IpAddr) -> anyhow::Result<()> {
    let there = Arc::new(There { scope, of });
    let mut listeners = Vec::new();
    for pair in pairs {
        // What is not there is told before anything is forwarded.
        let (_, port) = there.find(&pair.remote).await?;
        let listener = TcpListener::bind((address, pair.local)).await;
        let listener =
            listener.with_context(|| format!("cannot listen at {address}:{}: name another port", pair.local))?;
        output::line(format!("Forwarding from {} -> {port}", listener.local_addr()?));
        listeners.push(accept(Arc::clone(&there), listener, pair.remote.clone()));
    }
    try_join_all(listeners).await.map(drop)
}

async fn accept(there: Arc<There>, listener: TcpListener, remote: String) -> anyhow::Result<()> {
    let local = listener.local_addr()?.port();
    loop {
        let (client, _) = listener.accept().await?;
        output::line(format!("Handling connection for {local}"));
        let (there, remote) = (Arc::clone(&there), remote.clone());
        task::spawn("forwarded connection", async move {
            if let Err(err) = there.connect(client, &remote).await {
                output::aside(format!("error: {remote}: {err:#}"));
            }
        });
    }
}

/// What the ports are of.
struct There {
    scope: Scope,
    of: Named,
}

impl There {
    /// The pod that is meant now, and the number of its port.
    async fn find(&self, port: &str) -> anyhow::Result<(String, u16)> {
        let pod_path = pod_path(&self.scope, &self.of).await?;
        let pod = self.scope.client.get(&pod_path).await?;
        let phase = text(&pod, "/status/phase");
        if phase != "Running" {
            bail!("unable to forward port because pod is not running. Current status={phase}");
        }
        let port = if self.of.info().kind == "Service" {
            let service = self.scope.client.get(&self.of.path(&self.scope)).await?;
            port_of_service(&service, port)?
        } else {
            port.to_owned()
        };
        Ok((pod_path, port_of_pod(&pod, &port)?))
    }

    async fn connect(&self, client: TcpStream, remote: &str) -> anyhow::Result<()> {
        let (pod, port) = self.find(remote).await?;
        let socket = self.scope.client.socket(&format!("{pod}/portforward?ports={port}"), PROTOCOL).await?;
        let (mut sink, mut stream) = socket.split();
        let (mut reader, mut writer) = client.into_split();
        let sending = async {
            let mut piece = vec![DATA; PIECE_BYTES];
            loop {
                match reader.read(&mut piece[1..]).await? {
                    // The channels have no word for it: the endpoint goes on, as it does with a client that only listens.
                    0 => std::future::pending().await,
                    n => sink.send(Message::binary(piece[..=n].to_vec())).await?,
                }
            }
        };
        let receiving = async {
            // Each channel begins with the number of the port.
            let mut begun = [false; 2];
            while let Some(message) = stream.next().await {
                let Message::Binary(bytes) = message? else { continue };
                match bytes.split_first() {
                    Some((&channel @ (DATA | ERROR), _))
                        if !std::mem::replace(&mut begun[usize::from(channel)], true) => {}
                    Some((&DATA, bytes)) => writer.write_all(bytes).await?,
                    Some((&ERROR, bytes)) => bail!("{}", String::from_utf8_lossy(bytes)),
                    _ => {}
                }
            }
            anyhow::Ok(())
        };
        tokio::select! {
            sent = sending => sent,
            received = receiving => received,
        }
    }
}

/// What a Service's port leads to: a number, or a name of a container's port.
fn port_of_service(service: &Value, port: &str) -> anyhow::Result<String> {
    let ports: Vec<&Value> = service["spec"]["ports"].as_array().into_iter().flatten().collect();
    let is_meant = |one: &&&Value| text(one, "/name") == port || number(one, "/port").to_string() == port;
    let found = ports.iter().find(is_meant).with_context(|| {
        let known: Vec<String> = ports.iter().map(|one| number(one, "/port").to_string()).collect();
        format!(
            "service {} does not have a service port {port}; it has {}",
            text(service, "/metadata/name"),
            known.join(", ")
        )
    })?;
    Ok(match &found["targetPort"] {
        Value::String(name) => name.clone(),
        Value::Number(number) => number.to_string(),
        _ => number(found, "/port").to_string(),
    })
}

fn port_of_pod(pod: &Value, port: &str) -> anyhow::Result<u16> {
    if let Ok(number) = port.parse() {
        return Ok(number);
    }
    let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
    let named = containers.flat_map(|container| container["ports"].as_array().into_iter().flatten());
    let found = named
        .filter(|one| text(one, "/name") == port)
        .find_map(|one| u16::try_from(number(one, "/containerPort")).ok());
    found.with_context(|| format!("pod {} has no port {port:?}", text(pod, "/metadata/name")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn pairs_are_read_as_kubectl_reads_them() {
        let read = |word: &str| pair(word).map(|pair| (pair.local, pair.remote)).map_err(|err| err.to_string());
        assert_eq!(read("8080:80"), Ok((8080, "80".into())));
        assert_eq!(read("80"), Ok((80, "80".into())));
        assert_eq!(read(":http"), Ok((0, "http".into())));
        for wrong in ["http", "0:80", "1:", "1:2:3", "70000"] {
            assert!(read(wrong).unwrap_err().contains("LOCAL:REMOTE"), "{wrong}");
        }
    }

    #[test]
    fn ports_have_numbers_and_names() {
        let service = json!({ "metadata": { "name": "web" }, "spec": { "ports": [
            { "name": "http", "port": 80, "targetPort": "web" }, { "name": "admin", "port": 81, "targetPort": 9000 }, { "port": 82 }] } });
        let of = |port: &str| port_of_service(&service, port).map_err(|err| err.to_string());
        assert_eq!(of("80"), Ok("web".into()));
        assert_eq!(of("admin"), Ok("9000".into()));
        assert_eq!(of("82"), Ok("82".into()));
        assert_eq!(of("9"), Err("service web does not have a service port 9; it has 80, 81, 82".into()));
        let pod = json!({ "metadata": { "name": "web-0" }, "spec": { "containers": [{ "ports": [{ "name": "web", "containerPort": 8080 }] }] } });
        assert_eq!(port_of_pod(&pod, "web").unwrap(), 8080);
        assert_eq!(port_of_pod(&pod, "7").unwrap(), 7);
        assert_eq!(port_of_pod(&pod, "x").unwrap_err().to_string(), "pod web-0 has no port \"x\"");
    }
}
