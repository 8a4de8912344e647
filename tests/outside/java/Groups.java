import java.time.Duration;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.Properties;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.ExecutionException;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.admin.GroupListing;
import org.apache.kafka.clients.admin.ListConsumerGroupOffsetsOptions;
import org.apache.kafka.clients.admin.ListConsumerGroupOffsetsSpec;
import org.apache.kafka.clients.admin.ListGroupsOptions;
import org.apache.kafka.clients.admin.MemberDescription;
import org.apache.kafka.clients.admin.MemberToRemove;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.RemoveMembersFromConsumerGroupOptions;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.GroupType;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.GroupIdNotFoundException;
import org.apache.kafka.common.errors.GroupNotEmptyException;
import org.apache.kafka.common.errors.GroupSubscribedToTopicException;
import org.apache.kafka.common.errors.UnknownMemberIdException;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * Groups as Apache Kafka's own administration client sees them: of both protocols, and one that never had members. Arguments:
 * bootstrap servers, client properties. Ends in "done" if all is well.
 */
public final class Groups {
    private static final Duration PATIENCE = Duration.ofSeconds(60);
    private static final TopicPartition FIRST = new TopicPartition("orders", 0);
    private static final TopicPartition SECOND = new TopicPartition("orders", 1);
    private static final TopicPartition REFUNDS = new TopicPartition("refunds", 0);

    private final Admin admin;
    private final Properties properties;

    private Groups(Admin admin, Properties properties) {
        this.admin = admin;
        this.properties = properties;
    }

    public static void main(String[] arguments) throws Exception {
        Properties properties = Access.properties(arguments);
        try (Admin admin = Admin.create(properties)) {
            new Groups(admin, properties).run();
        }
        System.out.println("done");
    }

    private void run() throws Exception {
        admin.createTopics(List.of(new NewTopic("orders", 2, (short) 1), new NewTopic("refunds", 1, (short) 1)))
                .all().get();
        try (KafkaProducer<String, String> producer =
                new KafkaProducer<>(properties, new StringSerializer(), new StringSerializer())) {
            for (TopicPartition place : List.of(FIRST, SECOND, REFUNDS)) {
                for (int number = 0; number < 3; number++) {
                    producer.send(new ProducerRecord<>(place.topic(), place.partition(), null, "" + number)).get();
                }
            }
        }
        Map<String, String> still = Map.of("group.instance.id", "fixed", "session.timeout.ms", "600000");
        try (KafkaConsumer<String, String> classic = member("classic", still);
                KafkaConsumer<String, String> modern = member("modern", Map.of("group.protocol", "consumer"))) {
            read(classic, "orders", 6);
            read(modern, "refunds", 3);
            classic.commitSync(Map.of(
                    FIRST, new OffsetAndMetadata(3, Optional.empty(), "a note"),
                    SECOND, new OffsetAndMetadata(2)));
            modern.commitSync();
            // Before anybody reads.
            admin.alterConsumerGroupOffsets("nobody", Map.of(FIRST, new OffsetAndMetadata(1))).all().get();
            listed();
            described();
            whereTheyAre();
            refusedWhileTheyLive();
        }
        // A static member does not take leave.
        is(found("classic").groupState(), GroupState.STABLE);
        admin.removeMembersFromConsumerGroup("classic",
                new RemoveMembersFromConsumerGroupOptions(Set.of(new MemberToRemove("fixed")))).all().get();
        is(found("classic").groupState(), GroupState.EMPTY);
        is(found("modern").groupState(), GroupState.EMPTY);
        moved();
        deleted();
    }

    private void listed() throws Exception {
        is(names(new ListGroupsOptions()), Set.of("classic", "modern", "nobody"));
        is(names(ListGroupsOptions.forConsumerGroups()), Set.of("classic", "modern", "nobody"));
        is(names(new ListGroupsOptions().inGroupStates(Set.of(GroupState.STABLE))), Set.of("classic", "modern"));
        is(names(new ListGroupsOptions().inGroupStates(Set.of(GroupState.EMPTY))), Set.of("nobody"));
        is(names(new ListGroupsOptions().inGroupStates(Set.of(GroupState.EMPTY, GroupState.STABLE))).size(), 3);
        is(names(new ListGroupsOptions().withTypes(Set.of(GroupType.CONSUMER))), Set.of("modern"));
        is(names(new ListGroupsOptions().withTypes(Set.of(GroupType.CLASSIC))), Set.of("classic", "nobody"));
        is(names(new ListGroupsOptions().withTypes(Set.of(GroupType.SHARE))), Set.of());
        is(names(new ListGroupsOptions().withTypes(Set.of(GroupType.CLASSIC))
                .inGroupStates(Set.of(GroupState.STABLE))), Set.of("classic"));
    }

    private Set<String> names(ListGroupsOptions options) throws Exception {
        Set<String> names = new HashSet<>();
        for (GroupListing listing : admin.listGroups(options).all().get()) {
            is(names.add(listing.groupId()), true);
        }
        return names;
    }

