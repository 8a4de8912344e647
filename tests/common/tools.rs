//! Sets up third-party clients once, with pinned versions, under `target/outside/`.
//!
//! A tool that this machine lacks makes its tests print `SKIPPED: reason` and pass, unless `REQUIRE_ALL=1`: then they
//! fail. What was set up is kept until its pins change; a file lock lets parallel tests share one set-up.

use std::env;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::process::{run, text_of};

#[derive(Clone)]
pub struct Java {
    program: PathBuf,
    class_path: String,
}

impl Java {
    /// Kafka's client in it logs warnings to standard error.
    pub fn command(&self, options: &[&str], class: &str) -> Command {
        let mut command = small(&self.program);
        command.arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn");
        command.args(options).args(["-cp", &self.class_path]).arg(class);
        command
    }

    pub fn class_path(&self) -> &str {
        &self.class_path
    }
}

/// A schema registry, as it is distributed.
#[derive(Clone)]
pub struct Registry {
    program: PathBuf,
    home: PathBuf,
}

impl Registry {
    pub fn command(&self, options: &[String]) -> Command {
        let mut command = small(&self.program);
        command.args(options).arg("-jar");
        command.arg(self.home.join(format!("apicurio-registry-app-{REGISTRY_VERSION}-runner.jar")));
        command
    }
}

/// The newest that runs on Java 17.
const REGISTRY_VERSION: &str = "3.0.9";

/// A virtual machine that starts fast and stays small: the machine's few cores belong to the broker.
fn small(java: &Path) -> Command {
    let mut command = Command::new(java);
    command.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx512m", "-Xshare:auto"]);
    command
}

/// A Python with confluent-kafka, aiokafka and kafka-python.
pub fn python() -> Option<PathBuf> {
    static PYTHON: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    or_skip("Python clients", PYTHON.get_or_init(set_up_python)).cloned()
}

/// A Java with Apache Kafka's own client and the programs of `tests/outside/java`.
pub fn java() -> Option<&'static Java> {
    static JAVA: OnceLock<Result<Java, String>> = OnceLock::new();
    or_skip("Java client", JAVA.get_or_init(set_up_java))
}

/// A Java with the programs of `tests/outcomes`, as far as they can be compiled with Kafka's client of that version.
pub fn outcomes(version: &str) -> Option<Java> {
    or_skip("Java client", &set_up_outcomes(version)).cloned()
}

/// A Java with Kafka Streams and the program of `tests/kafka/streams`.
pub fn kafka_streams() -> Option<Java> {
    or_skip("Kafka Streams", &set_up_beside_actor("streams")).cloned()
}

/// A Java with Kafka Connect and the programs of `tests/kafka/connect`.
pub fn kafka_connect() -> Option<Java> {
    or_skip("Kafka Connect", &set_up_beside_actor("connect")).cloned()
}

/// Apicurio Registry.
pub fn registry() -> Option<Registry> {
    or_skip("schema registry", &set_up_registry()).cloned()
}

/// A Java with Apache Kafka's command-line tools.
pub fn kafka_tools() -> Option<&'static Java> {
    static TOOLS: OnceLock<Result<Java, String>> = OnceLock::new();
    or_skip("Kafka's tools", TOOLS.get_or_init(set_up_kafka_tools))
}

/// The folder whose `node_modules` hold kafkajs, beside a copy of the programs of `tests/outside/node`.
pub fn node() -> Option<PathBuf> {
    static NODE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    or_skip("Node.js client", NODE.get_or_init(set_up_node)).cloned()
}

pub fn kcat() -> Option<PathBuf> {
    static KCAT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    or_skip("kcat", KCAT.get_or_init(|| find("kcat"))).cloned()
}

pub fn curl() -> Option<PathBuf> {
    static CURL: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    or_skip("curl", CURL.get_or_init(|| find("curl"))).cloned()
}

/// What a test needs, or the reason why it does not run here.
pub fn or_skip<'a, T>(what: &str, tool: &'a Result<T, String>) -> Option<&'a T> {
    match tool {
        Ok(tool) => Some(tool),
        Err(reason) if env::var("REQUIRE_ALL").is_ok_and(|value| value == "1") => {
            panic!("REQUIRE_ALL=1 but no {what}: {reason}")
        }
        Err(reason) => {
            announce(&format!("SKIPPED: {what}: {reason}"));
            None
        }
    }
}

/// Tells a person, past the test harness, which hides what a passing test prints.
pub fn announce(line: &str) {
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}

fn set_up_python() -> Result<PathBuf, String> {
    let python = find("python3")?;
    let requirements = programs("python").join("requirements.txt");
    let home = set_up("python", &text_of(&requirements), |home| {
        run(Command::new(python).args(["-m", "venv"]).arg(home))?;
        let mut pip = Command::new(home.join("bin/python"));
        pip.args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-input",
            "--no-deps",
            "--only-binary",
            ":all:",
            "-r",
        ]);
        run(pip.arg(requirements))?;
        Ok(())
    })?;
    Ok(home.join("bin/python"))
}

fn set_up_java() -> Result<Java, String> {
    let sources = files_of(&programs("java"), "java");
    compile("java", &programs("java").join("pom.xml"), &sources)
}

/// Compiles programs against the jars of a pom.
fn compile(name: &str, pom: &Path, sources: &[PathBuf]) -> Result<Java, String> {
    let (program, compiler, maven) = (find("java")?, find("javac")?, find("mvn")?);
    let jars = set_up_jars(&format!("{name}-jars"), &maven, pom)?;
    let pins = sources.iter().map(|source| text_of(source)).collect::<String>() + &text_of(pom);
    let jars = format!("{}/*", jars.display());
    let classes = set_up(&format!("{name}-classes"), &pins, |home| {
        let mut compile = Command::new(compiler);
        compile
            .args(["-Xlint:all,-processing,-serial", "-Werror", "-cp", &jars, "-d"])
            .arg(home)
            .args(sources);
        run(&mut compile).unwrap_or_else(|error| panic!("the Java programs do not compile: {error}"));
        Ok(())
    })?;
    Ok(Java { program, class_path: format!("{}:{jars}", classes.display()) })
}

