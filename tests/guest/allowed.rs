//! Only clusters that the user allows, by identity.

use crate::rig::Rig;

#[test]
fn a_cluster_that_is_not_listed_is_refused_with_what_to_paste_where() {
    let Some(rig) = Rig::stranger() else { return };
    rig.write("name: guest\n");
    let ran = rig.expect(4, &["up"]);
    let identity = rig.kubectl(&["get", "namespace", "kube-system", "-o", "jsonpath={.metadata.uid}"]);
    assert!(ran.stderr.contains(&format!("its identity, {identity}, is not listed")), "{}", ran.stderr);
    let path = rig.home.path().join(".config/envctl/config.yaml");
    let (_, rest) = ran.stderr.split_once(&format!("put this into {}:\n\n", path.display())).expect("where");
    let pasted: String = rest.lines().take_while(|line| !line.is_empty()).map(|line| format!("{line}\n")).collect();
    rig.allow(&pasted);
    rig.expect(0, &["up"]);
    rig.expect(0, &["down"]);
    assert!(rig.sessions().is_empty());
}

#[test]
fn a_list_that_cannot_be_read_allows_nothing() {
    let Some(rig) = Rig::new() else { return };
    rig.allow("allowed: [everything]\n");
    let ran = rig.expect(4, &["up"]);
    assert!(ran.stderr.contains("config.yaml"), "{}", ran.stderr);
}

#[test]
fn a_context_that_is_not_there_is_named_with_those_that_are() {
    let Some(rig) = Rig::new() else { return };
    let ran = rig.expect(4, &["up", "--context", "nowhere"]);
    assert!(ran.stderr.contains("there is no context \"nowhere\""), "{}", ran.stderr);
    assert!(ran.stderr.contains("hint: there are: "), "{}", ran.stderr);
    assert!(rig.sessions().is_empty());
}
