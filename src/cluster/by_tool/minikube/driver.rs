//! By what driver minikube is to make a cluster, as it looks for that itself; and the one by which it cannot make envctl's.
//!
//! With the driver none the machine is the node, and there is one: minikube refuses every profile but `minikube` (`cmd/minikube/cmd/start.go`,
//! `validateBareMetal`), and ours has a name of its own. It says so only once it has begun, and not what else could be done.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::cluster::ClusterError;

/// The driver none, and its alias (minikube, `pkg/minikube/driver`: `None`, `AliasNative`).
const NONE: [&str; 2] = ["none", "native"];

/// Refuses the driver none; `home` is minikube's.
///
/// # Errors
/// When that is what the user set.
pub fn refuse_none(home: &str, variables: &BTreeMap<String, String>) -> Result<(), ClusterError> {
    let config = fs::read(Path::new(home).join("config/config.json")).unwrap_or_default();
    let Some((driver, by)) = set(variables, &config).filter(|(driver, _)| NONE.contains(&driver.as_str())) else {
        return Ok(());
    };
    Err(ClusterError::Unsupported {
        what: format!(
            "minikube's driver {driver} ({by}) has one cluster a machine, named minikube: envctl can't make one of its own"
        ),
        cure: format!(
            "set MINIKUBE_DRIVER=docker; or make that cluster yourself, and use it: \
             minikube start --driver={driver} && envctl up --context minikube"
        ),
    })
}

/// The driver that is set, and by what: a variable wins over `minikube config`, which writes `config/config.json` in its home
/// (`cmd/minikube/cmd/root.go`, `initConfig`); then the same by the setting's old name (`start.go`, `selectDriver`). `None`: minikube
/// chooses, and never none.
fn set(variables: &BTreeMap<String, String>, config: &[u8]) -> Option<(String, String)> {
    let config: Value = serde_json::from_slice(config).unwrap_or_default();
    [("MINIKUBE_DRIVER", "driver"), ("MINIKUBE_VM_DRIVER", "vm-driver")].into_iter().find_map(|(variable, setting)| {
        // An empty one is not set.
        let found = |value: &str, by: String| (!value.is_empty()).then(|| (value.to_owned(), by));
        let by_variable = variables.get(variable).and_then(|value| found(value, format!("{variable}={value}")));
        by_variable.or_else(|| {
            let value = config[setting].as_str()?;
            found(value, format!("minikube config get {setting}"))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(config: &str, variables: &[(&str, &str)]) -> Option<ClusterError> {
        let home = tempfile::tempdir().expect("a directory");
        fs::create_dir(home.path().join("config")).expect("made");
        fs::write(home.path().join("config/config.json"), config).expect("written");
        let variables = variables.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        refuse_none(home.path().to_str().expect("UTF-8"), &variables).err()
    }

    // As `minikube config set driver none` writes it.
    const CONFIG: &str = "{\n    \"driver\": \"none\"\n}";

    #[test]
    fn a_variable_wins_over_minikubes_configuration_and_the_new_name_over_the_old() {
        for (config, variables, by) in [
            ("", &[("MINIKUBE_DRIVER", "none")][..], Some("MINIKUBE_DRIVER=none")),
            ("", &[("MINIKUBE_DRIVER", "native")], Some("MINIKUBE_DRIVER=native")),
            ("", &[("MINIKUBE_VM_DRIVER", "none")], Some("MINIKUBE_VM_DRIVER=none")),
            (CONFIG, &[], Some("minikube config get driver")),
            (CONFIG, &[("MINIKUBE_DRIVER", "")], Some("minikube config get driver")),
            (CONFIG, &[("MINIKUBE_VM_DRIVER", "docker")], Some("minikube config get driver")),
            (r#"{"vm-driver": "none"}"#, &[], Some("minikube config get vm-driver")),
            (CONFIG, &[("MINIKUBE_DRIVER", "docker")], None),
            (r#"{"driver": "docker", "vm-driver": "none"}"#, &[], None),
            ("{\"driver", &[], None),
            ("{}", &[], None),
        ] {
            let refused = refused(config, variables);
            match by {
                Some(by) => assert!(refused.expect("refused").to_string().contains(by), "{config} {variables:?}"),
                None => assert!(refused.is_none(), "{config} {variables:?}: {refused:?}"),
            }
        }
        refuse_none("/nowhere", &BTreeMap::new()).expect("minikube chooses");
    }

    #[test]
    fn the_cure_names_both_ways() {
        let cure = refused(CONFIG, &[]).expect("refused").hint().expect("a cure");
        for way in ["MINIKUBE_DRIVER=docker", "minikube start --driver=none", "envctl up --context minikube"] {
            assert!(cure.contains(way), "{cure}");
        }
    }
}