    private void described() throws Exception {
        ConsumerGroupDescription classic = found("classic");
        is(classic.type(), GroupType.CLASSIC);
        is(classic.partitionAssignor(), "range");
        MemberDescription fixed = classic.members().iterator().next();
        is(fixed.groupInstanceId(), Optional.of("fixed"));
        is(fixed.assignment().topicPartitions(), Set.of(FIRST, SECOND));
        ConsumerGroupDescription modern = found("modern");
        is(modern.type(), GroupType.CONSUMER);
        is(modern.partitionAssignor(), "uniform");
        is(modern.groupEpoch(), modern.targetAssignmentEpoch());
        MemberDescription member = modern.members().iterator().next();
        is(member.memberEpoch(), modern.groupEpoch());
        is(member.upgraded(), Optional.of(true));
        is(member.assignment().topicPartitions(), Set.of(REFUNDS));
        is(member.targetAssignment().orElseThrow().topicPartitions(), Set.of(REFUNDS));
        is(found("nobody").groupState(), GroupState.EMPTY);
    }

    private void whereTheyAre() throws Exception {
        Map<String, Map<TopicPartition, OffsetAndMetadata>> offsets = offsets(Map.of(
                "classic", new ListConsumerGroupOffsetsSpec(),
                "modern", new ListConsumerGroupOffsetsSpec().topicPartitions(List.of(REFUNDS, FIRST)),
                "nobody", new ListConsumerGroupOffsetsSpec(),
                "none", new ListConsumerGroupOffsetsSpec()));
        is(offsets.get("classic").keySet(), Set.of(FIRST, SECOND));
        is(offsets.get("classic").get(FIRST).offset(), 3L);
        is(offsets.get("classic").get(FIRST).metadata(), "a note");
        is(offsets.get("classic").get(SECOND).offset(), 2L);
        is(offsets.get("modern").get(REFUNDS).offset(), 3L);
        is(offsets.get("modern").get(FIRST), null);
        is(offsets.get("nobody").get(FIRST).offset(), 1L);
        is(offsets.get("none"), Map.of());
    }

    private Map<String, Map<TopicPartition, OffsetAndMetadata>> offsets(
            Map<String, ListConsumerGroupOffsetsSpec> groups) throws Exception {
        ListConsumerGroupOffsetsOptions stable = new ListConsumerGroupOffsetsOptions().requireStable(true);
        return admin.listConsumerGroupOffsets(groups, stable).all().get();
    }

    private void refusedWhileTheyLive() throws Exception {
        for (String group : List.of("classic", "modern")) {
            TopicPartition place = group.equals("classic") ? FIRST : REFUNDS;
            fails(GroupNotEmptyException.class, () -> admin.deleteConsumerGroups(List.of(group)).all().get());
            fails(GroupSubscribedToTopicException.class,
                    () -> admin.deleteConsumerGroupOffsets(group, Set.of(place)).all().get());
            fails(UnknownMemberIdException.class, () -> admin
                    .alterConsumerGroupOffsets(group, Map.of(place, new OffsetAndMetadata(0))).all().get());
        }
        // What nobody subscribes to may go.
        admin.deleteConsumerGroupOffsets("classic", Set.of(REFUNDS)).all().get();
        is(offsets(Map.of("classic", new ListConsumerGroupOffsetsSpec())).get("classic").size(), 2);
    }

    private void moved() throws Exception {
        admin.alterConsumerGroupOffsets("modern", Map.of(REFUNDS, new OffsetAndMetadata(1))).all().get();
        try (KafkaConsumer<String, String> modern = member("modern", Map.of("group.protocol", "consumer"))) {
            is(read(modern, "refunds", 2), new TreeSet<>(Set.of("1", "2")));
        }
        admin.deleteConsumerGroupOffsets("classic", Set.of(SECOND)).all().get();
        is(offsets(Map.of("classic", new ListConsumerGroupOffsetsSpec())).get("classic").keySet(), Set.of(FIRST));
    }

    private void deleted() throws Exception {
        Set<String> all = Set.of("classic", "modern", "nobody");
        admin.deleteConsumerGroups(all).all().get();
        is(names(new ListGroupsOptions()), Set.of());
        for (String group : all) {
            fails(GroupIdNotFoundException.class, () -> admin.deleteConsumerGroups(List.of(group)).all().get());
            fails(GroupIdNotFoundException.class, () -> found(group));
        }
    }

    private ConsumerGroupDescription found(String group) throws Exception {
        return admin.describeConsumerGroups(List.of(group)).all().get().get(group);
    }

    private KafkaConsumer<String, String> member(String group, Map<String, String> further) {
        Properties config = new Properties();
        config.putAll(properties);
        config.putAll(Map.of("group.id", group, "auto.offset.reset", "earliest", "enable.auto.commit", "false"));
        config.putAll(further);
        return new KafkaConsumer<>(config, new StringDeserializer(), new StringDeserializer());
    }

    /** Reads so many records of a topic. */
    private static Set<String> read(KafkaConsumer<String, String> consumer, String topic, int count) {
        long deadline = System.nanoTime() + PATIENCE.toNanos();
        consumer.subscribe(List.of(topic));
        Set<String> values = new TreeSet<>();
        for (int read = 0; read < count;) {
            if (System.nanoTime() > deadline) {
                throw new AssertionError("only " + read + " records of " + topic);
            }
            for (var record : consumer.poll(Duration.ofMillis(100))) {
                values.add(record.value());
                read++;
            }
        }
        return values;
    }

    private interface Attempt {
        void run() throws Exception;
    }

    private static void fails(Class<? extends Exception> expected, Attempt attempt) throws Exception {
        try {
            attempt.run();
        } catch (ExecutionException error) {
            is(error.getCause().getClass(), expected);
            return;
        }
        throw new AssertionError("not refused with " + expected);
    }

    private static void is(Object found, Object expected) {
        if (!Objects.equals(found, expected)) {
            throw new AssertionError("found " + found + ", expected " + expected);
        }
    }
}
