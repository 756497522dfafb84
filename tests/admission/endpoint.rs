//! The HTTPS endpoints: whatever is sent, the answer is well-formed.

use std::net::TcpListener;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use jiff::Timestamp;
use pilotguard::admit::certificates::ServerIdentity;
use pilotguard::admit::registration::Endpoint;
use pilotguard::admit::server::{Admission, LARGEST_BODY, serve};
use pilotguard::admit::witness::Witness;
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use crate::fixtures::*;

const PATHS: [&str; 4] = ["/workloads", "/observed", "/scale", "/objects"];

pub struct Served {
    runtime: Runtime,
    client: reqwest::Client,
    pub base: String,
    /// The certificate authority, PEM.
    pub authority: String,
}

static SERVED: LazyLock<Served> = LazyLock::new(|| Served::start(&CancellationToken::new()));

impl Served {
    pub fn start(stop: &CancellationToken) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = Runtime::new().unwrap();
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let base = format!("https://{}", listener.local_addr().unwrap());
        let identity = ServerIdentity::generate(&Endpoint::Url(base.clone()), Timestamp::now()).unwrap();
        let authority = reqwest::Certificate::from_pem(identity.ca_pem.as_bytes()).unwrap();
        let client = reqwest::Client::builder()
            .tls_certs_only([authority])
            .no_proxy()
            .timeout(Duration::from_secs(10))
            .build()
            .unwrap();
        let admission = Admission {
            guarded: Arc::new(guarded(&[pilot()])),
            cluster: Arc::new(no_records()),
            witness: Witness::new(Arc::default()).0,
            own_account: OPERATOR.into(),
            gitops_users: [].into(),
            clock: || at(CLOSED),
        };
        let (stop, trusted) = (stop.clone(), identity.ca_pem.clone());
        runtime.spawn(async move { serve(listener, &identity, admission, stop).await.unwrap() });
        Self { runtime, client, base, authority: trusted }
    }

    pub fn post(&self, path: &str, body: Vec<u8>) -> Result<(u16, String), reqwest::Error> {
        self.runtime.block_on(async {
            let answer = self.client.post(format!("{}{path}", self.base)).body(body).send().await?;
            Ok((answer.status().as_u16(), answer.text().await?))
        })
    }
}

#[test]
fn a_review_is_answered_over_tls() {
    let review = update("grace", &with_image("web:2"));
    let (status, body) = SERVED.post("/workloads", review.to_string().into_bytes()).unwrap();
    let answer: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        (status, &answer["apiVersion"], &answer["kind"]),
        (200, &json!("admission.k8s.io/v1"), &json!("AdmissionReview"))
    );
    assert_eq!(answer["response"]["uid"], review["request"]["uid"]);
    assert_eq!((&answer["response"]["allowed"], &answer["response"]["status"]["code"]), (&json!(false), &json!(403)));
}

#[test]
fn what_cannot_be_read_is_refused_with_a_reason() {
    let with_uid = r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u-1"}}"#;
    let other = json!({"apiVersion": "admission.k8s.io/v1beta1", "kind": "AdmissionReview", "request": {"uid": "u-2"}})
        .to_string();
    let no_template =
        review("UPDATE", "grace", &json!({"kind": "Deployment", "metadata": {}}), &json!({"kind": "Deployment"}));
    for (body, status, text) in [
        (String::new(), 400, "the body is not JSON"),
        ("[1".to_owned(), 400, "the body is not JSON"),
        ("[".repeat(100_000), 400, "the body is not JSON"),
        ("{}".to_owned(), 400, "expected kind AdmissionReview"),
        (with_uid.to_owned(), 200, "no usable request"),
        (other, 200, "expected kind AdmissionReview"),
        (no_template.to_string(), 200, "has no spec.template"),
        (create_of_a_pod(), 200, "/pods is not reviewed here"),
    ] {
        let (got, answer) = SERVED.post("/workloads", body.clone().into_bytes()).unwrap();
        assert_eq!(got, status, "{body:.80}: {answer}");
        assert!(answer.contains(text), "{body:.80}: {answer}");
        if status == 200 {
            let answer: Value = serde_json::from_str(&answer).unwrap();
            assert_eq!(answer["response"]["allowed"], false);
            assert_eq!(answer["response"]["status"]["code"], 400);
        }
    }
}

