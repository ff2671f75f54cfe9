//! The model server: a linear model, `WEIGHTS=2,3` and `BIAS=1`, on port 8000.

use axum::body::Body;
use axum::http::{Response, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::{Error, http};

pub async fn serve() -> Result<(), Error> {
    let numbers = |name: &str, default: &str| -> Result<Vec<f64>, Error> {
        let text = std::env::var(name).unwrap_or_else(|_| default.to_owned());
        text.split(',')
            .map(|number| number.trim().parse().map_err(|_| format!("{name}: {number:?} is not a number").into()))
            .collect()
    };
    let weights = numbers("WEIGHTS", "1")?;
    let bias = numbers("BIAS", "0")?[0];
    let router = Router::new()
        .route("/healthz", get(async || "ok"))
        .route("/predict", post(async move |body: Json<Value>| predict(&weights, bias, &body)));
    http::serve("model", 8000, router).await
}

fn predict(weights: &[f64], bias: f64, body: &Value) -> Response<Body> {
    let inputs: Option<Vec<f64>> =
        body["inputs"].as_array().and_then(|inputs| inputs.iter().map(Value::as_f64).collect());
    match inputs {
        Some(inputs) if inputs.len() == weights.len() => {
            let output = bias + weights.iter().zip(&inputs).map(|(weight, input)| weight * input).sum::<f64>();
            http::json(StatusCode::OK, &json!({"output": output}))
        }
        _ => http::json(
            StatusCode::BAD_REQUEST,
            &json!({"error": format!("inputs: {} numbers expected", weights.len())}),
        ),
    }
}
