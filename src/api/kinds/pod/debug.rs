//! Ephemeral containers of a pod that runs: they are added, and neither changed nor removed.
//!
//! **Source**: `podEphemeralContainersStrategy` in `pkg/registry/core/pod/strategy.go`, `ValidatePodEphemeralContainersUpdate` in
//! `pkg/apis/core/validation/validation.go`, v1.37. What one container may say is checked with the others, in `pod_spec`.

use super::update::differences;
use crate::api::{ephemeral::ephemeral_of, field::FieldError, kinds::check::Errors};
use k8s_openapi::api::core::v1::PodSpec;
use std::borrow::Cow;

/// The old spec with the new one's ephemeral containers.
pub(super) fn apply(wanted: Cow<'_, PodSpec>, old: Cow<'_, PodSpec>) -> PodSpec {
    PodSpec { ephemeral_containers: wanted.into_owned().ephemeral_containers, ..old.into_owned() }
}

/// All that is wrong with a change. Patches do not keep the order, so each container is looked for.
pub(super) fn validate(new: &PodSpec, old: &PodSpec) -> Errors {
    let path = "spec.ephemeralContainers";
    let complaint = |before: &_| match ephemeral_of(new, name_of(before)) {
        None => Some(format!("existing ephemeral containers {:?} may not be removed\n", name_of(before))),
        Some(now) if now != before => {
            let lines = differences(path, before, now);
            Some(format!("existing ephemeral containers {:?} may not be changed\n{lines}", name_of(before)))
        }
        Some(_) => None,
    };
    let wrong = old.ephemeral_containers.iter().flatten().filter_map(complaint);
    wrong.map(|why| FieldError::forbidden(path, why)).collect()
}

fn name_of(container: &k8s_openapi::api::core::v1::EphemeralContainer) -> &str {
    &container.name
}

#[cfg(test)]
mod tests {
    use crate::api::{
        kind::Kind as _,
        kinds::{
            pod::{EPHEMERAL_CONTAINERS, Pods},
            testing::{created, lines},
        },
    };
    use expect_test::{Expect, expect};
    use k8s_openapi::api::core::v1::Pod;

    const WEB: &str = "
metadata: {name: web, namespace: default}
spec:
  containers: [{name: web, image: nginx}]
  volumes: [{name: data, emptyDir: {}}]
";

    /// What is wrong with a write of `ephemeralcontainers` that sends these, to a pod that has those.
    fn check(had: &str, sent: &str, wrong: Expect) {
        let mut old: Pod = created::<Pods>(WEB);
        old.spec.as_mut().unwrap().ephemeral_containers = crate::testing::from_yaml(had).unwrap();
        Pods::set_defaults(&mut old);
        let mut new = old.clone();
        let spec = new.spec.as_mut().unwrap();
        spec.ephemeral_containers = crate::testing::from_yaml(sent).unwrap();
        spec.containers[0].image = Some("other".into());
        Pods::set_defaults(&mut new);
        Pods::prepare_facet(EPHEMERAL_CONTAINERS, &mut new, &old);
        let spec = new.spec.as_ref().unwrap();
        assert_eq!(spec.containers, old.spec.as_ref().unwrap().containers, "nothing else is written");
        let mut errs = Pods::validate(&new);
        errs.extend(Pods::validate_facet(EPHEMERAL_CONTAINERS, &new, &old));
        wrong.assert_eq(&lines(&errs));
    }

    #[test]
    fn containers_are_added_and_stay_as_they_are() {
        let one = "[{name: one, image: bb, targetContainerName: web, stdin: true}]";
        check("[]", one, expect![""]);
        check(
            one,
            "[{name: two, image: bb}, {name: one, image: bb, targetContainerName: web, stdin: true}]",
            expect![""],
        );
        check(
            one,
            "[]",
            expect![[r#"
            spec.ephemeralContainers: Forbidden: existing ephemeral containers "one" may not be removed

        "#]],
        );
        check(
            one,
            "[{name: one, image: other, targetContainerName: web, stdin: true}]",
            expect![[r#"
            spec.ephemeralContainers: Forbidden: existing ephemeral containers "one" may not be changed
            - spec.ephemeralContainers.image: "bb"
            + spec.ephemeralContainers.image: "other"
        "#]],
        );
    }

    #[test]
    fn they_are_checked_like_others_and_may_say_less() {
        check(
            "[]",
            "[{name: web, image: bb}, {name: x, image: ''}]",
            expect![[r#"
            spec.ephemeralContainers[0].name: Duplicate value: "web"
            spec.ephemeralContainers[1].image: Required value
        "#]],
        );
        check(
            "[]",
            "[{name: x, image: bb, targetContainerName: y}]",
            expect![[r#"
            spec.ephemeralContainers[0].targetContainerName: Not found: "y"
        "#]],
        );
        let more = "[{name: x, image: bb, ports: [{containerPort: 80}], livenessProbe: {exec: {command: [a]}}, \
                    resources: {limits: {cpu: 1}}, restartPolicy: Always, lifecycle: {}, \
                    volumeMounts: [{name: data, mountPath: /d, subPath: x}, {name: none, mountPath: /e}]}]";
        check(
            "[]",
            more,
            expect![[r#"
            spec.ephemeralContainers[0].volumeMounts[1].name: Not found: "none"
            spec.ephemeralContainers[0].lifecycle: Forbidden: cannot be set for an Ephemeral Container
            spec.ephemeralContainers[0].livenessProbe: Forbidden: cannot be set for an Ephemeral Container
            spec.ephemeralContainers[0].ports: Forbidden: cannot be set for an Ephemeral Container
            spec.ephemeralContainers[0].resources: Forbidden: cannot be set for an Ephemeral Container
            spec.ephemeralContainers[0].restartPolicy: Forbidden: cannot be set for an Ephemeral Container
            spec.ephemeralContainers[0].volumeMounts[0].subPath: Forbidden: cannot be set for an Ephemeral Container
        "#]],
        );
    }
}
