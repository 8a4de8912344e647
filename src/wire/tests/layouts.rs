//! The declarations against the protocol's own definitions: the JSON files in Apache Kafka's client library.
//!
//! The library comes from the local Maven repository, or through Maven. Without either the test says SKIPPED, and fails
//! instead where `REQUIRE_ALL=1`.

use super::{Declared, Layout, LayoutField, every_api, visit_messages};
use crate::wire::api::PRIVATE_API_KEYS;
use crate::wire::{ApiKey, Message};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

const VERSION: &str = "4.4.0";

/// Where the library is, fetching it if need be.
fn library() -> Result<PathBuf, String> {
    let jar = format!("kafka-clients-{VERSION}.jar");
    let home = std::env::var("HOME").unwrap_or_default();
    let local =
        Path::new(&home).join(".m2/repository/org/apache/kafka/kafka-clients").join(VERSION).join(&jar);
    let fetched = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-setup/kafka-clients").join(&jar);
    if let Some(present) = [local, fetched.clone()].into_iter().find(|path| path.is_file()) {
        return Ok(present);
    }
    let artifact = format!("-Dartifact=org.apache.kafka:kafka-clients:{VERSION}");
    let directory = format!("-DoutputDirectory={}", fetched.parent().unwrap().display());
    let maven = Command::new("mvn").args(["-B", "-q", "dependency:copy", &artifact, &directory]).output();
    match maven {
        Ok(output) if output.status.success() && fetched.is_file() => Ok(fetched),
        Ok(output) => {
            Err(format!("Maven could not fetch {artifact}: {}", String::from_utf8_lossy(&output.stdout)))
        }
        Err(error) => Err(format!("Maven (mvn) could not be started: {error}")),
    }
}

/// The definitions by message name, or none where they are not to be had.
fn definitions() -> Option<BTreeMap<String, Value>> {
    match library() {
        Ok(jar) => Some(read_definitions(&std::fs::read(jar).unwrap())),
        Err(reason) => {
            let required = std::env::var("REQUIRE_ALL").is_ok_and(|value| value == "1");
            assert!(!required, "REQUIRE_ALL=1, but {reason}");
            println!("SKIPPED: {reason}");
            None
        }
    }
}

fn read_definitions(jar: &[u8]) -> BTreeMap<String, Value> {
    let mut definitions = BTreeMap::new();
    for (path, content) in zip_entries(jar, "common/message/") {
        let name = path.rsplit('/').next().unwrap().trim_end_matches(".json").to_owned();
        // The files have comment lines, which JSON does not.
        let lines = content.lines().filter(|line| !line.trim_start().starts_with("//"));
        let json: String = lines.flat_map(|line| [line, "\n"]).collect();
        definitions
            .insert(name.clone(), serde_json::from_str(&json).unwrap_or_else(|e| panic!("{name}: {e}")));
    }
    assert!(definitions.len() > 150, "only {} definitions in the library", definitions.len());
    definitions
}

/// The text files below `folder` of a zip archive (PKWARE APPNOTE 4.3), which is all that is needed of the format.
fn zip_entries(archive: &[u8], folder: &str) -> Vec<(String, String)> {
    let u16_at = |at: usize| usize::from(u16::from_le_bytes(archive[at..at + 2].try_into().unwrap()));
    let u32_at = |at: usize| u32::from_le_bytes(archive[at..at + 4].try_into().unwrap()) as usize;
    let end = archive.windows(4).rposition(|bytes| bytes == b"PK\x05\x06").expect("a zip archive");
    let mut at = u32_at(end + 16);
    let mut entries = Vec::new();
    for _ in 0..u16_at(end + 10) {
        assert_eq!(&archive[at..at + 4], b"PK\x01\x02");
        let (method, compressed, name_length) = (u16_at(at + 10), u32_at(at + 20), u16_at(at + 28));
        let local = u32_at(at + 42);
        let name = String::from_utf8_lossy(&archive[at + 46..at + 46 + name_length]).into_owned();
        at += 46 + name_length + u16_at(at + 30) + u16_at(at + 32);
        if name.starts_with(folder) && name.ends_with(".json") {
            let start = local + 30 + u16_at(local + 26) + u16_at(local + 28);
            let mut content = String::new();
            let mut bytes = &archive[start..start + compressed];
            match method {
                0 => bytes.read_to_string(&mut content).unwrap(),
                _ => flate2::read::DeflateDecoder::new(bytes).read_to_string(&mut content).unwrap(),
            };
            entries.push((name, content));
        }
    }
    entries
}

