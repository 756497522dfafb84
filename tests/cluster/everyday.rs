//! The commands of every day, run as people run them in each situation of a pilot; what comes of them is what
//! `docs/commands.md` says.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, ensure};
use futures::FutureExt;
use futures::future::try_join_all;
use pilotguard::api::incident::IncidentStage;
use pilotguard::api::workload::PartKind;
use pilotguard::release::workload::{has_one_live_release, is_paused, replicas, template};
use pilotguard_rig::wait::{self, PATIENCE};
use pilotguard_rig::{Output, Person, Tool};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use crate::cluster::{Cluster, root};
use crate::scene::{Outcome, Scene, incident, uncontended};

tests![everyday_commands_do_what_the_docs_say];

/// The columns of the table, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Situation {
    InsideAWindow,
    OutsideTheWindows,
    DecisionWindow,
    ScaledDown,
    AfterARollback,
}

const SITUATIONS: [Situation; 5] = [
    Situation::InsideAWindow,
    Situation::OutsideTheWindows,
    Situation::DecisionWindow,
    Situation::ScaledDown,
    Situation::AfterARollback,
];

/// While an incident waits for a decision these go back to its rollback target and would end the situation: there they
/// are tried as dry-runs, which are judged like the real thing.
const ENDING: [&str; 2] = ["kubectl rollout undo deployment/web", "kubectl apply -f good.yaml"];

/// What `docs/commands.md` says.
struct Page {
    /// Each command and what comes of it, by situation.
    rows: Vec<(String, Vec<String>)>,
    /// What a letter stands for: what the user reads.
    texts: BTreeMap<String, String>,
}

async fn everyday_commands_do_what_the_docs_say(cluster: &Cluster) -> anyhow::Result<()> {
    let page = Page::read(&std::fs::read_to_string(root().join("docs/commands.md"))?)?;
    let columns = try_join_all(SITUATIONS.map(|situation| column(cluster, &page, situation).boxed())).await?;
    let found: Vec<String> = page
        .rows
        .iter()
        .enumerate()
        .map(|(row, (command, _))| {
            format!("{command} | {}", columns.iter().map(|it| &*it[row]).collect::<Vec<_>>().join(" | "))
        })
        .collect();
    let said: Vec<String> =
        page.rows.iter().map(|(command, cells)| format!("{command} | {}", cells.join(" | "))).collect();
    ensure!(found == said, "docs/commands.md says otherwise; what came of it:\n{}", found.join("\n"));
    Ok(())
}

impl Page {
    fn read(text: &str) -> anyhow::Result<Self> {
        let mut page = Self { rows: Vec::new(), texts: BTreeMap::new() };
        for line in text.lines().filter(|line| line.starts_with('|')) {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            let quoted = |cell: &str| cell.split('`').nth(1).map(str::to_owned);
            match cells.as_slice() {
                [first, rest @ ..] if rest.len() == SITUATIONS.len() => {
                    if let Some(command) = quoted(first) {
                        page.rows.push((command, rest.iter().map(ToString::to_string).collect()));
                    }
                }
                [letter, text] if letter.len() == 1 => {
                    page.texts.insert((*letter).to_owned(), quoted(text).context("a text in backquotes")?);
                }
                _ => {}
            }
        }
        ensure!(page.rows.len() > 10 && page.texts.len() > 3, "the tables of docs/commands.md were not found");
        Ok(page)
    }

    /// What came of a command, as a cell says it.
    fn cell(&self, output: &Output) -> String {
        let said = &output.stderr;
        let outcome = if said.contains("Refused: ") && !output.succeeded() {
            "Refused"
        } else if !output.succeeded() {
            return format!("failed: {said}");
        } else if said.contains("pilotguard holds this until it is allowed: ") {
            "Held"
        } else if said.contains("pilotguard kept the stored release instead of: ") {
            "Pinned"
        } else if said.contains("pilotguard kept replicas at ") {
            "Kept"
        } else {
            return "Allowed".to_owned();
        };
        let letters: Vec<&str> =
            self.texts.iter().filter(|(_, text)| said.contains(text.as_str())).map(|(letter, _)| &**letter).collect();
        format!("{outcome} ({})", letters.join(", "))
    }
}

