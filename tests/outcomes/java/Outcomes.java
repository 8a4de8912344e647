import java.io.EOFException;
import java.io.Reader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.Callable;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.common.protocol.Errors;

/**
 * What a broker answers on each path of a transaction that ends in an error, request by request. Prints one line for each step:
 * the protocol's version, the story and the step, and the error's name. Each story has a transactional id, a topic and a group
 * of its own.
 */
public final class Outcomes {
    private static final int NEVER_MS = 60_000;
    private static final int SOON_MS = 3_000;
    private static final Broker.Identity NOBODY = new Broker.Identity(-1, (short) -1);

    /** What a client of a transaction version sends. */
    enum Protocol {
        V1(9, 3, 4), V2(12, 5, 5);

        final int produce;
        final int offsets;
        final int end;

        Protocol(int produce, int offsets, int end) {
            this.produce = produce;
            this.offsets = offsets;
            this.end = end;
        }
    }

    interface Story {
        void tell(Outcomes here) throws Exception;
    }

    private final Properties settings;
    private final Broker broker;
    private final Protocol protocol;
    private final String story;
    private final String id;
    private final String topic;
    private final String group;

    private Outcomes(Properties settings, Broker broker, Protocol protocol, String story) {
        this.settings = settings;
        this.broker = broker;
        this.protocol = protocol;
        this.story = story;
        id = protocol + "-" + story;
        topic = "topic-" + id;
        group = "group-" + id;
    }

    public static void main(String[] arguments) throws Exception {
        Properties settings = new Properties();
        try (Reader file = Files.newBufferedReader(Path.of(arguments[1]))) {
            settings.load(file);
        }
        settings.put("bootstrap.servers", arguments[0]);
        for (Protocol protocol : Protocol.values()) {
            tell(settings, protocol, "nothing begun", Outcomes::nothingBegun);
            tell(settings, protocol, "ended", Outcomes::ended);
            tell(settings, protocol, "fenced", Outcomes::fenced);
            tell(settings, protocol, "epoch ahead", Outcomes::epochAhead);
            tell(settings, protocol, "nobody", Outcomes::nobody);
            tell(settings, protocol, "someone else's id", Outcomes::someoneElsesId);
            tell(settings, protocol, "not enrolled", Outcomes::notEnrolled);
            tell(settings, protocol, "sequences", Outcomes::sequences);
            tell(settings, protocol, "late append", Outcomes::lateAppend);
            tell(settings, protocol, "timeout", Outcomes::timeout);
            tell(settings, protocol, "init during transaction", Outcomes::initDuringTransaction);
            tell(settings, protocol, "init again", Outcomes::initAgain);
            tell(settings, protocol, "two producers", Outcomes::twoProducers);
            tell(settings, protocol, "group members", Outcomes::groupMembers);
            tell(settings, protocol, "marker from outside", Outcomes::markerFromOutside);
            tell(settings, protocol, "delayed end", Outcomes::delayedEnd);
        }
        System.out.println("done");
        System.exit(0);
    }

    private static void tell(Properties settings, Protocol protocol, String name, Story story) throws Exception {
        try (Broker broker = new Broker(settings); Admin admin = Admin.create(settings)) {
            Outcomes here = new Outcomes(settings, broker, protocol, name.replace(' ', '-').replace("'", ""));
            admin.createTopics(List.of(new NewTopic(here.topic, 1, (short) 1))).all().get(60, TimeUnit.SECONDS);
            broker.findCoordinators(here.id, here.group);
            broker.awaitTopic(here.topic);
            story.tell(here);
        }
    }

    /** An answer, or that the broker has closed the connection instead. */
    private static Object orClosed(Callable<Errors> asking) throws Exception {
        try {
            return asking.call();
        } catch (EOFException closed) {
            return "connection closed";
        }
    }

    private void say(String step, Object outcome) {
        System.out.println(protocol + " " + story + ": " + step + ": " + outcome);
    }

