import java.io.IOException;
import java.nio.ByteBuffer;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.Callable;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.message.AddOffsetsToTxnRequestData;
import org.apache.kafka.common.message.AddOffsetsToTxnResponseData;
import org.apache.kafka.common.message.AddPartitionsToTxnRequestData;
import org.apache.kafka.common.message.AddPartitionsToTxnRequestData.AddPartitionsToTxnTopic;
import org.apache.kafka.common.message.AddPartitionsToTxnRequestData.AddPartitionsToTxnTopicCollection;
import org.apache.kafka.common.message.AddPartitionsToTxnResponseData;
import org.apache.kafka.common.message.DescribeTransactionsRequestData;
import org.apache.kafka.common.message.DescribeTransactionsResponseData;
import org.apache.kafka.common.message.EndTxnRequestData;
import org.apache.kafka.common.message.EndTxnResponseData;
import org.apache.kafka.common.message.FindCoordinatorRequestData;
import org.apache.kafka.common.message.FindCoordinatorResponseData;
import org.apache.kafka.common.message.InitProducerIdRequestData;
import org.apache.kafka.common.message.InitProducerIdResponseData;
import org.apache.kafka.common.message.JoinGroupRequestData;
import org.apache.kafka.common.message.JoinGroupRequestData.JoinGroupRequestProtocol;
import org.apache.kafka.common.message.JoinGroupRequestData.JoinGroupRequestProtocolCollection;
import org.apache.kafka.common.message.JoinGroupResponseData;
import org.apache.kafka.common.message.ProduceRequestData;
import org.apache.kafka.common.message.ProduceResponseData;
import org.apache.kafka.common.message.SyncGroupRequestData;
import org.apache.kafka.common.message.SyncGroupResponseData;
import org.apache.kafka.common.message.TxnOffsetCommitRequestData;
import org.apache.kafka.common.message.TxnOffsetCommitResponseData;
import org.apache.kafka.common.message.WriteTxnMarkersRequestData;
import org.apache.kafka.common.message.WriteTxnMarkersResponseData;
import org.apache.kafka.common.protocol.ApiKeys;
import org.apache.kafka.common.protocol.Errors;
import org.apache.kafka.common.record.internal.MemoryRecords;
import org.apache.kafka.common.record.internal.SimpleRecord;

/**
 * The requests of transactional producers, one by one, over a connection to each kind of coordinator and one to the
 * partitions' leader, as clients have them. An answer that only says that Kafka is still about something is asked for again.
 */
final class Broker implements AutoCloseable {
    /** Who a producer is. */
    record Identity(long id, short epoch) {
        Identity withEpoch(int other) {
            return new Identity(id, (short) other);
        }
    }

    /** A member of a group. */
    record Member(String id, String instance, int generation) {
        static final Member NONE = new Member("", null, -1);
    }

    /** What an answer says: an error, and who the producer is from now on. */
    record Answer(Errors error, Identity identity) {}

    private static final long PATIENCE_MS = 60_000;

    private final Wire transactions;
    private final Wire groups;
    private final Wire leader;

    Broker(Properties settings) throws IOException {
        transactions = new Wire(settings);
        groups = new Wire(settings);
        leader = new Wire(settings);
    }

    @Override
    public void close() throws IOException {
        transactions.close();
        groups.close();
        leader.close();
    }

    /** Waits until the coordinators of both kinds can be found. */
    void findCoordinators(String transactionalId, String group) throws Exception {
        for (byte kind = 0; kind < 2; kind++) {
            FindCoordinatorRequestData request = new FindCoordinatorRequestData().setKeyType(kind)
                    .setCoordinatorKeys(List.of(kind == 0 ? group : transactionalId));
            await(() -> {
                var found = new FindCoordinatorResponseData(groups.ask(ApiKeys.FIND_COORDINATOR, 4, request), (short) 4);
                return Errors.forCode(found.coordinators().get(0).errorCode());
            });
        }
    }

    Answer init(int version, String transactionalId, Identity identity, int timeoutMs) throws Exception {
        Answer[] answer = new Answer[1];
        await(() -> (answer[0] = initOnce(version, transactionalId, identity, timeoutMs)).error());
        return answer[0];
    }

    Identity init(String transactionalId) throws Exception {
        Answer answer = init(4, transactionalId, new Identity(-1, (short) -1), 60_000);
        if (answer.error() != Errors.NONE) {
            throw answer.error().exception();
        }
        return answer.identity();
    }

