//! librdkafka's own test programs: fetched with the sources that npm carries, changed in the few places where they take a
//! cluster of three brokers without TLS for granted, and built once.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use aws_lc_rs::digest::{SHA512, digest};

use crate::common::actor::Access;
use crate::common::process::{pipe, run, text_of};
use crate::common::tools::{find, java, or_skip, set_up};

/// The package that carries librdkafka 2.15.1 with its tests.
const PACKAGE: &str = "@confluentinc/kafka-javascript@1.10.1";

/// What the registry calls its integrity, in hexadecimal.
const PACKAGE_SHA512: &str = "29578f5019f6d44a8254ff667f1cc4b8cdd26091c7105ed7fa2882d9ee374108\
                              034b211a92c2279821a8a13df0e6af9c340764482acaef58f42027eaa12a992f";

/// What the build links to, as pkg-config knows it, and the Debian packages that have it.
const LIBRARIES: [(&str, &str); 3] =
    [("libssl", "libssl-dev"), ("zlib", "zlib1g-dev"), ("libzstd", "libzstd-dev")];

/// What is changed in the sources: file, text, what takes its place. A text that is not there fails the set-up.
const CHANGES: [(&str, &str, &str); 6] = [
    // There is one node, and it refuses three replicas as Kafka does.
    (
        "tests/test.c",
        "NewTopic_new(topicname, partition_cnt, replication_factor,",
        "NewTopic_new(topicname, partition_cnt, -1,",
    ),
    // Java programs that write what these tests read get the settings for TLS, so nothing need be left out.
    ("tests/0098-consumer-txn.cpp", "if (test_needs_auth())", "if (false)"),
    (
        "tests/0113-cooperative_rebalance.cpp",
        "if (*test_conf_get(NULL, \"sasl.mechanism\") != '\\0')",
        "if (false)",
    ),
    ("tests/java/TransactionProducerCli.java", "new Properties()", "ClientProperties.read()"),
    ("tests/java/IncrementalRebalanceCli.java", "new Properties()", "ClientProperties.read()"),
    // The Java programs are compiled beforehand.
    ("tests/Makefile", "java: .PHONY\n\tmake -C java\n", "java: .PHONY\n"),
];

/// Without what no test here uses: Kerberos, OAuth over HTTP, another lz4 than its own.
const CONFIGURE: [&str; 3] = ["--disable-gssapi", "--disable-curl", "--disable-lz4-ext"];

/// On a busy machine the longest test takes several times as long as alone.
const TEST_DEADLINE: Duration = Duration::from_secs(420);

/// Where the tests were built, and where their Java programs were.
pub struct Suite {
    tests: PathBuf,
    java: PathBuf,
}

/// How one of librdkafka's tests went.
pub struct Outcome {
    /// What its summary says: the name, what became of it, and how long it took.
    pub summary: Vec<String>,
    pub passed: bool,
    pub log: String,
}

pub fn suite() -> Option<&'static Suite> {
    static SUITE: OnceLock<Result<Suite, String>> = OnceLock::new();
    or_skip("librdkafka's own tests", SUITE.get_or_init(set_up_suite))
}

fn set_up_suite() -> Result<Suite, String> {
    for program in ["npm", "make", "cc", "c++", "pkg-config"] {
        find(program)?;
    }
    for (library, package) in LIBRARIES {
        run(Command::new("pkg-config").args(["--exists", library]))
            .map_err(|_| format!("{package} is not installed"))?;
    }
    let changes = CHANGES.map(|(file, old, new)| format!("{file}\n{old}\n{new}\n")).concat();
    let pins = format!("{PACKAGE} {PACKAGE_SHA512}\n{}\n{changes}", CONFIGURE.join(" "));
    let home = set_up("librdkafka", &pins, |home| {
        fetch(home)?;
        CHANGES.iter().try_for_each(|(file, old, new)| change(&home.join(file), old, new))?;
        run(Command::new("./configure").args(CONFIGURE).current_dir(home))?;
        run(Command::new("make").args(["-j2", "libs"]).current_dir(home))?;
        run(Command::new("make").args(["-j2", "-C", "tests", "build"]).current_dir(home))?;
        Ok(())
    })?;
    let tests = home.join("tests");
    let java = set_up_java(&tests)?;
    Ok(Suite { tests, java })
}

/// The sources of librdkafka, as npm carries them.
fn fetch(home: &Path) -> Result<(), String> {
    let mut pack = Command::new("npm");
    run(pack.args(["pack", "--silent", PACKAGE]).current_dir(home))?;
    let archive = only_file_of(home)?;
    let found = digest(&SHA512, &fs::read(&archive).map_err(|error| error.to_string())?);
    let found = found.as_ref().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!(found, PACKAGE_SHA512, "{PACKAGE} is not what was pinned");
    let mut unpack = Command::new("tar");
    unpack.arg("-xzf").arg(&archive).arg("-C").arg(home);
    run(unpack.args(["--strip-components=3", "package/deps/librdkafka"]))?;
    fs::remove_file(&archive).map_err(|error| error.to_string())
}

fn only_file_of(dir: &Path) -> Result<PathBuf, String> {
    let mut files = fs::read_dir(dir).map_err(|error| error.to_string())?;
    let file = files.next().ok_or("npm has packed nothing")?.map_err(|error| error.to_string())?;
    Ok(file.path())
}