    private Broker.Identity begun() throws Exception {
        Broker.Identity identity = broker.init(id);
        begin(identity, 0);
        return identity;
    }

    /** Begins a transaction with one record. */
    private void begin(Broker.Identity identity, int sequence) throws Exception {
        enrol(identity);
        expect("begin", append(identity, sequence, 1));
    }

    private void enrol(Broker.Identity identity) throws Exception {
        if (protocol == Protocol.V1) {
            expect("enrol", broker.enrol(3, id, identity, topic));
        }
    }

    /** What has to succeed for the story to be the same everywhere. */
    private void expect(String step, Errors error) {
        if (error != Errors.NONE) {
            say(step, "unexpected " + error);
        }
    }

    private Errors append(Broker.Identity identity, int sequence, int records) throws Exception {
        return broker.append(protocol.produce, id, identity, topic, sequence, records);
    }

    private Errors stage(Broker.Identity identity, Broker.Member member) throws Exception {
        return broker.stageOffset(protocol.offsets, id, identity, group, topic, member);
    }

    private Broker.Answer end(Broker.Identity identity, boolean commit) throws Exception {
        return broker.end(protocol.end, id, identity, commit);
    }

    /** An answer with what became of the epoch. */
    private static String told(Broker.Answer answer, Broker.Identity before) {
        if (answer.error() != Errors.NONE) {
            return answer.error().toString();
        }
        boolean same = answer.identity().id() == before.id();
        return "NONE, " + (same ? "epoch +" + (answer.identity().epoch() - before.epoch()) : "new producer id");
    }

    /** An end without a beginning. */
    private void nothingBegun() throws Exception {
        Broker.Identity identity = broker.init(id);
        say("commit", end(identity, true).error());
        Broker.Answer aborted = end(identity, false);
        say("abort", told(aborted, identity));
        if (aborted.error() == Errors.NONE) {
            identity = aborted.identity();
        }
        say("commit then", end(identity, true).error());
        say("empty transactional id", broker.end(protocol.end, "", identity, true).error());
        say("init with an empty transactional id", broker.init(4, "", NOBODY, NEVER_MS).error());
        say("init without any time", broker.init(4, id, NOBODY, 0).error());
        say("init with too much time", broker.init(4, id, NOBODY, Integer.MAX_VALUE).error());
        say("init with an epoch alone", broker.init(4, id, NOBODY.withEpoch(3), NEVER_MS).error());
    }

    /** What can be said of a transaction that has ended. */
    private void ended() throws Exception {
        for (boolean commit : new boolean[] {true, false}) {
            String first = commit ? "commit" : "abort";
            Broker.Identity identity = broker.init(id);
            begin(identity, 0);
            Broker.Answer answer = end(identity, commit);
            say(first, told(answer, identity));
            say(first + " again", told(end(identity, commit), identity));
            say("the other after " + first, end(identity, !commit).error());
            if (protocol == Protocol.V2) {
                say(first + " by the next identity", told(end(answer.identity(), commit), answer.identity()));
            }
        }
    }

    /** A zombie, at every entrance. */
    private void fenced() throws Exception {
        Broker.Identity old = begun();
        Broker.Identity holder = broker.init(id);
        say("append", append(old, 1, 1));
        for (int version : new int[] {1, 3}) {
            say("AddPartitionsToTxn " + version, broker.enrol(version, id, old, topic));
            say("AddOffsetsToTxn " + version, broker.enrolGroup(version, id, old, group));
        }
        say("offsets", stage(old, Broker.Member.NONE));
        for (boolean commit : new boolean[] {true, false}) {
            String what = commit ? "commit" : "abort";
            say(what, end(old, commit).error());
            say(what + ", EndTxn 1", broker.end(1, id, old, commit).error());
        }
        say("init 3 with the old identity", broker.init(3, id, old, NEVER_MS).error());
        say("init 4 with the old identity", broker.init(4, id, old, NEVER_MS).error());
        begin(holder, 0);
        say("the holder's commit", end(holder, true).error());
    }

