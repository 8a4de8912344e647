import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.Map;
import java.util.Properties;
import java.util.Random;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.errors.TimeoutException;
import org.apache.kafka.common.serialization.StringSerializer;

/** Load for the kill test through Apache Kafka's own client; python/load.py says what it writes and tells. */
public final class Load {
    private static final int IDEMPOTENT_PRODUCERS = 2;
    private static final int TRANSACTIONAL_PRODUCERS = 3;
    private static final String PATIENCE_MS = "120000";
    private static final ObjectMapper JSON = new ObjectMapper();

    private final Properties settings;
    private final String topic;
    private final int partitions;
    private final Gate gate = new Gate(IDEMPOTENT_PRODUCERS + TRANSACTIONAL_PRODUCERS);

    private Load(JsonNode access) throws Exception {
        topic = access.get("topic").asText();
        partitions = access.get("partitions").asInt();
        settings = Actor.settings(access);
        // The broker is away for a moment: come back soon, and never give a record up.
        settings.putAll(Map.of(
                "linger.ms", "1",
                "reconnect.backoff.ms", "10",
                "reconnect.backoff.max.ms", "100",
                "retry.backoff.ms", "10",
                "max.block.ms", PATIENCE_MS,
                "delivery.timeout.ms", PATIENCE_MS));
    }

    public static void main(String[] arguments) throws Exception {
        Load load = new Load(JSON.readTree(arguments[0]));
        for (int number = 0; number < IDEMPOTENT_PRODUCERS; number++) {
            String name = "idempotent" + number;
            start(() -> load.idempotent(name, new Random(name.hashCode())));
        }
        for (int number = 0; number < TRANSACTIONAL_PRODUCERS; number++) {
            String name = "transactional" + number;
            start(() -> load.transactional(name, new Random(name.hashCode())));
        }
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            if (line.equals("run")) {
                load.gate.run();
            } else {
                load.gate.pause();
            }
        }
        Runtime.getRuntime().halt(0); // without the producers' farewells: the test is over
    }

    /** A producer that fails is the end of the load, and so of the test. */
    private static void start(Runnable part) {
        Thread thread = new Thread(part);
        thread.setUncaughtExceptionHandler((of, error) -> fail(error));
        thread.start();
    }

    private static void fail(Throwable error) {
        error.printStackTrace();
        Runtime.getRuntime().halt(1);
    }

    private static synchronized void say(Object... words) {
        System.out.println(JSON.valueToTree(words));
    }

    private void idempotent(String name, Random dice) {
        KafkaProducer<String, String> producer = producer(settings);
        for (int number = 0; ; ) {
            gate.passThrough(producer::flush);
            for (int burst = 1 + dice.nextInt(20); burst > 0; burst--, number++) {
                String value = "i " + name + " " + number;
                producer.send(new ProducerRecord<>(topic, number % partitions, null, value), (stored, error) -> {
                    if (error != null) {
                        fail(error);
                    }
                    say("acked", stored.partition(), stored.offset(), value);
                });
            }
            // Not every burst waits for the one before it: several batches are in flight when the broker dies.
            if (dice.nextInt(10) < 3) {
                producer.flush();
            }
        }
    }

    private void transactional(String name, Random dice) {
        Properties config = new Properties();
        config.putAll(settings);
        config.putAll(Map.of("transactional.id", name, "transaction.timeout.ms", PATIENCE_MS));
        KafkaProducer<String, String> producer = null;
        for (int number = 0; ; number++) {
            if (producer == null) {
                // Ends what the one before it may have left open.
                producer = producer(config);
                producer.initTransactions();
            }
            gate.passThrough(() -> { });
            String transaction = name + "." + number;
            try {
                producer.beginTransaction();
                int size = 1 + dice.nextInt(29);
                for (int index = 0; index < size; index++) {
                    String value = String.join(" ", "t", transaction, "" + index, "" + size);
                    producer.send(new ProducerRecord<>(topic, index % partitions, null, value));
                }
                if (dice.nextInt(4) == 0) {
                    producer.flush();
                    retry(producer::abortTransaction);
                    say("aborted", transaction);
                } else {
                    retry(producer::commitTransaction);
                    say("committed", transaction);
                }
            } catch (KafkaException error) {
                System.err.println(transaction + ": " + error);
                producer = endSomehow(producer, transaction);
            }
        }
    }

    /** After a timeout the client lets the same call be made again, and nothing else. */
    private static void retry(Runnable end) {
        while (true) {
            try {
                end.run();
                return;
            } catch (TimeoutException again) {
                System.err.println("again after " + again);
            }
        }
    }

    /** Aborts if the client can; else drops the producer, and nobody knows how the transaction ended. */
    private static KafkaProducer<String, String> endSomehow(KafkaProducer<String, String> producer, String transaction) {
        try {
            retry(producer::abortTransaction);
            say("aborted", transaction);
            return producer;
        } catch (KafkaException worse) {
            System.err.println(transaction + ": " + worse);
            producer.close(java.time.Duration.ZERO);
            say("unknown", transaction);
            return null;
        }
    }

    private static KafkaProducer<String, String> producer(Properties config) {
        return new KafkaProducer<>(config, new StringSerializer(), new StringSerializer());
    }

    /** Where producers wait while the load is paused; tells when all of them have arrived. */
    private static final class Gate {
        private final int producers;
        private boolean open = false;
        private int waiting = 0;
        private long runs = 0;

        private Gate(int producers) {
            this.producers = producers;
        }

        private synchronized void run() {
            open = true;
            waiting = 0;
            runs++;
            notifyAll();
        }

        private synchronized void pause() {
            open = false;
        }

        private synchronized boolean isOpen() {
            return open;
        }

        /** A producer settles what it has in flight before it counts as waiting. */
        private void passThrough(Runnable settle) {
            if (isOpen()) {
                return;
            }
            settle.run();
            synchronized (this) {
                if (open) {
                    return;
                }
                long run = runs;
                waiting++;
                if (waiting == producers) {
                    say("paused");
                }
                while (runs == run) {
                    try {
                        wait();
                    } catch (InterruptedException error) {
                        throw new IllegalStateException(error);
                    }
                }
            }
        }
    }
}
