//! Sources are found by name and namespace, and their Secrets are read from a real API server.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{ObjectMeta, PostParams};
use kube::runtime::reflector::store::Writer;
use kube::runtime::{reflector, watcher};
use kube::{Api, Client};
use pilotguard::api::metrics_source::MetricsSource;
use pilotguard::observe::prometheus::Source;
use pilotguard::observe::sources::{SourceProblem, Sources};
use pilotguard_rig::{Rig, wait};

use crate::fake::{Act, Fake, one, response};
use crate::pilot::{NOW, ask, pilot, value};

/// The whole story, in order: what one step leaves, the next one finds.
pub async fn are_read_and_read_again(rig: &Rig) {
    let namespace = rig.namespace("operator").await.unwrap();
    let client = rig.admin().client().unwrap();
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &namespace);
    let (store, mut writer) = reflector::store();
    writer.apply_watcher_event(&watcher::Event::Init);
    writer.apply_watcher_event(&watcher::Event::InitDone);
    let sources = Sources::new(store, client.clone(), &namespace);

    names_and_namespaces(&sources, &mut writer).await;
    a_token_is_needed(&sources, &mut writer, &secrets, &namespace).await;
    a_token_is_rotated(&sources, &mut writer, &secrets).await;
    an_authority_is_trusted(rig, &sources, &mut writer, &secrets, &client).await;
    an_api_server_that_is_away(rig, &sources, &mut writer).await;
}

fn declare(writer: &mut Writer<MetricsSource>, name: &str, spec: serde_json::Value) {
    let object = MetricsSource::new(name, serde_json::from_value(spec).unwrap());
    writer.apply_watcher_event(&watcher::Event::Apply(object));
}

async fn problem(sources: &Sources, name: &str, namespace: &str) -> String {
    match sources.get(name, namespace).await {
        Err(problem) => problem.to_string(),
        Ok(_) => panic!("{name} can be used in {namespace}"),
    }
}

fn secret(name: &str, data: &[(&str, &[u8])]) -> Secret {
    let data = data.iter().map(|(key, value)| ((*key).to_owned(), ByteString(value.to_vec())));
    Secret {
        metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
        data: Some(data.collect::<BTreeMap<_, _>>()),
        ..Secret::default()
    }
}

async fn names_and_namespaces(sources: &Sources, writer: &mut Writer<MetricsSource>) {
    assert_eq!(
        problem(sources, "default", "shop").await,
        r#"there is no MetricsSource "default"; none is for this namespace: ask a platform admin for one"#
    );
    declare(writer, "default", serde_json::json!({"url": "http://127.0.0.1:1"}));
    declare(writer, "shops", serde_json::json!({"url": "http://127.0.0.1:1", "allowedNamespaces": ["shop"]}));
    declare(writer, "banks", serde_json::json!({"url": "http://127.0.0.1:1", "allowedNamespaces": ["bank"]}));
    assert_eq!(
        problem(sources, "defualt", "shop").await,
        r#"there is no MetricsSource "defualt"; this namespace may use: default, shops"#
    );
    assert_eq!(
        problem(sources, "banks", "shop").await,
        r#"MetricsSource "banks" is not for namespace "shop"; ask a platform admin to add it to spec.allowedNamespaces"#
    );
    let first = sources.get("default", "shop").await.ok().unwrap();
    let again = sources.get("default", "bank").await.ok().unwrap();
    assert!(Arc::ptr_eq(&first, &again), "one source for all, so that they share its limits");
    declare(writer, "default", serde_json::json!({"url": "http://127.0.0.1:2"}));
    let moved = sources.get("default", "shop").await.ok().unwrap();
    assert!(!Arc::ptr_eq(&first, &moved), "a changed specification makes a new source");
    assert!(sources.for_status("banks").await.is_ok());
}