/// `3`, `3-5` or `3+`; none for `none`.
fn versions(text: &str) -> Option<(i16, i16)> {
    let number = |text: &str| text.parse::<i16>().unwrap();
    match text {
        "none" => None,
        _ if text.ends_with('+') => Some((number(text.trim_end_matches('+')), i16::MAX)),
        _ => match text.split_once('-') {
            Some((first, last)) => Some((number(first), number(last))),
            None => Some((number(text), number(text))),
        },
    }
}

fn field_versions(field: &Value, key: &str) -> Option<(i16, i16)> {
    field[key].as_str().and_then(versions)
}

fn within(versions: Option<(i16, i16)>, version: i16) -> bool {
    versions.is_some_and(|(first, last)| first <= version && version <= last)
}

/// `ThrottleTimeMs` as `throttle_time_ms`.
fn snake_case(name: &str) -> String {
    let name = name.replace("2Pc", "TwoPc");
    let mut snake = String::new();
    for (index, letter) in name.chars().enumerate() {
        if letter.is_uppercase() && index > 0 {
            snake.push('_');
        }
        snake.extend(letter.to_lowercase());
    }
    snake
}

/// semel's own fields are tagged ones, with the numbers of its own apis.
fn is_private(field: &LayoutField) -> bool {
    let tag = field.spec.tag_in(i16::MAX).and_then(|tag| i16::try_from(tag).ok());
    tag.is_some_and(|tag| PRIVATE_API_KEYS.contains(tag))
}

/// One message's definition being compared.
struct Comparison<'a> {
    definition: &'a Value,
    api: ApiKey,
}

