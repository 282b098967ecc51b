//! Probes and lifecycle hooks of a container.

use super::{not_yet, support};
use crate::api::{
    field::FieldError,
    kinds::check::{self, Errors},
    names,
};
use k8s_openapi::{
    api::core::v1::{
        Container, ExecAction, GRPCAction, HTTPGetAction, LifecycleHandler, PodSpec, Probe, SleepAction,
        TCPSocketAction,
    },
    apimachinery::pkg::util::intstr::IntOrString,
};

/// Checks the probes and hooks of the container at `path`.
pub(super) fn validate(errs: &mut Errors, container: &Container, spec: &PodSpec, path: &str) {
    let grace = spec.termination_grace_period_seconds;
    if let Some(lifecycle) = &container.lifecycle {
        for (field, hook) in [("postStart", &lifecycle.post_start), ("preStop", &lifecycle.pre_stop)] {
            if let Some(hook) = hook {
                Handler::of_hook(hook).check(errs, grace, &format!("{path}.lifecycle.{field}"));
            }
        }
        if let Some(signal) = lifecycle.stop_signal.as_deref() {
            stop_signal(errs, signal, spec, &format!("{path}.lifecycle.stopSignal"));
        }
    }
    let probes = [
        ("livenessProbe", &container.liveness_probe),
        ("readinessProbe", &container.readiness_probe),
        ("startupProbe", &container.startup_probe),
    ];
    for (field, probe) in probes {
        if let Some(probe) = probe {
            check_probe(errs, probe, grace, field, &format!("{path}.{field}"));
        }
    }
}

fn check_probe(errs: &mut Errors, probe: &Probe, grace: Option<i64>, field: &str, path: &str) {
    Handler::of_probe(probe).check(errs, grace, path);
    let numbers = [
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("periodSeconds", probe.period_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ];
    for (name, number) in numbers {
        check::non_negative(errs, format!("{path}.{name}"), number);
    }
    let at = format!("{path}.terminationGracePeriodSeconds");
    if let Some(seconds) = probe.termination_grace_period_seconds {
        if seconds <= 0 {
            errs.push(FieldError::invalid(&at, seconds, "must be greater than 0"));
        }
        if field == "readinessProbe" {
            errs.push(FieldError::invalid(at, seconds, "must not be set for readinessProbes"));
        }
    }
    if field != "readinessProbe" && probe.success_threshold != Some(1) {
        errs.push(FieldError::invalid(format!("{path}.successThreshold"), probe.success_threshold, "must be 1"));
    }
}

/// What a probe or hook does: exactly one of these.
#[derive(Default)]
struct Handler<'a> {
    exec: Option<&'a ExecAction>,
    http_get: Option<&'a HTTPGetAction>,
    tcp_socket: Option<&'a TCPSocketAction>,
    grpc: Option<&'a GRPCAction>,
    sleep: Option<&'a SleepAction>,
}

impl<'a> Handler<'a> {
    fn of_probe(probe: &'a Probe) -> Self {
        Self {
            exec: probe.exec.as_ref(),
            http_get: probe.http_get.as_ref(),
            tcp_socket: probe.tcp_socket.as_ref(),
            grpc: probe.grpc.as_ref(),
            sleep: None,
        }
    }

    fn of_hook(hook: &'a LifecycleHandler) -> Self {
        Self {
            exec: hook.exec.as_ref(),
            http_get: hook.http_get.as_ref(),
            tcp_socket: hook.tcp_socket.as_ref(),
            grpc: None,
            sleep: hook.sleep.as_ref(),
        }
    }

    fn check(&self, errs: &mut Errors, grace: Option<i64>, path: &str) {
        let given = [
            ("exec", self.exec.is_some()),
            ("httpGet", self.http_get.is_some()),
            ("tcpSocket", self.tcp_socket.is_some()),
            ("grpc", self.grpc.is_some()),
            ("sleep", self.sleep.is_some()),
        ];
        let mut fields = given.into_iter().filter_map(|(field, is_given)| is_given.then_some(field));
        let Some(first) = fields.next() else {
            errs.push(FieldError::required(path, "must specify a handler type"));
            return;
        };
        self.check_first(errs, grace, &format!("{path}.{first}"));
        for more in fields {
            errs.push(FieldError::forbidden(format!("{path}.{more}"), "may not specify more than 1 handler type"));
        }
    }

