//! Cases after `pkg/apis/*/validation/validation_test.go`.

use super::*;

fn problems(value: &Value) -> Vec<(FieldErrorKind, String)> {
    validate_create(Gvk::of(value), value).into_iter().map(|error| (error.kind, error.field)).collect()
}

fn pod(spec: Value) -> Value {
    let mut value = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": spec});
    super::super::default(Gvk::new("", "v1", "Pod"), &mut value);
    value
}

#[test]
fn pods() {
    assert_eq!(problems(&pod(json!({"containers": [{"name": "a", "image": "b"}]}))), []);
    let bad = pod(json!({"restartPolicy": "Sometimes", "containers": [{"name": "A"}, {"name": "b", "image": "x",
        "volumeMounts": [{"name": "none", "mountPath": "/a"}], "ports": [{"containerPort": 70000}]}]}));
    let expected = [
        (FieldErrorKind::Invalid, "spec.containers[0].name"),
        (FieldErrorKind::Required, "spec.containers[0].image"),
        (FieldErrorKind::Invalid, "spec.containers[1].ports[0].containerPort"),
        (FieldErrorKind::NotFound, "spec.containers[1].volumeMounts[0].name"),
        (FieldErrorKind::NotSupported, "spec.restartPolicy"),
    ];
    assert_eq!(problems(&bad), expected.map(|(kind, field)| (kind, field.to_owned())));
    assert_eq!(problems(&pod(json!({}))), [(FieldErrorKind::Required, "spec.containers".to_owned())]);
}

#[test]
fn a_pods_spec_is_fixed_but_for_images() {
    let old = pod(json!({"containers": [{"name": "a", "image": "b"}]}));
    let mut new = old.clone();
    new["spec"]["containers"][0]["image"] = json!("c");
    new["spec"]["nodeName"] = json!("n");
    assert_eq!(validate_update(Gvk::of(&new), &new, &old), []);
    new["spec"]["containers"][0]["args"] = json!(["x"]);
    let errors = validate_update(Gvk::of(&new), &new, &old);
    assert_eq!(
        (errors[0].kind, errors[0].detail.as_str().starts_with("pod updates may not change")),
        (FieldErrorKind::Forbidden, true)
    );
}

#[test]
fn deployments() {
    let mut value = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}, "spec": {
        "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "c"}}, "spec": {"containers": [{"name": "a", "image": "b"}]}}}});
    super::super::default(Gvk::new("apps", "v1", "Deployment"), &mut value);
    let errors = validate_create(Gvk::of(&value), &value);
    assert_eq!(errors[0].detail, "`selector` does not match template `labels`");
    value["spec"]["template"]["metadata"]["labels"]["a"] = json!("b");
    assert_eq!(problems(&value), []);
    let mut new = value.clone();
    new["spec"]["selector"]["matchLabels"] = json!({"x": "y"});
    assert_eq!(validate_update(Gvk::of(&new), &new, &value)[0].detail, IMMUTABLE);
}

/// After the strategies of `TestValidateDeployment`.
#[test]
fn strategies_of_deployments() {
    let wrong = |strategy: Value| -> Vec<(String, String)> {
        let mut errors = Vec::new();
        deployment_strategy(&strategy, &mut errors);
        errors.into_iter().map(|error| (error.field, error.detail)).collect()
    };
    let rolling = |unavailable: Value, surge: Value| {
        let update = json!({"maxUnavailable": unavailable, "maxSurge": surge});
        wrong(json!({"type": "RollingUpdate", "rollingUpdate": update}))
    };
    let unavailable = |detail: &str| vec![("spec.strategy.rollingUpdate.maxUnavailable".to_owned(), detail.to_owned())];
    for fine in [json!({"type": "Recreate"}), json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%"}})] {
        assert_eq!(wrong(fine), []);
    }
    assert_eq!(rolling(json!("100%"), json!(0)), []);
    let both = wrong(json!({"type": "Recreate", "rollingUpdate": {"maxSurge": "25%"}}));
    let detail = "may not be specified when strategy `type` is 'Recreate'";
    assert_eq!(both, [("spec.strategy.rollingUpdate".to_owned(), detail.to_owned())]);
    assert_eq!(rolling(json!(0), json!("0%")), unavailable("may not be 0 when `maxSurge` is 0"));
    assert_eq!(rolling(json!("101%"), json!(1)), unavailable("must not be greater than 100%"));
    assert_eq!(rolling(json!(-1), json!(1)), unavailable(NEGATIVE));
    assert!(rolling(json!("a lot"), json!(1))[0].1.starts_with("a valid percent string must be"));
    assert_eq!(wrong(json!({"type": "Rolling"}))[0].1, "supported values: \"Recreate\", \"RollingUpdate\"");
}

#[test]
fn metadata_and_data() {
    let config =
        |meta: Value, data: Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data});
    assert_eq!(problems(&config(json!({"name": "a.b"}), json!({"A_b-c.d": ""}))), []);
    let bad = config(json!({"name": "A", "labels": {"/x": "-"}}), json!({"a b": ""}));
    let fields: Vec<_> = problems(&bad).into_iter().map(|(_, field)| field).collect();
    assert_eq!(fields, ["metadata.name", "metadata.labels", "metadata.labels", "data[a b]"]);
    assert_eq!(problems(&config(json!({}), json!({})))[0].0, FieldErrorKind::Required);
    let old = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "immutable": true, "data": {"a": "1"}});
    let mut new = old.clone();
    new["data"]["a"] = json!("2");
    assert_eq!(validate_update(Gvk::of(&new), &new, &old)[0].kind, FieldErrorKind::Forbidden);
}

/// After `TestValidateJobUpdate`.
#[test]
fn what_a_job_may_change() {
    let job = |spec: Value| json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "a"}, "spec": spec});
    let fields = |new: Value, old: Value| -> Vec<String> {
        let mut errors = Vec::new();
        job_update(&job(new)["spec"], &job(old)["spec"], &mut errors);
        errors.into_iter().map(|error| error.field).collect()
    };
    assert_eq!(fields(json!({"completions": 5}), json!({"completions": 1})), ["spec.completions"]);
    assert_eq!(fields(json!({"parallelism": 5}), json!({"parallelism": 1})), Vec::<String>::new());
    let indexed = |completions: u32, parallelism: u32| json!({"completionMode": "Indexed", "completions": completions, "parallelism": parallelism});
    assert_eq!(fields(indexed(3, 3), indexed(2, 2)), Vec::<String>::new());
    assert_eq!(fields(indexed(3, 2), indexed(2, 2)), ["spec.completions"]);
    assert_eq!(fields(json!({"backoffLimitPerIndex": 1}), json!({})), ["spec.backoffLimitPerIndex"]);
    assert_eq!(fields(json!({"template": {"a": 1}}), json!({"suspend": true})), Vec::<String>::new());
}
