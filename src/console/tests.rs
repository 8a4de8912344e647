//! The console over a shard in a temporary directory.

use super::*;
use crate::broker::{BrokerConfig, Endpoint};
use crate::core::{
    Command, ConsumerHeartbeat, ConsumerTold, GroupMember, JoinGroup, LeavingMember, Member, MemberProtocol,
    OffsetToCommit, Outcome, Reply,
};
use crate::log::RealDisk;
use crate::metrics::{Format, Kind};
use crate::net::{Asked, Authority, Limits, Page, Pages as _, Status};
use crate::shard::tests::{ask, create_topic, end, init, produce};
use crate::shard::{Running, ShardLimits, start};
use crate::types::{
    GroupEpoch, GroupId, LeaderEpoch, MemberId, Offset, PartitionId, PartitionIndex, RequestId,
};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
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
    world.console.write(&mut out, &Survey::default());
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
    let refused = world.page("/status", "alice", Authority::User).await;
    assert_eq!(refused.status, Status::Forbidden);
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

/// Waits until the shard has shown what it was asked for, and looks at it.
async fn looked(world: &World) -> Arc<Survey> {
    *world.console.1.lock().await = None;
    world.console.survey().await.unwrap()
}

#[tokio::test]
async fn a_look_at_the_rows_names_what_holds_back_readers_and_who_is_behind() {
    let world = world();
    let running = &world.running;
    let topic = create_topic(running, "payments", 3).await;
    let [first, second] = [0, 1].map(|index| PartitionId::new(topic, PartitionIndex(index)));
    produce(running, first, None, None, 4).await.unwrap();
    produce(running, second, None, None, 6).await.unwrap();
    let holder = init(running, Some("transfer")).await;
    produce(running, second, Some((holder, 0, true)), Some("transfer"), 2).await.unwrap();
    let done = init(running, Some("done")).await;
    produce(running, first, Some((done, 0, true)), Some("done"), 1).await.unwrap();
    end(running, "done", done, Outcome::Abort).await.unwrap();
    let commit = |partition, offset| OffsetToCommit {
        partition,
        offset: Offset(offset),
        leader_epoch: LeaderEpoch(0),
        metadata: String::new(),
    };
    for (group, offsets) in
        [("fast", vec![commit(first, 6)]), ("slow", vec![commit(first, 1), commit(second, 2)])]
    {
        let member = GroupMember::nobody(GroupId::new(group));
        let reply = ask(running, Command::CommitOffsets { member, offsets: offsets.clone() }, vec![]).await;
        assert_eq!(reply, Reply::Each(vec![Ok(()); offsets.len()]));
    }
    let survey = looked(&world).await;
    assert_eq!((survey.complete, survey.topics, survey.partitions, survey.blocked), (true, 1, 3, 1));
    let [topic] = &survey.named_topics[..] else { panic!("{survey:?}") };
    // A marker is an offset, too.
    assert_eq!((topic.name.as_str(), topic.high_watermarks, topic.unstable), ("payments", 6 + 8, 2));
    let [blocker] = &survey.blockers[..] else { panic!("{survey:?}") };
    assert_eq!((blocker.topic.as_str(), blocker.partition, blocker.offset), ("payments", 1, Offset(6)));
    assert_eq!(
        (blocker.transactional_id.as_str(), blocker.producer, blocker.prepared),
        ("transfer", holder.id, false)
    );
    assert_eq!((survey.ongoing.count, survey.prepared.count), (1, 0));
    let lags: Vec<_> = survey.groups.named.iter().map(|group| (group.name.as_str(), group.lag)).collect();
    assert_eq!(lags, [("slow", Some(5 + 6)), ("fast", Some(0))]);
    let page = world.page("/metrics", "root", Authority::Admin).await;
    let text = String::from_utf8_lossy(&page.body);
    for line in [
        "semel_transactions_begun_total 2\n",
        "semel_transactions_ended_total{outcome=\"aborted\",reason=\"requested\"} 1\n",
        "semel_produce_batches_total{result=\"appended\"} 4\n",
        "semel_group_lag{group=\"slow\"} 11\n",
        "semel_lso_blocked_partitions 1\n",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    let status = world.page("/status", "scraper", Authority::User).await;
    let status: serde_json::Value = serde_json::from_slice(&status.body).unwrap();
    assert_eq!(status["transactions"]["blockers"][0]["transactional_id"], "transfer");
    assert_eq!(status["serving"], true);
    end(running, "transfer", holder, Outcome::Commit).await.unwrap();
    let survey = looked(&world).await;
    assert_eq!((survey.blocked, survey.blockers.len(), survey.ongoing.count), (0, 0, 0));
}

/// What a member of the consumer protocol says.
fn beat(member: &str, epoch: GroupEpoch, topic: &str) -> Command {
    let joins = epoch == GroupEpoch::JOIN;
    Command::ConsumerHeartbeat(Box::new(ConsumerHeartbeat {
        group: GroupId::new("shared"),
        member: MemberId::new(member),
        epoch,
        instance: None,
        rack: None,
        rebalance_timeout: joins.then_some(Duration::from_secs(60)),
        topics: (!topic.is_empty()).then(|| [topic.to_owned()].into()),
        pattern: None,
        assignor: None,
        owned: joins.then(BTreeSet::new),
        client_id: "reader".to_owned(),
        client_host: "/127.0.0.1".to_owned(),
        session_timeout: Duration::from_secs(3600),
        decision_bytes_max: 1 << 20,
        resolved: None,
        read: None,
    }))
}

#[tokio::test]
async fn groups_of_the_consumer_protocol_are_counted_by_state_and_their_rebalances_by_cause() {
    let world = world();
    let running = &world.running;
    create_topic(running, "payments", 3).await;
    let say = async |member, epoch, topic, expected: &[&str]| {
        let reply = ask(running, beat(member, epoch, topic), vec![]).await;
        assert!(matches!(reply, Reply::Consumer(Ok(ConsumerTold::Epoch { .. }))), "{reply:?}");
        looked(&world).await;
        let page = world.page("/metrics", "root", Authority::Admin).await;
        let text = String::from_utf8_lossy(&page.body).into_owned();
        for line in expected {
            assert!(text.contains(&format!("\n{line}\n")), "{line} in {text}");
        }
    };
    let stable = [
        "semel_groups{state=\"Stable\"} 1",
        "semel_group_consumers 1",
        "semel_group_members{group=\"shared\"} 1",
        "semel_group_state{group=\"shared\",state=\"Stable\"} 1",
    ];
    say("a", GroupEpoch::JOIN, "payments", &stable).await;
    let joined = "semel_group_rebalances_total{cause=\"member_joined\"} 2";
    let named = "semel_named_group_rebalances_total{group=\"shared\",cause=\"member_joined\"} 2";
    let reconciling = "semel_group_state{group=\"shared\",state=\"Reconciling\"} 1";
    let both =
        [joined, named, reconciling, "semel_groups{state=\"Reconciling\"} 1", "semel_group_consumers 2"];
    say("b", GroupEpoch::JOIN, "payments", &both).await;
    let changed = "semel_group_rebalances_total{cause=\"subscription_changed\"} 1";
    say("b", GroupEpoch(2), "others", &[changed, joined]).await;
    create_topic(running, "others", 1).await;
    let grown = "semel_group_rebalances_total{cause=\"topics_changed\"} 1";
    say("b", GroupEpoch(3), "", &[grown, changed]).await;
    let left = "semel_group_rebalances_total{cause=\"member_left\"} 1";
    let gone = [left, "semel_groups{state=\"Assigning\"} 1", "semel_group_consumers 1"];
    say("b", GroupEpoch::LEAVE, "", &gone).await;
    let status = world.page("/status", "scraper", Authority::User).await;
    let status: serde_json::Value = serde_json::from_slice(&status.body).unwrap();
    let last = &status["groups"]["last_rebalanced"][0];
    assert_eq!(
        (&last["group"], &last["cause"], &last["times"]),
        (&"shared".into(), &"member_left".into(), &5.into())
    );
    // Nobody is left who would have to come to another epoch.
    say("a", GroupEpoch::LEAVE, "", &[left, "semel_group_members{group=\"shared\"} 0"]).await;
}

#[test]
fn groups_beyond_those_with_most_lag_and_members_are_summed() {
    let group = |lag: Option<u64>, members| survey::Group { lag, members, ..Default::default() };
    let mut groups: BTreeMap<GroupId, survey::Group> =
        (0..100).map(|number| (GroupId::new(&format!("behind {number}")), group(Some(1), 0))).collect();
    groups.insert(GroupId::new("large"), group(None, 9));
    groups.insert(GroupId::new("far behind"), group(Some(7), 2));
    groups.insert(GroupId::new("small"), group(Some(0), 1));
    let mut found = survey::Groups::default();
    found.name(groups.clone());
    assert_eq!((found.named.len(), found.named[0].name.as_str()), (100, "far behind"));
    let others = found.others;
    assert_eq!((others.count, others.lag, others.members), (3, 1, 10));
    groups.retain(|id, group| group.lag != Some(1) || id.as_str() == "behind 5");
    let mut found = survey::Groups::default();
    found.name(groups);
    let names: Vec<&str> = found.named.iter().map(|group| group.name.as_str()).collect();
    assert_eq!(names, ["far behind", "behind 5", "large", "small"]);
    assert_eq!(found.others.count, 0);
}

/// What a member of the classic protocol says that joins; it waits for nobody.
fn join(member: &str, request: u64, metadata: &'static str) -> Command {
    Command::JoinGroup(Box::new(JoinGroup {
        request: RequestId(request),
        group: GroupId::new("classic"),
        member: MemberId::new(member),
        fresh: MemberId::new(&format!("member {request}")),
        joiner: Member {
            instance: None,
            client_id: "reader".to_owned(),
            client_host: "/127.0.0.1".to_owned(),
            session_timeout: Duration::from_secs(3600),
            rebalance_timeout: Duration::from_secs(3600),
            protocols: vec![MemberProtocol { name: "p".to_owned(), metadata: metadata.into() }],
            assignment: Bytes::new(),
        },
        protocol_type: "workers".to_owned(),
        requires_known_member: false,
        can_skip_assignment: false,
        initial_delay: Duration::ZERO,
        decision_bytes_max: 1 << 20,
        consumes: None,
    }))
}

#[tokio::test]
async fn members_state_and_rebalances_of_a_classic_group_are_told_by_its_name() {
    let world = world();
    let running = &world.running;
    let expect = async |lines: &[&str]| {
        looked(&world).await;
        let page = world.page("/metrics", "root", Authority::Admin).await;
        let text = String::from_utf8_lossy(&page.body).into_owned();
        for line in lines {
            assert!(text.contains(&format!("\n{line}\n")), "{line} in {text}");
        }
    };
    let reply = ask(running, join("", 1, "this"), vec![]).await;
    assert!(matches!(reply, Reply::Joined(Ok(_))), "{reply:?}");
    let joined = "semel_named_group_rebalances_total{group=\"classic\",cause=\"member_joined\"} 1";
    let members = "semel_group_members{group=\"classic\"} 1";
    expect(&[joined, members, "semel_group_state{group=\"classic\",state=\"CompletingRebalance\"} 1"]).await;
    let reply = ask(running, join("member 1", 2, "that"), vec![]).await;
    assert!(matches!(reply, Reply::Joined(Ok(_))), "{reply:?}");
    let changed = "semel_named_group_rebalances_total{group=\"classic\",cause=\"subscription_changed\"} 1";
    expect(&[joined, changed, members]).await;
    let leaving = LeavingMember { member: MemberId::new("member 1"), instance: None };
    let leave = Command::LeaveGroup { group: GroupId::new("classic"), members: vec![leaving] };
    assert_eq!(ask(running, leave, vec![]).await, Reply::Each(vec![Ok(())]));
    let empty = "semel_group_state{group=\"classic\",state=\"Empty\"} 1";
    expect(&[empty, "semel_group_members{group=\"classic\"} 0", "semel_groups_not_named_members 0"]).await;
    let deleted = ask(running, Command::DeleteGroup { group: GroupId::new("classic") }, vec![]).await;
    assert_eq!(deleted, Reply::Done(Ok(())));
    looked(&world).await;
    let page = world.page("/metrics", "root", Authority::Admin).await;
    assert!(!String::from_utf8_lossy(&page.body).contains("\"classic\""), "it is gone, with its name");
}

#[tokio::test]
async fn a_producer_that_goes_on_unknown_is_counted() {
    let world = world();
    let running = &world.running;
    let topic = create_topic(running, "payments", 1).await;
    let partition = PartitionId::new(topic, PartitionIndex(0));
    let unknown = init(running, None).await;
    let started = async || {
        let page = world.page("/metrics", "root", Authority::Admin).await;
        let text = String::from_utf8_lossy(&page.body).into_owned();
        let line =
            text.lines().find_map(|line| line.strip_prefix("semel_produce_unknown_producer_starts_total "));
        line.unwrap().parse::<u64>().unwrap()
    };
    produce(running, partition, Some((unknown, 7, false)), None, 2).await.unwrap();
    assert_eq!(started().await, 1);
    produce(running, partition, Some((unknown, 9, false)), None, 2).await.unwrap();
    produce(running, partition, Some((init(running, None).await, 0, false)), None, 2).await.unwrap();
    assert_eq!(started().await, 1, "who is known, or begins at 0, is none");
}
