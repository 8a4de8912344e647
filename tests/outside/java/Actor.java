import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.Reader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** Apache Kafka's own client as an actor; the operations are described in python/actor.py. */
public final class Actor {
    private static final Duration PATIENCE = Duration.ofSeconds(60);
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final Map<String, String> ASSIGNORS = Map.of(
            "range", "org.apache.kafka.clients.consumer.RangeAssignor",
            "roundrobin", "org.apache.kafka.clients.consumer.RoundRobinAssignor",
            "sticky", "org.apache.kafka.clients.consumer.StickyAssignor",
            "cooperative-sticky", "org.apache.kafka.clients.consumer.CooperativeStickyAssignor");

    private final Properties settings;
    private final Map<Long, KafkaProducer<String, String>> producers = new HashMap<>();
    private final Map<Long, Member> members = new HashMap<>();

    private Actor(Properties settings) {
        this.settings = settings;
    }

    public static void main(String[] arguments) throws Exception {
        Actor actor = new Actor(settings(JSON.readTree(arguments[0])));
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            System.out.println(actor.answer(JSON.readTree(line)));
        }
        System.exit(0); // without the producers' farewells: the test is over
    }

    /** What the broker itself wrote for Java clients, and the address that the system chose for it. */
    static Properties settings(JsonNode access) throws Exception {
        Properties settings = new Properties();
        try (Reader file = Files.newBufferedReader(Path.of(access.get("properties").asText()))) {
            settings.load(file);
        }
        settings.put("bootstrap.servers", access.get("bootstrap").asText());
        return settings;
    }

    private ObjectNode answer(JsonNode request) {
        ObjectNode answer = JSON.createObjectNode();
        try {
            obey(request, answer);
        } catch (Exception error) {
            error.printStackTrace();
            Throwable cause = error instanceof ExecutionException ? error.getCause() : error;
            answer.put("error", cause.getClass().getSimpleName()).put("message", cause.getMessage());
        }
        return answer;
    }

    private void obey(JsonNode request, ObjectNode answer) throws Exception {
        switch (request.get("op").asText()) {
            case "topic" -> createTopic(request);
            case "producer" -> openProducer(request);
            case "begin" -> producer(request).beginTransaction();
            case "send" -> send(request, answer.putArray("offsets"));
            case "send_keyed" -> sendKeyed(request, answer.putArray("outcomes"));
            case "send_group_offset" -> sendGroupOffset(request);
            case "commit" -> producer(request).commitTransaction();
            case "abort" -> producer(request).abortTransaction();
            case "close" -> producers.remove(request.get("id").asLong()).close(PATIENCE);
            case "read" -> read(request, answer.putArray("rows"));
            case "group_offset" -> groupOffset(request, answer);
            case "describe_group" -> describeGroup(request.get("group").asText(), answer);
            case "forget_group_offset" -> forgetGroupOffset(request);
            case "delete_group" -> deleteGroup(request.get("group").asText());
            case "subscribe" -> subscribe(request);
            case "poll" -> member(request).poll(request.get("ms").asLong(), answer);
            case "commit_read" -> member(request).consumer.commitSync(PATIENCE);
            case "leave" -> members.remove(request.get("id").asLong()).consumer.close();
            default -> throw new IllegalArgumentException(request.toString());
        }
    }

    private void createTopic(JsonNode request) throws Exception {
        NewTopic topic = new NewTopic(request.get("name").asText(), request.get("partitions").asInt(), (short) 1);
        Map<String, String> config = new HashMap<>();
        request.path("config").properties().forEach(set -> config.put(set.getKey(), set.getValue().asText()));
        try (Admin admin = Admin.create(settings)) {
            admin.createTopics(List.of(topic.configs(config))).all().get(PATIENCE.toSeconds(), TimeUnit.SECONDS);
        }
    }

    private void openProducer(JsonNode request) {
        Properties config = with("compression.type", request.get("compression").asText(), "linger.ms", "5");
        if (request.path("singly").asBoolean()) {
            // A batch for each record, as many in flight as there may be.
            config.put("batch.size", "0");
            config.put("linger.ms", "0");
            config.put("max.in.flight.requests.per.connection", "5");
        }
        if (request.hasNonNull("transactional_id")) {
            config.put("transactional.id", request.get("transactional_id").asText());
            config.put("transaction.timeout.ms", request.path("timeout_ms").asText("60000"));
        }
        KafkaProducer<String, String> producer =
                new KafkaProducer<>(config, new StringSerializer(), new StringSerializer());
        producers.put(request.get("id").asLong(), producer);
        if (request.hasNonNull("transactional_id")) {
            producer.initTransactions();
        }
    }

    private void send(JsonNode request, ArrayNode offsets) throws Exception {
        String topic = request.get("topic").asText();
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        for (JsonNode record : request.get("records")) {
            String key = record.get(1).isNull() ? null : record.get(1).asText();
            sent.add(producer(request).send(
                    new ProducerRecord<>(topic, record.get(0).asInt(), key, record.get(2).asText())));
        }
        producer(request).flush();
        for (Future<RecordMetadata> acknowledged : sent) {
            offsets.add(acknowledged.get(PATIENCE.toSeconds(), TimeUnit.SECONDS).offset());
        }
    }

    private void sendKeyed(JsonNode request, ArrayNode outcomes) throws Exception {
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        for (JsonNode record : request.get("records")) {
            ProducerRecord<String, String> keyed = new ProducerRecord<>(
                    request.get("topic").asText(), record.get(0).asInt(), null, record.get(2).asText());
            keyed.headers().add("semel-idempotency-key", record.get(1).asText().getBytes(StandardCharsets.UTF_8));
            try {
                sent.add(producer(request).send(keyed));
            } catch (KafkaException failedBefore) {
                sent.add(CompletableFuture.failedFuture(failedBefore));
            }
        }
        producer(request).flush();
        for (Future<RecordMetadata> acknowledged : sent) {
            ArrayNode outcome = outcomes.addArray();
            try {
                outcome.add(acknowledged.get(PATIENCE.toSeconds(), TimeUnit.SECONDS).offset());
            } catch (ExecutionException error) {
                outcome.add(error.getCause().getClass().getSimpleName()).add(error.getCause().getMessage());
            }
        }
    }

    private void sendGroupOffset(JsonNode request) {
        Map<TopicPartition, OffsetAndMetadata> offsets =
                Map.of(place(request), new OffsetAndMetadata(request.get("offset").asLong()));
        // A consumer that is no member of its group: only the group's name counts.
        try (KafkaConsumer<String, String> consumer = consumer(with("group.id", request.get("group").asText()))) {
            producer(request).sendOffsetsToTransaction(offsets, consumer.groupMetadata());
        }
    }

    private void read(JsonNode request, ArrayNode rows) {
        List<TopicPartition> places = new ArrayList<>();
        for (int partition = 0; partition < request.get("partitions").asInt(); partition++) {
            places.add(new TopicPartition(request.get("topic").asText(), partition));
        }
        Properties config =
                with("isolation.level", request.get("isolation").asText(), "auto.offset.reset", "none");
        try (KafkaConsumer<String, String> consumer = consumer(config)) {
            consumer.assign(places);
            places.forEach(place -> consumer.seek(place, 0));
            Map<TopicPartition, Long> ends = consumer.endOffsets(places, PATIENCE);
            while (places.stream().anyMatch(place -> consumer.position(place) < ends.get(place))) {
                consumer.poll(Duration.ofMillis(100)).forEach(record -> rows.addArray()
                        .add(record.partition()).add(record.offset()).add(record.key()).add(record.value()));
            }
        }
    }

    private void groupOffset(JsonNode request, ObjectNode answer) {
        try (KafkaConsumer<String, String> consumer = consumer(with("group.id", request.get("group").asText()))) {
            OffsetAndMetadata found = consumer.committed(Set.of(place(request)), PATIENCE).get(place(request));
            answer.put("offset", found == null ? null : Long.valueOf(found.offset()));
        }
    }

    private void describeGroup(String group, ObjectNode answer) throws Exception {
        try (Admin admin = Admin.create(settings)) {
            answer.put("listed", admin.listGroups().all().get(PATIENCE.toSeconds(), TimeUnit.SECONDS).stream()
                    .anyMatch(listing -> listing.groupId().equals(group)));
            ConsumerGroupDescription found = admin.describeConsumerGroups(List.of(group)).all()
                    .get(PATIENCE.toSeconds(), TimeUnit.SECONDS).get(group);
            answer.put("state", found.groupState().toString().toLowerCase(Locale.ROOT));
            answer.put("members", found.members().size());
        }
    }

    private void forgetGroupOffset(JsonNode request) throws Exception {
        try (Admin admin = Admin.create(settings)) {
            admin.deleteConsumerGroupOffsets(request.get("group").asText(), Set.of(place(request))).all()
                    .get(PATIENCE.toSeconds(), TimeUnit.SECONDS);
        }
    }

    private void deleteGroup(String group) throws Exception {
        try (Admin admin = Admin.create(settings)) {
            admin.deleteConsumerGroups(List.of(group)).all().get(PATIENCE.toSeconds(), TimeUnit.SECONDS);
        }
    }

    private void subscribe(JsonNode request) {
        Properties config = with(
                "group.id", request.get("group").asText(),
                "session.timeout.ms", request.path("session_ms").asText("10000"),
                "heartbeat.interval.ms", "500",
                "auto.offset.reset", "earliest",
                "isolation.level", "read_committed",
                // Else a leader that cannot reach its only broker forgets which topics there are, and has the group
                // rebalance when it is told again (KIP-899).
                "metadata.recovery.strategy", "none",
                "partition.assignment.strategy", ASSIGNORS.get(request.get("assignor").asText()));
        if (request.hasNonNull("instance")) {
            config.put("group.instance.id", request.get("instance").asText());
        }
        Member member = new Member(consumer(config));
        member.consumer.subscribe(List.of(request.get("topic").asText()), member);
        members.put(request.get("id").asLong(), member);
    }

    /** A consumer that is a member of a group. */
    private static final class Member implements ConsumerRebalanceListener {
        private final KafkaConsumer<String, String> consumer;
        private int rebalances;

        private Member(KafkaConsumer<String, String> consumer) {
            this.consumer = consumer;
        }

        @Override
        public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
            rebalances++;
        }

        @Override
        public void onPartitionsRevoked(Collection<TopicPartition> partitions) {}

        private void poll(long millis, ObjectNode answer) {
            ArrayNode rows = answer.putArray("rows");
            consumer.poll(Duration.ofMillis(millis)).forEach(record ->
                    rows.addArray().add(record.partition()).add(record.offset()).add(record.value()));
            ArrayNode assigned = answer.putArray("assigned");
            consumer.assignment().stream().map(TopicPartition::partition).sorted().forEach(assigned::add);
            answer.put("rebalances", rebalances);
        }
    }

    private Member member(JsonNode request) {
        return members.get(request.get("id").asLong());
    }

    private KafkaProducer<String, String> producer(JsonNode request) {
        return producers.get(request.get("id").asLong());
    }

    private static TopicPartition place(JsonNode request) {
        return new TopicPartition(request.get("topic").asText(), request.get("partition").asInt());
    }

    private static KafkaConsumer<String, String> consumer(Properties config) {
        config.put("enable.auto.commit", "false");
        return new KafkaConsumer<>(config, new StringDeserializer(), new StringDeserializer());
    }

    private Properties with(String... further) {
        Properties config = new Properties();
        config.putAll(settings);
        for (int at = 0; at < further.length; at += 2) {
            config.put(further[at], further[at + 1]);
        }
        return config;
    }
}