    /** An epoch that nobody has been given. */
    private void epochAhead() throws Exception {
        Broker.Identity identity = begun();
        Broker.Identity ahead = identity.withEpoch(identity.epoch() + 7);
        say("append", append(ahead, 0, 1));
        say("offsets", stage(ahead, Broker.Member.NONE));
        say("AddPartitionsToTxn", broker.enrol(3, id, ahead, topic));
        say("commit", end(ahead, true).error());
        say("init", broker.init(4, id, ahead, NEVER_MS).error());
    }

    /** A transactional id that is not there. */
    private void nobody() throws Exception {
        Broker.Identity stranger = new Broker.Identity(987_654_321, (short) 0);
        say("append", append(stranger, 0, 1));
        say("AddPartitionsToTxn", broker.enrol(3, id, stranger, topic));
        say("AddOffsetsToTxn", broker.enrolGroup(3, id, stranger, group));
        say("offsets", stage(stranger, Broker.Member.NONE));
        say("commit", end(stranger, true).error());
        say("init", broker.init(4, id, stranger, NEVER_MS).error());
    }

    /** A producer id that belongs to another transactional id. */
    private void someoneElsesId() throws Exception {
        broker.init(id);
        Broker.Identity other = broker.init(id + "-other");
        say("append", append(other, 0, 1));
        say("AddPartitionsToTxn", broker.enrol(3, id, other, topic));
        say("offsets", stage(other, Broker.Member.NONE));
        say("commit", end(other, true).error());
        say("init", broker.init(4, id, other, NEVER_MS).error());
    }

    private void notEnrolled() throws Exception {
        Broker.Identity identity = broker.init(id);
        say("append", append(identity, 0, 1));
        say("offsets", stage(identity, Broker.Member.NONE));
        if (protocol == Protocol.V1) {
            say("append, Produce 11", broker.append(11, id, identity, topic, 0, 1));
            say("offsets, TxnOffsetCommit 4",
                    broker.stageOffset(4, id, identity, group, topic, Broker.Member.NONE));
            say("unknown topic", broker.enrol(3, id, identity, topic + "-not"));
        }
    }

    /** Within one transaction, and without one. */
    private void sequences() throws Exception {
        Broker.Identity identity = begun();
        say("repeated", append(identity, 0, 1));
        say("gap", append(identity, 2, 1));
        expect("three more", append(identity, 1, 3));
        say("overlap", append(identity, 2, 3));
        for (int sequence = 4; sequence < 10; sequence++) {
            expect("more", append(identity, sequence, 1));
        }
        say("behind the remembered", append(identity, 0, 1));
        say("not transactional", broker.append(protocol.produce, null, identity, topic, 10, 1));
        expect("commit", end(identity, true).error());
        Broker.Identity plain = broker.init(4, null, NOBODY, NEVER_MS).identity();
        say("plain: unknown producer, not from its beginning",
                broker.append(protocol.produce, null, plain, topic, 5, 1));
        say("plain: new epoch, not from its beginning",
                broker.append(protocol.produce, null, plain.withEpoch(1), topic, 5, 1));
        expect("new epoch", broker.append(protocol.produce, null, plain.withEpoch(1), topic, 0, 1));
        say("plain: old epoch", broker.append(protocol.produce, null, plain, topic, 6, 1));
    }

    /** After the end of its transaction. */
    private void lateAppend() throws Exception {
        Broker.Identity identity = begun();
        Broker.Answer answer = end(identity, true);
        say("append", append(identity, 1, 1));
        if (protocol == Protocol.V2) {
            say("append by the next identity, not from its beginning", append(answer.identity(), 1, 1));
            say("offsets", stage(identity, Broker.Member.NONE));
        }
    }