async fn a_token_is_needed(
    sources: &Sources,
    writer: &mut Writer<MetricsSource>,
    secrets: &Api<Secret>,
    namespace: &str,
) {
    let spec = serde_json::json!({"url": "http://127.0.0.1:1", "auth": {"bearer": {"name": "needed"}}});
    declare(writer, "needy", spec);
    assert_eq!(
        problem(sources, "needy", "shop").await,
        format!(
            r#"MetricsSource "needy" needs Secret {namespace}/needed, which does not exist; create it with the key token"#
        )
    );
    secrets.create(&PostParams::default(), &secret("needed", &[("password", b"x")])).await.unwrap();
    assert_eq!(
        problem(sources, "needy", "shop").await,
        format!(r#"MetricsSource "needy" needs the key token in Secret {namespace}/needed; add it as text"#)
    );
    replace(secrets, &secret("needed", &[("token", b"two\nlines")])).await;
    let said = problem(sources, "needy", "shop").await;
    assert!(said.contains("that an HTTP header cannot carry; correct it") && !said.contains("two"), "{said}");
    replace(secrets, &secret("needed", &[("token", b"good\n")])).await;
    assert!(sources.get("needy", "shop").await.is_ok());
}

async fn replace(secrets: &Api<Secret>, secret: &Secret) {
    let name = secret.metadata.name.as_deref().unwrap();
    secrets.replace(name, &PostParams::default(), secret).await.unwrap();
}

async fn ask_once(source: &Source) {
    ask(source, &pilot("bad", "total"), &[value("vector(1)", NOW)].into(), NOW).await;
}

async fn a_token_is_rotated(sources: &Sources, writer: &mut Writer<MetricsSource>, secrets: &Api<Secret>) {
    let fake = Fake::start(|request| match request.headers.get("authorization").map(String::as_str) {
        Some("Bearer second-token") => one("1"),
        _ => Act::Send(response("401 Unauthorized", "text/plain", "no")),
    })
    .await;
    secrets.create(&PostParams::default(), &secret("rotated", &[("token", b"first-token")])).await.unwrap();
    declare(writer, "rotating", serde_json::json!({"url": fake.url, "auth": {"bearer": {"name": "rotated"}}}));
    let first = sources.get("rotating", "shop").await.ok().unwrap();
    ask_once(&first).await;
    assert!(first.is_unauthenticated());
    let again = sources.get("rotating", "shop").await.ok().unwrap();
    assert!(Arc::ptr_eq(&first, &again), "an unchanged Secret makes no new source");
    replace(secrets, &secret("rotated", &[("token", b"second-token")])).await;
    let renewed = || async {
        let source = sources.get("rotating", "shop").await.map_err(|problem| problem.to_string())?;
        ask_once(&source).await;
        crate::pilot::problem(&source).map_or(Ok(()), |problem| Err(problem.message))
    };
    wait::until("new token", Duration::from_secs(15), renewed).await.unwrap();
}

/// The API server itself is an HTTPS server with an authority of its own; it has no query API, but it says so.
async fn an_authority_is_trusted(
    rig: &Rig,
    sources: &Sources,
    writer: &mut Writer<MetricsSource>,
    secrets: &Api<Secret>,
    client: &Client,
) {
    let configmaps: Api<ConfigMap> = Api::namespaced(client.clone(), "kube-system");
    let published = || configmaps.get("kube-root-ca.crt");
    let published = wait::until("published authority", Duration::from_secs(30), published).await.unwrap();
    let authority = &published.data.unwrap()["ca.crt"];
    secrets.create(&PostParams::default(), &secret("authority", &[("ca.crt", authority.as_bytes())])).await.unwrap();
    secrets.create(&PostParams::default(), &secret("no-authority", &[("ca.crt", b"not PEM")])).await.unwrap();
    declare(writer, "untrusted", serde_json::json!({"url": rig.server()}));
    declare(writer, "trusted", serde_json::json!({"url": rig.server(), "tls": {"ca": {"name": "authority"}}}));
    declare(writer, "broken", serde_json::json!({"url": rig.server(), "tls": {"ca": {"name": "no-authority"}}}));
    let said = async |name| {
        let source = sources.get(name, "shop").await.ok().unwrap();
        ask_once(&source).await;
        crate::pilot::problem(&source).unwrap().message
    };
    let untrusted = said("untrusted").await;
    assert!(untrusted.contains("cannot be reached: invalid peer certificate"), "{untrusted}");
    let trusted = said("trusted").await;
    assert!(trusted.contains("refused the credentials (HTTP 403)"), "{trusted}");
    assert!(problem(sources, "broken", "shop").await.contains("holds no certificate in PEM format"));
}

async fn an_api_server_that_is_away(rig: &Rig, sources: &Sources, writer: &mut Writer<MetricsSource>) {
    let before = sources.get("trusted", "shop").await.ok().unwrap();
    rig.stop_apiserver().unwrap();
    // It was refused, so its Secret is due to be read again after five seconds.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let after = sources.get("trusted", "shop").await.ok().unwrap();
    assert!(Arc::ptr_eq(&before, &after), "known credentials are used on");
    let spec = serde_json::json!({"url": "http://127.0.0.1:3", "auth": {"basic": {"name": "never-read"}}});
    declare(writer, "new", spec);
    match sources.get("new", "shop").await {
        Err(problem @ SourceProblem::SecretUnreadable { .. }) => assert_eq!(problem.reason(), "SecretUnreadable"),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("there are no credentials"),
    }
    rig.start_apiserver().await.unwrap();
}