    /** The first answer, also where it says that another one will come. */
    Answer initOnce(int version, String transactionalId, Identity identity, int timeoutMs)
            throws IOException {
        InitProducerIdRequestData request = new InitProducerIdRequestData().setTransactionalId(transactionalId)
                .setTransactionTimeoutMs(timeoutMs).setProducerId(identity.id()).setProducerEpoch(identity.epoch());
        var answer = new InitProducerIdResponseData(
                transactions.ask(ApiKeys.INIT_PRODUCER_ID, version, request), (short) version);
        return new Answer(Errors.forCode(answer.errorCode()), new Identity(answer.producerId(), answer.producerEpoch()));
    }

    Errors enrol(int version, String transactionalId, Identity identity, String topic) throws Exception {
        AddPartitionsToTxnTopicCollection topics = new AddPartitionsToTxnTopicCollection();
        topics.add(new AddPartitionsToTxnTopic().setName(topic).setPartitions(List.of(0)));
        AddPartitionsToTxnRequestData request = new AddPartitionsToTxnRequestData()
                .setV3AndBelowTransactionalId(transactionalId).setV3AndBelowProducerId(identity.id())
                .setV3AndBelowProducerEpoch(identity.epoch()).setV3AndBelowTopics(topics);
        return await(() -> {
            var answer = new AddPartitionsToTxnResponseData(
                    transactions.ask(ApiKeys.ADD_PARTITIONS_TO_TXN, version, request), (short) version);
            return Errors.forCode(answer.resultsByTopicV3AndBelow().iterator().next().resultsByPartition()
                    .iterator().next().partitionErrorCode());
        });
    }

    Errors enrolGroup(int version, String transactionalId, Identity identity, String group) throws Exception {
        AddOffsetsToTxnRequestData request = new AddOffsetsToTxnRequestData().setTransactionalId(transactionalId)
                .setProducerId(identity.id()).setProducerEpoch(identity.epoch()).setGroupId(group);
        return await(() -> Errors.forCode(new AddOffsetsToTxnResponseData(
                transactions.ask(ApiKeys.ADD_OFFSETS_TO_TXN, version, request), (short) version).errorCode()));
    }

    /** Appends records with successive sequences to the topic's only partition; without transactional id, plainly. */
    Errors append(int version, String transactionalId, Identity identity, String topic, int sequence, int records)
            throws Exception {
        SimpleRecord[] values = new SimpleRecord[records];
        for (int at = 0; at < records; at++) {
            values[at] = new SimpleRecord(("value " + (sequence + at)).getBytes());
        }
        MemoryRecords batch = transactionalId == null
                ? MemoryRecords.withIdempotentRecords(Compression.NONE, identity.id(), identity.epoch(), sequence, values)
                : MemoryRecords.withTransactionalRecords(
                        Compression.NONE, identity.id(), identity.epoch(), sequence, values);
        return append(version, transactionalId, topic, batch);
    }

    /** Waits until a new topic takes records; the first one is there then. */
    void awaitTopic(String topic) throws Exception {
        MemoryRecords batch = MemoryRecords.withRecords(Compression.NONE, new SimpleRecord("first".getBytes()));
        long end = System.currentTimeMillis() + PATIENCE_MS;
        while (append(9, null, topic, batch) != Errors.NONE && System.currentTimeMillis() < end) {
            Thread.sleep(20);
        }
    }

    private Errors append(int version, String transactionalId, String topic, MemoryRecords batch) throws Exception {
        ByteBuffer bytes = batch.buffer();
        ProduceRequestData request = new ProduceRequestData().setTransactionalId(transactionalId).setAcks((short) -1)
                .setTimeoutMs(30_000);
        request.topicData().add(new ProduceRequestData.TopicProduceData().setName(topic).setPartitionData(List.of(
                new ProduceRequestData.PartitionProduceData().setIndex(0)
                        .setRecords(MemoryRecords.readableRecords(bytes.duplicate())))));
        return await(() -> {
            var answer = new ProduceResponseData(leader.ask(ApiKeys.PRODUCE, version, request), (short) version);
            return Errors.forCode(answer.responses().iterator().next().partitionResponses().get(0).errorCode());
        });
    }

    Errors stageOffset(int version, String transactionalId, Identity identity, String group, String topic, Member member)
            throws Exception {
        TxnOffsetCommitRequestData request = new TxnOffsetCommitRequestData().setTransactionalId(transactionalId)
                .setGroupId(group).setProducerId(identity.id()).setProducerEpoch(identity.epoch())
                .setGenerationIdOrMemberEpoch(member.generation()).setMemberId(member.id())
                .setGroupInstanceId(member.instance())
                .setTopics(List.of(new TxnOffsetCommitRequestData.TxnOffsetCommitRequestTopic().setName(topic)
                        .setPartitions(List.of(new TxnOffsetCommitRequestData.TxnOffsetCommitRequestPartition()
                                .setPartitionIndex(0).setCommittedOffset(1)))));
        return await(() -> {
            var answer = new TxnOffsetCommitResponseData(
                    groups.ask(ApiKeys.TXN_OFFSET_COMMIT, version, request), (short) version);
            return Errors.forCode(answer.topics().get(0).partitions().get(0).errorCode());
        });
    }

