//! What kubectl says of the embedded cluster and of real Kubernetes, after the same manifests were applied to both.
//!
//! What differs by nature (times, uids, addresses, generated names) is masked. Every other difference is either mended in our API server
//! or stands in `differences.txt` with its reason; a line there that no longer differs fails the test too.

use std::collections::{BTreeMap, BTreeSet};

use crate::masks::{flat, masked_text};
use crate::sides::{Side, sides};

const MANIFESTS: &str = include_str!("manifests.yaml");
const DIFFERENCES: &str = include_str!("differences.txt");

/// The reasons of differences that aren't there in every run.
const SOMETIMES: [&str; 1] = ["depends on timing"];

/// How an answer is compared.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    /// Field by field.
    Json,
    /// Line by line, with columns' widths and ages masked.
    Text,
    /// The same of the lines that name fields: our tables hold no prose.
    Fields,
}
use Form::{Fields, Json, Text};

/// Each is asked of both clusters; `{}` words are split at spaces.
const QUESTIONS: &[(Form, &str)] = &[
    (Json, "get configmap settings -o json --show-managed-fields"),
    (Json, "get secret secret -o json"),
    (Json, "get serviceaccount robot -o json"),
    (Json, "get serviceaccount default -o json"),
    (Json, "get configmap kube-root-ca.crt -o json"),
    (Json, "get service web -o json --show-managed-fields"),
    (Json, "get service headless -o json"),
    (Json, "get service outside -o json"),
    (Json, "get persistentvolumeclaim data -o json"),
    (Json, "get persistentvolume -o json"),
    (Json, "get pod alone -o json"),
    (Json, "get pods -l app=web -o json"),
    (Json, "get deployment web -o json"),
    (Json, "get replicaset -l app=web -o json"),
    (Json, "get replicaset set -o json"),
    (Json, "get job once -o json"),
    (Json, "get role reader -o json"),
    (Json, "get rolebinding reader -o json"),
    (Json, "get clusterrole answers -o json"),
    (Json, "get clusterrolebinding answers -o json"),
    (Json, "get lease held -o json"),
    (Json, "get endpointslice by-hand -o json"),
    (Json, "get endpointslice -l kubernetes.io/service-name=web -o json"),
    (Json, "get event told -o json"),
    (Json, "get events.events.k8s.io told -o json"),
    (Json, "get namespace answers -o json"),
    (Json, "get service kubernetes -n default -o json"),
    (Json, "get storageclass standard -o json"),
    (Json, "get clusterrole cluster-admin system:basic-user system:discovery -o json"),
    (Json, "get clusterrolebinding cluster-admin system:basic-user system:node-proxier -o json"),
    (Json, "get clusterrole edit -o json"),
    (Json, "version -o json"),
    (Json, "auth whoami -o json"),
    (Text, "get configmap,secret,serviceaccount,service,persistentvolumeclaim"),
    (Text, "get deployment,replicaset,job -o wide"),
    (Text, "get pod alone missing"),
    (Text, "get role,rolebinding,lease,endpointslice by-hand --ignore-not-found"),
    (Text, "get clusterrolebinding answers -o wide"),
    (Text, "get storageclass standard"),
    (Text, "describe configmap settings"),
    (Text, "describe secret secret"),
    (Text, "describe service web"),
    (Text, "describe deployment web"),
    (Text, "describe pod alone"),
    (Text, "describe job once"),
    (Text, "describe persistentvolumeclaim data"),
    (Text, "describe role reader"),
    (Text, "describe clusterrole answers"),
    (Text, "auth can-i get configmaps --as system:serviceaccount:answers:robot"),
    (Text, "auth can-i delete configmaps --as system:serviceaccount:answers:robot"),
    (Text, "auth can-i --list --as system:serviceaccount:answers:robot"),
    (Text, "api-resources --no-headers --sort-by name"),
    (Text, "api-versions"),
    (Fields, "explain deployment.spec.strategy"),
    (Fields, "explain pod.spec --recursive"),
    (Fields, "explain job.spec"),
    (Fields, "explain service.spec"),
    // Refusals.
    (Text, "get pod nothing"),
    (Text, "get nothing"),
    (Text, "get pods --field-selector spec.nothing=1"),
    (Text, "create configmap settings"),
    (Text, "create configmap Wrong_Name"),
    (Text, "create deployment web --image=hello"),
    (Text, "delete configmap nothing"),
    (Text, "scale deployment nothing --replicas 2"),
    (Text, "label pod alone -- =x"),
    (Text, "patch deployment web -p {\"spec\":{\"replicas\":\"two\"}}"),
    (Text, "patch deployment web -p {\"spec\":{\"replicas\":-1}}"),
    (Text, "patch deployment web -p {\"spec\":{\"selector\":{\"matchLabels\":{\"app\":\"other\"}}}}"),
    (Text, "patch deployment web -p {\"spec\":{\"strategy\":{\"type\":\"Recreate\"}}}"),
    (Text, "patch deployment web -p {\"spec\":{\"strategy\":{\"type\":\"Rolling\"}}}"),
    (
        Text,
        "patch deployment web -p {\"spec\":{\"strategy\":{\"rollingUpdate\":{\"maxSurge\":0,\"maxUnavailable\":0}}}}",
    ),
    (
        Text,
        "patch deployment web -p {\"spec\":{\"strategy\":{\"rollingUpdate\":{\"maxSurge\":\"few\",\"maxUnavailable\":\"150%\"}}}}",
    ),
    (Text, "patch service web -p {\"spec\":{\"clusterIP\":\"10.96.0.1\"}}"),
    (Text, "patch pod alone -p {\"spec\":{\"terminationGracePeriodSeconds\":5}}"),
    (Text, "patch pod alone -p {\"spec\":{\"nothing\":5}} --type merge"),
    (Text, "patch job once -p {\"spec\":{\"completions\":5}}"),
    (Text, "get secrets --as system:serviceaccount:answers:robot"),
    (Text, "get nodes --as system:serviceaccount:answers:robot"),
    (Text, "create token nothing"),
    (Text, "logs nothing"),
    (Text, "exec nothing -- true"),
    (Text, "rollout status deployment web"),
    (Text, "rollout history deployment web"),
];

