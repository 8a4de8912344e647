import java.io.FileReader;
import java.io.IOException;
import java.util.Properties;

/** How a program reaches the broker, by its arguments: bootstrap servers, client properties. */
final class Access {
    private Access() {}

    static Properties properties(String[] arguments) throws IOException {
        Properties properties = new Properties();
        try (FileReader file = new FileReader(arguments[1])) {
            properties.load(file);
        }
        properties.put("bootstrap.servers", arguments[0]);
        return properties;
    }
}