    fn check_first(&self, errs: &mut Errors, grace: Option<i64>, path: &str) {
        if let Some(exec) = self.exec {
            if exec.command.as_ref().is_none_or(Vec::is_empty) {
                errs.push(FieldError::required(format!("{path}.command"), ""));
            }
        } else if let Some(get) = self.http_get {
            check_http_get(errs, get, path);
        } else if let Some(tcp) = self.tcp_socket {
            port(errs, &tcp.port, &format!("{path}.port"));
        } else if let Some(grpc) = self.grpc {
            check::port_number(errs, &format!("{path}.port"), grpc.port);
            if !support::GRPC_PROBES {
                errs.push(FieldError::forbidden(path, not_yet("gRPC probes")));
            }
        } else if let Some(sleep) = self.sleep {
            check_sleep(errs, sleep, grace, path);
        }
    }
}

fn check_http_get(errs: &mut Errors, get: &HTTPGetAction, path: &str) {
    if get.path.as_deref().unwrap_or_default().is_empty() {
        errs.push(FieldError::required(format!("{path}.path"), ""));
    }
    port(errs, &get.port, &format!("{path}.port"));
    check::one_of(errs, format!("{path}.scheme"), get.scheme.as_deref(), &["HTTP", "HTTPS"]);
    for header in get.http_headers.iter().flatten() {
        let is_token = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        if header.name.is_empty() || !header.name.bytes().all(is_token) {
            let text = "a valid HTTP header must consist of alphanumeric characters or '-'";
            let why = names::not_matching(text, "[-A-Za-z0-9]+", &["X-Header-Name"]);
            errs.push(FieldError::invalid(format!("{path}.httpHeaders"), &header.name, why));
        }
    }
    if get.protocol.as_deref().is_some_and(|p| !p.is_empty()) {
        errs.push(FieldError::forbidden(format!("{path}.protocol"), not_yet("a choice of HTTP version")));
    }
}

fn check_sleep(errs: &mut Errors, sleep: &SleepAction, grace: Option<i64>, path: &str) {
    let Some(grace) = grace else { return };
    if sleep.seconds < 0 || sleep.seconds > grace {
        let why = format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
        errs.push(FieldError::invalid(path, sleep.seconds, why));
    }
}

/// A port's number, or the name of a port.
pub(in crate::api::kinds) fn port(errs: &mut Errors, port: &IntOrString, path: &str) {
    match port {
        IntOrString::Int(number) => check::port_number(errs, path, *number),
        IntOrString::String(name) => check::each(errs, path, name, names::port_name(name)),
    }
}

fn stop_signal(errs: &mut Errors, signal: &str, spec: &PodSpec, path: &str) {
    if spec.os.is_none() {
        errs.push(FieldError::forbidden(path, "may not be set for containers with empty `spec.os.name`"));
    } else if !is_signal(signal) {
        errs.push(FieldError::invalid(path, signal, "must be the name of a signal (e.g. 'SIGTERM')"));
    }
}

fn is_signal(name: &str) -> bool {
    const NAMES: &str = "ABRT ALRM BUS CHLD CLD CONT FPE HUP ILL INT IO IOT KILL PIPE POLL PROF PWR QUIT SEGV STKFLT STOP \
                         SYS TERM TRAP TSTP TTIN TTOU URG USR1 USR2 VTALRM WINCH XCPU XFSZ RTMIN RTMAX";
    let Some(name) = name.strip_prefix("SIG") else { return false };
    let real_time = |base: &str, max: u8| {
        name.strip_prefix(base).and_then(|n| n.parse().ok()).is_some_and(|n: u8| (1..=max).contains(&n))
    };
    NAMES.split_whitespace().any(|n| n == name) || real_time("RTMIN+", 15) || real_time("RTMAX-", 14)
}
