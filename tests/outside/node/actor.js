// kafkajs as an actor; the operations are described in python/actor.py. It reads only as a member of a group, so it
// has no `read` here, and one assignor: round robin, under the name that other clients have for it.
'use strict'

const fs = require('fs')
const net = require('net')
const readline = require('readline')
const tls = require('tls')
const { CompressionTypes, Kafka, PartitionAssigners, logLevel } = require('kafkajs')

// A connection that the broker closes is an error like any other broken one. kafkajs by itself forgets the broker then, and
// if that was the only one and a heartbeat is due in this moment, its membership as well: it begins anew as somebody else.
function socketFactory({ host, port, ssl, onConnect }) {
  const socket = tls.connect({ host, port, ...(net.isIP(host) ? {} : { servername: host }), ...ssl }, onConnect)
  socket.prependListener('end', () => {
    if (!socket.writableEnded) socket.emit('error', new Error('closed by the broker'))
  })
  return socket
}

// Of a broker that is away for a while. After five times, as it is set otherwise, a consumer begins anew as somebody else.
const patience = { connectionTimeout: 20000, retry: { initialRetryTime: 100, maxRetryTime: 1000, retries: 60 } }

const access = JSON.parse(process.argv[2])
const kafka = new Kafka({
  ...patience,
  socketFactory,
  brokers: [access.bootstrap],
  ssl: {
    ca: [fs.readFileSync(access.ca)],
    cert: fs.readFileSync(access.cert),
    key: fs.readFileSync(access.key),
  },
  logLevel: logLevel.WARN,
  logCreator: () => ({ log, label, namespace }) => console.error(label, namespace, JSON.stringify(log)),
})
const producers = new Map()
const transactions = new Map()
const members = new Map()

// Members agree on an assignor by its name, and kafkajs has a name of its own for this one.
const roundRobin = config => ({ ...PartitionAssigners.roundRobin(config), name: 'roundrobin' })

async function withAdmin(act) {
  const admin = kafka.admin()
  await admin.connect()
  try {
    return await act(admin)
  } finally {
    await admin.disconnect()
  }
}

async function end(id, how) {
  const transaction = transactions.get(id)
  transactions.delete(id)
  await transaction[how]()
}

const operations = {
  async topic({ name, partitions }) {
    await withAdmin(admin => admin.createTopics({ topics: [{ topic: name, numPartitions: partitions }] }))
  },

  async producer({ id, transactional_id, compression, timeout_ms }) {
    const producer = kafka.producer({
      transactionalId: transactional_id,
      transactionTimeout: timeout_ms || 60000,
      idempotent: true,
      maxInFlightRequests: 1,
    })
    await producer.connect()
    producers.set(id, { producer, compression: CompressionTypes[compression.toUpperCase()] })
  },

  async begin({ id }) {
    transactions.set(id, await producers.get(id).producer.transaction())
  },

  commit: ({ id }) => end(id, 'commit'),

  abort: ({ id }) => end(id, 'abort'),

  async close({ id }) {
    await producers.get(id).producer.disconnect()
    producers.delete(id)
  },

  // One request for all: per partition it holds the records in their order, so offsets follow from the first one.
  async send({ id, topic, records }) {
    const { producer, compression } = producers.get(id)
    const messages = records.map(([partition, key, value]) => ({ partition, key, value }))
    const answers = await (transactions.get(id) || producer).send({ topic, messages, compression, acks: -1 })
    const next = new Map(answers.map(({ partition, baseOffset }) => [partition, Number(baseOffset)]))
    const offsets = messages.map(({ partition }) => {
      const offset = next.get(partition)
      next.set(partition, offset + 1)
      return offset
    })
    return { offsets }
  },

  async send_group_offset({ id, group, topic, partition, offset }) {
    const topics = [{ topic, partitions: [{ partition, offset: String(offset) }] }]
    await transactions.get(id).sendOffsets({ consumerGroupId: group, topics })
  },

  // kafkajs reads by itself; a poll takes what has come.
  async subscribe({ id, topic, group, session_ms }) {
    const consumer = kafka.consumer({
      groupId: group,
      sessionTimeout: session_ms || 10000,
      heartbeatInterval: 500,
      retry: patience.retry,
      maxWaitTimeInMs: 100,
      readUncommitted: false,
      partitionAssigners: [roundRobin],
    })
    const member = { consumer, topic, rows: [], next: new Map(), assigned: [], rebalances: 0 }
    consumer.on(consumer.events.REBALANCING, () => {
      member.assigned = []
    })
    consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
      member.assigned = payload.memberAssignment[topic] || []
      // What it has read of partitions that are others' now, these have committed.
      member.next.clear()
      member.rebalances += 1
    })
    members.set(id, member)
    await consumer.connect()
    await consumer.subscribe({ topic, fromBeginning: true })
    await consumer.run({
      autoCommit: false,
      eachMessage: async ({ partition, message }) => {
        member.rows.push([partition, Number(message.offset), message.value.toString()])
        member.next.set(partition, String(Number(message.offset) + 1))
      },
    })
  },

  async poll({ id, ms }) {
    await new Promise(resolve => setTimeout(resolve, ms))
    const { rows, assigned, rebalances } = members.get(id)
    members.get(id).rows = []
    return { rows, assigned: [...assigned].sort((a, b) => a - b), rebalances }
  },

  async commit_read({ id }) {
    const { consumer, topic, next } = members.get(id)
    await consumer.commitOffsets([...next].map(([partition, offset]) => ({ topic, partition, offset })))
  },

  async leave({ id }) {
    await members.get(id).consumer.disconnect()
    members.delete(id)
  },

  async group_offset({ group, topic, partition }) {
    const [found] = await withAdmin(admin => admin.fetchOffsets({ groupId: group, topics: [topic] }))
    const { offset } = found.partitions.find(answer => answer.partition === partition)
    return { offset: Number(offset) >= 0 ? Number(offset) : null }
  },
}

async function main() {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const { op, ...request } = JSON.parse(line)
    let answer
    try {
      answer = (await operations[op](request)) || {}
    } catch (error) {
      console.error(error)
      answer = { error: error.type || error.name, message: error.message }
    }
    console.log(JSON.stringify(answer))
  }
  process.exit(0) // without the producers' farewells: the test is over
}

main()
