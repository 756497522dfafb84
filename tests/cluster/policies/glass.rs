//! Break-glass proves itself by a static policy, with no operator running.

use anyhow::ensure;
use pilotguard_rig::wait::{self, PATIENCE};
use pilotguard_rig::{Output, Person};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::release::Release;

tests![
    break_glass_says_why_and_nobody_forges_it,
    break_glass_reaches_config_maps,
    break_glass_brings_no_marks,
    what_is_deleted_says_why_anew,
];

const KEY: &str = "pilotguard.dev/break-glass-reason";

/// A guarded namespace: Mallory may do everything there, Carol may break the glass and nothing else.
struct Glass {
    guarded: String,
    mallory: Person,
    carol: Person,
}

impl Glass {
    async fn set(cluster: &Cluster) -> anyhow::Result<Self> {
        let guarded = cluster.rig.namespace("guarded").await?;
        Release::install(cluster, &guarded, &["external=true", "breakGlass.users[0]=carol"]).await?;
        let mallory = cluster.rig.person("mallory", &[]).await?;
        cluster.rig.grant(&mallory, &guarded, "cluster-admin").await?;
        let carol = cluster.rig.person("carol", &[]).await?;
        cluster.done(&["create", "deployment", "web", "--image=web:1", "--namespace", &guarded]).await?;
        // A new policy is obeyed a moment after it was stored.
        wait::until("policy in force", PATIENCE, || async {
            let line = format!("annotate deployment web {KEY}=forged --dry-run=server");
            let said = run(&guarded, &mallory, &line, false).await.map_err(|error| error.to_string())?;
            if said.succeeded() { Err("accepted".to_owned()) } else { Ok(()) }
        })
        .await?;
        Ok(Self { guarded, mallory, carol })
    }
}

/// Who runs what, whether they break the glass, and what the refusal says where there is one.
type Step<'a> = (&'a Person, String, bool, Option<&'a str>);

/// Each step starts from what the ones before left.
async fn take(guarded: &str, steps: Vec<Step<'_>>) -> anyhow::Result<()> {
    for (person, line, breaks_glass, refusal) in steps {
        let output = run(guarded, person, &line, breaks_glass).await?;
        match refusal {
            None => ensure!(output.succeeded(), "{line}: {}", output.stderr),
            Some(text) => ensure!(!output.succeeded() && output.stderr.contains(text), "{line}: {output:?}"),
        }
    }
    Ok(())
}

async fn run(guarded: &str, person: &Person, line: &str, breaks_glass: bool) -> anyhow::Result<Output> {
    let mut words: Vec<&str> = line.split(' ').chain(["--namespace", guarded]).collect();
    if breaks_glass {
        words.extend(["--as=carol", "--as-group=pilotguard:break-glass"]);
    }
    Ok(person.kubectl(&words).await?)
}

async fn break_glass_says_why_and_nobody_forges_it(cluster: &Cluster) -> anyhow::Result<()> {
    let Glass { guarded, mallory, carol } = Glass::set(cluster).await?;
    let key = KEY;
    let forged = "can be changed only under break-glass";
    let silent = "break-glass needs a new reason";
    let marks = "even under break-glass";
    let unread = "is empty or a placeholder; write why in your own words";
    // In this order: each step starts from what the ones before left.
    let steps: Vec<(&Person, String, bool, Option<&str>)> = vec![
        (&mallory, format!("annotate deployment web {key}=forged"), false, Some(forged)),
        (&mallory, "set image deployment/web web=web:2".to_owned(), false, None),
        (&carol, "set image deployment/web web=web:3".to_owned(), false, Some("cannot")),
        (&carol, "set image deployment/web web=web:3".to_owned(), true, Some(silent)),
        (&carol, "delete deployment web".to_owned(), true, Some(silent)),
        (&carol, format!("annotate deployment web {key}=outage"), true, None),
        (&carol, "label deployment web a=c".to_owned(), true, Some(silent)),
        (
            &carol,
            format!("annotate deployment web {key}=more pilotguard.dev/admitted={{}} --overwrite"),
            true,
            Some(marks),
        ),
        (
            &carol,
            format!("annotate deployment web --overwrite {key}={}", "x".repeat(257)),
            true,
            Some("one line of at most 256"),
        ),
        (&carol, format!("annotate deployment web --overwrite {key}=<why>"), true, Some(unread)),
        (&carol, format!("annotate deployment web --overwrite {key}=TODO"), true, Some(unread)),
        (&carol, format!("annotate deployment web --overwrite {key}=delete:<why>"), true, Some(unread)),
        (&carol, format!("annotate deployment web --overwrite {key}=…"), true, Some(unread)),
        (&mallory, format!("annotate deployment web --overwrite {key}=mine"), false, Some(forged)),
        (&mallory, "label deployment web a=b".to_owned(), false, None),
        (&mallory, format!("annotate deployment web {key}-"), false, None),
        (&mallory, format!("annotate deployment web {key}=outage"), false, Some(forged)),
        (&carol, format!("annotate deployment web {key}=again"), true, None),
        (&carol, "delete deployment web".to_owned(), true, None),
        (&mallory, "create deployment web --image=web:1".to_owned(), false, None),
    ];
    take(&guarded, steps).await?;
    nor_through_the_status_nor_with_something_new(cluster, &mallory, &guarded).await
}

