use super::*;
use crate::types::TopicId;
use std::time::Duration;

fn me() -> Principal {
    Principal::named("me")
}

fn later(now: Instant) -> Instant {
    now + FETCH_SESSION_EVICTION_AGE + Duration::from_secs(1)
}

fn request(session_id: i32, session_epoch: i32, partitions: &[i32]) -> FetchRequest {
    use crate::wire::messages::{FetchPartition, FetchTopic};
    let partition = |partition: &i32| FetchPartition { partition: *partition, ..Default::default() };
    let partitions: Vec<_> = partitions.iter().map(partition).collect();
    let topics = match partitions.is_empty() {
        true => Vec::new(),
        false => vec![FetchTopic { topic: "t".to_owned(), partitions, ..Default::default() }],
    };
    FetchRequest { session_id, session_epoch, topics, ..Default::default() }
}

fn answers(count: i32) -> Vec<(Wanted, FetchPartitionResponse)> {
    let wanted = |index| Wanted {
        topic: TopicRef::new("t", TopicId::NIL),
        index,
        fetch_offset: 0,
        bytes_max: 1,
        leader_epoch: -1,
    };
    (0..count).map(|index| (wanted(index), FetchPartitionResponse::default())).collect()
}

fn indexes(opened: &Opened) -> Vec<i32> {
    opened.wanted.iter().map(|wanted| wanted.index).collect()
}

#[test]
fn epochs_count_up_and_wrap_to_1() {
    assert_eq!((next_epoch(0), next_epoch(7), next_epoch(i32::MAX)), (1, 8, 1));
    let (sessions, now) = (FetchSessions::new(), Instant::now());
    let id = sessions.begin(12, &me(), &answers(3), now);
    for epoch in 1..4 {
        let opened = sessions.open(&request(id, epoch, &[]), 12, &me(), now).unwrap();
        assert_eq!(indexes(&opened), [0, 1, 2]);
    }
    assert_eq!(
        sessions.open(&request(id, 3, &[]), 12, &me(), now).err(),
        Some(ErrorCode::InvalidFetchSessionEpoch)
    );
    assert_eq!(
        sessions.open(&request(id, 4, &[]), 13, &me(), now).err(),
        Some(ErrorCode::FetchSessionTopicIdError)
    );
    let other = Principal::named("other");
    assert_eq!(
        sessions.open(&request(id, 4, &[]), 12, &other, now).err(),
        Some(ErrorCode::FetchSessionIdNotFound)
    );
    // A new beginning ends the session it names, but only for whom it belongs to.
    sessions.open(&request(id, 0, &[5]), 12, &other, now).unwrap();
    assert!(sessions.open(&request(id, 4, &[]), 12, &me(), now).is_ok());
    sessions.open(&request(id, 0, &[5]), 12, &me(), now).unwrap();
    assert_eq!(
        sessions.open(&request(id, 5, &[]), 12, &me(), now).err(),
        Some(ErrorCode::FetchSessionIdNotFound)
    );
}

#[test]
fn who_had_records_goes_to_the_end() {
    let (sessions, now) = (FetchSessions::new(), Instant::now());
    let id = sessions.begin(12, &me(), &answers(3), now);
    let opened = sessions.open(&request(id, 1, &[]), 12, &me(), now).unwrap();
    let Then::GoOn(session) = opened.then else { panic!("{:?}", opened.then) };
    let mut told = answers(3);
    told[0].1.records = Some(bytes::Bytes::from_static(b"records").into());
    assert_eq!(session.report(&mut told), id);
    assert_eq!(told.len(), 1);
    let opened = sessions.open(&request(id, 2, &[]), 12, &me(), now).unwrap();
    assert_eq!(indexes(&opened), [1, 2, 0]);
}

#[test]
fn an_error_is_told_each_time_and_so_is_its_end() {
    let (sessions, now) = (FetchSessions::new(), Instant::now());
    let id = sessions.begin(12, &me(), &answers(1), now);
    let opened = sessions.open(&request(id, 1, &[]), 12, &me(), now).unwrap();
    let Then::GoOn(session) = opened.then else { panic!("{:?}", opened.then) };
    for error_code in [ErrorCode::KafkaStorageError, ErrorCode::KafkaStorageError, ErrorCode::None] {
        let mut told = answers(1);
        told[0].1.error_code = error_code;
        session.report(&mut told);
        assert_eq!(told.len(), 1, "{error_code}");
    }
    let mut told = answers(1);
    session.report(&mut told);
    assert!(told.is_empty());
}

#[test]
fn sessions_are_bounded_and_make_room_as_kafka_does() {
    let (sessions, now) = (FetchSessions::new(), Instant::now());
    let ids: Vec<_> = (0..FETCH_SESSIONS_MAX).map(|_| sessions.begin(12, &me(), &answers(2), now)).collect();
    assert!(ids.iter().all(|id| *id != 0));
    assert_eq!(sessions.begin(12, &me(), &answers(9), now), 0, "nobody is old enough to go");
    let now = later(now);
    for id in &ids {
        sessions.open(&request(*id, 1, &[]), 12, &me(), now).unwrap();
    }
    assert_eq!(sessions.begin(12, &me(), &answers(2), now), 0, "all are in use, and none is smaller");
    assert_ne!(sessions.begin(12, &me(), &answers(3), now), 0, "a smaller one goes");
    let now = later(now);
    assert_ne!(sessions.begin(12, &me(), &answers(1), now), 0, "an idle one goes");
    assert_eq!(sessions.lock().sessions.len(), FETCH_SESSIONS_MAX);
}

#[test]
fn the_partitions_of_all_sessions_are_counted() {
    let (sessions, now) = (FetchSessions::new(), Instant::now());
    let id = sessions.begin(12, &me(), &answers(2), now);
    let opened = sessions.open(&request(id, 1, &[7, 8, 9]), 12, &me(), now).unwrap();
    assert_eq!(indexes(&opened), [0, 1, 7, 8, 9]);
    assert_eq!(sessions.lock().partitions, 5);
    sessions.open(&request(id, -1, &[]), 12, &me(), now).unwrap();
    assert_eq!(sessions.lock().partitions, 0);
}
