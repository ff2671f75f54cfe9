//! A cluster behind a proxy.

use serde_json::Value;

use crate::proxy::Proxy;
use crate::rig::Rig;

#[test]
fn the_proxy_of_a_kubeconfig_carries_everything() {
    let Some(mut rig) = Rig::new() else { return };
    let proxy = Proxy::start(None);
    let text = std::fs::read_to_string(&rig.kubeconfig).expect("a kubeconfig");
    let mut kubeconfig: Value = serde_yaml::from_str(&text).expect("YAML");
    let through = format!("http://ann:secret@127.0.0.1:{}", proxy.port);
    kubeconfig["clusters"][0]["cluster"]["proxy-url"] = through.into();
    rig.kubeconfig = rig.home.path().join("proxied");
    std::fs::write(&rig.kubeconfig, kubeconfig.to_string()).expect("written");
    rig.expect(0, &["up"]);
    // The first that it was asked for: the cluster's identity.
    assert!(proxy.asked().starts_with("CONNECT "));
    // Requests by HTTP/2, and streams, which have connections of their own.
    assert_eq!(rig.expect(0, &["exec", "web", "--", "/bin/sh", "-c", "echo here"]).stdout, "here\n");
    let address = rig.expect(0, &["port", "web"]).stdout;
    assert!(rig.get(address.trim()).ends_with("web\n"));
    rig.expect(0, &["down"]);

    // One that isn't there, and one of another kind: nothing of it is shown but where it should be.
    for (through, says) in
        [("http://ann:secret@127.0.0.1:1", "tunnel"), ("socks5://ann:secret@127.0.0.1:1", "socks5://")]
    {
        kubeconfig["clusters"][0]["cluster"]["proxy-url"] = through.into();
        std::fs::write(&rig.kubeconfig, kubeconfig.to_string()).expect("written");
        let ran = rig.expect(4, &["up"]);
        assert!(ran.stderr.contains(says) && !ran.stderr.contains("secret"), "{}", ran.stderr);
    }
    assert!(rig.sessions().is_empty());
}
