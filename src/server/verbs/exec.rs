//! The `exec`, `attach` and `portforward` of a pod: finds what is meant, and begins the conversation.
//!
//! **Source**: `pkg/registry/core/pod/rest/subresources.go`, `k8s.io/kubelet/pkg/cri/streaming/remotecommand/httpstream.go` `NewOptions`,
//! v1.37.

use super::Call;
use crate::{
    api::status::ApiError,
    node::streams::Connected,
    server::{
        auth,
        remote::{self, Begin, Numbers, SpdyStreams, WebSocketChannels, WebSocketPorts},
        respond::Response,
        route::{Query, RequestInfo, Verb},
        upgrade::Wish,
    },
};
use futures::FutureExt as _;

/// Runs a command in a container.
pub(super) fn exec(call: &mut Call<'_>) -> Result<Response, ApiError> {
    let command: Vec<String> = call.query().all("command").map(str::to_owned).collect();
    let connected = connected(call.query())?;
    if command.is_empty() {
        return Err(ApiError::BadRequest("you must specify at least one command for the container".to_owned()));
    }
    let on = call.state.streams().find(&call.key(), call.query().text("container"))?;
    let state = call.state.clone();
    let begin = async move {
        let session = state.streams().exec(&on, &command, connected).await;
        session.map_err(|err| err.to_string())
    };
    converse(call, connected, begin.boxed())
}

/// Talks with a container's program.
pub(super) fn attach(call: &mut Call<'_>) -> Result<Response, ApiError> {
    let asked = connected(call.query())?;
    let to = call.state.streams().find(&call.key(), call.query().text("container"))?;
    if asked.tty && !to.tty {
        let why = format!("container {} has no terminal (its `tty` is false): attach without one", to.name);
        return Err(ApiError::BadRequest(why));
    }
    // A terminal has one output, whatever the client asks for.
    let connected = Connected { tty: to.tty, stderr: asked.stderr && !to.tty, ..asked };
    let state = call.state.clone();
    let begin = async move {
        let session = state.streams().attach(&to, connected).await;
        session.map_err(|err| err.to_string())
    };
    converse(call, Connected { tty: asked.tty, ..connected }, begin.boxed())
}

/// Makes connections to the ports of a pod.
pub(super) async fn port_forward(call: &mut Call<'_>) -> Result<Response, ApiError> {
    let wish = wish(call)?;
    let is_tunnel = wish == Wish::Spdy || WebSocketPorts::is_tunnel(&call.request);
    let channels =
        if is_tunnel { None } else { Some((WebSocketPorts::agreed(&call.request)?, Numbers::of(&call.request)?)) };
    let ports = call.state.streams().ports(&call.key()).await?;
    let (pod, drain) = (call.info.name.clone(), call.drain.clone());
    match channels {
        Some((protocol, numbers)) => protocol.answer(&mut call.request, numbers, ports, pod, drain),
        None => remote::ports_over_spdy(&mut call.request, ports, pod, drain),
    }
}

fn converse(call: &mut Call<'_>, connected: Connected, begin: Begin) -> Result<Response, ApiError> {
    let drain = call.drain.clone();
    match wish(call)? {
        Wish::WebSocket => {
            let protocol = WebSocketChannels::agreed(&call.request)?;
            protocol.answer(&mut call.request, connected, begin, drain)
        }
        Wish::Spdy => SpdyStreams::agreed(&call.request)?.answer(&mut call.request, connected, begin, drain),
    }
}

/// What the connection becomes. Who reads may not change anything by it: a WebSocket, which a browser opens with GET, needs the
/// permission to create as well (`AuthorizePodWebsocketUpgradeCreatePermission`).
fn wish(call: &Call<'_>) -> Result<Wish, ApiError> {
    let upgrade = call.request.upgrade.as_ref();
    let wish = upgrade.ok_or_else(|| ApiError::BadRequest("Upgrade request required".to_owned()))?.wish;
    if call.info.verb != Verb::Create {
        let creates =
            RequestInfo::Resource(crate::server::route::ResourceInfo { verb: Verb::Create, ..call.info.clone() });
        auth::authorize(call.state.rbac(), &call.user, &creates.attributes())?;
    }
    Ok(wish)
}

fn connected(query: &Query) -> Result<Connected, ApiError> {
    let is = |name| query.is_true(name);
    let tty = is("tty");
    // A terminal has one output.
    let connected = Connected { stdin: is("stdin"), stdout: is("stdout"), stderr: is("stderr") && !tty, tty };
    if !connected.stdin && !connected.stdout && !connected.stderr {
        return Err(ApiError::BadRequest("you must specify at least 1 of stdin, stdout, stderr".to_owned()));
    }
    Ok(connected)
}
