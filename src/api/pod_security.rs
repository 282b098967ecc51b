//! Pod security: the levels that the labels of a namespace name, and what of a pod does not keep to one. Pure.
//!
//! Called by admission. `checks` has the rules of the levels.
//! **Source**: `k8s.io/pod-security-admission/{api,policy}`, v1.37.

mod checks;

use super::field::FieldError;
use k8s_openapi::{api::core::v1::PodSpec, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use std::{collections::BTreeMap, fmt};

/// What the labels begin with.
const PREFIX: &str = "pod-security.kubernetes.io/";
/// The label whose level goes to an audit log alone.
pub const AUDIT: &str = "pod-security.kubernetes.io/audit";

/// How much pods may; the later, the less.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Everything.
    #[default]
    Privileged,
    /// Nothing by which a pod is known to become more than it is.
    Baseline,
    /// What is best practice.
    Restricted,
}

impl Level {
    const ALL: [Self; 3] = [Self::Privileged, Self::Baseline, Self::Restricted];

    fn name(self) -> &'static str {
        match self {
            Self::Privileged => "privileged",
            Self::Baseline => "baseline",
            Self::Restricted => "restricted",
        }
    }
}

/// Whose rules count: those of a minor version of Kubernetes 1, or the newest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// Those of `v1.N`.
    Minor(u32),
    /// The newest.
    #[default]
    Latest,
}

impl Version {
    fn parse(text: &str) -> Option<Self> {
        if text == "latest" {
            return Some(Self::Latest);
        }
        let minor = text.strip_prefix("v1.").filter(|n| n.len() == 1 || !n.starts_with('0'))?;
        minor.bytes().all(|b| b.is_ascii_digit()).then(|| minor.parse().ok().map(Self::Minor))?
    }

    /// Whether rules that came with this minor version count.
    fn has(self, minor: u32) -> bool {
        self >= Self::Minor(minor)
    }
}

/// A level of a version: what a mode goes by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// The level.
    pub level: Level,
    /// The version.
    pub version: Version,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.version {
            Version::Latest => write!(f, "{}:latest", self.level.name()),
            Version::Minor(minor) => write!(f, "{}:v1.{minor}", self.level.name()),
        }
    }
}

/// What a namespace wants of its pods.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policy {
    /// What pods must keep to.
    pub enforce: Rule,
    /// What clients are warned of.
    pub warn: Rule,
    /// What is wrong with the labels.
    pub wrong: Vec<FieldError>,
}

impl Policy {
    /// The policy of a namespace with these labels. What cannot be read enforces the most, and warns of nothing.
    pub fn of(labels: Option<&BTreeMap<String, String>>) -> Self {
        let mut wrong = Vec::new();
        let enforce = rule(labels, "enforce", Level::Restricted, &mut wrong);
        rule(labels, "audit", Level::Privileged, &mut wrong);
        let warn = rule(labels, "warn", Level::Privileged, &mut wrong);
        Self { enforce, warn, wrong }
    }
}

fn rule(labels: Option<&BTreeMap<String, String>>, mode: &str, otherwise: Level, wrong: &mut Vec<FieldError>) -> Rule {
    let mut refuse = |label: &str, value: &str, why: &str| {
        wrong.push(FieldError::invalid(format!("metadata.labels[{label}]"), value, why));
    };
    let value = |label: &str| labels.and_then(|labels| labels.get(label));
    let (level_label, version_label) = (format!("{PREFIX}{mode}"), format!("{PREFIX}{mode}-version"));
    let level = value(&level_label).map_or(Level::default(), |text| {
        Level::ALL.into_iter().find(|level| level.name() == text).unwrap_or_else(|| {
            refuse(&level_label, text, "must be one of privileged, baseline, restricted");
            otherwise
        })
    });
    let version = value(&version_label).map_or(Version::default(), |text| {
        Version::parse(text).unwrap_or_else(|| {
            refuse(&version_label, text, "must be \"latest\" or \"v1.x\"");
            Version::Latest
        })
    });
    Rule { level, version }
}

/// One thing that a pod does and may not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// What it is called.
    pub reason: String,
    /// Who does it.
    pub detail: String,
}

/// What of a pod does not keep to a rule.
pub fn violations(rule: Rule, meta: &ObjectMeta, spec: &PodSpec) -> Vec<Violation> {
    checks::of(rule).filter_map(|check| check(rule.version, meta, spec)).collect()
}

/// Violations in one sentence, each with its detail.
pub fn details(violations: &[Violation]) -> String {
    let each = violations.iter().map(|violation| format!("{} ({})", violation.reason, violation.detail));
    each.collect::<Vec<_>>().join(", ")
}

/// Violations in one sentence, without details.
pub fn reasons(violations: &[Violation]) -> String {
    violations.iter().map(|violation| violation.reason.as_str()).collect::<Vec<_>>().join(", ")
}

