//! The environment file's JSON Schema (draft 2020-12), for editors.

use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::model::EnvironmentFile;

/// The schema, from the types that decode the file.
pub fn schema() -> Value {
    let mut schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<EnvironmentFile>();
    schema.insert("title".to_owned(), "envctl environment".into());
    schema.to_value()
}
