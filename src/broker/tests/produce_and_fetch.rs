use super::harness::*;
use crate::net::{Reply, Service as _};
use crate::types::*;
use crate::wire::batch::Compression;
use crate::wire::messages::*;
use crate::wire::{ApiKey, ErrorCode};
use bytes::{Bytes, BytesMut};

#[tokio::test]
async fn every_version_of_produce_is_read_by_every_version_of_fetch() {
    let harness = Harness::start();
    let (mut client, id) = harness.with_topic("t", 1).await;
    let mut written = Vec::new();
    for version in ApiKey::Produce.versions().iter() {
        let value = format!("by version {version}");
        let stored = client.produce(version, ("t", id, 0), None, batch(None, &[&value])).await;
        assert_eq!(stored.error_code, ErrorCode::None);
        assert_eq!(stored.base_offset, i64::try_from(written.len()).unwrap());
        written.push(value);
    }
    for version in ApiKey::Fetch.versions().iter() {
        for committed in [false, true] {
            let answer = client.fetch(version, ("t", id, 0), 0, committed).await;
            assert_eq!(values(&answer), written, "version {version}");
            assert_eq!(answer.high_watermark, i64::try_from(written.len()).unwrap());
            assert_eq!(answer.aborted_transactions.is_some(), committed);
        }
    }
}

#[tokio::test]
async fn an_answer_begins_with_the_batch_that_holds_the_offset() {
    let harness = Harness::start();
    let (mut client, id) = harness.with_topic("t", 1).await;
    client.produce(9, ("t", id, 0), None, batch(None, &["a", "b", "c"])).await;
    client.produce(9, ("t", id, 0), None, batch(None, &["d"])).await;
    assert_eq!(values(&client.fetch(12, ("t", id, 0), 1, true).await), ["a", "b", "c", "d"]);
    assert_eq!(values(&client.fetch(12, ("t", id, 0), 3, true).await), ["d"]);
    let at_the_end = client.fetch(12, ("t", id, 0), 4, true).await;
    assert_eq!((at_the_end.error_code, batches(&at_the_end).len()), (ErrorCode::None, 0));
    let beyond = client.fetch(12, ("t", id, 0), 5, true).await;
    assert_eq!(beyond.error_code, ErrorCode::OffsetOutOfRange);
}

/// A request holds its frame's memory until it is answered: all of them together could hold all that there is.
#[tokio::test]
async fn a_fetch_is_answered_though_fetches_hold_all_the_memory_that_frames_may() {
    let harness = Harness::start();
    let (mut client, id) = harness.with_topic("t", 1).await;
    client.produce(9, ("t", id, 0), None, batch(None, &["a"])).await;
    let budgets = &harness.budgets;
    let of_frames = harness.broker.budget(ApiKey::Fetch as i16);
    let _frames = budgets.reserve(of_frames, budgets.capacity(of_frames)).await.unwrap();
    assert_eq!(values(&client.fetch(12, ("t", id, 0), 0, true).await), ["a"]);
}

