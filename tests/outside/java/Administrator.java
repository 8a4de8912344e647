import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.ExecutionException;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.AlterConfigOp.OpType;
import org.apache.kafka.clients.admin.AlterConfigsOptions;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.ConfigEntry.ConfigSource;
import org.apache.kafka.clients.admin.DescribeConfigsOptions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.InvalidConfigurationException;
import org.apache.kafka.common.errors.OffsetOutOfRangeException;
import org.apache.kafka.common.serialization.StringSerializer;

/** Apache Kafka's own administration client. Arguments: bootstrap servers, client properties. Ends in "done" if all is well. */
public final class Administrator {
    private static final String TOPIC = "administered";
    private static final ConfigResource RESOURCE = new ConfigResource(ConfigResource.Type.TOPIC, TOPIC);
    private static final TopicPartition PARTITION = new TopicPartition(TOPIC, 0);

    private final Admin admin;

    private Administrator(Admin admin) {
        this.admin = admin;
    }

    public static void main(String[] arguments) throws Exception {
        Properties properties = Access.properties(arguments);
        try (Admin admin = Admin.create(properties)) {
            Administrator administrator = new Administrator(admin);
            administrator.createAndDescribe();
            administrator.alter();
            try (KafkaProducer<String, String> producer =
                    new KafkaProducer<>(properties, new StringSerializer(), new StringSerializer())) {
                long now = System.currentTimeMillis();
                for (int i = 0; i < 10; i++) {
                    producer.send(new ProducerRecord<>(TOPIC, 0, now + i, null, "value " + i)).get();
                }
                administrator.deleteRecords(now);
            }
        }
        System.out.println("done");
    }

    private void createAndDescribe() throws Exception {
        Map<String, String> good = Map.of("retention.ms", "86400000", "max.message.bytes", "2000000");
        admin.createTopics(List.of(new NewTopic(TOPIC, 2, (short) 1).configs(good))).all().get();
        NewTopic bad = new NewTopic("refused", 1, (short) 1).configs(Map.of("preallocate", "true"));
        fails(InvalidConfigurationException.class, () -> admin.createTopics(List.of(bad)).all().get());
        is(entry("retention.ms").value(), "86400000");
        is(entry("retention.ms").source(), ConfigSource.DYNAMIC_TOPIC_CONFIG);
        is(entry("retention.ms").type(), ConfigEntry.ConfigType.LONG);
        is(entry("retention.ms").synonyms().size(), 2);
        is(entry("retention.bytes").isDefault(), true);
        is(entry("retention.bytes").documentation().isEmpty(), false);
        is(entry("cleanup.policy").type(), ConfigEntry.ConfigType.LIST);
        ConfigResource broker = new ConfigResource(ConfigResource.Type.BROKER, "0");
        is(admin.describeConfigs(Set.of(broker)).all().get().get(broker).get("node.id").value(), "0");
    }

    private void alter() throws Exception {
        alter(new AlterConfigsOptions().validateOnly(true), op("retention.ms", "1", OpType.SET));
        is(entry("retention.ms").value(), "86400000");
        AlterConfigsOptions now = new AlterConfigsOptions();
        alter(now, op("retention.ms", "-1", OpType.SET), op("max.message.bytes", "", OpType.DELETE));
        is(entry("retention.ms").value(), "-1");
        is(entry("max.message.bytes").isDefault(), true);
        alter(now, op("cleanup.policy", "delete", OpType.APPEND));
        is(entry("cleanup.policy").value(), "delete");
        fails(InvalidConfigurationException.class, () -> alter(now, op("retention.ms", "-2", OpType.SET)));
        fails(InvalidConfigurationException.class, () -> alter(now, op("cleanup.policy", "delete", OpType.SUBTRACT)));
        is(entry("retention.ms").value(), "-1");
    }

    private void deleteRecords(long now) throws Exception {
        is(offset(OffsetSpec.forTimestamp(now + 3)), 3L);
        is(offset(OffsetSpec.maxTimestamp()), 9L);
        is(delete(4), 4L);
        is(offset(OffsetSpec.earliest()), 4L);
        is(offset(OffsetSpec.earliestLocal()), 4L);
        is(offset(OffsetSpec.forTimestamp(now)), 4L);
        is(delete(2), 4L);
        fails(OffsetOutOfRangeException.class, () -> delete(11));
        is(delete(-1), 10L);
        is(offset(OffsetSpec.earliest()), 10L);
        is(offset(OffsetSpec.latest()), 10L);
        is(offset(OffsetSpec.maxTimestamp()), -1L);
    }

    private ConfigEntry entry(String name) throws Exception {
        DescribeConfigsOptions options = new DescribeConfigsOptions().includeSynonyms(true).includeDocumentation(true);
        return admin.describeConfigs(Set.of(RESOURCE), options).all().get().get(RESOURCE).get(name);
    }

    private static AlterConfigOp op(String name, String value, OpType type) {
        return new AlterConfigOp(new ConfigEntry(name, value), type);
    }

    private void alter(AlterConfigsOptions options, AlterConfigOp... ops) throws Exception {
        Map<ConfigResource, Collection<AlterConfigOp>> changes = Map.of(RESOURCE, List.of(ops));
        admin.incrementalAlterConfigs(changes, options).all().get();
    }

    private long delete(long before) throws Exception {
        Map<TopicPartition, RecordsToDelete> records = Map.of(PARTITION, RecordsToDelete.beforeOffset(before));
        return admin.deleteRecords(records).lowWatermarks().get(PARTITION).get().lowWatermark();
    }

    private long offset(OffsetSpec spec) throws Exception {
        return admin.listOffsets(Map.of(PARTITION, spec)).partitionResult(PARTITION).get().offset();
    }

    private interface Attempt {
        void run() throws Exception;
    }

    private static void fails(Class<?> expected, Attempt attempt) throws Exception {
        try {
            attempt.run();
        } catch (ExecutionException failure) {
            if (expected.isInstance(failure.getCause())) {
                return;
            }
            throw failure;
        }
        throw new AssertionError("no " + expected.getSimpleName());
    }

    private static void is(Object found, Object expected) {
        if (!expected.equals(found)) {
            throw new AssertionError("expected " + expected + ", found " + found);
        }
    }
}
