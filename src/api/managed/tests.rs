//! Ownership case by case, and against a model of its own.

use super::*;
use crate::api::schema::packed;
use expect_test::expect;
use proptest::prelude::*;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

const DEPLOYMENT: &str = "io.k8s.api.apps.v1.Deployment";
const CONFIG_MAP: &str = "io.k8s.api.core.v1.ConfigMap";
const SERVICE: &str = "io.k8s.api.core.v1.Service";

fn yaml(text: &str) -> Value {
    crate::api::schema::read::parse_yaml(text.as_bytes()).unwrap().value
}

fn at(second: u8) -> Time {
    Time(format!("2026-01-01T00:00:{second:02}Z").parse().unwrap())
}

fn writer(name: &str) -> Writer {
    Writer { name: name.to_owned(), subresource: String::new(), api_version: "v1".to_owned() }
}

/// An object and its managers.
#[derive(Clone, Debug)]
struct Held {
    definition: &'static str,
    object: Value,
    managers: Managers,
}

impl Held {
    fn new(definition: &'static str) -> Self {
        Self { definition, object: Value::Null, managers: Managers::new() }
    }

    fn apply(&mut self, name: &str, config: &str, force: bool) -> Result<(), String> {
        let definition = packed(self.definition);
        let (config, who, now) = (yaml(config), writer(name), at(1));
        let done = applied(definition, (&self.object, &config), &self.managers, &who, Reach::ButStatus, (force, &now));
        let Applied { object, managers } = done.map_err(|err| err.to_string())?;
        (self.object, self.managers) = (object, managers);
        Ok(())
    }

    fn update(&mut self, name: &str, object: Value) {
        let definition = packed(self.definition);
        let (before, who) = (self.object.clone(), writer(name));
        self.managers = updated(definition, (&before, &object), &self.managers, &who, Reach::ButStatus, &at(2));
        self.object = object;
    }

    fn owners(&self) -> String {
        let of = |entry: &ManagedFieldsEntry| {
            let paths = set_of(entry).paths().join(" ");
            format!("{} {}: {paths}\n", entry.manager.as_deref().unwrap(), entry.operation.as_deref().unwrap())
        };
        self.managers.iter().map(of).collect()
    }
}

const WEB: &str = "{metadata: {name: web, labels: {app: web}}, spec: {replicas: 2, template: {spec: {containers: [{name: a, image: i, ports: [{containerPort: 80}], args: [x, y]}]}}}}";