impl Comparison<'_> {
    /// Compares the fields of a structure in every version of the api.
    fn structure(&self, path: &str, declared: &[LayoutField], fields: &[Value]) {
        for version in self.api.versions().iter() {
            let exists = |field: &&Value| within(field_versions(field, "versions"), version);
            let in_body = |field: &&Value| !within(field_versions(field, "taggedVersions"), version);
            let name = |field: &Value| snake_case(field["name"].as_str().unwrap());
            let expected: Vec<_> = fields.iter().filter(exists).filter(in_body).map(name).collect();
            let body = declared.iter().filter(|field| field.spec.in_body(version));
            assert_eq!(body.map(|field| field.name).collect::<Vec<_>>(), expected, "{path} v{version}");
            let tag = |field: &Value| (name(field), u32::try_from(field["tag"].as_u64().unwrap()).unwrap());
            let expected: Vec<_> =
                fields.iter().filter(exists).filter(|field| !in_body(field)).map(tag).collect();
            let tagged = declared
                .iter()
                .filter(|field| !is_private(field))
                .filter_map(|field| field.spec.tag_in(version).map(|tag| (field.name.to_owned(), tag)));
            assert_eq!(tagged.collect::<Vec<_>>(), expected, "{path} v{version}: tagged fields");
        }
        for field in declared.iter().filter(|field| !is_private(field)) {
            let path = format!("{path}.{}", field.name);
            let same_name = |other: &&Value| snake_case(other["name"].as_str().unwrap()) == field.name;
            self.field(&path, field, fields.iter().find(same_name).unwrap());
        }
    }

    fn field(&self, path: &str, declared: &LayoutField, field: &Value) {
        let nullable = field_versions(field, "nullableVersions");
        for version in self.api.versions().iter().filter(|version| declared.spec.carried_in(*version)) {
            assert_eq!(
                declared.spec.nullable_in(version),
                within(nullable, version),
                "{path} v{version}: null"
            );
        }
        let ignorable = matches!(&field["ignorable"], Value::Bool(true)) || field["ignorable"] == "true";
        assert_eq!(declared.spec.is_ignorable(), ignorable, "{path}: ignorable");
        self.default(path, declared, field);
        self.layout(path, &declared.layout, field["type"].as_str().unwrap(), field);
    }

    fn default(&self, path: &str, declared: &LayoutField, field: &Value) {
        let default = match &field["default"] {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let number = |text: &str| match text {
            "" | "false" => Some(0),
            "true" => Some(1),
            "i64::MAX" => Some(i64::MAX),
            "i32::MAX" => Some(i32::MAX.into()),
            _ => match text.strip_prefix("0x") {
                Some(hexadecimal) => i64::from_str_radix(hexadecimal, 16).ok(),
                None => text.replace(' ', "").parse().ok(),
            },
        };
        let nullable = field_versions(field, "nullableVersions");
        let always_nullable = self
            .api
            .versions()
            .iter()
            .filter(|version| declared.spec.carried_in(*version))
            .all(|version| within(nullable, version));
        match (&declared.layout, default.as_str()) {
            // Where null is always allowed it is the default here, whatever the definition's own.
            (Layout::Nullable(_), "null" | "") => {
                assert_eq!(
                    declared.default.is_empty(),
                    default == "null" || always_nullable,
                    "{path}: default"
                );
            }
            (Layout::Plain("string"), text) => {
                assert_eq!(
                    declared.default,
                    if text.is_empty() { String::new() } else { format!("{text:?}.into()") }
                );
            }
            (Layout::Plain(_), text) => {
                assert!(number(text).is_some(), "{path}: {text}");
                assert_eq!(number(declared.default), number(text), "{path}: default");
            }
            (_, text) => assert_eq!((declared.default, text), ("", ""), "{path}: default"),
        }
    }

    fn layout(&self, path: &str, declared: &Layout, expected: &str, field: &Value) {
        match (declared, expected.strip_prefix("[]")) {
            (Layout::Nullable(inner), _) => self.layout(path, inner, expected, field),
            (Layout::Array(element), Some(expected)) => self.layout(path, element, expected, field),
            (Layout::Plain(name), None) => assert_eq!(*name, expected, "{path}: type"),
            (Layout::Structure(fields), None) => {
                self.structure(path, fields, self.fields_of(expected, field))
            }
            (declared, _) => panic!("{path}: {declared:?} is declared for {expected}"),
        }
    }

    /// The fields of a named structure: beside its first use, or among the common ones.
    fn fields_of<'a>(&'a self, name: &str, field: &'a Value) -> &'a [Value] {
        let common = self.definition["commonStructs"].as_array();
        let common = common.into_iter().flatten().find(|common| common["name"] == name);
        field["fields"].as_array().or_else(|| common.and_then(|common| common["fields"].as_array())).unwrap()
    }
}

fn same_layout<M: Message + Declared>(definitions: &BTreeMap<String, Value>) {
    let definition = &definitions[M::NAME];
    let range = M::API.versions();
    let (min, max) = versions(definition["validVersions"].as_str().unwrap()).unwrap();
    assert_eq!((range.min, range.max), (min, max), "{}: versions", M::NAME);
    let flexible = versions(definition["flexibleVersions"].as_str().unwrap());
    assert_eq!(M::API.flexible_from(), flexible.map(|(first, _)| first), "{}: flexible", M::NAME);
    assert_eq!(definition["apiKey"], i16::from(M::API), "{}: api key", M::NAME);
    let Layout::Structure(fields) = M::layout() else { panic!("{} is no structure", M::NAME) };
    let comparison = Comparison { definition, api: M::API };
    comparison.structure(M::NAME, &fields, definition["fields"].as_array().unwrap());
}

#[test]
fn every_declaration_is_the_protocols() {
    let Some(definitions) = definitions() else { return };
    every_api!(visit_messages same_layout (&definitions));
}

#[test]
fn apis_are_listed_as_kafka_lists_them() {
    let Some(definitions) = definitions() else { return };
    macro_rules! keys {
        ({} $($api:ident $request:ident $response:ident,)*) => { [$((ApiKey::$api, stringify!($request))),*] };
    }
    for (api, request) in every_api!(keys) {
        let definition = &definitions[request];
        let (_, max) = versions(definition["validVersions"].as_str().unwrap()).unwrap();
        let unstable = definition["latestVersionUnstable"] == true;
        let listed = api.listed_versions().unwrap();
        assert_eq!(listed.max, if unstable { max - 1 } else { max }, "{api}");
    }
}
