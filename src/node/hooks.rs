//! Lifecycle hooks: `postStart` and `preStop`.
//!
//! Called by the worker; I/O through the engine and the network probe.
//! **Source**: `pkg/kubelet/lifecycle/handlers.go`, v1.37.

use super::{context::Context, overdue, probes::http_target};
use k8s_openapi::api::core::v1::{ContainerPort, LifecycleHandler};
use std::{net::Ipv4Addr, sync::Arc, time::Duration};

/// Where a hook runs.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    /// The UID of the pod.
    pub(super) pod: &'a str,
    /// The ID of the container.
    pub(super) id: &'a str,
    /// Its ports.
    pub(super) ports: &'a [ContainerPort],
    /// The pod's address.
    pub(super) pod_ip: Option<Ipv4Addr>,
}

/// Runs a hook, at most this long. An error is for the log; users are told by an Event that it failed.
pub(super) async fn run(
    context: &Arc<Context>,
    handler: &LifecycleHandler,
    Place { pod, id, ports, pod_ip }: Place<'_>,
    bound: Duration,
) -> Result<(), String> {
    if let Some(exec) = &handler.exec {
        let command = exec.command.clone().unwrap_or_default();
        let run = context.ask(context.engine.exec(id, &command, bound)).await;
        run.as_ref().err().into_iter().for_each(|error| overdue::end(context, pod, id, error));
        let output = run.map_err(|e| e.to_string())?;
        return match output.exit_code {
            0 => Ok(()),
            code => Err(format!("command {command:?} exited with {code}: {}", String::from_utf8_lossy(&output.output))),
        };
    }
    if let Some(http) = &handler.http_get {
        let target = http_target(http, ports, &pod_ip.map(|ip| ip.to_string()).unwrap_or_default())?;
        return context.config.net_probe.http(&target, bound).await;
    }
    if let Some(sleep) = &handler.sleep {
        let time = Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or_default());
        tokio::time::sleep(time.min(bound)).await;
        return Ok(());
    }
    Err("invalid handler: it names nothing to run".to_owned())
}
