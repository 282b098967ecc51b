//! What a write needs beyond the permission to write: nobody grants what they lack, a request for a certificate says who asked, who
//! chooses the host or the certificate of a Route may do so, and who follows a stream of another namespace may read its images; a node
//! writes what is its own.
//!
//! A table: (group, plural) → review. Called for each object that a client writes, before the pipeline has it.
//!
//! **Source**: `pkg/registry/rbac/{role,clusterrole,rolebinding,clusterrolebinding}/policybased/storage.go`,
//! `pkg/registry/rbac/escalation_check.go`, v1.37; github.com/openshift/library-go, `pkg/route/hostassignment/assignment.go`, release 4.20.

mod nodes;
pub(super) mod streams;

use super::Call;
use crate::{
    api::{
        field::FieldError,
        json_kind::{at, set_at, text_at},
        kind::{ErasedKind as _, KindInfo},
        kinds::{
            certificate_signing_request::{CERTIFICATE_SIGNING_REQUESTS, has_condition, request_pem},
            route::ROUTES,
        },
        object::{DynObject, Untyped},
        status::ApiError,
    },
    identity::{
        Rbac, User, escalation,
        rbac::RoleRef,
        rule::{Attributes, On, PolicyRule},
        user::MASTERS,
    },
    server::{route::ResourceInfo, tls},
};
use serde::Deserialize;
use serde_json::Value;

const RBAC: &str = "rbac.authorization.k8s.io";
const CERTIFICATES: &str = "certificates.k8s.io";
const ROUTES_GROUP: &str = "route.openshift.io";
const NOT_YOUR_HOST: &str = "you do not have permission to set the host field of the route";
const NOT_YOUR_SUBDOMAIN: &str = "you do not have permission to set the subdomain field of the route";
const NOT_YOUR_CERTIFICATE: &str = "you do not have permission to set certificate fields on the route";
/// The fields of a Route that have to do with certificates.
const CERTIFICATE_FIELDS: [&str; 5] = [
    "spec.tls.caCertificate",
    "spec.tls.certificate",
    "spec.tls.destinationCACertificate",
    "spec.tls.externalCertificate.name",
    "spec.tls.key",
];

/// Who writes, what, and where.
pub(super) struct Asker<'a> {
    rbac: &'a Rbac,
    user: &'a User,
    resource: &'a str,
    subresource: &'a str,
    namespace: &'a str,
}

/// Looks at the new object and the one it replaces.
pub(super) type Review = for<'a> fn(&Asker<'a>, &mut dyn DynObject, Option<&dyn DynObject>) -> Result<(), ApiError>;

static TABLE: &[(&str, &str, Review)] = &[
    (CERTIFICATES, "certificatesigningrequests", signing_request),
    (RBAC, "clusterroles", role),
    (RBAC, "roles", role),
    (RBAC, "clusterrolebindings", binding),
    (RBAC, "rolebindings", binding),
    (ROUTES_GROUP, "routes", route),
    ("image.openshift.io", "imagestreams", streams::stream),
    ("apps.openshift.io", "deploymentconfigs", streams::config),
    ("", "legacydeploymentconfigs", streams::config),
];

/// What of an object a node may not write. Source: `plugin/pkg/admission/noderestriction/admission.go`, v1.37.
static OF_NODES: &[(&str, &str, Review)] = &[
    ("", "nodes", nodes::node),
    ("", "pods", nodes::pod),
    ("coordination.k8s.io", "leases", nodes::own_name),
    ("storage.k8s.io", "csinodes", nodes::own_name),
];

/// The review of what a user writes to a kind, if there is one.
pub(super) fn find(info: &KindInfo<'_>, user: &User) -> Option<Review> {
    let of_nodes = if user.node().is_some() { OF_NODES } else { &[] };
    let row = of_nodes.iter().chain(TABLE).find(|(group, plural, _)| (*group, *plural) == (info.group, info.plural));
    row.map(|(.., review)| *review)
}

impl<'a> Asker<'a> {
    /// What a call writes.
    pub(super) fn of(call: &'a Call<'_>) -> Self {
        let ResourceInfo { resource, subresource, namespace, .. } = &call.info;
        Self { rbac: call.state.rbac(), user: &call.user, resource, subresource, namespace }
    }

    fn may(&self, verb: &str, resource: &str, name: &str) -> bool {
        self.may_do(verb, (RBAC, resource, ""), name)
    }

    fn may_do(&self, verb: &str, (group, resource, subresource): (&str, &str, &str), name: &str) -> bool {
        let on = On::Resource { group, resource, subresource, namespace: self.namespace, name, node: "" };
        self.rbac.verdict(self.user, &Attributes { verb, on }).is_allowed
    }

