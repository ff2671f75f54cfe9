//! The engine ends under sessions: one whose cluster was in it ends, one whose pods were in it goes on, and nothing is looked for
//! in vain afterwards.

use envctl::session::launch::wait_until_gone;

use crate::engine::engine;
use crate::own_engine::OwnEngine;
use crate::rig::Rig;

#[test]
fn sessions_outlive_or_end_with_the_engine_and_nothing_is_left() {
    if engine().is_none() {
        return;
    }
    let engine = OwnEngine::start();
    let rig = Rig::in_engine("embedded", &engine);
    rig.envctl(&["up", "--session", "pods"]).succeeded();
    rig.envctl(&["up", "--session", "nodes", "--cluster", "kind"]).succeeded();
    let sessions = rig.sessions();
    let nodes = sessions.iter().find(|one| one.record().is_ok_and(|record| record.session == "nodes")).expect("there");

    engine.kill();
    wait_until_gone(nodes).expect("its agent ends");
    let ended = rig.envctl(&["ls"]).succeeded();
    assert!(ended.says("its cluster was lost") && ended.says("the Docker engine has ended"), "{ended:?}");
    assert!(ended.stdout.contains("pods") && !ended.stdout.contains("nodes"), "{ended:?}");
    let again = rig.envctl(&["up", "--session", "nodes", "--cluster", "kind"]);
    assert_eq!(again.code, Some(4), "{again:?}");
    assert!(again.says("no Docker engine answers") && again.says("start Docker"), "{again:?}");
    let kept = rig.envctl(&["gc"]);
    assert!(kept.code == Some(6) && kept.says("still there: namespace"), "{kept:?}");

    engine.restart();
    let forgotten = rig.envctl(&["gc"]).succeeded();
    assert!(forgotten.says("nothing to remove"), "{forgotten:?}");
    let clean = rig.envctl(&["ls"]).succeeded();
    assert!(!clean.says("has left something"), "{clean:?}");
    // Its image went with the engine: it is built anew.
    let built = rig.envctl(&["up", "--session", "pods"]).succeeded();
    assert!(built.says("docker build -t team/hello"), "{built:?}");
    rig.envctl(&["down", "--session", "pods"]).succeeded();
}
