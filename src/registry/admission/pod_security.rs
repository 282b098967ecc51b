//! Pods keep to the security level of their namespace, and clients are warned of what does not, in pods and in templates of pods.
//!
//! The data plane's pod is the program's own and above the levels. What goes to an audit log goes nowhere: there is none, and who sets the
//! label is told so.
//! **Source**: `k8s.io/pod-security-admission/admission/admission.go`, v1.37.

use super::shown_name;
use crate::{
    api::{
        agreements::{DATA_PLANE, SYSTEM_NAMESPACE},
        kind::{Kind as _, KindInfo},
        kinds::{namespace::Namespaces, pod::Pods},
        meta::ObjectKey,
        object::DynObject,
        pod_security::{AUDIT, Level, Policy, Rule, details, is_significant, reasons, violations},
        status::ApiError,
    },
    base::{
        json::typed,
        ordered::{Map, SortList as _},
    },
    registry::{Registry, options::WriteOptions},
};
use k8s_openapi::{
    api::core::v1::{Namespace, Pod, PodTemplateSpec},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde_json::Value;

/// How many pods are looked at when a namespace gets another level. Source: `defaultNamespaceMaxPodsToCheck`.
const PODS_MAX: usize = 3000;

/// Kinds whose objects hold a template of pods, and where.
const TEMPLATES: [(&str, &str, &str); 8] = [
    ("", "podtemplates", "/template"),
    ("", "replicationcontrollers", "/spec/template"),
    ("apps", "daemonsets", "/spec/template"),
    ("apps", "deployments", "/spec/template"),
    ("apps", "replicasets", "/spec/template"),
    ("apps", "statefulsets", "/spec/template"),
    ("batch", "cronjobs", "/spec/jobTemplate/spec/template"),
    ("batch", "jobs", "/spec/template"),
];

/// Reviews a write of all but a status; `old` is what the object was. Warnings go to the client.
pub(super) fn review(
    registry: &Registry,
    info: &KindInfo<'_>,
    old: Option<&dyn DynObject>,
    new: &dyn DynObject,
    options: &WriteOptions,
) -> Result<(), ApiError> {
    if let Some(namespace) = new.as_any().downcast_ref::<Namespace>() {
        return review_namespace(registry, old.and_then(|old| old.as_any().downcast_ref()), namespace, options);
    }
    if !info.is_namespaced() {
        return Ok(());
    }
    if let Some(pod) = new.as_any().downcast_ref::<Pod>() {
        return review_pod(registry, old.and_then(|old| old.as_any().downcast_ref()), pod, options);
    }
    if let Some((_, _, path)) =
        TEMPLATES.iter().find(|(group, plural, _)| (*group, *plural) == (info.group, info.plural))
    {
        warn_of_template(registry, new, path, options);
    }
    Ok(())
}

/// The policy of the namespace that an object is in.
fn policy(registry: &Registry, meta: &ObjectMeta) -> Policy {
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    let found = registry.api::<Namespaces>().get(&ObjectKey::new("", namespace));
    found.map(|namespace| Policy::of(namespace.metadata.labels.as_ref())).unwrap_or_default()
}

fn review_pod(registry: &Registry, old: Option<&Pod>, pod: &Pod, options: &WriteOptions) -> Result<(), ApiError> {
    let (meta, Some(spec)) = (&pod.metadata, &pod.spec) else { return Ok(()) };
    let is_unchanged = old.and_then(|old| Some(!is_significant((meta, spec), (&old.metadata, old.spec.as_ref()?))));
    if is_unchanged == Some(true) || is_own(meta, options) {
        return Ok(());
    }
    let policy = policy(registry, meta);
    let wrong = violations(policy.enforce, meta, spec);
    if wrong.is_empty() {
        options.warnings.add(warning(policy.warn, meta, spec));
        return Ok(());
    }
    let why = format!("violates PodSecurity \"{}\": {}", policy.enforce, details(&wrong));
    Err(ApiError::Forbidden { resource: Pods::INFO.resource(), name: shown_name(meta), why })
}

/// Whether the program itself makes the pod of its data plane.
fn is_own(meta: &ObjectMeta, options: &WriteOptions) -> bool {
    let is_data_plane = meta.name.as_deref() == Some(DATA_PLANE) && meta.namespace.as_deref() == Some(SYSTEM_NAMESPACE);
    is_data_plane && !options.warnings.is_asked_for()
}

/// What a client is told of a pod, or of a template, that does not keep to this.
fn warning(rule: Rule, meta: &ObjectMeta, spec: &k8s_openapi::api::core::v1::PodSpec) -> Option<String> {
    let wrong = violations(rule, meta, spec);
    (!wrong.is_empty()).then(|| format!("would violate PodSecurity \"{rule}\": {}", details(&wrong)))
}

fn warn_of_template(registry: &Registry, obj: &dyn DynObject, path: &str, options: &WriteOptions) {
    let policy = policy(registry, obj.meta());
    if policy.warn.level == Level::Privileged {
        return;
    }
    let json: Value = serde_json::from_slice(&obj.to_json()).expect("an object's own JSON parses");
    let template = json.pointer(path).and_then(|template| typed::<PodTemplateSpec>(template.clone()).ok());
    if let Some((meta, Some(spec))) = template.map(|template| (template.metadata.unwrap_or_default(), template.spec)) {
        options.warnings.add(warning(policy.warn, &meta, &spec));
    }
}

/// Refuses labels that cannot be read, and warns of the pods that do not keep to what they say now.
fn review_namespace(
    registry: &Registry,
    old: Option<&Namespace>,
    new: &Namespace,
    options: &WriteOptions,
) -> Result<(), ApiError> {
    let (before, now) =
        (old.map(|old| Policy::of(old.metadata.labels.as_ref())), Policy::of(new.metadata.labels.as_ref()));
    let name = new.metadata.name.as_deref().unwrap_or_default();
    if !now.wrong.is_empty() && before.as_ref().is_none_or(|before| before.wrong != now.wrong) {
        return Err(ApiError::invalid(&Namespaces::INFO, name, now.wrong));
    }
    let label = |of: &Namespace| of.metadata.labels.as_ref().and_then(|labels| labels.get(AUDIT).cloned());
    if let Some(level) = label(new).filter(|level| old.and_then(label).as_ref() != Some(level) && level != "privileged")
    {
        options.warnings.add(Some(format!("skiff keeps no audit log: {AUDIT}={level} has no effect")));
    }
    let Some(before) = before.map(|before| before.enforce) else { return Ok(()) };
    let is_relaxed = now.enforce.version == before.version && now.enforce.level <= before.level;
    if !is_relaxed && now.enforce.level != Level::Privileged {
        warn_of_pods(registry, name, now.enforce, options);
    }
    Ok(())
}

/// **Source**: `EvaluatePodsInNamespace`.
fn warn_of_pods(registry: &Registry, namespace: &str, rule: Rule, options: &WriteOptions) {
    let pods = registry.api::<Pods>().list(namespace).items;
    let mut alike: Map<String, (&str, usize)> = Map::new();
    for pod in pods.iter().take(PODS_MAX) {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let wrong = pod.spec.as_ref().map(|spec| violations(rule, &pod.metadata, spec)).unwrap_or_default();
        if !wrong.is_empty() {
            // Pods are in the order of their names.
            alike.entry(reasons(&wrong)).or_insert((name, 0)).1 += 1;
        }
    }
    if pods.len() > PODS_MAX {
        options.warnings.add(Some(format!(
            "new PodSecurity enforce level only checked against the first {PODS_MAX} of {} existing pods",
            pods.len()
        )));
    }
    if !alike.is_empty() {
        options.warnings.add(Some(format!(
            "existing pods in namespace \"{namespace}\" violate the new PodSecurity enforce level \"{rule}\""
        )));
    }
    let mut told: Vec<String> = alike.into_iter().map(|(reasons, (name, n))| told_of(name, n, &reasons)).collect();
    told.sort_list();
    told.into_iter().for_each(|text| options.warnings.add(Some(text)));
}

fn told_of(name: &str, n: usize, reasons: &str) -> String {
    match n {
        1 => format!("{name}: {reasons}"),
        2 => format!("{name} (and 1 other pod): {reasons}"),
        n => format!("{name} (and {} other pods): {reasons}", n - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::{kinds::by_plural, managed::Writer},
        registry::pipeline::{Part, Warnings},
        store::Entry,
        testing,
    };
    use expect_test::expect;
    use serde_json::json;

    const PLAIN: &str = "{automountServiceAccountToken: false, containers: [{name: c, image: i}]}";
    const WILD: &str = "{hostNetwork: true, containers: [{name: c, image: i, securityContext: {privileged: true}}]}";

    /// A registry, and a user who writes to it.
    struct World(Registry);

    impl World {
        async fn new(labels: &str) -> Self {
            let world = Self(testing::registry().await);
            world.write("", "namespaces", &format!("{{metadata: {{name: a, labels: {{{labels}}}}}}}")).await.0.unwrap();
            world
        }

        /// Creates an object, or replaces it; what came of it, and the warnings.
        async fn write(&self, group: &str, plural: &str, yaml: &str) -> (Result<(), String>, String) {
            let kind = by_plural(group, plural).unwrap();
            let warnings = Warnings::collecting();
            let options = WriteOptions {
                writer: Some(Writer { name: "user".into(), subresource: String::new(), api_version: "v1".into() }),
                warnings: warnings.clone(),
                ..WriteOptions::default()
            };
            let obj = || kind.decode(testing::from_yaml(yaml).unwrap()).unwrap();
            let (key, namespace) = (ObjectKey::of(obj().meta()), obj().meta().namespace.clone().unwrap_or_default());
            let written = match self.0.entry(kind, &key) {
                Some(_) => {
                    let mut change = |_: &Entry| Ok(obj());
                    self.0.update(kind, &key, Part::Main, &mut change, &options).await
                }
                None => self.0.create(kind, &namespace, obj(), &options).await,
            };
            (written.map(drop).map_err(|err| err.to_string()), warnings.take().join("\n"))
        }

        async fn pod(&self, name: &str, spec: &str) -> (Result<(), String>, String) {
            self.write("", "pods", &format!("{{metadata: {{name: {name}, namespace: a}}, spec: {spec}}}")).await
        }
    }

    #[tokio::test]
    async fn pods_keep_to_the_level_and_are_warned_of_the_next() {
        let world =
            World::new("pod-security.kubernetes.io/enforce: baseline, pod-security.kubernetes.io/warn: restricted")
                .await;
        let (refused, warnings) = world.pod("wild", WILD).await;
        expect![[r#"
            pods "wild" is forbidden: violates PodSecurity "baseline:latest": host namespaces (hostNetwork=true), privileged (container "c" must not set securityContext.privileged=true)
        "#]].assert_eq(&format!("{}\n{warnings}", refused.unwrap_err()));
        let (made, warnings) = world.pod("plain", PLAIN).await;
        expect![[r#"
            Ok(())
            would violate PodSecurity "restricted:latest": allowPrivilegeEscalation != false (container "c" must set securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container "c" must set securityContext.capabilities.drop=["ALL"]), runAsNonRoot != true (pod or container "c" must set securityContext.runAsNonRoot=true), seccompProfile (pod or container "c" must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost")"#]].assert_eq(&format!("{made:?}\n{warnings}"));
        // Nothing that matters changes, and then something does.
        let labelled = |image: &str| {
            format!(
                "{{metadata: {{name: plain, namespace: a, labels: {{k: v}}}}, spec: {{automountServiceAccountToken: false, containers: [{{name: c, image: {image}}}]}}}}"
            )
        };
        assert_eq!(world.write("", "pods", &labelled("i")).await, (Ok(()), String::new()));
        assert!(
            world
                .write("", "pods", &labelled("j"))
                .await
                .1
                .starts_with("would violate PodSecurity \"restricted:latest\"")
        );
    }

    #[tokio::test]
    async fn whatever_holds_a_template_is_made_with_a_warning() {
        let world =
            World::new("pod-security.kubernetes.io/enforce: baseline, pod-security.kubernetes.io/warn: baseline").await;
        let template = format!("{{metadata: {{labels: {{app: w}}}}, spec: {WILD}}}");
        let run_once =
            format!("{{metadata: {{labels: {{app: w}}}}, spec: {}}}", WILD.replacen('{', "{restartPolicy: Never, ", 1));
        let selected = format!("spec: {{serviceName: s, selector: {{matchLabels: {{app: w}}}}, template: {template}}}");
        let specs = [
            format!("template: {template}"),
            format!("spec: {{selector: {{app: w}}, template: {template}}}"),
            selected.replace("serviceName: s, ", ""),
            selected.replace("serviceName: s, ", ""),
            selected.replace("serviceName: s, ", ""),
            selected,
            format!("spec: {{schedule: '@daily', jobTemplate: {{spec: {{template: {run_once}}}}}}}"),
            format!("spec: {{template: {run_once}}}"),
        ];
        for ((group, plural, _), spec) in TEMPLATES.into_iter().zip(specs) {
            let (made, warnings) =
                world.write(group, plural, &format!("{{metadata: {{name: w, namespace: a}}, {spec}}}")).await;
            made.unwrap();
            let wanted = "would violate PodSecurity \"baseline:latest\": host namespaces (hostNetwork=true), privileged (container \"c\" must not set securityContext.privileged=true)";
            assert!(warnings.contains(wanted), "{plural}: {warnings}");
        }
        let controlled = world.0.api::<Pods>();
        let pod: Pod =
            testing::from_yaml(&format!("{{metadata: {{generateName: w-, namespace: a}}, spec: {WILD}}}")).unwrap();
        let refused = controlled.create(pod).await.unwrap_err().to_string();
        assert!(refused.starts_with("pods \"w-") && refused.contains("violates PodSecurity"), "{refused}");
    }

    #[tokio::test]
    async fn a_namespace_says_which_pods_do_not_keep_to_its_new_level() {
        let world = World::new("").await;
        for name in ["b", "a", "c"] {
            world.pod(name, PLAIN).await.0.unwrap();
        }
        world.pod("wild", WILD).await.0.unwrap();
        let label = async |labels: &str| {
            let yaml = format!("{{metadata: {{name: a, labels: {{{labels}}}}}, spec: {{finalizers: [kubernetes]}}}}");
            let (written, warnings) = world.write("", "namespaces", &yaml).await;
            format!("{written:?}\n{warnings}")
        };
        expect![[r#"
            Ok(())
            existing pods in namespace "a" violate the new PodSecurity enforce level "restricted:latest"
            a (and 2 other pods): allowPrivilegeEscalation != false, unrestricted capabilities, runAsNonRoot != true, seccompProfile
            wild: host namespaces, privileged, allowPrivilegeEscalation != false, unrestricted capabilities, runAsNonRoot != true, seccompProfile"#]].assert_eq(&label("pod-security.kubernetes.io/enforce: restricted").await);
        expect![[r#"
            Ok(())
        "#]]
        .assert_eq(&label("pod-security.kubernetes.io/enforce: baseline").await);
        expect![[r#"
            Err("Namespace \"a\" is invalid: metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"base\": must be one of privileged, baseline, restricted")
        "#]].assert_eq(&label("pod-security.kubernetes.io/enforce: base").await);
        expect![[r#"
            Ok(())
            skiff keeps no audit log: pod-security.kubernetes.io/audit=restricted has no effect"#]]
        .assert_eq(&label("pod-security.kubernetes.io/audit: restricted").await);
    }

    #[tokio::test]
    async fn the_program_s_own_data_plane_is_above_the_levels_and_nobody_else_is() {
        let world = World::new("").await;
        let restricted = "{metadata: {name: kube-system, labels: {pod-security.kubernetes.io/enforce: restricted}}, spec: {finalizers: [kubernetes]}}";
        world.write("", "namespaces", restricted).await.0.unwrap();
        let own = format!("{{metadata: {{name: {DATA_PLANE}, namespace: kube-system}}, spec: {WILD}}}");
        assert!(world.write("", "pods", &own).await.0.is_err());
        world.0.api::<Pods>().create(testing::from_yaml(&own).unwrap()).await.unwrap();
        let other = json!({ "metadata": { "name": "other", "namespace": "kube-system" }, "spec": { "containers": [{ "name": "c", "image": "i" }] } });
        assert!(world.0.api::<Pods>().create(serde_json::from_value(other).unwrap()).await.is_err());
    }
}
