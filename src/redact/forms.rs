//! The forms in which a key is likely to appear: as it is and line by line; as JSON, Rust, Python, XML, a shell and a URL write it;
//! in hexadecimal; and in base64 wherever it begins in what was encoded (`user:key` of a Basic authorization is such a whole).

use std::collections::BTreeSet;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};

use super::SHORTEST;

/// A line of a key of several lines is looked for by itself from this length on.
const SHORTEST_LINE: usize = 8;

/// All forms of a value, each at least [`SHORTEST`] bytes.
pub(super) fn of(value: &str) -> BTreeSet<Vec<u8>> {
    let mut forms = BTreeSet::new();
    if value.len() < SHORTEST {
        return forms;
    }
    written(value, &mut forms);
    // Logs and YAML cut and indent it.
    for line in value.lines().map(str::trim) {
        if line.len() >= SHORTEST_LINE && line.len() < value.len() && !line.starts_with("-----") {
            written(line, &mut forms);
        }
    }
    let trimmed = value.trim();
    if trimmed.len() >= SHORTEST_LINE && trimmed.len() < value.len() {
        written(trimmed, &mut forms);
    }
    let bytes = value.as_bytes();
    forms.insert(hex(bytes, false).into_bytes());
    forms.insert(hex(bytes, true).into_bytes());
    in_base64(bytes, &mut forms);
    forms.retain(|form| form.len() >= SHORTEST);
    forms
}

/// As programs write a text.
fn written(text: &str, forms: &mut BTreeSet<Vec<u8>>) {
    let mut add = |form: String| _ = forms.insert(form.into_bytes());
    add(text.to_owned());
    let json = json(text);
    // JSON in a text of JSON, as logs of requests have it.
    add(self::json(&json));
    add(json.replace('/', "\\/"));
    add(ascii_json(text));
    add(json);
    // A text's Debug and `escape_debug` differ in quotes and combining characters.
    let debug = format!("{text:?}");
    add(debug[1..debug.len() - 1].to_owned());
    add(text.escape_debug().to_string());
    add(text.escape_default().to_string());
    // Python's repr, both kinds of quotes.
    let python = text.replace('\\', "\\\\").replace('\n', "\\n").replace('\r', "\\r").replace('\t', "\\t");
    add(python.replace('\'', "\\'"));
    add(python);
    add(text.replace('\'', r"'\''"));
    add(text.replace('\'', "'\"'\"'"));
    let xml = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    add(xml.replace('"', "&quot;").replace('\'', "&#39;"));
    add(xml.replace('"', "&quot;").replace('\'', "&apos;"));
    add(xml.replace('"', "&quot;").replace('\'', "&#x27;"));
    add(xml.replace('"', "&quot;"));
    add(xml);
    // RFC 3986, encodeURIComponent, Python's and Go's path, encodeURI, and forms.
    for kept in ["-_.~", "-_.!~*'()", "-_.~/", "-_.~$&+:=@", "-_.!~*'();/?:@&=+$,#", "*-._"] {
        for upper in [true, false] {
            let encoded = percent(text, kept, upper);
            add(encoded.replace("%20", "+"));
            add(encoded);
        }
    }
}

fn json(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

/// As Python's `json.dumps` writes it.
fn ascii_json(text: &str) -> String {
    let mut out = String::new();
    for c in json(text).chars() {
        if c.is_ascii() {
            out.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(out, "\\u{unit:04x}").expect("writing to a String cannot fail");
            }
        }
    }
    out
}

fn percent(text: &str, kept: &str, upper: bool) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || kept.as_bytes().contains(&byte) {
            out.push(char::from(byte));
        } else if upper {
            write!(out, "%{byte:02X}").expect("writing to a String cannot fail");
        } else {
            write!(out, "%{byte:02x}").expect("writing to a String cannot fail");
        }
    }
    out
}

fn hex(bytes: &[u8], upper: bool) -> String {
    let digits = |byte: &u8| if upper { format!("{byte:02X}") } else { format!("{byte:02x}") };
    bytes.iter().map(digits).collect()
}

fn in_base64(bytes: &[u8], forms: &mut BTreeSet<Vec<u8>>) {
    let whole = STANDARD.encode(bytes);
    // `base64` and PEM break lines at these widths.
    for width in [76, 64] {
        if whole.len() > width {
            forms.extend(whole.as_bytes().chunks(width).filter(|line| line.len() >= SHORTEST_LINE).map(<[u8]>::to_vec));
        }
    }
    for kept in ["-_.~", "-_.~/"] {
        forms.insert(percent(&whole, kept, true).into_bytes());
        forms.insert(percent(&whole, kept, false).into_bytes());
    }
    forms.insert(whole.into_bytes());
    for before in 0..3 {
        let mut shifted = vec![0; before];
        shifted.extend_from_slice(bytes);
        // Only characters all of whose six bits are the key's: the others depend on its neighbours.
        let (first, end) = ((before * 8).div_ceil(6), shifted.len() * 8 / 6);
        for encoded in [STANDARD_NO_PAD.encode(&shifted), URL_SAFE_NO_PAD.encode(&shifted)] {
            forms.insert(encoded.as_bytes()[first..end].to_vec());
        }
    }
}
