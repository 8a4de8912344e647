import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.admin.AbortTransactionSpec;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.ListTransactionsOptions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.ProducerState;
import org.apache.kafka.clients.admin.TransactionDescription;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * What kafka-transactions does, by the calls that it is made of: finds who holds back a partition, and aborts it. Prints what it
 * saw as one line of JSON.
 */
public final class Transactions {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final String ID = "java-slow";
    private static final TopicPartition PLACE = new TopicPartition("operated", 0);

    private Transactions() {}

    public static void main(String[] arguments) throws Exception {
        Properties settings = Actor.settings(JSON.readTree(arguments[0]));
        Properties producing = new Properties();
        producing.putAll(settings);
        producing.put("transactional.id", ID);
        ObjectNode seen = JSON.createObjectNode();
        try (Admin admin = Admin.create(settings);
                KafkaProducer<String, String> producer =
                        new KafkaProducer<>(producing, new StringSerializer(), new StringSerializer())) {
            got(admin.createTopics(List.of(new NewTopic(PLACE.topic(), 2, (short) 1))).all());
            producer.initTransactions();
            producer.beginTransaction();
            producer.send(new ProducerRecord<>(PLACE.topic(), 0, null, "first"));
            producer.send(new ProducerRecord<>(PLACE.topic(), 1, null, "second"));
            producer.flush();
            look(admin, seen.putObject("before"));
            ProducerState state = holder(admin);
            seen.put("start", state.currentTransactionStartOffset().getAsLong());
            seen.put("timestamp", state.lastTimestamp());
            got(admin.abortTransaction(new AbortTransactionSpec(PLACE, state.producerId(),
                    (short) state.producerEpoch(), state.coordinatorEpoch().orElse(-1))).all());
            look(admin, seen.putObject("after"));
            seen.put("commit", commit(producer));
        }
        System.out.println(seen);
        System.exit(0);
    }

    private static <T> T got(Future<T> future) throws Exception {
        return future.get(60, TimeUnit.SECONDS);
    }

    private static void look(Admin admin, ObjectNode seen) throws Exception {
        ListTransactionsOptions mine = new ListTransactionsOptions().filterOnTransactionalIdPattern("java-.*");
        seen.put("listed", got(admin.listTransactions(mine).all()).size());
        TransactionDescription described = got(admin.describeTransactions(List.of(ID)).description(ID));
        seen.put("state", described.state().toString());
        seen.put("partitions", described.topicPartitions().size());
    }

    private static ProducerState holder(Admin admin) throws Exception {
        return got(admin.describeProducers(List.of(PLACE)).partitionResult(PLACE)).activeProducers().get(0);
    }

    private static String commit(KafkaProducer<String, String> producer) {
        try {
            producer.commitTransaction();
            return "committed";
        } catch (KafkaException refused) {
            return refused.getClass().getSimpleName();
        }
    }
}
