//! What Kubernetes has and skiff has not yet, so that whoever asks for it is told what is missing.
//!
//! A line goes when its kind comes; a test says so. The groups of these kinds are in no discovery, so a client that
//! looks there first says `no matches for kind` in its own words.

use crate::{api::status::ApiError, server::route::ResourceInfo};

/// Resources: group and plural.
const RESOURCES: &[(&str, &[&str])] = &[
    ("apiregistration.k8s.io", &["apiservices"]),
    ("certificates.k8s.io", &["clustertrustbundles", "podcertificaterequests"]),
    ("template.openshift.io", &["brokertemplateinstances", "templateinstances"]),
];

/// Verbs of resources that are served: group, plural, verb, and what is missing.
const VERBS: &[(&str, &str, &str, &str)] = &[
    ("apiextensions.k8s.io", "customresourcedefinitions", "create", "custom resources yet"),
    ("build.openshift.io", "buildconfigs", "create", BUILDS),
    ("build.openshift.io", "buildconfigs", "patch", BUILDS),
    ("build.openshift.io", "builds", "create", BUILDS),
    ("build.openshift.io", "builds", "patch", BUILDS),
];

const BUILDS: &str = "builds: make the image with `docker build -t NAME:TAG .`, and a tag of an image stream that is called NAME follows it";

/// The refusal of a resource that is not served.
pub(super) fn resource(info: &ResourceInfo) -> ApiError {
    let is_known = RESOURCES.iter().any(|(group, all)| *group == info.group && all.contains(&&*info.resource));
    if !is_known {
        return ApiError::NoSuchResource;
    }
    ApiError::NotServed(match &*info.group {
        "" => info.resource.clone(),
        group => format!("{}.{group}", info.resource),
    })
}

/// The refusal of a verb that the resource has in Kubernetes.
pub(super) fn verb(info: &ResourceInfo) -> Option<ApiError> {
    let asked = (&*info.group, &*info.resource, info.verb.as_str());
    let (.., missing) = VERBS.iter().find(|(group, plural, verb, _)| (*group, *plural, *verb) == asked)?;
    Some(ApiError::Unsupported((*missing).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::kinds::by_plural;

    #[test]
    fn what_is_served_is_not_called_missing() {
        for (group, all) in RESOURCES {
            all.iter()
                .for_each(|plural| assert!(by_plural(group, plural).is_none(), "{plural} of {group:?} is served"));
        }
        for (group, plural, verb, _) in VERBS {
            let kind = by_plural(group, plural).expect("verbs are of kinds that are served");
            assert!(!kind.info().verbs.contains(verb), "{verb} of {plural} is served");
        }
    }
}
