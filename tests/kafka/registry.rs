//! A schema registry (Apicurio, whose KafkaSQL storage is one topic and nothing else) keeps its schemas in a compacted topic:
//! it and the broker are killed, and every schema has the id that it had.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::COMPACTION;
use crate::common::actor::Actor;
use crate::common::broker::Broker;
use crate::common::process::{Heard, Process, run};
use crate::common::tools::{self, Registry as Distribution};

/// Where the registry keeps what it knows.
const JOURNAL: &str = "kafkasql-journal";
/// Long enough for a Java program to start on a busy machine.
const DEADLINE: Duration = Duration::from_secs(120);
/// What the registry says when it listens, before its address, and when it has read its topic to the end: in any order.
const LISTENS: &str = "Listening on: ";
const READ: &str = "KafkaSQL storage bootstrapped";

/// The registry as a process, by the interface that clients of Confluent's registry use.
struct Registry {
    process: Process,
    curl: PathBuf,
    url: String,
}

impl Registry {
    fn start(distribution: &Distribution, curl: &Path, broker: &Broker) -> Registry {
        let kafka = |name: &str, value: &str| format!("-Dapicurio.kafka.common.{name}={value}");
        let (authorities, identity) = (broker.tls("ca.pem"), broker.tls("client-keystore.pem"));
        let options = [
            "-Dapicurio.storage.kind=kafkasql".to_owned(),
            format!("-Dapicurio.kafkasql.bootstrap.servers={}", broker.address()),
            kafka("security.protocol", "SSL"),
            kafka("ssl.truststore.type", "PEM"),
            kafka("ssl.truststore.location", &authorities.display().to_string()),
            kafka("ssl.keystore.type", "PEM"),
            kafka("ssl.keystore.location", &identity.display().to_string()),
            "-Dquarkus.http.host=127.0.0.1".to_owned(),
            "-Dquarkus.http.port=0".to_owned(),
            "-Dquarkus.log.category.\"io.quarkus\".level=INFO".to_owned(),
        ];
        let mut process =
            Process::spawn("registry", distribution.command(&options), &Arc::new(Heard::default()));
        let begun = Instant::now();
        let (mut listens_at, mut has_read) = (None, false);
        let url = loop {
            let line = process.line(DEADLINE.saturating_sub(begun.elapsed()));
            listens_at = listens_at.or_else(|| Some(line.split_once(LISTENS)?.1.trim().to_owned()));
            has_read |= line.contains(READ);
            match listens_at {
                Some(url) if has_read => break url,
                _ => {}
            }
        };
        Registry { process, curl: curl.to_owned(), url }
    }

    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, String> {
        let mut command = Command::new(&self.curl);
        command.args([
            "--silent",
            "--show-error",
            "--fail-with-body",
            "--max-time",
            "30",
            "--request",
            method,
        ]);
        if let Some(body) = body {
            command.args(["--header", "Content-Type: application/vnd.schemaregistry.v1+json"]);
            command.args(["--data", &body.to_string()]);
        }
        let said = run(command.arg(format!("{}/apis/ccompat/v7{path}", self.url)))?;
        serde_json::from_str(&said).map_err(|error| format!("{path}: {said}: {error}"))
    }

    fn must(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        self.ask(method, path, body).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Registers a schema, again and again while the broker is away; who does it again gets the same id.
    fn register(&self, subject: &str, schema: &str) -> u64 {
        let (path, body) = (format!("/subjects/{subject}/versions"), json!({"schema": schema}));
        let begun = Instant::now();
        loop {
            match self.ask("POST", &path, Some(&body)) {
                Ok(said) => return said["id"].as_u64().unwrap(),
                Err(error) => assert!(begun.elapsed() < DEADLINE, "{error}"),
            }
        }
    }
}

/// What has been registered, by subject in the order of versions: schema and id.
type Registered = BTreeMap<String, Vec<(String, u64)>>;

fn register(registry: &Registry, registered: &mut Registered, round: usize) {
    for number in 0..12 {
        let (subject, field) = (format!("topic-{}-value", number % 3), format!("r{round}n{number}"));
        // A field that readers may lack, so that each version is compatible with the one before.
        let schema = json!({"type": "record", "name": "Payment", "fields": [
            {"name": "id", "type": "string"}, {"name": field, "type": "long", "default": 0},
        ]});
        let schema = schema.to_string();
        let id = registry.register(&subject, &schema);
        registered.entry(subject).or_default().push((schema, id));
    }
}

fn check(registry: &Registry, registered: &Registered) {
    let subjects: Vec<&String> = registered.keys().collect();
    assert_eq!(registry.must("GET", "/subjects", None), json!(subjects));
    for (subject, schemas) in registered {
        let versions: Vec<usize> = (1..=schemas.len()).collect();
        assert_eq!(registry.must("GET", &format!("/subjects/{subject}/versions"), None), json!(versions));
        for (schema, id) in schemas {
            let found = registry.must("GET", &format!("/schemas/ids/{id}"), None);
            let same = |text: &str| serde_json::from_str::<Value>(text).unwrap();
            assert_eq!(same(found["schema"].as_str().unwrap()), same(schema), "{subject}, id {id}");
        }
    }
}

#[test]
fn a_schema_registry_finds_every_schema_again_under_its_id() {
    let (Some(distribution), Some(curl)) = (tools::registry(), tools::curl()) else { return };
    let mut broker = Broker::start_with(COMPACTION);
    let Some(admin) = Actor::java(&broker) else { return };
    admin.create_topic_with(JOURNAL, 1, &[("cleanup.policy", "compact")]);
    let mut registered = Registered::new();

    let mut registry = Registry::start(&distribution, &curl, &broker);
    register(&registry, &mut registered, 0);
    check(&registry, &registered);
    broker.kill();
    broker.restart();
    register(&registry, &mut registered, 1);
    registry.register("gone-value", r#"{"type": "string"}"#);
    registry.must("DELETE", "/subjects/gone-value", None);
    check(&registry, &registered);

    registry.process.kill();
    broker.kill();
    broker.restart();
    let mut registry = Registry::start(&distribution, &curl, &broker);
    check(&registry, &registered);
    register(&registry, &mut registered, 2);
    check(&registry, &registered);
    registry.process.kill();
}
