//! The functions that cargo-fuzz drives (`fuzz/`), on generated input at every run, and on what such tools like to find.

#![cfg(feature = "cli")]

#[path = "fuzz/targets.rs"]
mod targets;

use proptest::collection::vec;
use proptest::prelude::*;

/// Bytes, and text made of what the formats are made of.
fn input(words: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    let text = vec(proptest::sample::select(words), 0..40).prop_map(|words| words.concat().into_bytes());
    prop_oneof![vec(any::<u8>(), 0..256), text]
}

const YAML: &[&str] = &[
    "name",
    "services",
    "images",
    "jobs",
    "keys",
    "x-a",
    "profiles",
    "ci",
    "include",
    "web",
    "env",
    "ready",
    "ports",
    "needs",
    ": ",
    "\n",
    "  ",
    "- ",
    "{",
    "}",
    "[",
    "]",
    ", ",
    "&a ",
    "*a",
    "<<",
    "\"",
    "'",
    "|",
    ">",
    "#",
    "---\n",
    "${",
    "}",
    ":-",
    "HOST",
    "services.web.http.url",
    "80",
    "1.5",
    "true",
    "~",
    "é",
    "\t",
    "other.yaml",
    "!!str ",
    "? ",
    "\\x",
];
const JSON: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "null",
    "1",
    "-1",
    "1e400",
    "true",
    "\"a\"",
    "\"spec\"",
    "\"metadata\"",
    "\"containers\"",
    "\"name\"",
    "\"$patch\"",
    "\"delete\"",
    "\"replace\"",
    "\"$setElementOrder/containers\"",
    "\"$retainKeys\"",
    "\0",
    "\"$deleteFromPrimitiveList/finalizers\"",
    "\"template\"",
    "\"ports\"",
    "\"data\"",
    "\"status\"",
];

/// A JSON value of fields that merge in each of the ways there are.
fn value() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i32>().prop_map(Into::into),
        "[a-c]{0,2}".prop_map(Into::into),
    ];
    let names = proptest::sample::select(vec![
        "spec",
        "template",
        "metadata",
        "labels",
        "containers",
        "name",
        "image",
        "env",
        "value",
        "ports",
        "containerPort",
        "protocol",
        "finalizers",
        "data",
        "volumes",
        "emptyDir",
        "$patch",
        "$retainKeys",
        "$setElementOrder/containers",
        "status",
        "conditions",
        "type",
        "args",
        "replicas",
        "selector",
    ]);
    leaf.prop_recursive(6, 48, 4, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(serde_json::Value::Array),
            vec((names.clone(), inner), 0..4).prop_map(|entries| {
                serde_json::Value::Object(entries.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
            }),
        ]
    })
}

proptest! {
    #[test]
    fn env_files(data in input(YAML)) {
        targets::env_file(&data);
    }

    #[test]
    fn protobuf_bodies(data in vec(any::<u8>(), 0..256)) {
        targets::protobuf_body(&data);
    }

    #[test]
    fn patches_of_text(data in input(JSON)) {
        targets::patches(&data);
    }

    #[test]
    fn patches_of_values(one in value(), other in value()) {
        targets::patches(format!("{one}\0{other}").as_bytes());
    }

    #[test]
    fn exec_frames(data in vec(any::<u8>(), 0..256)) {
        targets::exec_frames(&data);
    }

    #[test]
    fn node_packets(data in input(JSON)) {
        targets::node_packet(&data);
        let whole: Vec<u8> = std::iter::once(0).chain(data).collect();
        targets::node_packet(&whole);
    }
}

/// What is nested deeper than a stack is high is refused, not followed.
#[test]
fn nothing_is_followed_without_end() {
    const DEEP: usize = 100_000;
    for (open, close) in [("[", "]"), ("{a: ", "}"), ("- ", ""), ("? ", "")] {
        targets::env_file(format!("{}{}", open.repeat(DEEP), close.repeat(DEEP)).as_bytes());
    }
    targets::env_file("[*a, &a ".repeat(1000).as_bytes());
    let json = |open: &str, close: &str| format!("{}1{}", open.repeat(DEEP), close.repeat(DEEP));
    for text in [json("[", "]"), json("{\"a\":", "}")] {
        targets::patches(format!("{text}\0{text}").as_bytes());
        targets::node_packet(format!("\0{text}").as_bytes());
    }
    // A schema in a schema (CustomResourceDefinition: spec, versions, schema, openAPIV3Schema, then `not` in `not`).
    for field in [0xaa, 0xba, 0xda, 0xe2, 0xea] {
        let mut body = Vec::new();
        for _ in 0..20_000 {
            let mut outer = vec![field, 0x01];
            let mut length = body.len();
            while length >= 0x80 {
                outer.push((length & 0x7f) as u8 | 0x80);
                length >>= 7;
            }
            outer.push(length as u8);
            outer.extend(&body);
            body = outer;
            if body.len() > 200_000 {
                break;
            }
        }
        targets::protobuf_body(&body);
    }
}
