//! Whatever form a key takes and wherever a stream is cut, it does not get through.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use proptest::prelude::*;
use serde_json::json;

use super::*;

const NASTY: &str = "a\"b'c\\d\n$(e).*[f]+é/=&<g>";
const PEM: &str = "-----BEGIN KEY-----\nMIIBVgIBADANBgkqhkiG9w0BAQEFAASCAUAwggE8AgEAAkEAq7BFUpkGp3+LQmlQ\nYx2eqzDV+xeG8kx/sQFV18S5JhzGeIJNA72wSeukEPojtqUyX2J0CciPBh7eqclQ\n-----END KEY-----\n";

fn redacted(value: &str, text: &str) -> String {
    Redactor::new([("K", value)]).text(text).into_owned()
}

#[test]
fn what_is_no_key_passes_unchanged() {
    let redactor = Redactor::new([("K", "sk-1234")]);
    assert!(matches!(redactor.text("sk-123 and sk-12"), Cow::Borrowed(_)));
    assert_eq!(redactor.bytes(b"\xff\xfe sk-1234 \xff"), b"\xff\xfe [redacted K] \xff".as_slice());
    assert!(Redactor::new([]).is_empty());
    // Three characters would be found everywhere.
    assert!(Redactor::new([("K", "abc")]).is_empty());
}

#[test]
fn quotes_and_regular_expressions_in_a_key_are_nothing_special() {
    for form in [
        NASTY.to_owned(),
        json!({ "key": NASTY }).to_string(),
        json!(json!({ "key": NASTY }).to_string()).to_string(),
        format!("{NASTY:?}"),
        format!("'{}'", NASTY.replace('\'', r"'\''")),
        "a%22b%27c%5Cd%0A%24%28e%29.%2A%5Bf%5D%2B%C3%A9%2F%3D%26%3Cg%3E".to_owned(),
        "a%22b'c%5cd%0a%24(e).*%5bf%5d%2b%c3%a9%2f%3d%26%3cg%3e".to_owned(),
        "a&quot;b&#39;c\\d\n$(e).*[f]+é/=&amp;&lt;g&gt;".to_owned(),
    ] {
        let clean = redacted(NASTY, &form);
        assert!(clean.contains("[redacted K]"), "{form} → {clean}");
        assert!(!clean.contains("(e)"), "{form} → {clean}");
    }
}

#[test]
fn base64_is_seen_wherever_the_key_begins_in_it() {
    for before in ["", "u", "us", "user:", "user1:"] {
        for after in ["", "!", "!!", "\n"] {
            let encoded = STANDARD.encode(format!("{before}sk-2f9c7a{after}"));
            let clean = redacted("sk-2f9c7a", &format!("Basic {encoded}"));
            assert!(clean.contains("[redacted K]"), "{before}…{after}: {clean}");
        }
    }
}

#[test]
fn each_line_of_a_key_is_a_key_but_not_its_frame() {
    let shown = redacted(PEM, "log: MIIBVgIBADANBgkqhkiG9w0BAQEFAASCAUAwggE8AgEAAkEAq7BFUpkGp3+LQmlQ");
    assert_eq!(shown, "log: [redacted K]");
    assert_eq!(redacted(PEM, "-----BEGIN KEY-----"), "-----BEGIN KEY-----");
    let wrapped: Vec<String> =
        STANDARD.encode(PEM).as_bytes().chunks(76).map(|line| String::from_utf8_lossy(line).into()).collect();
    let clean = redacted(PEM, &wrapped.join("\n"));
    assert_eq!(clean.replace("[redacted K]", "").trim(), "", "{clean}");
}

#[test]
fn the_longer_of_two_keys_wins() {
    let redactor = Redactor::new([("SHORT", "secret"), ("LONG", "secret-and-more")]);
    assert_eq!(redactor.text("secret-and-more secret"), "[redacted LONG] [redacted SHORT]");
    let mut stream = redactor.stream();
    assert_eq!(stream.push(b"secret"), b"");
    assert_eq!(stream.push(b"-and-less."), b"[redacted SHORT]-and-less.");
}

