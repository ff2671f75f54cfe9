//! Cases of `strategicpatch/patch_test.go`, on kinds whose fields have the same strategies as upstream's `MergeItem`.

use serde_json::json;

use super::*;

const POD: Gvk<'_> = Gvk::new("", "v1", "Pod");
const DEPLOYMENT: Gvk<'_> = Gvk::new("apps", "v1", "Deployment");
const SERVICE_ACCOUNT: Gvk<'_> = Gvk::new("", "v1", "ServiceAccount");

fn merged(gvk: Gvk<'_>, original: Value, patch: Value) -> Value {
    strategic_merge(gvk, original, patch).expect("a good patch")
}

fn spec(containers: Value) -> Value {
    json!({"spec": {"containers": containers}})
}

#[test]
fn lists_of_maps_merge_by_key_and_keep_the_patch_first() {
    let original = spec(json!([{"name": "1", "image": "a"}, {"name": "2", "image": "b"}]));
    let patch = spec(json!([{"name": "2", "tty": true}, {"name": "3"}]));
    let expected = spec(json!([{"name": "1", "image": "a"}, {"name": "2", "image": "b", "tty": true}, {"name": "3"}]));
    assert_eq!(merged(POD, original, patch), expected);
}

#[test]
fn directives_in_lists_and_maps() {
    let original = spec(json!([{"name": "1"}, {"name": "2"}, {"name": "3"}]));
    let patch = spec(json!([{"name": "2", "$patch": "delete"}, {"name": "4"}]));
    assert_eq!(merged(POD, original.clone(), patch), spec(json!([{"name": "4"}, {"name": "1"}, {"name": "3"}])));
    let patch = spec(json!([{"name": "9"}, {"$patch": "replace"}]));
    assert_eq!(merged(POD, original.clone(), patch), spec(json!([{"name": "9"}])));
    let patch = json!({"spec": {"$patch": "replace", "nodeName": "n"}});
    assert_eq!(merged(POD, original.clone(), patch), json!({"spec": {"nodeName": "n"}}));
    let patch = json!({"spec": {"$patch": "delete"}});
    assert_eq!(merged(POD, original.clone(), patch), json!({"spec": {}}));
    // "add new field inside patch" of a list that doesn't exist yet: the directive alone isn't kept.
    let patch = spec(json!([{"name": "1", "$patch": "delete"}]));
    assert_eq!(merged(POD, json!({"spec": {}}), patch), spec(json!([])));
}

#[test]
fn nulls_delete_and_are_not_stored() {
    let original = json!({"metadata": {"labels": {"a": "1", "b": "2"}}});
    let patch = json!({"metadata": {"labels": {"a": null}, "annotations": {"x": null, "y": "1"}}});
    let expected = json!({"metadata": {"labels": {"b": "2"}, "annotations": {"y": "1"}}});
    assert_eq!(merged(POD, original, patch), expected);
}

#[test]
fn retain_keys_clears_what_is_not_named() {
    let original = json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}});
    let patch = json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}});
    assert_eq!(merged(DEPLOYMENT, original.clone(), patch), json!({"spec": {"strategy": {"type": "Recreate"}}}));
    let patch = json!({"spec": {"strategy": {"$retainKeys": ["rollingUpdate"], "type": "Recreate"}}});
    assert_eq!(strategic_merge(DEPLOYMENT, original.clone(), patch), Err(PatchError::BadRetainKeys));
    let patch = json!({"spec": {"strategy": {"$retainKeys": "type"}}});
    assert_eq!(strategic_merge(DEPLOYMENT, original, patch), Err(PatchError::BadRetainKeys));
}

