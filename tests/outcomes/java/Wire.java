import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.net.Socket;
import java.nio.ByteBuffer;
import java.util.Properties;
import org.apache.kafka.common.config.AbstractConfig;
import org.apache.kafka.common.config.ConfigDef;
import org.apache.kafka.common.config.SslConfigs;
import org.apache.kafka.common.message.ResponseHeaderData;
import org.apache.kafka.common.protocol.ApiKeys;
import org.apache.kafka.common.protocol.ApiMessage;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.requests.RequestHeader;
import org.apache.kafka.common.requests.RequestUtils;
import org.apache.kafka.common.security.ssl.DefaultSslEngineFactory;

/** One TLS connection that carries the messages of Apache Kafka's client, of any version and in any order. */
final class Wire implements AutoCloseable {
    private static final int ANSWER_MS_MAX = 60_000;

    private final Socket socket;
    private final DataInputStream in;
    private final DataOutputStream out;
    private int correlation;

    Wire(Properties settings) throws IOException {
        String[] address = settings.getProperty("bootstrap.servers").split(":");
        ConfigDef known = new ConfigDef();
        SslConfigs.addClientSslSupport(known);
        try (DefaultSslEngineFactory tls = new DefaultSslEngineFactory()) {
            tls.configure(new AbstractConfig(known, settings, false).values());
            socket = tls.sslContext().getSocketFactory().createSocket(address[0], Integer.parseInt(address[1]));
        }
        socket.setSoTimeout(ANSWER_MS_MAX);
        in = new DataInputStream(socket.getInputStream());
        out = new DataOutputStream(socket.getOutputStream());
    }

    /** Asks, and returns the body of the answer, to be read as a message of the same version. */
    ByteBufferAccessor ask(ApiKeys api, int version, ApiMessage request) throws IOException {
        RequestHeader header = new RequestHeader(api, (short) version, "outcomes", ++correlation);
        ByteBuffer frame = RequestUtils.serialize(header.data(), header.headerVersion(), request, (short) version);
        out.writeInt(frame.remaining());
        out.write(frame.array(), frame.arrayOffset() + frame.position(), frame.remaining());
        out.flush();
        byte[] answer = new byte[in.readInt()];
        in.readFully(answer);
        ByteBufferAccessor body = new ByteBufferAccessor(ByteBuffer.wrap(answer));
        int answered = new ResponseHeaderData(body, api.responseHeaderVersion((short) version)).correlationId();
        if (answered != correlation) {
            throw new IOException("the answer to request " + answered + " instead of " + correlation);
        }
        return body;
    }

    @Override
    public void close() throws IOException {
        socket.close();
    }
}
