import java.io.Reader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.TransactionState;
import org.apache.kafka.clients.consumer.ConsumerGroupMetadata;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringSerializer;

/** What Kafka's own client makes of a broker's errors: the exceptions that an application gets, and how it goes on after them. */
@SuppressWarnings("removal") // constructors of ConsumerGroupMetadata, for members that there are none of
public final class ClientOutcomes {
    private static final int PATIENCE_S = 60;

    /** The client's own version, which it passes over among its settings. */
    private static final String VERSION = "client.version";

    private final Properties settings;
    private final Admin admin;
    private final String story;
    private final String topic;

    interface Story {
        void tell(ClientOutcomes here) throws Exception;
    }

    interface Deed {
        void run() throws Exception;
    }

    private ClientOutcomes(Properties settings, Admin admin, String version, String story) {
        this.settings = settings;
        this.admin = admin;
        this.story = "client " + version + " " + story;
        topic = this.story.replace(' ', '-');
    }

    public static void main(String[] arguments) throws Exception {
        Properties settings = new Properties();
        try (Reader file = Files.newBufferedReader(Path.of(arguments[1]))) {
            settings.load(file);
        }
        settings.put("bootstrap.servers", arguments[0]);
        settings.put(VERSION, arguments[2]);
        tell(settings, "fenced", ClientOutcomes::fenced);
        tell(settings, "timeout", ClientOutcomes::timeout);
        tell(settings, "invalid timeout", ClientOutcomes::invalidTimeout);
        tell(settings, "group members", ClientOutcomes::groupMembers);
        tell(settings, "aborted by the client", ClientOutcomes::aborted);
        tell(settings, "taken in turn", ClientOutcomes::takenInTurn);
        System.out.println("done");
        System.exit(0); // without the farewells of producers that have been given up
    }

    private static void tell(Properties settings, String name, Story story) throws Exception {
        try (Admin admin = Admin.create(settings)) {
            ClientOutcomes here = new ClientOutcomes(settings, admin, settings.getProperty(VERSION), name);
            admin.createTopics(List.of(new NewTopic(here.topic, 1, (short) 1))).all().get(PATIENCE_S, TimeUnit.SECONDS);
            story.tell(here);
        }
    }

    private KafkaProducer<String, String> producer(int timeoutMs) {
        Properties config = new Properties();
        config.putAll(settings);
        config.put("transactional.id", topic);
        config.put("transaction.timeout.ms", String.valueOf(timeoutMs));
        return new KafkaProducer<>(config, new StringSerializer(), new StringSerializer());
    }

    private KafkaProducer<String, String> holder() {
        KafkaProducer<String, String> producer = producer(60_000);
        producer.initTransactions();
        return producer;
    }

    private void say(String step, Deed deed) {
        String outcome = "done";
        try {
            deed.run();
        } catch (ExecutionException refused) {
            outcome = refused.getCause().getClass().getSimpleName();
        } catch (Exception refused) {
            outcome = refused.getClass().getSimpleName();
        }
        System.out.println(story + ": " + step + ": " + outcome);
    }

    private void send(KafkaProducer<String, String> producer, String value) throws Exception {
        producer.send(new ProducerRecord<>(topic, value)).get(PATIENCE_S, TimeUnit.SECONDS);
    }

    private void begin(KafkaProducer<String, String> producer) throws Exception {
        producer.beginTransaction();
        send(producer, "begun");
    }

    /** A holder that somebody else has taken over from. */
    private void fenced() throws Exception {
        KafkaProducer<String, String> old = holder();
        begin(old);
        KafkaProducer<String, String> holder = holder();
        say("send", () -> send(old, "zombie"));
        say("abort", old::abortTransaction);
        KafkaProducer<String, String> older = holder;
        begin(older);
        KafkaProducer<String, String> newest = holder();
        say("commit", older::commitTransaction);
        say("abort then", older::abortTransaction);
        say("the newest", () -> {
            begin(newest);
            newest.commitTransaction();
        });
        KafkaProducer<String, String> last = holder();
        newest.beginTransaction();
        say("offsets", () -> newest.sendOffsetsToTransaction(
                Map.of(new TopicPartition(topic, 0), new OffsetAndMetadata(1)), new ConsumerGroupMetadata(topic)));
        say("the last", () -> {
            begin(last);
            last.commitTransaction();
        });
    }

    /** The broker aborts what takes too long. */
    private void timeout() throws Exception {
        for (String deed : new String[] {"send", "commit", "abort"}) {
            KafkaProducer<String, String> producer = producer(3_000);
            producer.initTransactions();
            begin(producer);
            awaitAborted();
            switch (deed) {
                case "send" -> say(deed, () -> send(producer, "late"));
                case "commit" -> say(deed, producer::commitTransaction);
                default -> say(deed, producer::abortTransaction);
            }
            say("abort after " + deed, producer::abortTransaction);
            say("another transaction after " + deed, () -> {
                begin(producer);
                producer.commitTransaction();
            });
        }
    }

    private void awaitAborted() throws Exception {
        long end = System.currentTimeMillis() + PATIENCE_S * 1_000;
        while (admin.describeTransactions(List.of(topic)).description(topic).get(PATIENCE_S, TimeUnit.SECONDS).state()
                != TransactionState.COMPLETE_ABORT) {
            if (System.currentTimeMillis() > end) {
                throw new IllegalStateException("the transaction is not aborted");
            }
            Thread.sleep(20); // between two looks
        }
    }

    private void invalidTimeout() {
        KafkaProducer<String, String> producer = producer(Integer.MAX_VALUE);
        say("init", producer::initTransactions);
    }

    /** KIP-447: somebody who is not, or no longer, of the group. */
    private void groupMembers() throws Exception {
        KafkaProducer<String, String> producer = holder();
        producer.beginTransaction();
        ConsumerGroupMetadata stranger = new ConsumerGroupMetadata(topic, 3, "stranger", Optional.empty());
        say("a generation of no group", () -> producer.sendOffsetsToTransaction(
                Map.of(new TopicPartition(topic, 0), new OffsetAndMetadata(1)), stranger));
        say("abort", producer::abortTransaction);
        say("another transaction", () -> {
            begin(producer);
            producer.sendOffsetsToTransaction(
                    Map.of(new TopicPartition(topic, 0), new OffsetAndMetadata(1)), new ConsumerGroupMetadata(topic));
            producer.commitTransaction();
        });
    }

    private void aborted() throws Exception {
        KafkaProducer<String, String> producer = holder();
        begin(producer);
        producer.abortTransaction();
        say("abort of nothing", () -> {
            producer.beginTransaction();
            producer.abortTransaction();
        });
        say("commit of nothing", () -> {
            producer.beginTransaction();
            producer.commitTransaction();
        });
        say("a record that is too large", () -> {
            producer.beginTransaction();
            send(producer, "x".repeat(2 << 20));
        });
        say("commit then", producer::commitTransaction);
        say("abort then", producer::abortTransaction);
        say("another transaction", () -> {
            begin(producer);
            producer.commitTransaction();
        });
    }

    /** Two producers that take the id from one another: of each turn, only the one who came last commits. */
    private void takenInTurn() throws Exception {
        for (int turn = 1; turn <= 3; turn++) {
            KafkaProducer<String, String> first = holder();
            begin(first);
            KafkaProducer<String, String> second = holder();
            begin(second);
            say("the first's commit, turn " + turn, first::commitTransaction);
            say("the second's commit, turn " + turn, second::commitTransaction);
        }
    }
}