async fn nor_through_the_status_nor_with_something_new(
    cluster: &Cluster,
    mallory: &Person,
    guarded: &str,
) -> anyhow::Result<()> {
    let (key, forged) = ("pilotguard.dev/break-glass-reason", "can be changed only under break-glass");
    let get = ["get", "deployment", "web", "--namespace", guarded, "-o", "json"];
    let mut copy: Value = serde_json::from_str(&cluster.done(&get).await?)?;
    copy["metadata"]["annotations"][key] = json!("forged");
    let patch = json!({"metadata": {"annotations": {key: "forged"}}}).to_string();
    let arguments =
        ["patch", "deployment", "web", "--namespace", guarded, "--subresource=status", "--type=merge", "-p"];
    let output = mallory.kubectl(&[&arguments[..], &[&patch]].concat()).await?;
    ensure!(!output.succeeded() && output.stderr.contains(forged), "{output:?}");
    json_patch::merge(&mut copy, &json!({"metadata": {"name": "other", "resourceVersion": null, "uid": null}}));
    let output = mallory.kubectl_with(&["create", "-f", "-"], &copy.to_string()).await?;
    ensure!(!output.succeeded() && output.stderr.contains(forged), "{output:?}");
    Ok(())
}

async fn break_glass_reaches_config_maps(cluster: &Cluster) -> anyhow::Result<()> {
    let Glass { guarded, mallory, carol } = Glass::set(cluster).await?;
    let why = format!(r#"{{"metadata":{{"annotations":{{"{KEY}":"outage"}}}},"data":{{"level":"2"}}}}"#);
    let level = r#"patch configmap flags --type=merge -p {"data":{"level":"3"}}"#;
    let forged = "can be changed only under break-glass";
    let steps: Vec<Step<'_>> = vec![
        (&mallory, "create configmap flags --from-literal=level=1".to_owned(), false, None),
        (&mallory, format!("annotate configmap flags {KEY}=forged"), false, Some(forged)),
        (&mallory, format!("patch configmap flags --type=merge -p {why}"), false, Some(forged)),
        (&carol, format!("patch configmap flags --type=merge -p {why}"), false, Some("cannot")),
        (&carol, format!("patch configmap flags --type=merge -p {why}"), true, None),
        (&carol, level.to_owned(), true, Some("break-glass needs a new reason")),
        (&mallory, level.to_owned(), false, None),
        (&carol, "delete configmap flags".to_owned(), true, None),
    ];
    take(&guarded, steps).await
}

async fn break_glass_brings_no_marks(cluster: &Cluster) -> anyhow::Result<()> {
    let Glass { guarded, carol, .. } = Glass::set(cluster).await?;
    let create = async |annotations: Value| {
        let manifest = json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "flags", "namespace": guarded, "annotations": annotations}});
        let words = ["create", "-f", "-", "--as=carol", "--as-group=pilotguard:break-glass"];
        carol.kubectl_with(&words, &manifest.to_string()).await
    };
    for mark in ["admitted", "held", "quarantined", "contained", "parked-replicas"] {
        let output = create(json!({KEY: "outage", format!("pilotguard.dev/{mark}"): "x"})).await?;
        ensure!(!output.succeeded() && output.stderr.contains("even under break-glass"), "{mark}: {output:?}");
    }
    let plain = create(json!({KEY: "outage"})).await?;
    ensure!(plain.succeeded(), "{plain:?}");
    Ok(())
}

/// A reason that the stamp knows was for something else, unless it spoke of deleting.
async fn what_is_deleted_says_why_anew(cluster: &Cluster) -> anyhow::Result<()> {
    let Glass { guarded, mallory, carol } = Glass::set(cluster).await?;
    for (name, reason, seen, is_allowed) in [
        ("a", "outage", "outage", false),
        ("b", r#"the "red" \ button"#, r#"the "red" \ button"#, false),
        ("c", "outage", "outage 42", true),
        ("d", "delete: outage", "delete: outage", true),
    ] {
        let stamp = json!({"by": "outage", "breakGlass": seen}).to_string();
        let manifest = json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": guarded, "annotations": {"pilotguard.dev/admitted": stamp}}});
        let created = mallory.kubectl_with(&["create", "-f", "-"], &manifest.to_string()).await?;
        ensure!(created.succeeded(), "{created:?}");
        let glass = ["--namespace", &guarded, "--as=carol", "--as-group=pilotguard:break-glass"];
        let says_why = format!("{KEY}={reason}");
        let told = carol.kubectl(&[&["annotate", "configmap", name, &says_why][..], &glass].concat()).await?;
        ensure!(told.succeeded(), "{told:?}");
        let output = carol.kubectl(&[&["delete", "configmap", name][..], &glass].concat()).await?;
        let is_told = output.succeeded() || output.stderr.contains("before deleting, write one that begins");
        ensure!(output.succeeded() == is_allowed && is_told, "{reason} upon {seen}: {output:?}");
    }
    let lines = carol
        .kubectl(&[
            "annotate",
            "deployment",
            "web",
            &format!("{KEY}=two\nlines"),
            "--namespace",
            &guarded,
            "--as=carol",
            "--as-group=pilotguard:break-glass",
        ])
        .await?;
    ensure!(!lines.succeeded() && lines.stderr.contains("must be one line of at most 256"), "{lines:?}");
    Ok(())
}
