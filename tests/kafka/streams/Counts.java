import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.time.Duration;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.locks.LockSupport;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StoreQueryParameters;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.errors.InvalidStateStoreException;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.KGroupedStream;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.processor.StateRestoreListener;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.QueryableStoreTypes;
import org.apache.kafka.streams.state.ReadOnlyKeyValueStore;
import org.apache.kafka.streams.state.WindowStore;

/**
 * Counts words exactly once: the first word of each record of "words" is counted in a store, and each new count goes to
 * "counted". It says when it runs and what it has restored of the store; asked with the line "store" it says what is in
 * there, and "close" ends it in order. The only argument says where the broker is, as for the actors, and "state_dir".
 */
public final class Counts {
    private static final String STORE = "counts";
    private static final Duration PATIENCE = Duration.ofSeconds(60);
    private static final Duration PAUSE = Duration.ofMillis(20);
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final Serde<String> TEXT = Serdes.String();

    private Counts() {
    }

    public static void main(String[] arguments) throws Exception {
        JsonNode access = JSON.readTree(arguments[0]);
        KafkaStreams streams = new KafkaStreams(topology(), settings(access));
        streams.setStateListener((state, before) -> {
            say(JSON.createObjectNode().put("state", state.name()));
            if (state == KafkaStreams.State.ERROR) {
                Runtime.getRuntime().halt(1);
            }
        });
        streams.setGlobalStateRestoreListener(new Restored());
        streams.start();
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            if (line.equals("close")) {
                boolean closed = streams.close(Duration.ofSeconds(60));
                say(JSON.createObjectNode().put("closed", closed));
                System.exit(closed ? 0 : 1);
            }
            say(contents(streams));
        }
        Runtime.getRuntime().halt(0); // the test is over
    }

    private static Properties settings(JsonNode access) throws Exception {
        Properties settings = Actor.settings(access);
        settings.putAll(Map.of(
                "application.id", "counting",
                "processing.guarantee", "exactly_once_v2",
                "commit.interval.ms", "100",
                "num.stream.threads", "2",
                "state.dir", access.get("state_dir").asText(),
                "repartition.purge.interval.ms", "500",
                // Who was killed is given up soon.
                "consumer.session.timeout.ms", "6000",
                "consumer.heartbeat.interval.ms", "1000",
                "producer.transaction.timeout.ms", "6000"));
        // Of all internal topics; Kafka would compact nothing for days otherwise.
        settings.putAll(Map.of(
                "topic.segment.bytes", "1048576",
                "topic.segment.ms", "10000",
                "topic.segment.index.bytes", "10240",
                "topic.min.cleanable.dirty.ratio", "0.01",
                "topic.delete.retention.ms", "1000"));
        return settings;
    }

    private static Topology topology() {
        StreamsBuilder builder = new StreamsBuilder();
        // The new key makes a repartition topic, the stores a changelog each: one compacted, one deleted from as well.
        KGroupedStream<String, String> words = builder.stream("words", Consumed.with(TEXT, TEXT))
                .selectKey((key, value) -> value.split(" ")[0])
                .groupByKey(Grouped.with("by-word", TEXT, TEXT));
        words.aggregate(() -> "0", (word, value, count) -> Long.toString(Long.parseLong(count) + 1),
                Materialized.<String, String, KeyValueStore<Bytes, byte[]>>as(STORE)
                        .withKeySerde(TEXT).withValueSerde(TEXT).withCachingDisabled())
                .toStream().to("counted", Produced.with(TEXT, TEXT));
        words.windowedBy(TimeWindows.ofSizeWithNoGrace(Duration.ofMinutes(5)))
                .count(Materialized.<String, Long, WindowStore<Bytes, byte[]>>as("recent")
                        .withKeySerde(TEXT).withValueSerde(Serdes.Long()).withCachingDisabled());
        return builder.build();
    }

    private static ObjectNode contents(KafkaStreams streams) {
        ObjectNode answer = JSON.createObjectNode();
        ObjectNode store = answer.putObject("store");
        // While partitions change hands it cannot be asked.
        for (long due = System.nanoTime() + PATIENCE.toNanos();; LockSupport.parkNanos(PAUSE.toNanos())) {
            ReadOnlyKeyValueStore<String, String> counts;
            try {
                counts = streams.store(
                        StoreQueryParameters.fromNameAndType(STORE, QueryableStoreTypes.keyValueStore()));
            } catch (InvalidStateStoreException changing) {
                if (System.nanoTime() > due) {
                    throw changing;
                }
                continue;
            }
            try (var all = counts.all()) {
                all.forEachRemaining(entry -> store.put(entry.key, entry.value));
            }
            return answer;
        }
    }

    private static synchronized void say(ObjectNode words) {
        System.out.println(words);
    }

    /** Says what was read of a changelog. */
    private static final class Restored implements StateRestoreListener {
        @Override
        public void onRestoreStart(TopicPartition partition, String store, long from, long to) {
        }

        @Override
        public void onBatchRestored(TopicPartition partition, String store, long to, long records) {
        }

        @Override
        public void onRestoreEnd(TopicPartition partition, String store, long records) {
            say(JSON.createObjectNode().put("restored", records).put("of", store));
        }
    }
}
