import com.fasterxml.jackson.core.type.TypeReference;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.connect.cli.ConnectDistributed;
import org.apache.kafka.connect.runtime.Connect;
import org.apache.kafka.connect.runtime.Herder;
import org.apache.kafka.connect.runtime.rest.entities.ConnectorInfo;
import org.apache.kafka.connect.util.FutureCallback;

/**
 * A worker of Kafka Connect, with exactly-once sources. It says when it serves; each further line {"name", "config"} has a
 * connector made, and it says {"made": name}. The only argument says where the broker is, as for the actors.
 */
public final class Worker {
    private static final long PATIENCE_S = 60;
    private static final ObjectMapper JSON = new ObjectMapper();

    private Worker() {
    }

    public static void main(String[] arguments) throws Exception {
        Connect<?> connect = new ConnectDistributed().startConnect(settings(JSON.readTree(arguments[0])));
        say(JSON.createObjectNode().put("serves", true));
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            if (line.equals("close")) {
                connect.stop();
                connect.awaitStop();
                System.exit(0);
            }
            make(connect, JSON.readTree(line));
        }
        Runtime.getRuntime().halt(0); // the test is over
    }

    private static Map<String, String> settings(JsonNode access) throws Exception {
        Map<String, String> settings = new HashMap<>(Map.of(
                "group.id", "connecting",
                "listeners", "http://127.0.0.1:0",
                "plugin.discovery", "only_scan",
                "key.converter", "org.apache.kafka.connect.storage.StringConverter",
                "value.converter", "org.apache.kafka.connect.storage.StringConverter",
                "exactly.once.source.support", "enabled"));
        // Who was killed is given up soon, and what a connector has done is noted often.
        settings.putAll(Map.of(
                "session.timeout.ms", "6000",
                "heartbeat.interval.ms", "1000",
                "scheduled.rebalance.max.delay.ms", "0",
                // A worker that is slow to read what it is to do does not leave for minutes.
                "worker.sync.timeout.ms", "60000",
                "worker.unsync.backoff.ms", "1000",
                "offset.flush.interval.ms", "100"));
        for (String topic : new String[] {"config", "offset", "status"}) {
            settings.put(topic + ".storage.topic", "connect-" + topic);
            settings.put(topic + ".storage.replication.factor", "1");
            settings.put(topic + ".storage.min.cleanable.dirty.ratio", "0.01");
            settings.put(topic + ".storage.segment.bytes", "1048576");
            settings.put(topic + ".storage.min.insync.replicas", "1");
        }
        settings.put("offset.storage.partitions", "2");
        settings.put("status.storage.partitions", "1");
        // The worker has clients of its own, and one of each kind for connectors.
        Actor.settings(access).forEach((name, value) -> {
            for (String prefix : new String[] {"", "producer.", "consumer.", "admin."}) {
                settings.put(prefix + name, value.toString());
            }
        });
        return settings;
    }

    private static void make(Connect<?> connect, JsonNode wanted) throws Exception {
        String name = wanted.get("name").asText();
        Map<String, String> config = JSON.convertValue(wanted.get("config"), new TypeReference<>() { });
        config.put("name", name);
        FutureCallback<Herder.Created<ConnectorInfo>> made = new FutureCallback<>();
        connect.herder().putConnectorConfig(name, config, true, made);
        made.get(PATIENCE_S, TimeUnit.SECONDS);
        say(JSON.createObjectNode().put("made", name));
    }

    private static synchronized void say(ObjectNode words) {
        System.out.println(words);
    }
}