    /// Refuses what grants more than the user has.
    fn grants(&self, name: &str, rules: &[PolicyRule]) -> Result<(), ApiError> {
        let missing = escalation::missing(&self.rbac.rules(self.user, self.namespace), rules);
        if missing.is_empty() { Ok(()) } else { Err(self.forbidden(name, escalation::refusal(self.user, &missing))) }
    }

    /// Refuses who may not do this for a signer: by its name, or for all of its domain.
    /// Source: `IsAuthorizedForSignerName` in pkg/apis/certificates/authorization.
    fn may_with(&self, signer: &str, verb: &str, doing: &str, name: &str) -> Result<(), ApiError> {
        let domain = signer.split_once('/').map_or(signer, |(domain, _)| domain);
        let may = |name: &str| {
            let on = On::Resource {
                group: CERTIFICATES,
                resource: "signers",
                subresource: "",
                namespace: "",
                name,
                node: "",
            };
            self.rbac.verdict(self.user, &Attributes { verb, on }).is_allowed
        };
        if may(signer) || may(&format!("{domain}/*")) {
            return Ok(());
        }
        let why = format!("user not permitted to {doing} with signerName {signer:?}");
        Err(ApiError::Forbidden { resource: format!("{}.{CERTIFICATES}", self.resource), name: name.to_owned(), why })
    }

    fn forbidden(&self, name: &str, why: String) -> ApiError {
        ApiError::Forbidden { resource: format!("{}.{RBAC}", self.resource), name: name.to_owned(), why }
    }
}

/// What of a role counts here.
#[derive(Deserialize, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
struct Role {
    rules: Option<Vec<PolicyRule>>,
    aggregation_rule: Option<Value>,
}

fn role(asker: &Asker<'_>, new: &mut dyn DynObject, old: Option<&dyn DynObject>) -> Result<(), ApiError> {
    let name = new.meta().name.clone().unwrap_or_default();
    let wanted: Role = read(new)?;
    let is_same = old.map(read::<Role>).transpose()?.is_some_and(|old| old == wanted);
    if is_same || asker.user.is_master() || asker.may("escalate", asker.resource, &name) {
        return Ok(());
    }
    if wanted.aggregation_rule.is_some() {
        let everything = [PolicyRule::everything(), PolicyRule::every_path()];
        if !escalation::missing(&asker.rbac.rules(asker.user, asker.namespace), &everything).is_empty() {
            let why = "must have cluster-admin privileges to use the aggregationRule";
            return Err(asker.forbidden(&name, why.to_owned()));
        }
    }
    asker.grants(&name, &wanted.rules.unwrap_or_default())
}

/// What of a binding counts here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Binding {
    role_ref: RoleRef,
    #[serde(default)]
    subjects: Value,
}

fn binding(asker: &Asker<'_>, new: &mut dyn DynObject, old: Option<&dyn DynObject>) -> Result<(), ApiError> {
    // A binding without a role is refused by its rules.
    let Ok(wanted) = read::<Binding>(new) else { return Ok(()) };
    let old = old.and_then(|old| read::<Binding>(old).ok());
    let is_same = old.is_some_and(|old| (old.role_ref, old.subjects) == (wanted.role_ref.clone(), wanted.subjects));
    let RoleRef { kind, name: role } = &wanted.role_ref;
    let resource = if kind == "Role" { "roles" } else { "clusterroles" };
    if is_same || asker.user.is_master() || asker.may("bind", resource, role) {
        return Ok(());
    }
    let rules = asker
        .rbac
        .rules_of(&wanted.role_ref, asker.namespace)
        .ok_or_else(|| ApiError::NotFound { resource: format!("{resource}.{RBAC}"), name: role.clone() })?;
    asker.grants(&new.meta().name.clone().unwrap_or_default(), &rules)
}

/// A request says who made it; whoever approves it, or signs, may do so for its signer.
fn signing_request(asker: &Asker<'_>, new: &mut dyn DynObject, old: Option<&dyn DynObject>) -> Result<(), ApiError> {
    let Some(old) = old else { return asked_by(asker, new) };
    let Some(old) = old.as_any().downcast_ref::<Untyped>() else { return Ok(()) };
    let Some(new) = new.as_any_mut().downcast_mut::<Untyped>() else { return Ok(()) };
    let signer = text_at(&old.rest, "spec.signerName");
    match asker.subresource {
        "approval" => {
            keep_all_but_approval(new, old);
            let decided = |of: &Untyped| ["Approved", "Denied"].map(|wanted| has_condition(&of.rest, wanted));
            if decided(new) == [true, true] {
                let why = "Approved and Denied conditions are mutually exclusive";
                let cause = FieldError::invalid("status.conditions", "Denied", why);
                return Err(ApiError::invalid(CERTIFICATE_SIGNING_REQUESTS.info(), &name_of(new), vec![cause]));
            }
            asker.may_with(&signer, "approve", "approve requests", &name_of(new))
        }
        "status" if text_at(&new.rest, "status.certificate") != text_at(&old.rest, "status.certificate") => {
            asker.may_with(&signer, "sign", "sign requests", &name_of(new))
        }
        _ => Ok(()),
    }
}