    /** The broker aborts it. */
    private void timeout() throws Exception {
        Broker.Identity identity = broker.init(4, id, NOBODY, SOON_MS).identity();
        begin(identity, 0);
        broker.awaitState(id, "CompleteAbort");
        say("append", append(identity, 1, 1));
        say("offsets", stage(identity, Broker.Member.NONE));
        say("AddPartitionsToTxn", broker.enrol(3, id, identity, topic));
        say("commit", end(identity, true).error());
        say("abort", told(end(identity, false), identity));
        say("init with the old identity", told(broker.init(4, id, identity, NEVER_MS), identity));
    }

    private void initDuringTransaction() throws Exception {
        Broker.Identity identity = begun();
        say("the first answer", broker.initOnce(4, id, NOBODY, NEVER_MS).error());
        Broker.Answer answer = broker.init(4, id, NOBODY, NEVER_MS);
        say("the last answer", answer.error());
        say("the old holder's commit", end(identity, true).error());
        begin(answer.identity(), 0);
        say("its own", end(answer.identity(), true).error());
    }

    /** KIP-360: an epoch of its own by its own request. */
    private void initAgain() throws Exception {
        Broker.Identity identity = broker.init(id);
        Broker.Answer raised = broker.init(4, id, identity, NEVER_MS);
        say("with the identity", told(raised, identity));
        say("with the same once more", told(broker.init(4, id, identity, NEVER_MS), identity));
        begin(raised.identity(), 0);
        Broker.Identity ahead = identity.withEpoch(identity.epoch() + 9);
        say("with one that is ahead, during the transaction", broker.initOnce(4, id, ahead, NEVER_MS).error());
        say("the holder's commit", end(raised.identity(), true).error());
    }

    /** Two that take the id from one another: who came last commits. */
    private void twoProducers() throws Exception {
        Broker.Identity first = begun();
        Broker.Identity second = broker.init(id);
        begin(second, 0);
        say("the first's append", append(first, 1, 1));
        Broker.Identity third = broker.init(4, id, NOBODY, NEVER_MS).identity();
        say("the second's commit", end(second, true).error());
        begin(third, 0);
        say("the first's abort", end(first, false).error());
        say("the third's commit", end(third, true).error());
    }

    /** KIP-447. */
    private void groupMembers() throws Exception {
        Broker.Identity identity = broker.init(id);
        if (protocol == Protocol.V1) {
            expect("enrol", broker.enrolGroup(3, id, identity, group));
        }
        Broker.Member stranger = new Broker.Member("stranger", null, 1);
        say("a generation of no group", stage(identity, stranger));
        Broker.Member member = broker.join(group, "instance");
        say("member", stage(identity, member));
        say("unknown member", stage(identity, new Broker.Member("stranger", null, member.generation())));
        say("illegal generation",
                stage(identity, new Broker.Member(member.id(), member.instance(), member.generation() + 1)));
        say("fenced instance",
                stage(identity, new Broker.Member("stranger", member.instance(), member.generation())));
        say("no member", stage(identity, Broker.Member.NONE));
        say("commit", end(identity, true).error());
    }

    private void markerFromOutside() throws Exception {
        Broker.Identity identity = begun();
        say("commit", broker.writeMarker(identity, true, topic));
        say("abort", broker.writeMarker(identity, false, topic));
        say("the transaction's commit then", end(identity, true).error());
        say("nothing open", broker.writeMarker(identity, false, topic));
    }

    /** KAFKA-17754: an end that was given up arrives in the next transaction, over the connection that was given up. */
    private void delayedEnd() throws Exception {
        Broker.Identity identity = begun();
        try (Broker newer = new Broker(settings)) {
            Broker.Identity next = newer.end(protocol.end, id, identity, true).identity();
            if (protocol == Protocol.V1) {
                expect("enrol", newer.enrol(3, id, next, topic));
            }
            expect("begin", newer.append(protocol.produce, id, next, topic, protocol == Protocol.V1 ? 1 : 0, 1));
            say("abort", orClosed(() -> end(identity, false).error()));
            say("commit", newer.end(protocol.end, id, next, true).error());
        }
    }
}
