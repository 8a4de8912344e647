import java.io.IOException;
import java.io.RandomAccessFile;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.apache.kafka.connect.data.Schema;
import org.apache.kafka.connect.errors.ConnectException;
import org.apache.kafka.connect.source.SourceRecord;
import org.apache.kafka.connect.source.SourceTask;

/** Reads the lines behind those that it is told were committed. */
public final class LinesTask extends SourceTask {
    private static final String BYTES = "bytes";
    private static final int LINES_PER_POLL = 50;
    private static final int BYTES_PER_POLL = 4_096;
    private static final long WAIT_MS = 20;

    private Map<String, String> partition;
    private String topic;
    private RandomAccessFile file;
    private long at;

    @Override
    public String version() {
        return "1";
    }

    @Override
    public void start(Map<String, String> settings) {
        topic = settings.get(LinesConnector.TOPIC);
        partition = Map.of(LinesConnector.FILE, settings.get(LinesConnector.FILE));
        Map<String, Object> committed = context.offsetStorageReader().offset(partition);
        at = committed == null ? 0 : (Long) committed.get(BYTES);
        try {
            file = new RandomAccessFile(settings.get(LinesConnector.FILE), "r");
        } catch (IOException error) {
            throw new ConnectException(error);
        }
    }

    @Override
    public synchronized List<SourceRecord> poll() throws InterruptedException {
        List<SourceRecord> records = new ArrayList<>();
        byte[] piece = new byte[BYTES_PER_POLL];
        int length;
        try {
            file.seek(at);
            length = file.read(piece);
        } catch (IOException error) {
            throw new ConnectException(error);
        }
        int from = 0;
        for (int byteAt = 0; byteAt < length && records.size() < LINES_PER_POLL; byteAt++) {
            if (piece[byteAt] == '\n') {
                String line = new String(piece, from, byteAt - from, StandardCharsets.UTF_8);
                from = byteAt + 1;
                Map<String, Long> offset = Map.of(BYTES, at + from);
                records.add(new SourceRecord(partition, offset, topic, Schema.STRING_SCHEMA, line));
            }
        }
        at += from;
        if (records.isEmpty()) {
            wait(WAIT_MS);
            return null;
        }
        return records;
    }

    @Override
    public synchronized void stop() {
        try {
            file.close();
        } catch (IOException error) {
            throw new ConnectException(error);
        }
    }
}