#[test]
fn a_value_is_redacted_in_its_texts_and_names() {
    let redactor = Redactor::new([("K", "sk-1234")]);
    let mut value = json!({"a": ["x sk-1234", 1], "sk-1234": {"b": null}});
    redactor.value(&mut value);
    assert_eq!(value, json!({"a": ["x [redacted K]", 1], "[redacted K]": {"b": null}}));
    assert_eq!(redactor.of(vec!["sk-1234".to_owned()]), ["[redacted K]"]);
}

#[test]
fn a_key_that_is_a_word_of_an_event_or_a_nodes_name_hides_no_other() {
    use crate::plan::{NodeId, NodeKind};
    use crate::provision::{Event, NodeState};
    let node = NodeId::new(NodeKind::Service, "webshop");
    let event = |detail: &str| Event::Node {
        node: node.clone(),
        state: NodeState::Waiting { needs: vec![node.clone()] },
        detail: detail.to_owned(),
        at: 1,
    };
    let redactor = Redactor::new([
        ("KIND", "service"),
        ("IS", "waiting"),
        ("TYPE", "node"),
        ("FIELD", "detail"),
        ("PW", "webshop"),
        ("K", "sk-1234"),
    ]);
    assert_eq!(redactor.of(event("sk-1234 of webshop")), event("[redacted K] of [redacted PW]"));
}

#[test]
fn the_data_of_every_secret_is_hidden() {
    let secret = json!({"kind": "Secret", "data": {"a": "YQ=="}, "stringData": {"b": "x"},
        "metadata": {"name": "s", "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "YQ==", "k": "v"}}});
    let mut value = json!({ "args": ["--token=hunter22"], "items": [secret] });
    Redactor::new([("T", "hunter22")]).object(&mut value);
    let hidden = json!({"kind": "Secret", "data": {"a": "[redacted]"}, "stringData": {"b": "[redacted]"},
        "metadata": {"name": "s", "annotations": {"k": "v"}}});
    assert_eq!(value, json!({ "args": ["--token=[redacted T]"], "items": [hidden] }));
}

#[test]
fn a_stream_holds_back_only_what_may_be_a_key() {
    let redactor = Redactor::new([("K", "sk-1234")]);
    let mut stream = redactor.stream();
    assert_eq!(stream.push(b"Password: s"), b"Password: ");
    assert_eq!(stream.push(b"o\n"), b"so\n");
    assert_eq!(stream.push(b"sk-12"), b"");
    assert_eq!(stream.finish(), b"sk-12");
}

proptest! {
    #[test]
    fn cutting_a_stream_changes_nothing(
        value in "[a-c\\n\"]{4,8}",
        text in "[a-c\\n\"]{0,60}",
        cuts in proptest::collection::vec(0usize..60, 0..6),
    ) {
        let redactor = Redactor::new([("K", value.as_str())]);
        let whole = redactor.bytes(text.as_bytes()).into_owned();
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).chain([0, text.len()]).collect();
        cuts.sort_unstable();
        let mut stream = redactor.stream();
        let mut out = Vec::new();
        for pair in cuts.windows(2) {
            out.extend(stream.push(&text.as_bytes()[pair[0]..pair[1]]));
        }
        out.extend(stream.finish());
        prop_assert_eq!(out, whole);
    }

    #[test]
    fn no_form_of_any_value_gets_through(value in "\\PC{4,24}", before in "[ -~]{0,7}", after in "[ -~]{0,7}") {
        let redactor = Redactor::new([("K", value.as_str())]);
        let text = format!("{before}{value}{after}");
        for encoded in [
            text.clone(),
            json!(text).to_string(),
            format!("{text:?}"),
            STANDARD.encode(&text),
            URL_SAFE.encode(&text),
        ] {
            prop_assert!(redactor.text(&encoded).contains("[redacted K]"), "{}", encoded);
        }
    }
}