/// `QUESTION :: WHAT` → the reason.
fn known() -> BTreeMap<String, &'static str> {
    let lines = DIFFERENCES.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (difference, reason) = line.rsplit_once(" :: ").unwrap_or_else(|| panic!("no reason: {line}"));
            (difference.to_owned(), reason)
        })
        .collect()
}

/// A question's answer in the parts that are compared.
fn answer(side: &Side, form: Form, question: &str) -> BTreeMap<String, String> {
    let words: Vec<&str> = question.split(' ').collect();
    let output = side.kubectl(&words, "");
    if form == Json {
        return match serde_json::from_str(&output.out) {
            Ok(value) => flat(&value),
            Err(_) => [("error".to_owned(), masked_text(&output.err))].into(),
        };
    }
    let mut parts = BTreeMap::from([("exit code".to_owned(), format!("{:?}", output.code))]);
    let mut counts = BTreeMap::<String, u32>::new();
    // Go indents the differences of structs that it prints in errors by chance, so that nobody relies on it (go-cmp's report_text.go).
    let even = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    for line in output.out.lines().map(str::to_owned).chain(output.err.lines().map(even)) {
        // A field's line is its name and type; the rest is prose.
        let is_field = line.contains("\t<");
        let line = masked_text(&line);
        if line.is_empty() || form == Fields && !is_field {
            continue;
        }
        *counts.entry(line).or_default() += 1;
    }
    parts.extend(counts.into_iter().map(|(line, count)| (line, count.to_string())));
    parts
}

#[test]
fn kubectl_says_the_same_of_both_clusters() {
    let Some([ours, theirs]) = sides() else { return };
    for side in [&ours, &theirs] {
        side.must(&["create", "namespace", "answers"], "");
        side.must(&["apply", "--server-side", "-f", "-"], MANIFESTS);
        side.must(&["rollout", "status", "deployment/web", "--timeout=120s"], "");
        side.must(&["wait", "--for=condition=Ready", "pod/alone", "--timeout=120s"], "");
        side.must(&["wait", "--for=jsonpath={.status.readyReplicas}=1", "replicaset/set", "--timeout=120s"], "");
        side.must(&["wait", "--for=condition=Failed", "job/once", "--timeout=120s"], "");
        side.must(
            &[
                "wait",
                "--for=jsonpath={.status.containerStatuses[0].state.waiting.reason}=ImagePullBackOff",
                "pod/missing",
                "--timeout=120s",
            ],
            "",
        );
    }
    let known = known();
    let (mut found, mut unexplained) = (BTreeSet::new(), Vec::new());
    for (form, question) in QUESTIONS {
        let (mine, real) = (answer(&ours, *form, question), answer(&theirs, *form, question));
        for what in mine.keys().chain(real.keys()).collect::<BTreeSet<_>>() {
            let (mine, real) = (mine.get(what), real.get(what));
            if mine == real {
                continue;
            }
            // A line of the table may end in `*`, which stands for any rest.
            let difference = format!("{question} :: {what}");
            let entry = known.keys().find(|entry| match entry.strip_suffix('*') {
                Some(start) => difference.starts_with(start.trim_end()),
                None => **entry == difference,
            });
            match entry {
                Some(entry) => {
                    found.insert(entry.clone());
                }
                None => {
                    let show = |of: Option<&String>| of.map_or("(absent)".to_owned(), Clone::clone);
                    unexplained.push(format!("{difference}\n    ours: {}\n    real: {}", show(mine), show(real)));
                }
            }
        }
    }
    let gone: Vec<_> =
        known.keys().filter(|entry| !found.contains(*entry) && !SOMETIMES.contains(&known[*entry])).collect();
    assert!(
        unexplained.is_empty() && gone.is_empty(),
        "{} differences that tests/counterparts/differences.txt doesn't explain:\n{}\nlines of it that no longer differ: {gone:#?}",
        unexplained.len(),
        unexplained.join("\n"),
    );
}