#[test]
fn a_configuration_owns_what_it_says() {
    let mut held = Held::new(DEPLOYMENT);
    held.apply("me", WEB, false).unwrap();
    expect![[r#"
        me
        Apply:
        .metadata.labels.app
        .spec.replicas
        .spec.template.spec.containers[name="a"]
        .spec.template.spec.containers[name="a"].args
        .spec.template.spec.containers[name="a"].image
        .spec.template.spec.containers[name="a"].name
        .spec.template.spec.containers[name="a"].ports[containerPort=80,protocol="TCP"]
        .spec.template.spec.containers[name="a"].ports[containerPort=80,protocol="TCP"].containerPort
    "#]]
    .assert_eq(&held.owners().replace(' ', "\n"));
    assert_eq!(
        held.managers[0].fields_v1.as_ref().unwrap().0["f:spec"]["f:template"]["f:spec"]["f:containers"],
        json!({ "k:{\"name\":\"a\"}": {
            ".": {}, "f:name": {}, "f:image": {}, "f:args": {},
            "f:ports": { "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": { ".": {}, "f:containerPort": {} } },
        } })
    );
}

#[test]
fn what_others_own_is_theirs_unless_it_is_taken() {
    let mut held = Held::new(DEPLOYMENT);
    held.apply("me", WEB, false).unwrap();
    let mut scaled = held.object.clone();
    scaled["spec"]["replicas"] = json!(5);
    held.update("scaler", scaled);
    expect![[
        r#"Apply failed with 1 conflict: conflict with "scaler" using v1 at 2026-01-01T00:00:02Z: .spec.replicas"#
    ]]
    .assert_eq(&held.apply("me", WEB, false).unwrap_err());
    let both = WEB.replace("image: i", "image: j");
    held.apply("you", "{metadata: {name: web}, spec: {template: {spec: {containers: [{name: a, image: i}]}}}}", false)
        .unwrap();
    expect![[r#"
        Apply failed with 2 conflicts: conflicts with "scaler" using v1 at 2026-01-01T00:00:02Z:
        - .spec.replicas
        conflicts with "you":
        - .spec.template.spec.containers[name="a"].image"#]]
    .assert_eq(&held.apply("me", &both, false).unwrap_err());
    held.apply("me", &both, true).unwrap();
    assert_eq!(held.object["spec"]["replicas"], 2);
    assert!(!held.owners().contains("scaler"), "{}", held.owners());
    // The same value is no conflict, and has two owners then.
    held.apply("you", "{metadata: {name: web}, spec: {replicas: 2}}", false).unwrap();
    expect![[r#"
        me Apply: .metadata.labels.app .spec.replicas .spec.template.spec.containers[name="a"] .spec.template.spec.containers[name="a"].args .spec.template.spec.containers[name="a"].image .spec.template.spec.containers[name="a"].name .spec.template.spec.containers[name="a"].ports[containerPort=80,protocol="TCP"] .spec.template.spec.containers[name="a"].ports[containerPort=80,protocol="TCP"].containerPort
        you Apply: .spec.replicas
    "#]].assert_eq(&held.owners());
}

#[test]
fn what_a_configuration_leaves_out_goes_unless_others_own_it() {
    let mut held = Held::new(DEPLOYMENT);
    held.apply(
        "me",
        "{spec: {replicas: 1, template: {spec: {containers: [{name: a, image: i}, {name: b, image: j}]}}}}",
        false,
    )
    .unwrap();
    held.apply("you", "{spec: {template: {spec: {containers: [{name: b, env: [{name: X, value: why}]}]}}}}", false)
        .unwrap();
    held.apply("me", "{spec: {template: {spec: {containers: [{name: c, image: k}, {name: a, image: i}]}}}}", false)
        .unwrap();
    expect![[r#"
        spec:
          template:
            spec:
              containers:
              - image: k
                name: c
              - image: i
                name: a
              - env:
                - name: X
                  value: why
                name: b
    "#]]
    .assert_eq(&serde_yaml::to_string(&held.object).unwrap());
    held.apply("you", "{spec: {}}", false).unwrap();
    assert_eq!(held.object["spec"]["template"]["spec"]["containers"].as_array().unwrap().len(), 2);
}

#[test]
fn lists_and_maps_are_as_their_schema_says() {
    let mut held = Held::new(SERVICE);
    held.apply(
        "me",
        "{spec: {selector: {a: b}, ports: [{port: 80}, {port: 80, protocol: UDP}], externalIPs: [1.1.1.1]}}",
        false,
    )
    .unwrap();
    // A selector is one field; so is a list without keys.
    let said = held.apply("you", "{spec: {selector: {c: d}, externalIPs: [2.2.2.2]}}", false).unwrap_err();
    expect![[r#"
        Apply failed with 2 conflicts: conflicts with "me":
        - .spec.externalIPs
        - .spec.selector"#]]
    .assert_eq(&said);
    assert_eq!(held.apply("you", "{spec: {ports: [{protocol: UDP}, {port: 443}]}}", false), Ok(()));
    let ports = held.object["spec"]["ports"].clone();
    assert_eq!(ports.as_array().map(Vec::len), Some(4), "{ports}");
    let said = held.apply("you", "{spec: {prots: []}}", false).unwrap_err();
    assert_eq!(said, ".spec.prots: field not declared in schema");
    let said = held.apply("you", "{spec: {ports: [{port: 1}, {port: 1}]}}", false).unwrap_err();
    assert_eq!(said, ".spec.ports[1]: duplicate entries for key");
}

#[test]
fn managers_of_updates_are_few() {
    let mut held = Held::new(CONFIG_MAP);
    for i in 0..15 {
        let mut next = if held.object.is_null() { json!({ "data": {} }) } else { held.object.clone() };
        next["data"][format!("k{i}")] = json!("v");
        held.update(&format!("m{i}"), next);
    }
    assert!(held.managers.len() <= UPDATERS_MAX, "{}", held.owners());
    assert!(held.owners().contains("ancient-changes Update: .data .data.k0 .data.k1"), "{}", held.owners());
}

#[test]
fn managers_are_started_anew_by_an_empty_list_or_entry_and_kept_by_none() {
    let mut held = Held::new(CONFIG_MAP);
    held.apply("me", "{data: {a: b}}", false).unwrap();
    let live = held.managers;
    assert_eq!(given(None, &live).unwrap(), live);
    assert_eq!(given(Some(&[]), &live).unwrap(), []);
    assert_eq!(given(Some(&[ManagedFieldsEntry::default()]), &live).unwrap(), []);
    let odd = ManagedFieldsEntry { operation: Some("Guess".into()), ..Default::default() };
    assert!(given(Some(&[odd]), &live).is_err());
}

/// What the model does: the keys of one map, and who owns which.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    data: BTreeMap<String, String>,
    owners: BTreeMap<(String, bool), BTreeSet<String>>,
}

type Config = BTreeMap<String, String>;

impl Model {
    fn changed(&self, new: &Config) -> BTreeSet<String> {
        new.iter().filter(|(k, v)| self.data.get(*k) != Some(v)).map(|(k, _)| k.clone()).collect()
    }

    fn lose(&mut self, who: &(String, bool), keys: &BTreeSet<String>) {
        for (_, owned) in self.owners.iter_mut().filter(|(other, _)| *other != who) {
            owned.retain(|key| !keys.contains(key));
        }
    }

    /// Whether it was done.
    fn apply(&mut self, who: &str, config: &Config, force: bool) -> bool {
        let id = (who.to_owned(), true);
        let owned_by_others =
            |key: &String| self.owners.iter().any(|(other, owned)| *other != id && owned.contains(key));
        let changed = self.changed(config);
        if !force && changed.iter().any(owned_by_others) {
            return false;
        }
        let left_out = self.owners.get(&id).into_iter().flatten().filter(|key| !config.contains_key(*key));
        let gone: BTreeSet<String> = left_out.filter(|key| !owned_by_others(key)).cloned().collect();
        self.data.retain(|key, _| !gone.contains(key));
        self.data.extend(config.clone());
        self.lose(&id, &changed);
        self.owners.insert(id, config.keys().cloned().collect());
        true
    }

    fn update(&mut self, who: &str, data: &Config) {
        let id = (who.to_owned(), false);
        let changed = self.changed(data);
        let gone: BTreeSet<String> = self.data.keys().filter(|key| !data.contains_key(*key)).cloned().collect();
        self.lose(&id, &changed);
        self.lose(&(String::new(), false), &gone);
        self.owners.entry(id).or_default().extend(changed);
        self.data.clone_from(data);
    }

    fn owners(&self) -> BTreeMap<(String, bool), BTreeSet<String>> {
        self.owners.iter().filter(|(_, owned)| !owned.is_empty()).map(|(k, v)| (k.clone(), v.clone())).collect()
    }
}

fn data_of(held: &Held) -> Config {
    let data = held.object.get("data").cloned().unwrap_or(json!({}));
    serde_json::from_value(data).unwrap()
}

fn owners_of(held: &Held) -> BTreeMap<(String, bool), BTreeSet<String>> {
    let of = |entry: &ManagedFieldsEntry| {
        let id = (entry.manager.clone().unwrap(), entry.operation.as_deref() == Some(APPLY));
        let keys = set_of(entry).paths().into_iter().filter_map(|p| p.strip_prefix(".data.").map(str::to_owned));
        (id, keys.collect::<BTreeSet<String>>())
    };
    held.managers.iter().map(of).filter(|(_, keys)| !keys.is_empty()).collect()
}

fn config() -> impl Strategy<Value = Config> {
    proptest::collection::btree_map("[a-d]", "[xy]", 1..4)
}

proptest! {
    #[test]
    fn any_history_of_applies_and_updates_is_the_models(
        steps in proptest::collection::vec(("[mnop]", config(), 0..3u8), 1..12)
    ) {
        let (mut held, mut model) = (Held::new(CONFIG_MAP), Model::default());
        for (who, data, how) in steps {
            if how == 0 {
                let mut next = held.object.clone();
                if next.is_null() {
                    next = json!({});
                }
                next["data"] = json!(data);
                held.update(&who, next);
                model.update(&who, &data);
            } else {
                let text = json!({ "data": data }).to_string();
                let done = held.apply(&who, &text, how == 2).is_ok();
                prop_assert_eq!(done, model.apply(&who, &data, how == 2));
            }
            prop_assert_eq!(data_of(&held), model.data.clone());
            prop_assert_eq!(owners_of(&held), model.owners());
        }
    }

    #[test]
    fn a_set_reads_back_as_it_was_written(paths in proptest::collection::vec(proptest::collection::vec("[a-c]", 1..4), 0..6)) {
        let mut set = FieldSet::default();
        for path in paths {
            let one = path.into_iter().rev().fold(FieldSet::default(), |below, name| {
                let mut set = FieldSet::default();
                let element = Element::Field(name);
                if below.is_empty() { set.insert(element) } else { set.insert_below(element, below) }
                set
            });
            set = set.union(&one);
        }
        prop_assert_eq!(FieldSet::read(&set.write()), Some(set.clone()));
        prop_assert_eq!(set.difference(&set), FieldSet::default());
        prop_assert_eq!(set.intersection(&set), set.clone());
    }
}