#[tokio::test]
async fn what_is_wrong_with_one_partition_does_not_keep_the_others_from_being_stored() {
    let harness = Harness::start();
    let (mut client, id) = harness.with_topic("t", 2).await;
    let good = batch(None, &["good"]);
    let mut torn = BytesMut::from(&good[..]);
    let last = torn.len() - 1;
    torn[last] ^= 1;
    let two = [&good[..], &good[..]].concat();
    let request =
        |topics: Vec<ProduceTopic>| ProduceRequest { acks: 1, topic_data: topics, ..Default::default() };
    let partition =
        |index, records: Option<Bytes>| ProducePartition { index, records: records.map(Into::into) };
    let known = ProduceTopic {
        name: "t".to_owned(),
        partition_data: vec![
            partition(0, Some(torn.freeze())),
            partition(1, Some(good.clone())),
            partition(0, Some(two.into())),
            partition(2, Some(good.clone())),
            partition(0, None),
            partition(0, Some(good.clone())),
        ],
        ..Default::default()
    };
    let unknown = ProduceTopic {
        name: "nowhere".to_owned(),
        partition_data: vec![partition(0, Some(good))],
        ..Default::default()
    };
    let response = client.call(9, &request(vec![unknown, known])).await;
    let codes = |topic: &ProduceTopicResponse| {
        topic.partition_responses.iter().map(|p| (p.index, p.error_code)).collect::<Vec<_>>()
    };
    assert_eq!(codes(&response.responses[0]), [(0, ErrorCode::UnknownTopicOrPartition)]);
    assert_eq!(
        codes(&response.responses[1]),
        [
            (0, ErrorCode::CorruptMessage),
            (1, ErrorCode::None),
            (0, ErrorCode::InvalidRecord),
            (2, ErrorCode::UnknownTopicOrPartition),
            (0, ErrorCode::InvalidRecord),
            (0, ErrorCode::None),
        ]
    );
    assert_eq!(values(&client.fetch(12, ("t", id, 0), 0, true).await), ["good"]);
    let by_unknown_id = produce_request(("", TopicId(uuid::Uuid::new_v4()), 0), None, -1, None);
    let answer = client.call(13, &by_unknown_id).await;
    assert_eq!(answer.responses[0].partition_responses[0].error_code, ErrorCode::UnknownTopicId);
}

