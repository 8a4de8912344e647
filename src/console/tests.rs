//! The console over a shard in a temporary directory.

use super::*;
use crate::broker::{BrokerConfig, Endpoint};
use crate::log::RealDisk;
use crate::metrics::Kind;
use crate::net::{Asked, Authority, Limits, Page, Pages as _, Status};
use crate::shard::{Running, ShardLimits, start};
use std::fmt::Write as _;
use tempfile::TempDir;

struct World {
    console: Console,
    running: Running,
    _dir: TempDir,
}

fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    let limits = ShardLimits { segment_bytes: 4 << 20, block_bytes: 1 << 20, ..ShardLimits::default() };
    let running = start(dir.path(), Arc::new(RealDisk), &limits).unwrap();
    let limits = Limits { threads: 2, ..Limits::default() };
    let budgets = Budgets::new(&limits);
    let config = BrokerConfig::new(Endpoint { host: "localhost".to_owned(), port: 9092 });
    let console = Console::new(Parts {
        shard: running.shard.clone(),
        broker: Broker::new(running.shard.clone(), budgets.clone(), config),
        net: Arc::new(NetMetrics::new(&limits)),
        budgets,
        readers: ["User:scraper".parse().unwrap()].into_iter().collect(),
        port: OnceLock::new(),
    });
    World { console, running, _dir: dir }
}

impl World {
    async fn page(&self, path: &str, name: &str, authority: Authority) -> Page {
        let asked =
            Asked { path: path.to_owned(), accept: None, principal: Principal::named(name), authority };
        self.console.page(asked).await
    }
}

const BEGIN: &str = "| name | type | labels | what |\n|---|---|---|---|\n";

/// The table of all families, as `spec/metrics.md` has it.
fn table(out: &Exposition) -> String {
    let mut table = BEGIN.to_owned();
    for family in out.families() {
        let kind = match family.kind() {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
            Kind::Info => "info",
        };
        let labels = family.labels().join(", ");
        writeln!(table, "| `{}` | {kind} | {labels} | {} |", family.name(), family.help()).unwrap();
    }
    table
}

#[tokio::test]
async fn the_specification_lists_what_is_told() {
    let world = world();
    let mut out = Exposition::new(Format::OpenMetrics);
    world.console.write(&mut out);
    let mut names: Vec<_> = out.families().iter().map(|family| family.name()).collect();
    names.sort_unstable();
    names.windows(2).for_each(|pair| assert_ne!(pair[0], pair[1], "each family once"));
    let table = table(&out);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/spec/metrics.md");
    let written = std::fs::read_to_string(path).unwrap();
    let (before, rest) = written.split_once(BEGIN).expect("a table");
    let after = rest.split_once("\n\n").map_or("", |(_, after)| after);
    let renewed = format!("{before}{table}\n{after}");
    if std::env::var_os("UPDATE_METRICS").is_some() {
        std::fs::write(path, &renewed).unwrap();
    }
    assert!(
        std::fs::read_to_string(path).unwrap() == renewed,
        "spec/metrics.md is old; to renew it: UPDATE_METRICS=1 cargo test --lib console"
    );
    world.running.stop().await.unwrap();
}

#[tokio::test]
async fn names_are_for_admins_and_readers_and_health_is_for_everybody() {
    let world = world();
    let refused = world.page("/metrics", "alice", Authority::User).await;
    assert_eq!(refused.status, Status::Forbidden);
    assert!(
        String::from_utf8_lossy(&refused.body).contains("User:alice may not see /metrics"),
        "{refused:?}"
    );
    for (name, authority) in [("scraper", Authority::User), ("root", Authority::Admin)] {
        let page = world.page("/metrics", name, authority).await;
        assert_eq!(page.status, Status::Ok);
        assert!(String::from_utf8_lossy(&page.body).contains("\nsemel_block_durable "), "{page:?}");
    }
    for path in ["/", "/livez", "/readyz", "/version"] {
        assert_eq!(world.page(path, "alice", Authority::User).await.status, Status::Ok, "{path}");
    }
    assert_eq!(world.page("/admin", "root", Authority::Admin).await.status, Status::NotFound);
    let World { console, running, _dir } = world;
    running.stop().await.unwrap();
    let asked = Asked {
        path: "/readyz".to_owned(),
        accept: None,
        principal: Principal::named("alice"),
        authority: Authority::User,
    };
    assert_eq!(console.page(asked).await.status, Status::Unavailable, "the shard has stopped");
}
