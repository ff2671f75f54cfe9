//! Bodies made by client-go's own serializer (k8s.io/api 0.36), each beside the JSON of the same object.

use super::*;

#[test]
fn what_client_go_sends() {
    for line in include_str!("golden/vectors.txt").lines() {
        let (body, expected) = line.split_once(' ').expect("base64, space, JSON");
        let body = {
            use base64::Engine as _;
            base64::engine::general_purpose::STANDARD.decode(body).expect("base64")
        };
        let mut expected: Value = serde_json::from_str(expected).expect("JSON");
        drop_nulls(&mut expected);
        assert_eq!(decode(&body), Ok(expected));
    }
}

/// Go writes nil slices without `omitempty` as null; here they are absent.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(drop_nulls);
        }
        Value::Array(list) => list.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

#[test]
fn broken_bodies_are_refused() {
    assert_eq!(decode(b"{}"), Err(ProtobufError::NoPrefix));
    assert_eq!(decode(b"k8s\0\x0a\xff"), Err(ProtobufError::Malformed));
    let unknown = decode(b"k8s\0\x0a\x09\x0a\x02v1\x12\x03Foo").expect_err("an unknown kind");
    assert_eq!(unknown.to_string(), "no kind \"Foo\" is registered for version \"v1\"");
}

proptest::proptest! {
    #[test]
    fn never_panics(bytes: Vec<u8>) {
        let mut body = b"k8s\0\x0a\x09\x0a\x02v1\x12\x03Pod\x12".to_vec();
        body.push(u8::try_from(bytes.len().min(127)).unwrap_or_default());
        body.extend(bytes);
        let _ = decode(&body);
    }
}