/// Whether an update of a pod may change what it violates. **Source**: `isSignificantPodUpdate`, admission/admission.go.
pub fn is_significant((new_meta, new): (&ObjectMeta, &PodSpec), (old_meta, old): (&ObjectMeta, &PodSpec)) -> bool {
    let images = |spec: &PodSpec| -> Vec<(String, Option<String>)> {
        let named = spec.init_containers.iter().flatten().chain(&spec.containers);
        let ephemeral = spec.ephemeral_containers.iter().flatten();
        named
            .map(|c| (c.name.clone(), c.image.clone()))
            .chain(ephemeral.map(|c| (c.name.clone(), c.image.clone())))
            .collect()
    };
    let profiles = |meta: &ObjectMeta| -> Vec<(String, String)> {
        let all = meta.annotations.iter().flatten().map(|(name, value)| (name.clone(), value.clone()));
        all.filter(|(name, _)| checks::is_seccomp_annotation(name)).collect()
    };
    images(new) != images(old) || profiles(new_meta) != profiles(old_meta)
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use k8s_openapi::api::core::v1::Pod;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| (format!("{PREFIX}{name}"), (*value).to_owned())).collect()
    }

    fn rule_of(text: &str) -> Rule {
        let (level, version) = text.split_once(':').unwrap();
        let policy = Policy::of(Some(&labels(&[("enforce", level), ("enforce-version", version)])));
        assert_eq!(policy.wrong, []);
        policy.enforce
    }

    fn said(rule: &str, pod: &str) -> String {
        let pod: Pod =
            crate::testing::from_yaml(&format!("{{metadata: {{name: p, annotations: {{}}}}, {pod}}}")).unwrap();
        details(&violations(rule_of(rule), &pod.metadata, &pod.spec.unwrap()))
    }

    #[test]
    fn labels_say_the_level_and_the_version() {
        let policy =
            Policy::of(Some(&labels(&[("enforce", "baseline"), ("warn", "restricted"), ("warn-version", "v1.25")])));
        assert_eq!(
            (policy.enforce.to_string(), policy.warn.to_string()),
            ("baseline:latest".into(), "restricted:v1.25".into())
        );
        assert_eq!(Policy::of(None), Policy::default());
        let wrong = Policy::of(Some(&labels(&[
            ("enforce", "strict"),
            ("audit", "x"),
            ("warn", "x"),
            ("warn-version", "1.25"),
        ])));
        assert_eq!((wrong.enforce.level, wrong.warn.level), (Level::Restricted, Level::Privileged));
        let texts: Vec<String> = wrong.wrong.iter().map(ToString::to_string).collect();
        expect![[r#"
            metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: "strict": must be one of privileged, baseline, restricted
            metadata.labels[pod-security.kubernetes.io/audit]: Invalid value: "x": must be one of privileged, baseline, restricted
            metadata.labels[pod-security.kubernetes.io/warn]: Invalid value: "x": must be one of privileged, baseline, restricted
            metadata.labels[pod-security.kubernetes.io/warn-version]: Invalid value: "1.25": must be "latest" or "v1.x""#]].assert_eq(&texts.join("\n"));
        for text in ["v1.0", "v1.37", "latest"] {
            assert!(Version::parse(text).is_some(), "{text}");
        }
        for text in ["v1", "v1.", "v1.01", "v2.0", "v1.x", "", "1.2", "v1.-1"] {
            assert_eq!(Version::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_plain_pod_keeps_to_the_baseline_and_lacks_four_things_of_the_restricted_level() {
        let pod = "spec: {containers: [{name: a, image: i}, {name: b, image: i}]}";
        assert_eq!(said("privileged:latest", pod), "");
        assert_eq!(said("baseline:latest", pod), "");
        expect![[r#"allowPrivilegeEscalation != false (containers "a", "b" must set securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (containers "a", "b" must set securityContext.capabilities.drop=["ALL"]), runAsNonRoot != true (pod or containers "a", "b" must set securityContext.runAsNonRoot=true), seccompProfile (pod or containers "a", "b" must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost")"#]].assert_eq(&said("restricted:latest", pod));
        let sound = "spec: {securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}, containers: [
            {name: a, image: i, securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL], add: [NET_BIND_SERVICE]}}}]}";
        assert_eq!(said("restricted:latest", sound), "");
    }

    #[test]
    fn each_rule_names_what_it_forbids_and_who_does_it() {
        let of = |spec: &str, expected: Expect| {
            let pod = format!("spec: {spec}");
            let text =
                format!("baseline: {}\nrestricted: {}", said("baseline:latest", &pod), said("restricted:latest", &pod));
            expected.assert_eq(&text);
        };
        let sound = "allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}, runAsNonRoot: true, seccompProfile: {type: Localhost}";
        let one = |more: &str, context: &str| {
            format!("{{{more} containers: [{{name: a, image: i, securityContext: {{{sound}, {context}}}}}]}}")
        };
        of(
            &one("hostNetwork: true, hostPID: true, hostIPC: true,", ""),
            expect![[r#"
            baseline: host namespaces (hostNetwork=true, hostPID=true, hostIPC=true)
            restricted: host namespaces (hostNetwork=true, hostPID=true, hostIPC=true)"#]],
        );
        of(
            &one("", "privileged: true"),
            expect![[r#"
            baseline: privileged (container "a" must not set securityContext.privileged=true)
            restricted: privileged (container "a" must not set securityContext.privileged=true)"#]],
        );
        of(
            &one(
                "volumes: [{name: v, hostPath: {path: /}}, {name: n, nfs: {server: s, path: /}}, {name: e, emptyDir: {}}],",
                "",
            ),
            expect![[r#"
                baseline: hostPath volumes (volume "v")
                restricted: restricted volume types (volumes "v", "n" use restricted volume types "hostPath", "nfs")"#]],
        );
        of(
            &one("", "procMount: Unmasked"),
            expect![[r#"
            baseline: procMount (container "a" must not set securityContext.procMount to "Unmasked")
            restricted: procMount (container "a" must not set securityContext.procMount to "Unmasked")"#]],
        );
        of(
            &one("", "seLinuxOptions: {type: t, user: u, role: r}"),
            expect![[r#"
            baseline: seLinuxOptions (container "a" set forbidden securityContext.seLinuxOptions: type "t"; user may not be set; role may not be set)
            restricted: seLinuxOptions (container "a" set forbidden securityContext.seLinuxOptions: type "t"; user may not be set; role may not be set)"#]],
        );
        of(
            &one("", "appArmorProfile: {type: Unconfined}"),
            expect![[r#"
            baseline: forbidden AppArmor profile (container "a" must not set AppArmor profile type to "Unconfined")
            restricted: forbidden AppArmor profile (container "a" must not set AppArmor profile type to "Unconfined")"#]],
        );
        of(
            &one("", "windowsOptions: {hostProcess: true}"),
            expect![[r#"
            baseline: hostProcess (container "a" must not set securityContext.windowsOptions.hostProcess=true)
            restricted: hostProcess (container "a" must not set securityContext.windowsOptions.hostProcess=true)"#]],
        );
        of(
            &one("", "runAsUser: 0"),
            expect![[r#"
            baseline: 
            restricted: runAsUser=0 (container "a" must not set runAsUser=0)"#]],
        );
        of(
            &one(
                "securityContext: {sysctls: [{name: kernel.shm_rmid_forced, value: '1'}, {name: kernel.msgmax, value: '1'}]},",
                "",
            ),
            expect![[r#"
                baseline: forbidden sysctls (kernel.msgmax)
                restricted: forbidden sysctls (kernel.msgmax)"#]],
        );
        of(
            "{containers: [{name: a, image: i, ports: [{containerPort: 80, hostPort: 80}, {containerPort: 81, hostPort: 8081}],
                livenessProbe: {httpGet: {port: 80, host: example.com}}}],
              initContainers: [{name: b, image: i, securityContext: {capabilities: {add: [SYS_ADMIN, CHOWN], drop: [ALL]}}}],
              securityContext: {runAsUser: 0, runAsNonRoot: false, seccompProfile: {type: Unconfined}}}",
            expect![[r#"
                baseline: non-default capabilities (container "b" must not include "SYS_ADMIN" in securityContext.capabilities.add), hostPorts (container "a" uses hostPorts 80, 8081), probe or lifecycle host (container "a" uses probe or lifecycle host "example.com"), seccompProfile (pod must not set securityContext.seccompProfile.type to "Unconfined")
                restricted: hostPorts (container "a" uses hostPorts 80, 8081), probe or lifecycle host (container "a" uses probe or lifecycle host "example.com"), allowPrivilegeEscalation != false (containers "b", "a" must set securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container "a" must set securityContext.capabilities.drop=["ALL"]; container "b" must not include "CHOWN", "SYS_ADMIN" in securityContext.capabilities.add), runAsNonRoot != true (pod must not set securityContext.runAsNonRoot=false), runAsUser=0 (pod must not set runAsUser=0), seccompProfile (pod must not set securityContext.seccompProfile.type to "Unconfined")"#]],
        );
    }

    #[test]
    fn older_rules_are_those_of_their_version() {
        let sysctl =
            "spec: {securityContext: {sysctls: [{name: net.ipv4.tcp_rmem, value: '1'}]}, containers: [{name: a}]}";
        let on_host = "spec: {containers: [{name: a, livenessProbe: {tcpSocket: {port: 1, host: h}}}]}";
        let as_root = "spec: {hostUsers: false, securityContext: {runAsUser: 0}, containers: [{name: a}]}";
        for (pod, rule, is_kept) in [
            (sysctl, "baseline:v1.31", false),
            (sysctl, "baseline:v1.32", true),
            (on_host, "baseline:v1.33", true),
            (on_host, "baseline:v1.34", false),
        ] {
            assert_eq!(said(rule, pod).is_empty(), is_kept, "{rule}: {pod}");
        }
        assert!(said("restricted:v1.34", as_root).contains("runAsUser=0"));
        assert!(!said("restricted:v1.35", as_root).contains("runAs"));
        assert_eq!(said("restricted:v1.0", "spec: {containers: [{name: a}]}").split(", ").count(), 1);
    }
}