    Answer end(int version, String transactionalId, Identity identity, boolean commit) throws Exception {
        EndTxnRequestData request = new EndTxnRequestData().setTransactionalId(transactionalId)
                .setProducerId(identity.id()).setProducerEpoch(identity.epoch()).setCommitted(commit);
        Answer[] answer = new Answer[1];
        await(() -> {
            var told = new EndTxnResponseData(transactions.ask(ApiKeys.END_TXN, version, request), (short) version);
            Identity next = version < 5 ? identity : new Identity(told.producerId(), told.producerEpoch());
            answer[0] = new Answer(Errors.forCode(told.errorCode()), next);
            return answer[0].error();
        });
        return answer[0];
    }

    Errors writeMarker(Identity identity, boolean commit, String topic) throws Exception {
        WriteTxnMarkersRequestData request = new WriteTxnMarkersRequestData().setMarkers(List.of(
                new WriteTxnMarkersRequestData.WritableTxnMarker().setProducerId(identity.id())
                        .setProducerEpoch(identity.epoch()).setTransactionResult(commit)
                        .setTopics(List.of(new WriteTxnMarkersRequestData.WritableTxnMarkerTopic().setName(topic)
                                .setPartitionIndexes(List.of(0))))));
        return await(() -> {
            var answer = new WriteTxnMarkersResponseData(
                    leader.ask(ApiKeys.WRITE_TXN_MARKERS, 1, request), (short) 1);
            return Errors.forCode(answer.markers().get(0).topics().get(0).partitions().get(0).errorCode());
        });
    }

    /** Waits until a transaction has come into a state. */
    void awaitState(String transactionalId, String wanted) throws Exception {
        DescribeTransactionsRequestData request =
                new DescribeTransactionsRequestData().setTransactionalIds(List.of(transactionalId));
        await(() -> {
            var answer = new DescribeTransactionsResponseData(
                    transactions.ask(ApiKeys.DESCRIBE_TRANSACTIONS, 0, request), (short) 0);
            boolean there = wanted.equals(answer.transactionStates().get(0).transactionState());
            return there ? Errors.NONE : Errors.CONCURRENT_TRANSACTIONS;
        });
    }

    /** Joins a group that has no other members, up to the assignment. */
    Member join(String group, String instance) throws Exception {
        JoinGroupRequestProtocolCollection protocols = new JoinGroupRequestProtocolCollection();
        protocols.add(new JoinGroupRequestProtocol().setName("range").setMetadata(new byte[0]));
        JoinGroupRequestData request = new JoinGroupRequestData().setGroupId(group).setSessionTimeoutMs(60_000)
                .setRebalanceTimeoutMs(60_000).setMemberId("").setGroupInstanceId(instance)
                .setProtocolType("consumer").setProtocols(protocols);
        JoinGroupResponseData[] joined = new JoinGroupResponseData[1];
        await(() -> {
            joined[0] = new JoinGroupResponseData(groups.ask(ApiKeys.JOIN_GROUP, 7, request), (short) 7);
            request.setMemberId(joined[0].memberId());
            Errors error = Errors.forCode(joined[0].errorCode());
            return error == Errors.MEMBER_ID_REQUIRED ? Errors.CONCURRENT_TRANSACTIONS : error;
        });
        SyncGroupRequestData assign = new SyncGroupRequestData().setGroupId(group)
                .setGenerationId(joined[0].generationId()).setMemberId(joined[0].memberId()).setGroupInstanceId(instance)
                .setAssignments(List.of(new SyncGroupRequestData.SyncGroupRequestAssignment()
                        .setMemberId(joined[0].memberId()).setAssignment(new byte[0])));
        await(() -> Errors.forCode(new SyncGroupResponseData(
                groups.ask(ApiKeys.SYNC_GROUP, 4, assign), (short) 4).errorCode()));
        return new Member(joined[0].memberId(), instance, joined[0].generationId());
    }

    private static Errors await(Callable<Errors> asking) throws Exception {
        long end = System.currentTimeMillis() + PATIENCE_MS;
        Errors error = asking.call();
        while (isUnderWay(error) && System.currentTimeMillis() < end) {
            Thread.sleep(20); // what clients do; the answer is what is waited for
            error = asking.call();
        }
        return error;
    }

    private static boolean isUnderWay(Errors error) {
        return switch (error) {
            case CONCURRENT_TRANSACTIONS, COORDINATOR_LOAD_IN_PROGRESS, COORDINATOR_NOT_AVAILABLE,
                    LEADER_NOT_AVAILABLE, NOT_ENOUGH_REPLICAS -> true;
            default -> false;
        };
    }
}