fn create_of_a_pod() -> String {
    let mut review = update("grace", &with_image("web:2"));
    review["request"]["resource"] = json!({"group": "", "version": "v1", "resource": "pods"});
    review.to_string()
}

#[test]
fn a_body_has_an_end() {
    // The server may close the connection before it has taken it all.
    if let Ok((status, _)) = SERVED.post("/workloads", vec![b' '; LARGEST_BODY + 1]) {
        assert_eq!(status, 413);
    }
    let (status, _) = SERVED.post("/workloads", vec![b' '; LARGEST_BODY]).unwrap();
    assert_eq!(status, 400);
}

#[test]
fn a_stopped_server_ends() {
    let stop = CancellationToken::new();
    let served = Served::start(&stop);
    assert_eq!(served.post("/scale", vec![]).unwrap().0, 400);
    stop.cancel();
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while served.post("/scale", vec![]).is_ok() {
        assert!(std::time::Instant::now() < deadline, "the server still answers");
    }
}

/// Any JSON, now and then with a key that a review has.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    let key = prop_oneof![
        Just("metadata"),
        Just("spec"),
        Just("template"),
        Just("annotations"),
        Just("replicas"),
        Just("paused"),
        Just("containers"),
        Just("image"),
        Just("name"),
        Just("pilotguard.dev/admitted"),
        Just("x"),
    ];
    leaf.prop_recursive(5, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::hash_map(key.clone().prop_map(str::to_owned), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// A review of one of our resources with one part replaced by anything.
fn damaged_review() -> impl Strategy<Value = Value> {
    let scaled = scale(1, 2);
    let created = review("CREATE", "grace", &Value::Null, &pilot());
    let reviews = prop_oneof![Just(update("grace", &with_image("web:2"))), Just(scaled), Just(created)];
    let parts = prop_oneof![
        Just("/request"),
        Just("/request/object"),
        Just("/request/oldObject"),
        Just("/request/object/spec"),
        Just("/request/object/metadata"),
        Just("/request/object/metadata/annotations"),
        Just("/request/oldObject/spec"),
        Just("/request/object/spec/template"),
        Just("/request/userInfo"),
        Just("/request/operation"),
        Just("/request/name"),
    ];
    (reviews, parts, any_json()).prop_map(|(mut review, part, value)| {
        if let Some(place) = review.pointer_mut(part) {
            *place = value;
        }
        review
    })
}

fn is_well_formed(path: &str, body: Vec<u8>) {
    let has_uid = serde_json::from_slice::<Value>(&body)
        .ok()
        .is_some_and(|body| body.pointer("/request/uid").and_then(Value::as_str).is_some_and(|uid| !uid.is_empty()));
    let (status, answer) = SERVED.post(path, body).unwrap();
    assert_eq!(status, if has_uid { 200 } else { 400 }, "{answer}");
    if has_uid {
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert!(answer["response"]["uid"].is_string() && answer["response"]["allowed"].is_boolean(), "{answer}");
        assert!(
            answer["response"]["allowed"] == true || answer["response"]["status"]["message"].is_string(),
            "{answer}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_answered(path in 0..4_usize, body in prop::collection::vec(any::<u8>(), 0..400)) {
        is_well_formed(PATHS[path], body);
    }

    #[test]
    fn any_damaged_review_is_answered(path in 0..4_usize, review in damaged_review()) {
        is_well_formed(PATHS[path], review.to_string().into_bytes());
    }
}
