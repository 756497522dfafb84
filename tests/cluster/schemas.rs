//! The chart and the examples match the schemas that the API server itself publishes, unknown fields included.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use pilotguard_rig::wait::{self, PATIENCE};
use pilotguard_rig::{Output, Tool};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::cluster::{Cluster, root};
use crate::release::{Release, run};

tests![manifests_and_examples_match_the_schemas_of_the_server];

/// The groups of everything that the chart and the examples contain.
const GROUPS: [&str; 6] = [
    "api/v1",
    "apis/apps/v1",
    "apis/networking.k8s.io/v1",
    "apis/rbac.authorization.k8s.io/v1",
    "apis/admissionregistration.k8s.io/v1",
    "apis/pilotguard.dev/v1alpha1",
];

async fn manifests_and_examples_match_the_schemas_of_the_server(cluster: &Cluster) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    for group in GROUPS {
        let path = format!("/openapi/v3/{group}");
        let published = wait::until(group, PATIENCE, async || cluster.done(&["get", "--raw", &path]).await).await?;
        write_schemas(&serde_json::from_str(&published)?, folder.path())?;
    }
    let release = Release { name: "pilotguard".to_owned(), namespace: "pilotguard-system".to_owned() };
    let mut files: Vec<PathBuf> = vec![root().join("examples")];
    for external in ["external=false", "external=true"] {
        let file = folder.path().join(format!("{external}.yaml"));
        fs::write(&file, release.render(cluster, "shop", &[external]).await?)?;
        files.push(file);
    }
    let output = kubeconform(cluster, folder.path(), &files).await?;
    ensure!(output.succeeded(), "{}{}", output.stdout, output.stderr);
    ensure!(output.stdout.contains("Invalid: 0, Errors: 0, Skipped: 0"), "{}", output.stdout);

    let rendered = fs::read_to_string(&files[1])?;
    let wrong = rendered.replacen("replicas: 1", "replicas: 1\n  replcas: 2", 1);
    ensure!(wrong != rendered, "the chart renders no replicas");
    fs::write(&files[1], wrong)?;
    let output = kubeconform(cluster, folder.path(), &files).await?;
    ensure!(!output.succeeded() && output.stdout.contains("replcas"), "a misspelt field passes: {}", output.stdout);
    Ok(())
}

async fn kubeconform(cluster: &Cluster, schemas: &Path, files: &[PathBuf]) -> anyhow::Result<Output> {
    let mut command = Command::new(cluster.rig.tool(Tool::Kubeconform));
    let location = schemas.join("{{.ResourceKind}}{{.KindSuffix}}.json");
    command.arg("-summary").arg("-schema-location").arg(location).args(files);
    run(command).await
}

/// Writes one file for each kind of an OpenAPI document, under the name by which kubeconform asks for it.
fn write_schemas(document: &Value, folder: &Path) -> anyhow::Result<()> {
    let mut components = document["components"]["schemas"].clone();
    let all = components.as_object_mut().context("an OpenAPI document without schemas")?;
    all.values_mut().for_each(forbid_unknown_fields);
    let mut written = 0;
    for (name, schema) in document["components"]["schemas"].as_object().into_iter().flatten() {
        for kind in schema["x-kubernetes-group-version-kind"].as_array().into_iter().flatten() {
            let text = |key: &str| kind[key].as_str().unwrap_or_default().to_lowercase();
            let group = text("group").split('.').next().unwrap_or_default().to_owned();
            let parts = [text("kind"), group, text("version")];
            let file = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-");
            let schema = json!({
                "$schema": "http://json-schema.org/draft-07/schema#",
                "allOf": [{"$ref": format!("#/components/schemas/{name}")}],
                "components": {"schemas": components},
            });
            fs::write(folder.join(format!("{file}.json")), schema.to_string())?;
            written += 1;
        }
    }
    ensure!(written > 0, "an OpenAPI document without kinds");
    Ok(())
}

/// OpenAPI lets unknown fields pass, the API server warns of them or refuses them. Words that only OpenAPI has go.
fn forbid_unknown_fields(schema: &mut Value) {
    if let Some(members) = schema.as_object_mut() {
        let is_open = members.contains_key("additionalProperties")
            || members.contains_key("x-kubernetes-preserve-unknown-fields");
        if members.get("properties").is_some_and(Value::is_object) && !is_open {
            members.insert("additionalProperties".to_owned(), false.into());
        }
        // Formats such as int-or-string are Kubernetes' own; a default is no constraint.
        members.retain(|name, value| !(name == "format" && value.is_string()) && name != "default");
    }
    match schema {
        Value::Object(members) => members.values_mut().for_each(forbid_unknown_fields),
        Value::Array(items) => items.iter_mut().for_each(forbid_unknown_fields),
        _ => {}
    }
}