#[test]
fn primitive_lists_merge_delete_and_keep_order() {
    let original = json!({"metadata": {"finalizers": ["a", "b", "c"]}});
    let patch = json!({"metadata": {"finalizers": ["d", "a"]}});
    assert_eq!(merged(POD, original.clone(), patch), json!({"metadata": {"finalizers": ["d", "a", "b", "c"]}}));
    let patch =
        json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["b"], "$setElementOrder/finalizers": ["c", "a"]}});
    assert_eq!(merged(POD, original.clone(), patch), json!({"metadata": {"finalizers": ["c", "a"]}}));
    let patch = json!({"metadata": {"$deleteFromPrimitiveListfinalizers": ["b"]}});
    assert_eq!(strategic_merge(POD, original, patch), Err(PatchError::BadPrimitiveList));
}

#[test]
fn element_order_is_the_patch_and_then_the_server() {
    // "merge lists of maps with setElementOrder": server-only items keep their place relative to neighbours.
    let original = spec(json!([{"name": "1"}, {"name": "server"}, {"name": "2"}, {"name": "3"}]));
    let patch = json!({"spec": {"$setElementOrder/containers": [{"name": "3"}, {"name": "1"}, {"name": "4"}],
        "containers": [{"name": "4", "tty": true}, {"name": "2", "$patch": "delete"}]}});
    let expected = spec(json!([{"name": "server"}, {"name": "3"}, {"name": "1"}, {"name": "4", "tty": true}]));
    assert_eq!(merged(POD, original.clone(), patch), expected);
    let patch = json!({"spec": {"$setElementOrder/containers": [{"name": "1"}], "containers": [{"name": "2"}]}});
    assert!(matches!(strategic_merge(POD, original, patch), Err(PatchError::OrderMismatch { .. })));
}

#[test]
fn lists_without_a_strategy_are_replaced() {
    let original = spec(json!([{"name": "1", "args": ["a"]}]));
    let patch = spec(json!([{"name": "1", "args": ["b"]}]));
    assert_eq!(merged(POD, original, patch.clone()), patch);
    let original = json!({"list": [1], "map": {"a": 1}});
    let expected = json!({"list": [2], "map": {"a": 1, "b": 2}});
    assert_eq!(merged(Gvk::new("x.io", "v1", "Foo"), original, json!({"list": [2], "map": {"b": 2}})), expected);
    let original = json!({"secrets": [{"name": "a"}]});
    let expected = json!({"secrets": [{"name": "b"}, {"name": "a"}]});
    assert_eq!(merged(SERVICE_ACCOUNT, original, json!({"secrets": [{"name": "b"}]})), expected);
}

#[test]
fn errors_in_upstream_words() {
    let original = spec(json!([{"name": "1"}]));
    let words = |patch: Value| strategic_merge(POD, original.clone(), patch).expect_err("a bad patch").to_string();
    assert_eq!(words(spec(json!([{"image": "x"}]))), r#"map: {"image":"x"} does not contain declared merge key: name"#);
    assert_eq!(words(json!({"$patch": "unknown"})), "unknown patch type 'unknown' in map: {}");
    assert_eq!(words(spec(json!([[1]]))), r#"list element types are not identical: [[{"name":"1"}] [[1]]]"#);
    assert_eq!(strategic_merge(POD, json!({}), json!([])), Err(PatchError::NotAnObject));
}

mod never_panics {
    use proptest::prelude::*;

    use super::*;

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            Just(json!("delete")),
            Just(json!("replace")),
            Just(json!(1)),
            Just(json!("a"))
        ];
        let key = prop::sample::select(vec![
            "spec",
            "containers",
            "name",
            "ports",
            "containerPort",
            "$patch",
            "$retainKeys",
            "metadata",
            "finalizers",
            "$setElementOrder/containers",
            "$deleteFromPrimitiveList/finalizers",
            "$setElementOrder/finalizers",
            "volumes",
        ]);
        leaf.prop_recursive(6, 64, 5, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
                prop::collection::btree_map(key.clone(), inner, 0..6)
                    .prop_map(|map| map.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn on_any_pair(original in value(), patch in value()) {
            let _ = strategic_merge(POD, json!({"spec": original.clone(), "metadata": original}), json!({"spec": patch.clone(), "metadata": patch}));
        }
    }
}
