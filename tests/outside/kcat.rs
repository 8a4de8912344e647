//! kcat: what people pipe through. Debian's build carries an old librdkafka (2.0), with older request versions.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::common::actor::Actor;
use crate::common::broker::Broker;
use crate::common::process::pipe;
use crate::common::tools;

const DEADLINE: Duration = Duration::from_secs(60);

/// kcat, to be let in by this broker.
pub fn towards(program: &Path, broker: &Broker, words: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(["-b", &broker.address().to_string(), "-m", "60", "-X", "security.protocol=ssl"]);
    for (setting, file) in [("ca", "ca.pem"), ("certificate", "client.pem"), ("key", "client.key")] {
        command.arg("-X").arg(format!("ssl.{setting}.location={}", broker.tls(file).display()));
    }
    command.args(words);
    command
}

fn kcat(program: &Path, broker: &Broker, words: &[&str], input: &str) -> Vec<String> {
    let told = pipe("kcat", towards(program, broker, words), input.as_bytes(), DEADLINE);
    assert!(told.status.success(), "kcat {words:?}: {}\n{}", told.status, told.errors);
    told.lines
}

#[test]
fn lines_go_in_and_come_out() {
    let broker = Broker::start();
    let (Some(program), Some(admin)) = (tools::kcat(), Actor::librdkafka(&broker)) else { return };
    let kcat = |words: &[&str], input: &str| kcat(&program, &broker, words, input);
    admin.create_topic("lines", 1);

    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        kcat(
            &["-P", "-t", "lines", "-p", "0", "-z", codec, "-K", ":"],
            &format!("k1:{codec} 1\nk2:{codec} 2\n"),
        );
    }
    // One transaction for everything that comes in; kcat commits it at the end of its input.
    kcat(&["-P", "-t", "lines", "-p", "0", "-K", ":", "-X", "transactional.id=kcat"], "k:in a transaction\n");
    let zombie = admin.transactional("aborted");
    zombie.begin();
    zombie.send("lines", &[(0, Some("k"), "aborted")]);
    zombie.abort();

    let read = ["-C", "-q", "-e", "-t", "lines", "-p", "0", "-o", "beginning", "-f", "%k:%s\n"];
    let read = |isolation: &str| kcat(&[&read[..], &["-X", isolation]].concat(), "");
    let codecs = ["none", "gzip", "snappy", "lz4", "zstd"];
    let mut wanted = codecs
        .iter()
        .flat_map(|codec| [format!("k1:{codec} 1"), format!("k2:{codec} 2")])
        .collect::<Vec<_>>();
    wanted.push("k:in a transaction".to_owned());
    assert_eq!(read("isolation.level=read_committed"), wanted);
    wanted.push("k:aborted".to_owned());
    assert_eq!(read("isolation.level=read_uncommitted"), wanted);

    let listed = kcat(&["-L", "-J"], "").concat();
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    assert!(listed["topics"].as_array().unwrap().iter().any(|topic| topic["topic"] == "lines"), "{listed}");
}