/// Runs all commands in one situation: those of helm where helm deployed the release, the others where kubectl did.
async fn column(cluster: &Cluster, page: &Page, situation: Situation) -> anyhow::Result<Vec<String>> {
    let by = |with_helm| async move {
        let place = Place::arrange(cluster, situation, with_helm).boxed().await?;
        let mut cells = BTreeMap::new();
        for (command, _) in &page.rows {
            if command.starts_with("helm ") == with_helm {
                let output = uncontended(|| place.run(command)).await?;
                cells.insert(command.clone(), page.cell(&output));
                if command != "kubectl rollout pause deployment/web" {
                    place.reset().await.with_context(|| format!("{situation:?}, after {command}"))?;
                }
            }
        }
        anyhow::Ok(cells)
    };
    let (mut cells, helm) =
        futures::try_join!(by(false).boxed(), by(true).boxed()).with_context(|| format!("{situation:?}"))?;
    cells.extend(helm);
    page.rows.iter().map(|(command, _)| cells.remove(command).context("each command was run")).collect()
}

/// A pilot in a situation, and a folder with what people apply there.
struct Place<'a> {
    scene: Scene<'a>,
    situation: Situation,
    tool: Person,
    folder: TempDir,
    with_helm: bool,
    /// The Deployment as the situation has it.
    stands: Value,
}

impl<'a> Place<'a> {
    async fn arrange(cluster: &'a Cluster, situation: Situation, with_helm: bool) -> anyhow::Result<Self> {
        let scene = Scene::set(cluster).await?;
        let tool = scene.gitops_tool(cluster).await?;
        let folder = TempDir::new()?;
        let mut place = Self { scene, situation, tool, folder, with_helm, stands: Value::Null };
        place.write()?;
        place.bring_about().boxed().await?;
        place.stands = place.scene.deployment().await?;
        Ok(place)
    }

    /// The files that commands name.
    fn write(&self) -> anyhow::Result<()> {
        let (good, bad, next) = (self.scene.release(1, 0), self.scene.release(2, 50), self.scene.release(3, 0));
        let same = if self.situation == Situation::DecisionWindow { &bad } else { &good };
        for (name, release) in [("good", &good), ("bad", &bad), ("next", &next), ("same", same)] {
            std::fs::write(self.folder.path().join(format!("{name}.yaml")), release.to_string())?;
            let mut synced = release.clone();
            synced["metadata"]["annotations"] = json!({"argocd.argoproj.io/tracking-id": "web:apps/Deployment:x/web"});
            std::fs::write(self.folder.path().join(format!("synced-{name}.yaml")), synced.to_string())?;
        }
        let mut chart = self.scene.release(4711, 4712);
        chart["metadata"].as_object_mut().context("metadata")?.remove("namespace");
        let chart = chart.to_string().replace("4711", "{{ .Values.version }}").replace("4712", "{{ .Values.fails }}");
        let templates = self.folder.path().join("chart/templates");
        std::fs::create_dir_all(&templates)?;
        std::fs::write(templates.join("deployment.yaml"), chart)?;
        let about = json!({"apiVersion": "v2", "name": "web", "version": "1.0.0"});
        std::fs::write(templates.with_file_name("Chart.yaml"), about.to_string())?;
        std::fs::write(templates.with_file_name("values.yaml"), json!({"version": 1, "fails": 0}).to_string())?;
        Ok(())
    }

    async fn bring_about(&self) -> anyhow::Result<()> {
        let scene = &self.scene;
        let plain = scene.pilot(&json!({"slos": []}));
        // With something older to go back to, where the bad release is not it.
        let goes_bad = matches!(self.situation, Situation::DecisionWindow | Situation::AfterARollback);
        if !(goes_bad && self.with_helm) {
            self.deploy(0, 0).await?;
        }
        self.deploy(1, 0).await?;
        match self.situation {
            Situation::InsideAWindow => {
                scene.declare(&plain).await?;
                scene.guarded().await
            }
            Situation::OutsideTheWindows => {
                let (later, _) = Scene::later();
                scene.declare(&scene.pilot(&json!({"slos": [], "changes": {"windows": [later]}}))).await?;
                scene.guarded().await
            }
            Situation::DecisionWindow => {
                let pilot = scene.pilot(&Scene::trigger(&json!({})));
                scene.declare(&pilot).await?;
                scene.guarded().await?;
                scene.bake_no_more(&pilot).await?;
                self.deploy(2, 50).await?;
                scene.incident().await.map(drop)
            }
            Situation::ScaledDown => {
                scene.declare(&plain).await?;
                scene.guarded().await?;
                scene.decide(&scene.mallory, &json!({"type": "ScaleDown"})).await?;
                let stands = |stage| stage == IncidentStage::Standing;
                scene.until("scale-down", |pilot| incident(pilot).is_some_and(|it| stands(it.stage))).await.map(drop)
            }
            Situation::AfterARollback => {
                scene.declare(&plain).await?;
                scene.guarded().await?;
                scene.known_good().await?;
                self.deploy(2, 50).await?;
                scene.rolled_back_by(&scene.mallory).await
            }
        }
    }