fn change(file: &Path, old: &str, new: &str) -> Result<(), String> {
    let text = text_of(file);
    assert!(text.contains(old), "{} has no {old:?}", file.display());
    fs::write(file, text.replace(old, new)).map_err(|error| error.to_string())
}

/// What the tests take for an installation of Kafka: the programs beside them, and the script that starts one.
fn set_up_java(tests: &Path) -> Result<PathBuf, String> {
    let Some(client) = java() else { return Err("its tests start Java programs".to_owned()) };
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/librdkafka/ClientProperties.java");
    let pins = format!("{}{}{PACKAGE}{}", text_of(&source), client.class_path(), CHANGES.len());
    set_up("librdkafka-java", &pins, |home| {
        let mut compile = Command::new(find("javac")?);
        compile.args(["-cp", client.class_path(), "-d"]).arg(home.join("classes")).arg(&source);
        compile.arg(tests.join("java/TransactionProducerCli.java"));
        run(compile.arg(tests.join("java/IncrementalRebalanceCli.java")))?;
        let start = home.join("bin/kafka-run-class.sh");
        let class_path = format!("{}:{}", home.join("classes").display(), client.class_path());
        let options = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xmx256m";
        let script = format!("#!/bin/sh\nexec java {options} -cp '{class_path}' \"$@\"\n");
        fs::create_dir_all(home.join("bin")).map_err(|error| error.to_string())?;
        fs::write(&start, script).map_err(|error| error.to_string())?;
        run(Command::new("chmod").arg("+x").arg(&start))?;
        Ok(())
    })
}

impl Suite {
    /// The numbers of all tests that need a broker, in the suite's own order.
    pub fn numbers(&self) -> Vec<String> {
        let sources = text_of(&self.tests.join("test.c"));
        let declared = sources.split("\n    _TEST(").skip(1);
        let mut numbers = declared
            .map(|text| text.split("),\n").next().unwrap())
            .filter(|text| !text.contains("TEST_F_LOCAL"))
            .map(|text| text[..4].to_owned())
            .collect::<Vec<_>>();
        numbers.dedup();
        numbers
    }

    /// The functions that a test calls, in the order of its text: its parts.
    pub fn parts(&self, file: &str, main: &str) -> Vec<String> {
        let source = text_of(&self.tests.join(file));
        let (_, body) = source.split_once(main).unwrap();
        let (body, _) = body.split_once("\n}\n").unwrap();
        let called = body.lines().filter_map(|line| line.trim().split_once('('));
        let mut parts: Vec<String> =
            called.map(|(name, _)| name.to_owned()).filter(|name| name.get(1..2) == Some("_")).collect();
        parts.dedup();
        parts
    }

    /// Runs one test to its end, with the patience that it has on a busy machine.
    pub fn run(
        &self,
        number: &str,
        options: &[&str],
        variables: &[(&str, &str)],
        access: &Access,
    ) -> Outcome {
        let scratch = tempfile::tempdir().unwrap();
        let settings = scratch.path().join("test.conf");
        fs::write(&settings, settings_of(access)).unwrap();
        let mut command = Command::new(self.tests.join("test-runner"));
        command.args(["-p1", "-L"]).args(options).current_dir(&self.tests);
        command.env("LD_LIBRARY_PATH", "../src:../src-cpp");
        command
            .env("TESTS", number)
            .env("CI", "true")
            .env("TEST_LEVEL", "2")
            .env("TEST_KAFKA_VERSION", "4.0.0");
        command.env("RDKAFKA_TEST_CONF", &settings).env("KAFKA_PATH", &self.java);
        command.env("CLIENT_PROPERTIES", &access.properties).env("BROKERS", &access.bootstrap);
        command.envs(variables.iter().copied());
        let told = pipe(number, command, b"", TEST_DEADLINE);
        let summary = told.lines.iter().map(|line| plain(line));
        let summary = summary.filter(|line| line.starts_with("| ") && line.contains(number));
        let summary = summary.filter(|line| !line.contains("negative test flags")).collect::<Vec<_>>();
        let passed = told.status.success() && summary.iter().any(|line| has_worked(line));
        Outcome { summary, passed, log: told.errors }
    }

    /// Removes what the tests leave where they run.
    pub fn tidy(&self) {
        for entry in fs::read_dir(&self.tests).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy();
            if name.starts_with("stats_") || name.ends_with(".offset") {
                // Another run's tests may have taken it away already.
                let _ = fs::remove_file(&path);
            }
        }
    }
}

/// Whether a test passed that did something: one whose parts are all left out also says that it passed, after no time.
fn has_worked(line: &str) -> bool {
    const NOTHING_S_MAX: f64 = 0.004;
    let mut cells = line.split('|').skip(1).map(str::trim);
    let (_, state, took) = (cells.next(), cells.next(), cells.next());
    let took = took.and_then(|cell| cell.trim_end_matches('s').trim().parse::<f64>().ok());
    state == Some("PASSED") && took.is_some_and(|seconds| seconds > NOTHING_S_MAX)
}

fn settings_of(access: &Access) -> String {
    let (ca, cert, key) = (access.ca.display(), access.cert.display(), access.key.display());
    format!(
        "bootstrap.servers={}\nsecurity.protocol=ssl\nssl.ca.location={ca}\nssl.certificate.location={cert}\n\
         ssl.key.location={key}\ntest.topic.random=true\n",
        access.bootstrap
    )
}

/// Without what a terminal takes for colours.
fn plain(line: &str) -> String {
    let mut parts = line.split("\u{1b}[");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.split_once('m').map_or("", |(_, rest)| rest))
}