/// Approval decides, and does nothing else.
fn keep_all_but_approval(new: &mut Untyped, old: &Untyped) {
    let is_decision = |condition: &&Value| matches!(condition["type"].as_str(), Some("Approved" | "Denied"));
    let conditions =
        |of: &Untyped| at(&of.rest, "status.conditions").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut merged: Vec<Value> = conditions(old).iter().filter(|c| !is_decision(c)).cloned().collect();
    merged.extend(conditions(new).iter().filter(is_decision).cloned());
    new.rest.clone_from(&old.rest);
    set_at(&mut new.rest, "status.conditions", Value::Array(merged));
}

fn asked_by(asker: &Asker<'_>, new: &mut dyn DynObject) -> Result<(), ApiError> {
    let Some(new) = new.as_any_mut().downcast_mut::<Untyped>() else { return Ok(()) };
    let is_of_client = text_at(&new.rest, "spec.signerName") == "kubernetes.io/kube-apiserver-client";
    let groups = request_pem(&new.rest).map(|pem| tls::requested_groups(&pem)).unwrap_or_default();
    if is_of_client && groups.iter().any(|group| group == MASTERS) {
        let why = "use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed";
        let (resource, name) = (format!("{}.{CERTIFICATES}", asker.resource), name_of(new));
        return Err(ApiError::Forbidden { resource, name, why: why.to_owned() });
    }
    let Value::Object(mut of) = asker.user.to_json() else { return Ok(()) };
    for field in ["username", "uid", "groups", "extra"] {
        let value = of.remove(field).unwrap_or_default();
        match (value, new.rest.get_mut("spec").and_then(Value::as_object_mut)) {
            (_, None) => {}
            (Value::Null, Some(spec)) => drop(spec.remove(field)),
            (value, Some(spec)) => drop(spec.insert(field.to_owned(), value)),
        }
    }
    Ok(())
}

/// Who names a Route's host or brings a certificate may do so; who names a Secret may read it.
fn route(asker: &Asker<'_>, new: &mut dyn DynObject, old: Option<&dyn DynObject>) -> Result<(), ApiError> {
    let Some(new) = new.as_any().downcast_ref::<Untyped>() else { return Ok(()) };
    if asker.subresource == "status" {
        return Ok(());
    }
    let old = old.and_then(|old| old.as_any().downcast_ref::<Untyped>());
    let causes = route_causes(asker, new, old);
    if causes.is_empty() { Ok(()) } else { Err(ApiError::invalid(ROUTES.info(), &name_of(new), causes)) }
}

fn route_causes(asker: &Asker<'_>, new: &Untyped, old: Option<&Untyped>) -> Vec<FieldError> {
    let before = |path: &str| old.map(|old| text_at(&old.rest, path)).unwrap_or_default();
    let now = |path: &str| text_at(&new.rest, path);
    // A host or certificate that goes is nobody's choice: a host that is left out stays.
    let is_chosen = |path: &str| !now(path).is_empty() && now(path) != before(path);
    let may = |verb: &str| asker.may_do(verb, (ROUTES_GROUP, "routes", "custom-host"), "");
    let mut causes = Vec::new();
    let refuse = |causes: &mut Vec<FieldError>, path: &str, why: &str| match old {
        None => causes.push(FieldError::forbidden(path, why)),
        Some(_) => causes.push(FieldError::invalid(path, now(path), why)),
    };
    let verb = if old.is_some() { "update" } else { "create" };
    if is_chosen("spec.host") && !may(verb) {
        refuse(&mut causes, "spec.host", NOT_YOUR_HOST);
    }
    if old.is_some() && now("spec.subdomain") != before("spec.subdomain") && !may(verb) {
        refuse(&mut causes, "spec.subdomain", NOT_YOUR_SUBDOMAIN);
    }
    let secret = now("spec.tls.externalCertificate.name");
    if is_chosen("spec.tls.externalCertificate.name") && !asker.may_do("get", ("", "secrets", ""), &secret) {
        let why = "you do not have permission to get this secret";
        causes.push(FieldError::forbidden("spec.tls.externalCertificate", why));
    }
    if CERTIFICATE_FIELDS.iter().any(|path| is_chosen(path)) && causes.is_empty() && !may(verb) && !may("create") {
        causes.push(FieldError::forbidden("spec.tls", NOT_YOUR_CERTIFICATE));
    }
    causes
}

fn name_of(obj: &Untyped) -> String {
    obj.metadata.name.clone().unwrap_or_default()
}

fn read<T: serde::de::DeserializeOwned>(obj: &dyn DynObject) -> Result<T, ApiError> {
    serde_json::from_slice(&obj.to_json()).map_err(|err| ApiError::BadRequest(err.to_string()))
}