#[tokio::test]
async fn acknowledgements_are_as_they_were_asked_for() {
    let harness = Harness::start();
    let (mut client, id) = harness.with_topic("t", 1).await;
    let strange = produce_request(("t", id, 0), None, 2, Some(batch(None, &["x"])));
    let answer = client.call(9, &strange).await;
    assert_eq!(answer.responses[0].partition_responses[0].error_code, ErrorCode::InvalidRequiredAcks);

    let silent = produce_request(("t", id, 0), None, 0, Some(batch(None, &["silent"])));
    let frame = crate::wire::encode_request(&silent, 9, 1, None).unwrap();
    match client.frame(joined(frame).slice(4..)).await.unwrap() {
        Reply::Later(later) => assert_eq!(joined(later.await.unwrap()).len(), 0),
        other => panic!("{other:?}"),
    }
    assert_eq!(values(&client.fetch(12, ("t", id, 0), 0, true).await), ["silent"]);

    let lost = produce_request(("nowhere", id, 0), None, 0, Some(batch(None, &["x"])));
    let frame = crate::wire::encode_request(&lost, 9, 1, None).unwrap();
    match client.frame(joined(frame).slice(4..)).await.unwrap() {
        Reply::Later(later) => assert!(later.await.is_err(), "the client can learn it in no other way"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_batch_that_comes_twice_is_stored_once() {
    let harness = Harness::start();
    let (mut client, id) = harness.with_topic("t", 1).await;
    let producer = client.init(None).await;
    for _ in 0..2 {
        let stored =
            client.produce(11, ("t", id, 0), None, batch(Some((producer, 0, false)), &["a", "b"])).await;
        assert_eq!((stored.error_code, stored.base_offset), (ErrorCode::None, 0));
    }
    let gap = client.produce(11, ("t", id, 0), None, batch(Some((producer, 5, false)), &["c"])).await;
    assert_eq!(gap.error_code, ErrorCode::OutOfOrderSequenceNumber);
    assert_eq!(values(&client.fetch(12, ("t", id, 0), 0, true).await), ["a", "b"]);
}

#[tokio::test]
async fn compressed_batches_are_opened_and_stored_as_they_came() {
    let harness = Harness::start();
    let (mut client, id) = harness.with_topic("t", 1).await;
    let long = "x".repeat(200_000);
    for compression in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
        let stored =
            client.produce(9, ("t", id, 0), None, compressed_batch(None, &[&long], compression)).await;
        assert_eq!(stored.error_code, ErrorCode::None, "{compression}");
    }
    let too_old =
        client.produce(6, ("t", id, 0), None, compressed_batch(None, &["x"], Compression::Zstd)).await;
    assert_eq!(too_old.error_code, ErrorCode::UnsupportedCompressionType);
    let answer = client.fetch(12, ("t", id, 0), 0, true).await;
    assert_eq!(values(&answer), vec![long; 4]);
}

#[tokio::test]
async fn a_waiting_fetch_is_woken_by_what_it_waits_for() {
    let harness = Harness::start();
    let (mut writer, id) = harness.with_topic("t", 1).await;
    let mut reader = harness.user();
    let mut request = fetch_request(("t", id, 0), 0, true);
    request.max_wait_ms = 30_000;
    let waiting = tokio::spawn(reader.send(12, &request).await.unwrap().reply());
    writer.produce(9, ("t", id, 0), None, batch(None, &["woken"])).await;
    let mut response = waiting.await.unwrap().unwrap();
    assert_eq!(values(&response.responses.remove(0).partitions.remove(0)), ["woken"]);
}

#[tokio::test]
async fn limits_never_keep_the_first_batch_back() {
    let harness = Harness::start();
    let (mut client, id) = harness.with_topic("t", 2).await;
    let large = "x".repeat(10_000);
    for partition in [0, 1] {
        for _ in 0..2 {
            client.produce(9, ("t", id, partition), None, batch(None, &[&large])).await;
        }
    }
    let mut request = fetch_request(("t", id, 0), 0, true);
    request.max_bytes = 100;
    let second = FetchPartition { partition: 1, ..request.topics[0].partitions[0].clone() };
    request.topics[0].partitions.push(second);
    let response = client.call(12, &request).await;
    let kept: Vec<_> = response.responses[0].partitions.iter().map(|p| batches(p).len()).collect();
    assert_eq!(kept, [1, 0]);
}

#[tokio::test]
async fn the_bytes_of_an_answer_are_divided_among_its_partitions() {
    let harness = Harness::start();
    let (mut client, id) = harness.with_topic("t", 3).await;
    let large = "x".repeat(10_000);
    for (partition, batches) in [(0, 5), (1, 5), (2, 1)] {
        for _ in 0..batches {
            client.produce(9, ("t", id, partition), None, batch(None, &[&large])).await;
        }
    }
    let mut kept = async |partitions: &[i32], max_bytes| {
        let mut request = fetch_request(("t", id, 0), 0, true);
        request.max_bytes = max_bytes;
        let first = request.topics[0].partitions[0].clone();
        request.topics[0].partitions = partitions
            .iter()
            .map(|partition| FetchPartition { partition: *partition, ..first.clone() })
            .collect();
        let response = client.call(12, &request).await;
        response.responses[0].partitions.iter().map(|p| batches(p).len()).collect::<Vec<_>>()
    };
    assert_eq!(kept(&[0, 1], 45_000).await, [2, 2]);
    assert_eq!(kept(&[1, 2], 45_000).await, [3, 1], "what one does not use is another's");
    assert_eq!(kept(&[0, 1, 2], 25_000).await, [1, 1, 0], "more than a share is given while there is room");
}

#[tokio::test]
async fn of_a_partition_with_a_damaged_batch_what_lies_before_it_is_answered() {
    let harness = Harness::start();
    let (mut client, id) = harness.with_topic("t", 2).await;
    for (partition, value) in [(0, "before"), (1, "beside"), (0, "damaged"), (0, "behind"), (1, "and on")] {
        let stored = client.produce(9, ("t", id, partition), None, batch(None, &[value])).await;
        assert_eq!(stored.error_code, ErrorCode::None);
    }
    // After a restart nothing of it is in memory.
    let (harness, mut client) = harness.restarted(client).await;
    harness.spoil(b"damaged");
    let mut fetch = async |offset| {
        let mut request = fetch_request(("t", id, 0), offset, true);
        let other =
            FetchPartition { partition: 1, fetch_offset: 0, ..request.topics[0].partitions[0].clone() };
        request.topics[0].partitions.push(other);
        let mut response = client.call(12, &request).await;
        let partitions = response.responses.remove(0).partitions;
        assert_eq!(values(&partitions[1]), ["beside", "and on"]);
        (partitions[0].error_code, values(&partitions[0]))
    };
    assert_eq!(fetch(0).await, (ErrorCode::None, vec!["before".to_owned()]));
    assert_eq!(fetch(1).await, (ErrorCode::KafkaStorageError, Vec::new()));
    assert_eq!(fetch(2).await, (ErrorCode::None, vec!["behind".to_owned()]));
}

#[tokio::test]
async fn a_session_tells_only_what_is_new() {
    let harness = Harness::start();
    let (mut client, id) = harness.with_topic("t", 3).await;
    let mut request = fetch_request(("t", id, 0), 0, true);
    let first = request.topics[0].partitions[0].clone();
    request.topics[0].partitions =
        (0..3).map(|partition| FetchPartition { partition, ..first.clone() }).collect();
    request.session_epoch = 0;
    let begun = client.call(13, &request).await;
    assert_ne!(begun.session_id, 0);
    assert_eq!(begun.responses[0].partitions.len(), 3);

    let next = |session_epoch| FetchRequest {
        session_id: begun.session_id,
        session_epoch,
        topics: Vec::new(),
        ..request.clone()
    };
    assert_eq!(client.call(13, &next(1)).await.responses, []);
    client.produce(13, ("t", id, 1), None, batch(None, &["new"])).await;
    let told = client.call(13, &next(2)).await;
    assert_eq!(told.responses[0].partitions.len(), 1);
    assert_eq!(told.responses[0].partitions[0].partition_index, 1);
    assert_eq!(values(&told.responses[0].partitions[0]), ["new"]);

    // The client has read it and says where it goes on; one partition it wants no more.
    let mut moved = next(3);
    moved.topics = vec![FetchTopic {
        topic_id: id,
        partitions: vec![FetchPartition { partition: 1, fetch_offset: 1, ..first.clone() }],
        ..Default::default()
    }];
    moved.forgotten_topics_data =
        vec![ForgottenTopic { topic_id: id, partitions: vec![2], ..Default::default() }];
    assert_eq!(client.call(13, &moved).await.responses, []);
    client.produce(13, ("t", id, 2), None, batch(None, &["unwanted"])).await;
    assert_eq!(client.call(13, &next(4)).await.responses, []);

    assert_eq!(client.call(13, &next(4)).await.error_code, ErrorCode::InvalidFetchSessionEpoch);
    let mut stranger = harness.user();
    assert_eq!(stranger.call(13, &next(5)).await.error_code, ErrorCode::FetchSessionIdNotFound);
    // By name, in a session that names topics by id.
    let by_name = FetchRequest { topics: Vec::new(), ..next(5) };
    assert_eq!(client.call(12, &by_name).await.error_code, ErrorCode::FetchSessionTopicIdError);
    // The end of the session.
    client.call(13, &FetchRequest { topics: Vec::new(), ..next(-1) }).await;
    assert_eq!(client.call(13, &next(5)).await.error_code, ErrorCode::FetchSessionIdNotFound);
}

/// What a connection fetches again and again stays watched between its fetches: each is answered as things are by then.
#[tokio::test]
async fn who_fetches_the_same_again_and_again_sees_what_has_become_of_it() {
    for committed in [false, true] {
        let harness = Harness::start();
        let (mut writer, id) = harness.with_topic("t", 2).await;
        let (mut reader, t) = (harness.admin(), ("t", id, 0));
        for _ in 0..3 {
            let nothing = reader.fetch(12, t, 0, committed).await;
            assert_eq!((values(&nothing).len(), nothing.high_watermark), (0, 0));
        }
        writer.produce(9, t, None, batch(None, &["a", "b"])).await;
        let two = reader.fetch(12, t, 0, committed).await;
        assert_eq!((values(&two), two.high_watermark), (vec!["a".to_owned(), "b".to_owned()], 2));
        // What cannot be read moves the high watermark all the same.
        let identity = writer.init(Some("tx")).await;
        writer.produce(12, t, Some("tx"), batch(Some((identity, 0, true)), &["open"])).await;
        let open = reader.fetch(12, t, 2, committed).await;
        assert_eq!((open.high_watermark, open.last_stable_offset), (3, 2));
        assert_eq!(values(&open).len(), usize::from(!committed));
        assert_eq!(writer.end(5, "tx", identity, true).await.error_code, ErrorCode::None);
        assert_eq!(values(&reader.fetch(12, t, 2, committed).await), ["open"]);
        // Others in between, and the other isolation.
        assert_eq!(values(&reader.fetch(12, ("t", id, 1), 0, committed).await).len(), 0);
        assert_eq!(values(&reader.fetch(12, t, 2, !committed).await), ["open"]);
        for _ in 0..2 {
            assert_eq!(values(&reader.fetch(12, t, 0, committed).await), ["a", "b", "open"]);
            assert_eq!(reader.fetch(12, t, 5, committed).await.error_code, ErrorCode::OffsetOutOfRange);
            assert_eq!(reader.fetch(12, t, 4, committed).await.error_code, ErrorCode::None);
        }
        assert_eq!(super::retention::delete(&mut writer, 2, "t", 0, 1).await, (ErrorCode::None, 1));
        assert_eq!(reader.fetch(12, t, 0, committed).await.error_code, ErrorCode::OffsetOutOfRange);
        assert_eq!(reader.fetch(12, t, 1, committed).await.log_start_offset, 1);
    }
}

#[tokio::test]
async fn who_fetches_the_same_again_sees_that_its_topic_is_deleted_and_made_anew() {
    // The specification has no topics that come back.
    let harness = Harness::untraced();
    let (mut writer, id) = harness.with_topic("t", 1).await;
    let (mut reader, t) = (harness.admin(), ("t", id, 0));
    writer.produce(9, t, None, batch(None, &["old"])).await;
    for _ in 0..3 {
        assert_eq!(values(&reader.fetch(12, t, 0, true).await), ["old"]);
    }
    let request = DeleteTopicsRequest {
        topics: vec![DeleteTopicState { name: Some("t".to_owned()), ..Default::default() }],
        ..Default::default()
    };
    assert_eq!(writer.call(6, &request).await.responses[0].error_code, ErrorCode::None);
    assert_eq!(reader.fetch(12, t, 1, true).await.error_code, ErrorCode::UnknownTopicOrPartition);
    let id = writer.create_topic("t", 1).await;
    writer.produce(9, ("t", id, 0), None, batch(None, &["anew"])).await;
    for _ in 0..3 {
        assert_eq!(values(&reader.fetch(12, ("t", id, 0), 0, true).await), ["anew"]);
    }
}

/// A fetch that waits hears of what comes, also if its partitions are watched already.
#[tokio::test]
async fn a_fetch_that_waits_is_answered_when_something_comes_however_often_it_has_been_sent() {
    let harness = Harness::start();
    let (mut writer, id) = harness.with_topic("t", 3).await;
    let mut reader = harness.admin();
    let all = |offset: i64| {
        let partitions = (0..3).map(|partition| FetchPartition {
            partition,
            fetch_offset: if partition == 1 { offset } else { 0 },
            partition_max_bytes: 1 << 20,
            ..Default::default()
        });
        let topics = vec![FetchTopic {
            topic: "t".to_owned(),
            partitions: partitions.collect(),
            ..Default::default()
        }];
        FetchRequest { topics, max_wait_ms: 30_000, ..fetch_request(("t", id, 0), 0, true) }
    };
    for offset in 0..5 {
        let waiting = reader.send(12, &all(offset)).await.unwrap();
        let value = format!("{offset}");
        let produced = writer.produce(9, ("t", id, 1), None, batch(None, &[&value]));
        // The fetch comes first, and waits.
        let (answer, produced) = tokio::join!(biased; waiting.reply(), produced);
        assert_eq!(produced.base_offset, offset);
        let answer = answer.unwrap();
        let found: Vec<_> = answer.responses[0].partitions.iter().flat_map(values).collect();
        assert_eq!(found, [value]);
    }
}
