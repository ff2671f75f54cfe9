//! What the file or the API refuses.

use crate::compare::both;
use crate::stage::IMAGE;

#[test]
fn files() {
    both("files", |stage| {
        let service = |needs: &str| format!("{{ image: {IMAGE}, needs: [{needs}] }}");
        stage.environment(&format!("services: {{ a: {}, b: {}, c: {} }}\n", service("b"), service("c"), service("a")));
        stage.envctl("a cycle", &["up"]);
        stage.environment(&format!("services: {{ a: {} }}\n", service("nobody")));
        stage.envctl("nobody is needed", &["up"]);
        stage.environment(&format!(
            "services: {{ a: {{ image: {IMAGE}, env: {{ X: \"${{services.b.http.url}}\" }}, nothing: 1 }} }}\n"
        ));
        stage.envctl("a reference to nobody", &["up"]);
        stage.ls("nothing was started", &[]);
    });
}

#[test]
fn objects() {
    both("objects", |stage| {
        stage.environment("manifests: [{ name: one, path: manifests/one.yaml }]\n");
        let refused = |step: &str, text: &str| {
            stage.write("manifests/one.yaml", text);
            stage.envctl(step, &["up"]);
        };
        let up = |text: &str| {
            stage.write("manifests/one.yaml", text);
            let ran = stage.quietly(&["up"]);
            assert_eq!(ran.code, Some(0), "{ran:?}");
        };
        refused("a new session", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: one}\nnothing: {a: b}\n");
        up("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: one}\ndata: {a: b}\n");
        refused("an unknown field", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: two}\nnothing: {a: b}\n");
        refused("a wrong type", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: two}\ndata: {a: 1}\n");
        refused("a wrong name", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: Two_Words}\n");
        refused("a required field", "apiVersion: v1\nkind: Service\nmetadata: {name: two}\nspec: {selector: {a: b}}\n");
        refused("no such kind", "apiVersion: example.com/v1\nkind: Nothing\nmetadata: {name: two}\n");
        refused(
            "a selector that doesn't match",
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: two}\nspec:\n  selector: {matchLabels: {a: b}}\n  template:\n    metadata: {labels: {a: c}}\n    spec: {containers: [{name: x, image: y}]}\n",
        );
        refused("no such namespace", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: two, namespace: nowhere}\n");
        up("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: fixed}\nimmutable: true\ndata: {a: b}\n");
        refused(
            "an immutable field",
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: fixed}\nimmutable: true\ndata: {a: c}\n",
        );
    });
}
