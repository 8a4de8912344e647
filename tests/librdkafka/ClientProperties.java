import java.io.IOException;
import java.io.Reader;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Properties;

/** What the broker wrote for Java clients: librdkafka's Java programs know of no TLS by themselves. */
public final class ClientProperties {
    private ClientProperties() {}

    public static Properties read() {
        Properties settings = new Properties();
        try (Reader file = Files.newBufferedReader(Path.of(System.getenv("CLIENT_PROPERTIES")))) {
            settings.load(file);
        } catch (IOException unreadable) {
            throw new UncheckedIOException(unreadable);
        }
        return settings;
    }
}
