//! Deploys models through the Kubernetes API, with the pod's own service account.

use std::time::Duration;

use axum::http::StatusCode;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use kube::runtime::conditions::is_deployment_completed;
use kube::runtime::wait::await_condition;
use serde_json::{Value, json};

use crate::{Error, http};

/// The models of this pod's namespace.
#[derive(Clone)]
pub struct Models {
    deployments: Api<Deployment>,
    services: Api<Service>,
    image: String,
}

impl Models {
    /// From the in-cluster configuration. `MODEL_IMAGE` is what model pods run.
    pub async fn connect() -> Result<Self, Error> {
        let client = kube::Client::try_default().await?;
        Ok(Self {
            deployments: Api::default_namespaced(client.clone()),
            services: Api::default_namespaced(client),
            image: std::env::var("MODEL_IMAGE").unwrap_or_else(|_| "platform".to_owned()),
        })
    }

    /// Creates the Deployment and the Service, and waits until the model answers. The caller owns the deadline.
    pub async fn deploy(&self, name: &str, weights: &[f64], bias: f64) -> Result<(), Error> {
        let labels = json!({"app": name, "part": "model"});
        let weights: Vec<String> = weights.iter().map(f64::to_string).collect();
        let deployment: Deployment = serde_json::from_value(json!({
            "metadata": {"name": name, "labels": labels},
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {"containers": [{
                        "name": "model",
                        "image": self.image,
                        // Kubernetes would pull a name without a tag each time, also where the nodes were given the image.
                        "imagePullPolicy": "IfNotPresent",
                        "args": ["model"],
                        "env": [{"name": "WEIGHTS", "value": weights.join(",")}, {"name": "BIAS", "value": bias.to_string()}],
                        "ports": [{"name": "http", "containerPort": 8000}],
                        "readinessProbe": {"httpGet": {"path": "/healthz", "port": "http"}, "periodSeconds": 1},
                    }]},
                },
            },
        }))?;
        let service: Service = serde_json::from_value(json!({
            "metadata": {"name": name, "labels": labels},
            "spec": {"selector": labels, "ports": [{"name": "http", "port": 8000, "targetPort": "http"}]},
        }))?;
        self.deployments.create(&PostParams::default(), &deployment).await?;
        self.services.create(&PostParams::default(), &service).await?;
        await_condition(self.deployments.clone(), name, is_deployment_completed()).await?;
        self.answers(name).await;
        Ok(())
    }

    /// Waits until the model's Service leads to it. A ready pod is not enough, and nothing tells: kube-proxy writes new services and endpoints at most
    /// once a second (its `minSyncPeriod`). Until then connections are refused, or leave the cluster, where somebody else may answer.
    async fn answers(&self, name: &str) {
        let mut pause = Duration::from_millis(10);
        let url = format!("http://{name}:8000/healthz");
        let is_well = async || {
            let answer = http::request(hyper::Method::GET, &url, None, None).await;
            answer.is_ok_and(|(status, _)| status.is_success())
        };
        while !is_well().await {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(200));
        }
    }

    pub async fn delete(&self, name: &str) -> Result<(), Error> {
        self.deployments.delete(name, &DeleteParams::default()).await?;
        self.services.delete(name, &DeleteParams::default()).await?;
        Ok(())
    }

    /// Asks the model through its Service, by its name.
    pub async fn predict(&self, name: &str, body: &Value) -> Result<(StatusCode, Value), Error> {
        http::request(hyper::Method::POST, &format!("http://{name}:8000/predict"), None, Some(body)).await
    }
}
