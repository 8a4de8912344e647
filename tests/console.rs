//! The console, as `curl` sees it: pages over HTTPS on the port of the Kafka protocol, for whom a certificate names.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr
)]

mod common;

use common::broker::Broker;
use common::frames::{Batch, Connection, NONE};
use common::tools;
use std::path::Path;
use std::process::{Command, Output};

/// Asks for a page with the certificate that the broker made for clients, or without one.
fn ask(curl: &Path, broker: &Broker, path: &str, certificate: bool) -> Output {
    let mut command = Command::new(curl);
    command.args(["--silent", "--show-error", "--max-time", "30", "--include", "--cacert"]);
    command.arg(broker.tls("ca.pem"));
    if certificate {
        command.arg("--cert").arg(broker.tls("client.pem")).arg("--key").arg(broker.tls("client.key"));
    }
    command.arg(format!("https://{}{path}", broker.address())).output().unwrap()
}

fn shown(curl: &Path, broker: &Broker, path: &str) -> String {
    let output = ask(curl, broker, path, true);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{path}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// The value of a sample.
fn value(metrics: &str, sample: &str) -> u64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {sample} in\n{metrics}")).parse().unwrap()
}

#[test]
fn what_clients_do_is_counted_and_shown() {
    let Some(curl) = tools::curl() else { return };
    let broker = Broker::start();
    let before = shown(&curl, &broker, "/metrics");
    assert!(before.starts_with("HTTP/1.1 200 OK\r\n"), "{before}");
    let mut client = Connection::open(&broker);
    assert_eq!(client.create_topic("counted", 2), NONE);
    for _ in 0..3 {
        assert_eq!(client.produce("counted", 0, &Batch::of(&[b"a", b"b"]).done()).0, NONE);
    }
    let (refused, _) = client.produce("nowhere", 0, &Batch::of(&[b"a"]).done());
    assert_ne!(refused, NONE);
    let after = shown(&curl, &broker, "/metrics");
    for (sample, more) in [
        ("semel_appended_records_total", 6),
        ("semel_produce_batches_total{result=\"appended\"}", 3),
        ("semel_net_connections_opened_total{transport=\"tcp\"}", 1),
        ("semel_net_connections_opened_total{transport=\"https\"}", 1),
    ] {
        assert_eq!(value(&after, sample) - value(&before, sample), more, "{sample}");
    }
    assert_eq!(value(&after, "semel_requests_total{api=\"Produce\",version=\"3\"}"), 4);
    assert_eq!(
        value(&after, "semel_request_errors_total{api=\"Produce\",error=\"UNKNOWN_TOPIC_OR_PARTITION\"}"),
        1
    );
    let written =
        value(&after, "semel_log_write_seconds_count") - value(&before, "semel_log_write_seconds_count");
    assert!((4..=8).contains(&written), "a topic and three batches: {written} blocks");
    let [durable, applied] = ["semel_block_durable", "semel_block_applied"].map(|name| value(&after, name));
    assert!(applied <= durable);
}

#[test]
fn health_is_for_everybody_with_a_certificate_and_metrics_are_not() {
    let Some(curl) = tools::curl() else { return };
    let broker = Broker::start_with(&["--admins", "User:root"]);
    for path in ["/livez", "/readyz"] {
        let page = shown(&curl, &broker, path);
        assert!(page.starts_with("HTTP/1.1 200 OK\r\n") && page.ends_with("\r\n\r\nok\n"), "{page}");
    }
    let page = shown(&curl, &broker, "/metrics");
    assert!(page.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{page}");
    assert!(page.contains("User:semel-client may not see /metrics"), "{page}");
    assert!(!ask(&curl, &broker, "/livez", false).status.success(), "nobody is let in without a certificate");
}