    async fn deploy(&self, version: u32, fails: u32) -> anyhow::Result<()> {
        if self.with_helm {
            let line = format!("helm upgrade --install web chart --set version={version},fails={fails}");
            return self.run(&line).await?.accepted();
        }
        self.scene.apply(&self.scene.grace, &self.scene.release(version, fails)).await?.accepted()
    }

    /// Runs a command line in the folder; what is named `synced-` is applied by a GitOps tool.
    async fn run(&self, line: &str) -> anyhow::Result<Output> {
        let mut words = line.split(' ');
        let tool = match words.next() {
            Some("helm") => Tool::Helm,
            _ => Tool::Kubectl,
        };
        let person = if line.contains("synced-") { &self.tool } else { &self.scene.grace };
        let mut command = Command::new(self.scene.cluster.rig.tool(tool));
        command.args(words).args(["--namespace", &self.scene.namespace]).current_dir(self.folder.path());
        if self.situation == Situation::DecisionWindow && ENDING.contains(&line) {
            command.arg("--dry-run=server");
        }
        let home = |name: &str| -> PathBuf { Path::new(self.folder.path()).join(name) };
        command.env("KUBECONFIG", &person.kubeconfig).env("KUBECACHEDIR", home("cache"));
        command.env("KUBE_EDITOR", "sed -i s/web:/edited:/").stdin(Stdio::null()).kill_on_drop(true);
        command.envs(["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"].map(|name| (name, home("helm"))));
        let output = wait::within(&format!("end of {line}"), PATIENCE, command.output()).await??;
        Ok(Output {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Brings back what stood, where a command was allowed to change it.
    async fn reset(&self) -> anyhow::Result<()> {
        if self.with_helm {
            return Ok(());
        }
        let Ok(now) = self.scene.deployment().await else {
            self.deploy(1, 0).await?;
            return self.scene.guarded().await;
        };
        if template(PartKind::Deployment, &now) != template(PartKind::Deployment, &self.stands) {
            self.deploy(1, 0).await?;
            // What kubectl has added by itself, such as the time of a restart, no manifest takes away.
            let patch =
                json!([{"op": "replace", "path": "/spec/template", "value": template(PartKind::Deployment, &self.stands)}]).to_string();
            let words =
                ["patch", "deployment", "web", "--namespace", &self.scene.namespace, "--type=json", "-p", &patch];
            self.scene.grace.kubectl(&words).await?.accepted()?;
        }
        let (now, stood) = (self.scene.deployment().await?, replicas(PartKind::Deployment, &self.stands));
        ensure!(template(PartKind::Deployment, &now) == template(PartKind::Deployment, &self.stands), "{now}");
        if is_paused(&now) || replicas(PartKind::Deployment, &now) > stood {
            // Nobody but the operator may resume a rollout at any time.
            let patch = json!({"spec": {"paused": false, "replicas": stood}}).to_string();
            let line = format!("patch deployment web -p {patch}");
            self.scene.kubectl(&self.scene.operator.account, &line).await?.accepted()?;
        }
        self.settled().await
    }

    /// While the controller has not seen the last write, nobody knows that one release is live, and nothing can be held.
    async fn settled(&self) -> anyhow::Result<()> {
        wait::until("one live release", PATIENCE, || async {
            let now = self.scene.deployment().await.map_err(|error| format!("{error:#}"))?;
            let is_settled = is_paused(&now) || has_one_live_release(PartKind::Deployment, &now);
            if is_settled { Ok(()) } else { Err(now.to_string()) }
        })
        .await?;
        Ok(())
    }
}