/// The jars that a pom names, in a folder of their own.
fn set_up_jars(name: &str, maven: &Path, pom: &Path) -> Result<PathBuf, String> {
    set_up(name, &text_of(pom), |home| {
        let mut resolve = Command::new(maven);
        resolve.args([
            "-q",
            "-B",
            "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies",
        ]);
        resolve.args(["-DincludeScope=runtime", "-f"]);
        resolve.arg(pom).arg(format!("-DoutputDirectory={}", home.display()));
        run(&mut resolve)?;
        Ok(())
    })
}

fn set_up_outcomes(version: &str) -> Result<Java, String> {
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/outcomes");
    let newest = programs("java").join("pom.xml");
    if text_of(&newest).contains(version) {
        return compile("outcomes", &newest, &files_of(&home.join("java"), "java"));
    }
    let pom = home.join(format!("pom-{version}.xml"));
    compile(&format!("outcomes-{version}"), &pom, &[home.join("java/ClientOutcomes.java")])
}

/// What is in a folder of `tests/kafka`, compiled with the Java actor, which knows where the broker is.
fn set_up_beside_actor(name: &str) -> Result<Java, String> {
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kafka").join(name);
    let mut sources = files_of(&home, "java");
    sources.push(programs("java").join("Actor.java"));
    compile(name, &home.join("pom.xml"), &sources)
}

fn set_up_kafka_tools() -> Result<Java, String> {
    let (program, maven) = (find("java")?, find("mvn")?);
    let jars = set_up_jars("kafka-tools", &maven, &programs("kafka-tools").join("pom.xml"))?;
    Ok(Java { program, class_path: format!("{}/*", jars.display()) })
}

fn set_up_registry() -> Result<Registry, String> {
    let (program, maven, tar) = (find("java")?, find("mvn")?, find("tar")?);
    let artifact = format!("io.apicurio:apicurio-registry-app:{REGISTRY_VERSION}:tar.gz:all");
    let home = set_up("registry", &artifact, |home| {
        let archive = home.join("registry.tar.gz");
        // Later versions of the plugin want the POM of the artifact's parent too, which mirrors may lack.
        let mut fetch = Command::new(maven);
        fetch.args(["-q", "-B", "org.apache.maven.plugins:maven-dependency-plugin:2.8:get"]);
        fetch.args(["-Dtransitive=false", &format!("-Dartifact={artifact}")]);
        run(fetch.arg(format!("-Ddest={}", archive.display())))?;
        run(Command::new(tar).arg("-xzf").arg(&archive).arg("-C").arg(home))?;
        fs::remove_file(archive).map_err(|error| error.to_string())
    })?;
    Ok(Registry { program, home })
}

fn set_up_node() -> Result<PathBuf, String> {
    let (_, npm) = (find("node")?, find("npm")?);
    let sources = files_of(&programs("node"), "");
    let pins = sources.iter().map(|source| text_of(source)).collect::<String>();
    set_up("node", &pins, |home| {
        for source in &sources {
            fs::copy(source, home.join(source.file_name().unwrap())).map_err(|error| error.to_string())?;
        }
        run(Command::new(npm).args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"]).current_dir(home))?;
        Ok(())
    })
}

/// Runs `build` in an empty `target/outside/NAME`, unless that was done before with the same pins.
pub fn set_up(
    name: &str,
    pins: &str,
    build: impl FnOnce(&Path) -> Result<(), String>,
) -> Result<PathBuf, String> {
    let _one_at_a_time = lock(name);
    let home = outside_dir().join(name);
    let done = outside_dir().join(format!("{name}.pins"));
    if fs::read_to_string(&done).is_ok_and(|before| before == pins) {
        return Ok(home);
    }
    let _ = fs::remove_file(&done);
    let _ = fs::remove_dir_all(&home);
    fs::create_dir_all(&home).unwrap();
    announce(&format!("setting up {} (once)", home.display()));
    build(&home)?;
    fs::write(done, pins).unwrap();
    Ok(home)
}

/// A lock between processes, held until the file is dropped.
pub fn lock(name: &str) -> File {
    let file = File::create(outside_dir().join(format!("{name}.lock"))).unwrap();
    file.lock().unwrap();
    file
}

/// Where the programs for one language lie in the source tree.
pub fn programs(language: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/outside").join(language)
}

pub fn target_dir() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap()
}

fn outside_dir() -> PathBuf {
    let dir = target_dir().join("outside");
    fs::create_dir_all(&dir).unwrap();
    dir
}

/// cargo within a test: without what the outer cargo told this test about itself, which would spoil its own caches.
pub fn inner_cargo() -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    const TOLD: [&str; 5] = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"];
    for (name, _) in env::vars().filter(|(name, _)| TOLD.iter().any(|told| name.starts_with(told))) {
        cargo.env_remove(name);
    }
    cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
    cargo.arg("--quiet");
    cargo
}

pub fn find(program: &str) -> Result<PathBuf, String> {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path).map(|dir| dir.join(program)).find(|candidate| candidate.is_file());
    found.ok_or_else(|| format!("{program} is not installed"))
}

fn files_of(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let wanted =
        |path: &PathBuf| extension.is_empty() || path.extension().is_some_and(|found| found == extension);
    let mut files = entries.filter(|path| path.is_file()).filter(wanted).collect::<Vec<_>>();
    files.sort();
    files
}
