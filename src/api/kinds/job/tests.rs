//! Jobs from YAML: defaults, what is wrong with them, rows.

use super::*;
use crate::api::kinds::testing::json::{causes, created, created_yaml, row, status_causes, update_causes};
use expect_test::expect;

const PI: &str = "metadata: {name: pi, uid: u1}\nspec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}}";

#[test]
fn defaults_and_the_selector_are_filled_in() {
    expect![[r#"
        metadata:
          name: pi
          uid: u1
        spec:
          backoffLimit: 6
          completionMode: NonIndexed
          completions: 1
          parallelism: 1
          podReplacementPolicy: TerminatingOrFailed
          selector:
            matchLabels:
              batch.kubernetes.io/controller-uid: u1
          suspend: false
          template:
            metadata:
              labels:
                batch.kubernetes.io/controller-uid: u1
                batch.kubernetes.io/job-name: pi
                controller-uid: u1
                job-name: pi
            spec:
              containers:
              - image: i
                imagePullPolicy: Always
                name: c
                resources: {}
                terminationMessagePath: /dev/termination-log
                terminationMessagePolicy: File
              dnsPolicy: ClusterFirst
              restartPolicy: Never
              schedulerName: default-scheduler
              securityContext: {}
              terminationGracePeriodSeconds: 30
        status: {}
    "#]]
    .assert_eq(&created_yaml(&JOBS, PI));
}

#[test]
fn a_row_reads_as_in_kubernetes() {
    let done = format!(
        "{}\nstatus: {{succeeded: 1, startTime: '2026-03-01T11:59:00Z', completionTime: '2026-03-01T11:59:05Z', conditions: [{{type: Complete, status: 'True'}}]}}",
        PI.replace("spec: {template", "spec: {completions: 1, template")
    );
    assert_eq!(row(&JOBS, &done), "pi | Complete | 1/1 | 5s | <unknown> | c | i | <none>");
    assert_eq!(
        row(&JOBS, &PI.replace("spec: {template", "spec: {parallelism: 3, template")),
        "pi | Running | 0/1 of 3 |  | <unknown> | c | i | <none>"
    );
}

/// What is wrong with a job that has these fields beside a template of two containers.
fn wrong(fields: &str) -> String {
    let template =
        "{spec: {restartPolicy: Never, initContainers: [{name: init, image: i}], containers: [{name: c, image: i}]}}";
    causes(&JOBS, &format!("metadata: {{name: pi, uid: u1}}\nspec: {{{fields}, template: {template}}}"))
}

/// Each case, and below it what is wrong with it.
fn table(cases: &[&str]) -> String {
    cases.iter().map(|case| format!("# {case}\n{}", wrong(case))).collect()
}

const INDEXED: &str = "completionMode: Indexed, completions: 5";

#[test]
fn what_is_wrong_is_named() {
    assert_eq!(causes(&JOBS, PI), "");
    expect![[r#"
        spec.parallelism: Invalid value: -1: must be greater than or equal to 0
        spec.completions: Required value: when completion mode is Indexed
        spec.podReplacementPolicy: Unsupported value: "Soon": supported values: "Failed", "TerminatingOrFailed"
        spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"
    "#]].assert_eq(&causes(&JOBS, "metadata: {name: pi, uid: u1}\nspec: {parallelism: -1, completionMode: Indexed, podReplacementPolicy: Soon, template: {spec: {containers: [{name: c, image: i}]}}}"));
    let often = "metadata: {name: pi, uid: u1}\nspec: {podFailurePolicy: {rules: []}, template: {spec: {restartPolicy: OnFailure, containers: [{name: c, image: i}]}}}";
    expect![[r#"
        spec.template.spec.restartPolicy: Invalid value: "OnFailure": only "Never" is supported when podFailurePolicy is specified
    "#]].assert_eq(&causes(&JOBS, often));
    expect![[r#"
        spec.template.spec.restartPolicy: Unsupported value: "Sometimes": supported values: "Always", "OnFailure", "Never"
        spec.template.spec.restartPolicy: Unsupported value: "Sometimes": supported values: "OnFailure", "Never"
    "#]].assert_eq(&causes(&JOBS, &often.replace("OnFailure", "Sometimes")));
}

#[test]
fn limits_of_indexes_go_with_indexes() {
    let many = "completionMode: Indexed, completions: 100001, backoffLimitPerIndex: 1";
    expect![[r##"
        # completionMode: Indexed, completions: 5, backoffLimitPerIndex: 1, maxFailedIndexes: 5
        # backoffLimitPerIndex: 1
        spec.backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode
        # maxFailedIndexes: -1
        spec.maxFailedIndexes: Invalid value: -1: must be greater than or equal to 0
        spec.backoffLimitPerIndex: Required value: when maxFailedIndexes is specified
        spec.maxFailedIndexes: Invalid value: -1: requires indexed completion mode
        # completionMode: Indexed, completions: 5, maxFailedIndexes: 6
        spec.backoffLimitPerIndex: Required value: when maxFailedIndexes is specified
        spec.maxFailedIndexes: Invalid value: 6: must be less than or equal to completions
        # completionMode: Indexed, completions: 5, parallelism: 100001
        spec.parallelism: Invalid value: 100001: must be less than or equal to 100000 when completion mode is Indexed
        # completionMode: Indexed, completions: 100001, backoffLimitPerIndex: 1
        spec.maxFailedIndexes: Required value: must be specified when completions is above 100000
        # completionMode: Indexed, completions: 100001, backoffLimitPerIndex: 1, parallelism: 10001, maxFailedIndexes: 10001
        spec.parallelism: Invalid value: 10001: must be less than or equal to 10000 when completions are above 100000 and used with backoff limit per index
        spec.maxFailedIndexes: Invalid value: 10001: must be less than or equal to 10000 when completions are above 100000 and used with backoff limit per index
        # completionMode: Indexed, completions: 100001, backoffLimitPerIndex: 1, parallelism: 10000, maxFailedIndexes: 10000
        # completionMode: Sorted
        spec.completionMode: Unsupported value: "Sorted": supported values: "NonIndexed", "Indexed"
    "##]].assert_eq(&table(&[
        &format!("{INDEXED}, backoffLimitPerIndex: 1, maxFailedIndexes: 5"),
        "backoffLimitPerIndex: 1",
        "maxFailedIndexes: -1",
        &format!("{INDEXED}, maxFailedIndexes: 6"),
        &format!("{INDEXED}, parallelism: 100001"),
        many,
        &format!("{many}, parallelism: 10001, maxFailedIndexes: 10001"),
        &format!("{many}, parallelism: 10000, maxFailedIndexes: 10000"),
        "completionMode: Sorted",
    ]));
}

#[test]
fn a_manager_is_a_path_with_a_domain() {
    let long = format!("managedBy: example.com/{}", "x".repeat(60));
    expect![[r##"
        # managedBy: kubernetes.io/job-controller
        # managedBy: ''
        spec.managedBy: Required value
        # managedBy: queue
        spec.managedBy: Invalid value: "queue": must be a domain-prefixed path (such as "acme.io/foo")
        # managedBy: Example/queue
        spec.managedBy: Invalid value: "Example": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
        # managedBy: 'example.com/a b'
        spec.managedBy: Invalid value: "a b": Invalid path (regex used for validation is '[A-Za-z0-9/\-._~%!$&'()*+,;=:]+')
        # managedBy: example.com/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx
        spec.managedBy: Too long: may not be more than 63 bytes
    "##]].assert_eq(&table(&[
        "managedBy: kubernetes.io/job-controller",
        "managedBy: ''",
        "managedBy: queue",
        "managedBy: Example/queue",
        "managedBy: 'example.com/a b'",
        &long,
    ]));
}

#[test]
fn rules_for_failed_pods_are_checked() {
    let rule = |rule: &str| format!("podFailurePolicy: {{rules: [{rule}]}}");
    let limited = format!("{INDEXED}, backoffLimitPerIndex: 1");
    let codes = |codes: &str| rule(&format!("{{action: FailJob, onExitCodes: {codes}}}"));
    expect![[r##"
        # podFailurePolicy: {rules: [{action: FailJob, onExitCodes: {containerName: init, operator: In, values: [1, 2]}}]}
        # podFailurePolicy: {rules: [{action: FailJob, onExitCodes: {operator: NotIn, values: [0]}}]}
        # podFailurePolicy: {rules: [{action: Ignore, onPodConditions: [{type: DisruptionTarget, status: 'True'}]}]}
        # completionMode: Indexed, completions: 5, backoffLimitPerIndex: 1, podFailurePolicy: {rules: [{action: FailIndex, onExitCodes: {operator: In, values: [1]}}]}
        # podFailurePolicy: {rules: [{action: FailIndex, onExitCodes: {operator: In, values: [1]}}]}
        spec.podFailurePolicy.rules[0].action: Invalid value: "FailIndex": requires the backoffLimitPerIndex to be set
        # podFailurePolicy: {rules: [{action: Retry, onExitCodes: {operator: In, values: [1]}}]}
        spec.podFailurePolicy.rules[0].action: Unsupported value: "Retry": supported values: "Count", "FailIndex", "FailJob", "Ignore"
        # podFailurePolicy: {rules: [{action: ''}]}
        spec.podFailurePolicy.rules[0].action: Required value: valid values: ["Count" "FailIndex" "FailJob" "Ignore"]
        spec.podFailurePolicy.rules[0]: Invalid value: specifying one of OnExitCodes and OnPodConditions is required
        # podFailurePolicy: {rules: [{action: FailJob, onExitCodes: {containerName: other, operator: Equals, values: []}}]}
        spec.podFailurePolicy.rules[0].onExitCodes.operator: Unsupported value: "Equals": supported values: "In", "NotIn"
        spec.podFailurePolicy.rules[0].onExitCodes.containerName: Invalid value: "other": must be one of the container or initContainer names in the pod template
        spec.podFailurePolicy.rules[0].onExitCodes.values: Invalid value: []: at least one value is required
        # podFailurePolicy: {rules: [{action: FailJob, onExitCodes: {operator: '', values: [3, 1, 3]}}]}
        spec.podFailurePolicy.rules[0].onExitCodes.operator: Required value: valid values: ["In" "NotIn"]
        spec.podFailurePolicy.rules[0].onExitCodes.values[2]: Duplicate value: 3
        spec.podFailurePolicy.rules[0].onExitCodes.values: Invalid value: [3,1,3]: must be ordered
        # podFailurePolicy: {rules: [{action: FailJob, onExitCodes: {operator: In, values: [0, 1]}}]}
        spec.podFailurePolicy.rules[0].onExitCodes.values[0]: Invalid value: 0: must not be 0 for the In operator
        # podFailurePolicy: {rules: [{action: Count, onExitCodes: {operator: In, values: [1]}, onPodConditions: [{type: 'a b', status: Maybe}, {type: X, status: ''}]}]}
        spec.podFailurePolicy.rules[0].onPodConditions[0].type: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
        spec.podFailurePolicy.rules[0].onPodConditions[0].status: Unsupported value: "Maybe": supported values: "False", "True", "Unknown"
        spec.podFailurePolicy.rules[0].onPodConditions[1].status: Required value: valid values: ["False" "True" "Unknown"]
        spec.podFailurePolicy.rules[0]: Invalid value: specifying both OnExitCodes and OnPodConditions is not supported
        # podReplacementPolicy: TerminatingOrFailed, podFailurePolicy: {rules: [{action: FailJob, onExitCodes: {operator: In, values: [1]}}]}
        spec.podReplacementPolicy: Unsupported value: "TerminatingOrFailed": supported values: "Failed"
    "##]].assert_eq(&table(&[
        &codes("{containerName: init, operator: In, values: [1, 2]}"),
        &codes("{operator: NotIn, values: [0]}"),
        &rule("{action: Ignore, onPodConditions: [{type: DisruptionTarget, status: 'True'}]}"),
        &format!("{limited}, {}", rule("{action: FailIndex, onExitCodes: {operator: In, values: [1]}}")),
        &rule("{action: FailIndex, onExitCodes: {operator: In, values: [1]}}"),
        &rule("{action: Retry, onExitCodes: {operator: In, values: [1]}}"),
        &rule("{action: ''}"),
        &codes("{containerName: other, operator: Equals, values: []}"),
        &codes("{operator: '', values: [3, 1, 3]}"),
        &codes("{operator: In, values: [0, 1]}"),
        &rule("{action: Count, onExitCodes: {operator: In, values: [1]}, onPodConditions: [{type: 'a b', status: Maybe}, {type: X, status: ''}]}"),
        &format!("podReplacementPolicy: TerminatingOrFailed, {}", codes("{operator: In, values: [1]}")),
    ]));
    let many = |n: i32, item: &dyn Fn(i32) -> String| (1..=n).map(item).collect::<Vec<_>>().join(", ");
    let codes_of = many(256, &|n| n.to_string());
    expect![[r#"
        spec.podFailurePolicy.rules[0].onExitCodes.values: Too many: 256: must have at most 255 items
    "#]]
    .assert_eq(&wrong(&codes(&format!("{{operator: In, values: [{codes_of}]}}"))));
    let patterns = many(21, &|n| format!("{{type: T{n}, status: 'True'}}"));
    expect![[r#"
        spec.podFailurePolicy.rules[0].onPodConditions: Too many: 21: must have at most 20 items
    "#]]
    .assert_eq(&wrong(&rule(&format!("{{action: Count, onPodConditions: [{patterns}]}}"))));
    let rules = many(21, &|n| format!("{{action: Count, onExitCodes: {{operator: In, values: [{n}]}}}}"));
    expect![[r#"
        spec.podFailurePolicy.rules: Too many: 21: must have at most 20 items
    "#]]
    .assert_eq(&wrong(&rule(&rules)));
}

#[test]
fn rules_for_success_are_checked() {
    let rule = |rule: &str| format!("{INDEXED}, successPolicy: {{rules: [{rule}]}}");
    let indexes = |text: &str| rule(&format!("{{succeededIndexes: '{text}'}}"));
    expect![[r##"
        # completionMode: Indexed, completions: 5, successPolicy: {rules: [{succeededIndexes: '0,2-4', succeededCount: 3}]}
        # completionMode: Indexed, completions: 5, successPolicy: {rules: [{succeededIndexes: ''}]}
        # successPolicy: {rules: [{succeededCount: 1}]}
        spec.successPolicy: Invalid value: {"rules":[{"succeededCount":1}]}: requires indexed completion mode
        # completionMode: Indexed, completions: 5, successPolicy: {rules: []}
        spec.successPolicy.rules: Required value: at least one rules must be specified when the successPolicy is specified
        # completionMode: Indexed, completions: 5, successPolicy: {rules: [{}]}
        spec.successPolicy.rules[0]: Required value: at least one of succeededCount or succeededIndexes must be specified
        # completionMode: Indexed, completions: 5, successPolicy: {rules: [{succeededCount: 6}]}
        spec.successPolicy.rules[0].succeededCount: Invalid value: 6: must be less than or equal to 5 (the number of specified completions)
        # completionMode: Indexed, completions: 5, successPolicy: {rules: [{succeededCount: -1}]}
        spec.successPolicy.rules[0].succeededCount: Invalid value: -1: must be greater than or equal to 0
        # completionMode: Indexed, completions: 5, successPolicy: {rules: [{succeededIndexes: '0-1', succeededCount: 3}]}
        spec.successPolicy.rules[0].succeededCount: Invalid value: 3: must be less than or equal to 2 (the number of indexes in the specified succeededIndexes field)
        # completionMode: Indexed, completions: 5, successPolicy: {rules: [{succeededIndexes: '5'}]}
        spec.successPolicy.rules[0].succeededIndexes: Invalid value: "5": error parsing succeededIndexes: too large index: "5"
        # completionMode: Indexed, completions: 5, successPolicy: {rules: [{succeededIndexes: '0-5'}]}
        spec.successPolicy.rules[0].succeededIndexes: Invalid value: "0-5": error parsing succeededIndexes: too large index: "5"
        # completionMode: Indexed, completions: 5, successPolicy: {rules: [{succeededIndexes: 'x'}]}
        spec.successPolicy.rules[0].succeededIndexes: Invalid value: "x": error parsing succeededIndexes: cannot convert string to integer for index: "x"
        # completionMode: Indexed, completions: 5, successPolicy: {rules: [{succeededIndexes: '1-x'}]}
        spec.successPolicy.rules[0].succeededIndexes: Invalid value: "1-x": error parsing succeededIndexes: cannot convert string to integer for index: "x"
        # completionMode: Indexed, completions: 5, successPolicy: {rules: [{succeededIndexes: '1,,2'}]}
        spec.successPolicy.rules[0].succeededIndexes: Invalid value: "1,,2": error parsing succeededIndexes: cannot convert string to integer for index: ""
        # completionMode: Indexed, completions: 5, successPolicy: {rules: [{succeededIndexes: '2-1'}]}
        spec.successPolicy.rules[0].succeededIndexes: Invalid value: "2-1": error parsing succeededIndexes: non-increasing order, previous: 2, current: 1
        # completionMode: Indexed, completions: 5, successPolicy: {rules: [{succeededIndexes: '1,1'}]}
        spec.successPolicy.rules[0].succeededIndexes: Invalid value: "1,1": error parsing succeededIndexes: non-increasing order, previous: 1, current: 1
        # completionMode: Indexed, completions: 5, successPolicy: {rules: [{succeededIndexes: '0-2,1'}]}
        spec.successPolicy.rules[0].succeededIndexes: Invalid value: "0-2,1": error parsing succeededIndexes: non-increasing order, previous: 2, current: 1
        # completionMode: Indexed, completions: 5, successPolicy: {rules: [{succeededIndexes: '0-1-2'}]}
        spec.successPolicy.rules[0].succeededIndexes: Invalid value: "0-1-2": error parsing succeededIndexes: the fragment "0-1-2" violates the requirement that an index interval can have at most two parts separated by '-'
        # completionMode: Indexed, completions: 5, successPolicy: {rules: [{succeededIndexes: ' 1'}]}
        spec.successPolicy.rules[0].succeededIndexes: Invalid value: " 1": error parsing succeededIndexes: cannot convert string to integer for index: " 1"
    "##]].assert_eq(&table(&[
        &rule("{succeededIndexes: '0,2-4', succeededCount: 3}"),
        &indexes(""),
        "successPolicy: {rules: [{succeededCount: 1}]}",
        &rule(""),
        &rule("{}"),
        &rule("{succeededCount: 6}"),
        &rule("{succeededCount: -1}"),
        &rule("{succeededIndexes: '0-1', succeededCount: 3}"),
        &indexes("5"),
        &indexes("0-5"),
        &indexes("x"),
        &indexes("1-x"),
        &indexes("1,,2"),
        &indexes("2-1"),
        &indexes("1,1"),
        &indexes("0-2,1"),
        &indexes("0-1-2"),
        &indexes(" 1"),
    ]));
}

#[test]
fn labels_and_host_names_are_the_jobs_own() {
    let labelled = |more: &str, labels: &str| {
        format!(
            "metadata: {{name: pi, uid: u1}}\nspec: {{{more} template: {{metadata: {{labels: {labels}}}, spec: {{restartPolicy: Never, containers: [{{name: c, image: i}}]}}}}}}"
        )
    };
    expect![[r#"
        spec.template.metadata.labels[job-name]: Invalid value: {"batch.kubernetes.io/controller-uid":"u1","batch.kubernetes.io/job-name":"pi","controller-uid":"u1","job-name":"other"}: must be 'pi'
    "#]].assert_eq(&causes(&JOBS, &labelled("", "{job-name: other}")));
    expect![[r#"
        spec.template.metadata.labels: Invalid value: {"a":"c"}: `selector` does not match template `labels`
    "#]]
    .assert_eq(&causes(&JOBS, &labelled("manualSelector: true, selector: {matchLabels: {a: b}},", "{a: c}")));
    assert_eq!(causes(&JOBS, &labelled("manualSelector: true, selector: {matchLabels: {a: b}},", "{a: b}")), "");
    expect![[r#"
        spec.selector: Required value
    "#]]
    .assert_eq(&causes(&JOBS, &labelled("manualSelector: true,", "{a: b}")));
    let long = labelled(&format!("{INDEXED},"), "{}").replace("name: pi", &format!("name: {}", "x".repeat(62)));
    expect![[r#"
        metadata.name: Invalid value: "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx": will not able to create pod with invalid DNS label: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx-4
    "#]].assert_eq(&causes(&JOBS, &long));
}

#[test]
fn a_job_that_waits_for_its_generated_name_is_labelled_with_it() {
    let mut obj = Untyped { rest: json!({ "spec": {} }).as_object().unwrap().clone(), ..Untyped::default() };
    obj.metadata.generate_name = Some("pi-".into());
    for name in ["pi-abcde", "pi-fghij"] {
        obj.metadata.name = Some(name.into());
        generate_selector(&mut obj);
        assert_eq!(at(&obj.rest, "spec.template.metadata.labels.job-name"), Some(&json!(name)));
    }
}

/// A job with these fields of its spec, its template's spec and its status.
fn job(spec: &str, pod: &str, status: &str) -> String {
    format!(
        "metadata: {{name: pi, uid: u1}}\nspec: {{{spec} template: {{spec: {{{pod} restartPolicy: Never, containers: [{{name: c, image: i}}]}}}}}}\nstatus: {status}"
    )
}

#[test]
fn what_may_not_change_is_named() {
    let change = |old: &str, new: &str| update_causes(&JOBS, &job(old, "", "{}"), &job(new, "", "{}"));
    assert_eq!(change("parallelism: 1, completions: 2,", "parallelism: 3, completions: 2, suspend: true,"), "");
    expect![[r#"
        spec.completions: Invalid value: 3: field is immutable
    "#]]
    .assert_eq(&change("completions: 2,", "completions: 3,"));
    let indexed = "completionMode: Indexed, completions: 5, parallelism: 5,";
    assert_eq!(change(indexed, "completionMode: Indexed, completions: 3, parallelism: 3,"), "");
    expect![[r#"
        spec.completions: Invalid value: 3: can only be modified in tandem with spec.parallelism
    "#]]
    .assert_eq(&change(indexed, "completionMode: Indexed, completions: 3, parallelism: 5,"));
    expect![[r#"
        spec.podFailurePolicy: Invalid value: {"rules":[]}: field is immutable
        spec.backoffLimitPerIndex: Invalid value: 2: field is immutable
        spec.managedBy: Invalid value: "a.b/c": field is immutable
        spec.successPolicy: Invalid value: {"rules":[{"succeededCount":1}]}: field is immutable
    "#]].assert_eq(&change(
        indexed,
        "completionMode: Indexed, completions: 5, managedBy: a.b/c, backoffLimitPerIndex: 2, podFailurePolicy: {rules: []}, successPolicy: {rules: [{succeededCount: 1}]},",
    ));
    expect![[r#"
        spec.completionMode: Invalid value: "Indexed": field is immutable
    "#]]
    .assert_eq(&change("completions: 1,", "completions: 1, completionMode: Indexed,"));
}

#[test]
fn a_suspended_job_may_be_placed_and_sized_anew() {
    let placed = "nodeSelector: {a: b}, tolerations: [{operator: Exists}], affinity: {nodeAffinity: {}},";
    let change = |spec: &str, pod: &str, new: &str, status: &str| {
        update_causes(&JOBS, &job(spec, pod, status), &job(spec, new, status))
    };
    let free = "suspend: true,";
    assert_eq!(change(free, "", placed, "{}"), "");
    assert_eq!(change(free, placed, "", "{}"), "");
    assert!(change("", "", placed, "{}").starts_with("spec.template: Invalid value: "));
    assert!(change("", "", placed, "{}").ends_with(": field is immutable\n"));
    let sized = job(free, "", "{}").replace("name: c,", "name: c, resources: {requests: {cpu: 1}},");
    assert_eq!(update_causes(&JOBS, &job(free, "", "{}"), &sized), "");
    let other = job(free, "", "{}").replace("image: i", "image: j");
    let said = update_causes(&JOBS, &job(free, "", "{}"), &other);
    assert!(
        said.starts_with("spec.template.spec: Invalid value: {") && said.ends_with(": field is immutable\n"),
        "{said}"
    );
    let plain = |pod: &str| -> Untyped {
        created(&JOBS, &job(free, pod, "{}")).as_any().downcast_ref::<Untyped>().unwrap().clone()
    };
    let (new, mut old) = (plain(placed), plain(""));
    set_at(&mut old.rest, "status", json!({ "active": 1 }));
    assert!(spec::check_update(&new, &old)[0].to_string().starts_with("spec.template: Invalid value: "));
}

/// What is wrong with the change of a status.
fn status_change(spec: &str, old: &str, new: &str) -> String {
    status_causes(&JOBS, &job(spec, "", old), &job(spec, "", new))
}

#[test]
fn a_status_is_one_that_clients_may_rely_on() {
    let is = |type_: &str| format!("{{type: {type_}, status: 'True'}}");
    let done = format!(
        "{{startTime: '2026-01-01T00:00:00Z', completionTime: '2026-01-01T00:01:00Z', succeeded: 1, conditions: [{}, {}]}}",
        is("SuccessCriteriaMet"),
        is("Complete")
    );
    assert_eq!(status_change("", "{startTime: '2026-01-01T00:00:00Z', active: 1}", &done), "");
    let cases = [
        ("", "{failed: 2, succeeded: 2}", "{active: -1, failed: 1, succeeded: 1}".to_owned()),
        ("", "{}", "{uncountedTerminatedPods: {succeeded: [a, ''], failed: [a]}}".to_owned()),
        ("", "{}", format!("{{conditions: [{}, {}]}}", is("Complete"), is("Failed"))),
        ("", &done, "{startTime: '2026-01-01T00:00:00Z', succeeded: 1}".to_owned()),
        (
            "",
            "{}",
            done.replace("00:01:00", "00:00:00").replace("2026-01-01T00:00:00Z', c", "2026-01-01T00:00:09Z', c"),
        ),
        ("", &done, done.replace("00:01:00", "00:02:00")),
        ("", "{startTime: '2026-01-01T00:00:00Z'}", "{}".to_owned()),
        ("suspend: true,", "{startTime: '2026-01-01T00:00:00Z'}", "{}".to_owned()),
        ("", "{}", done.replace("succeeded: 1", "active: 1, uncountedTerminatedPods: {failed: [a]}")),
        ("", "{}", "{completedIndexes: '0', failedIndexes: '1'}".to_owned()),
        (
            "completionMode: Indexed, completions: 3, backoffLimitPerIndex: 1,",
            "{}",
            "{completedIndexes: '1-2', failedIndexes: '2,0'}".to_owned(),
        ),
        (
            "completionMode: Indexed, completions: 3,",
            "{completedIndexes: 0-9}",
            "{completedIndexes: 0-9, active: 1}".to_owned(),
        ),
    ];
    let said: String =
        cases.iter().map(|(spec, old, new)| format!("# {spec} {new}\n{}", status_change(spec, old, new))).collect();
    expect![[r##"
        #  {active: -1, failed: 1, succeeded: 1}
        status.active: Invalid value: -1: must be greater than or equal to 0
        status.failed: Invalid value: 1: cannot decrease the failed counter
        status.succeeded: Invalid value: 1: cannot decrease the succeeded counter
        #  {uncountedTerminatedPods: {succeeded: [a, ''], failed: [a]}}
        status.uncountedTerminatedPods.succeeded[1]: Invalid value: "": must not be empty
        status.uncountedTerminatedPods.failed[0]: Duplicate value: "a"
        #  {conditions: [{type: Complete, status: 'True'}, {type: Failed, status: 'True'}]}
        status.conditions: Invalid value: cannot set Complete=True and Failed=true conditions
        status.conditions: Invalid value: cannot set Failed=True condition without the FailureTarget=true condition
        status.conditions: Invalid value: cannot set Complete=True condition without the SuccessCriteriaMet=true condition
        status.completionTime: Required value: completionTime is required for Complete jobs
        status.startTime: Required value: startTime is required for finished job
        #  {startTime: '2026-01-01T00:00:00Z', succeeded: 1}
        status.conditions: Invalid value: cannot disable the SuccessCriteriaMet=True condition
        status.conditions: Invalid value: cannot disable the terminal Complete=True condition
        #  {startTime: '2026-01-01T00:00:09Z', completionTime: '2026-01-01T00:00:00Z', succeeded: 1, conditions: [{type: SuccessCriteriaMet, status: 'True'}, {type: Complete, status: 'True'}]}
        status.completionTime: Invalid value: "2026-01-01T00:00:00Z": must be equal to or after `startTime`
        #  {startTime: '2026-01-01T00:00:00Z', completionTime: '2026-01-01T00:02:00Z', succeeded: 1, conditions: [{type: SuccessCriteriaMet, status: 'True'}, {type: Complete, status: 'True'}]}
        status.completionTime: Invalid value: "2026-01-01T00:02:00Z": field is immutable
        #  {}
        status.startTime: Required value: startTime cannot be removed for unsuspended job
        # suspend: true, {}
        #  {startTime: '2026-01-01T00:00:00Z', completionTime: '2026-01-01T00:01:00Z', active: 1, uncountedTerminatedPods: {failed: [a]}, conditions: [{type: SuccessCriteriaMet, status: 'True'}, {type: Complete, status: 'True'}]}
        status.active: Invalid value: 1: active>0 is invalid for finished job
        status.uncountedTerminatedPods: Invalid value: {"failed":["a"]}: must be empty for finished job
        #  {completedIndexes: '0', failedIndexes: '1'}
        status.completedIndexes: Invalid value: "0": cannot set non-empty completedIndexes when non-indexed completion mode
        status.failedIndexes: Invalid value: "1": cannot set non-null failedIndexes when backoffLimitPerIndex is null
        # completionMode: Indexed, completions: 3, backoffLimitPerIndex: 1, {completedIndexes: '1-2', failedIndexes: '2,0'}
        status.failedIndexes: Invalid value: "2,0": error parsing failedIndexes: non-increasing order, previous: 2, current: 0
        status.failedIndexes: Invalid value: "2,0": failedIndexes and completedIndexes overlap at index: 2
        # completionMode: Indexed, completions: 3, {completedIndexes: 0-9, active: 1}
    "##]].assert_eq(&said);
}
