// MQTT.js against a broker: the same scenarios in MQTT 3.1.1 and 5. One line a scenario; exits non-zero on failure.

import mqtt from 'mqtt'

const PATIENCE = 10_000
const COUNT = 100
const options = { host: '127.0.0.1', port: 1883, desk: true }
for (let args = process.argv.slice(2); args.length > 0; ) {
  const flag = args.shift()
  if (flag === '--host') options.host = args.shift()
  else if (flag === '--port') options.port = Number(args.shift())
  else if (flag === '--no-desk') options.desk = false
  else throw new Error(`unknown argument ${flag}`)
}

let count = 0
const run = (Date.now() & 0xffffff).toString(16)
const unique = (name) => `${name}-${run}-${count++}`

function check(condition, what) {
  if (!condition) throw new Error(what)
}

/** Resolves with the promise, or fails when it takes too long. */
function within(promise, what) {
  let timer
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: nothing came`)), PATIENCE)
  })
  return Promise.race([promise, late]).finally(() => clearTimeout(timer))
}

/** One connection, its messages in order. */
class Peer {
  static async connect(protocolVersion, clientId, more = {}) {
    const peer = new Peer()
    peer.clientId = clientId
    peer.messages = []
    peer.waiting = []
    const v5 = protocolVersion === 5
    const persistent = more.clean === false && v5 ? { sessionExpiryInterval: 600 } : {}
    const { properties, ...rest } = more
    const settings = {
      host: options.host, port: options.port, protocol: 'mqtt', protocolVersion, clientId,
      clean: true, reconnectPeriod: 0, connectTimeout: PATIENCE, ...rest,
    }
    if (v5) settings.properties = { ...persistent, ...properties }
    const client = mqtt.connect(settings)
    peer.client = client
    client.on('message', (topic, payload, packet) => {
      const waiting = peer.waiting.shift()
      if (waiting) waiting(packet)
      else peer.messages.push(packet)
    })
    peer.connack = await within(
      new Promise((resolve, reject) => {
        client.once('connect', resolve)
        client.once('error', reject)
      }),
      `${clientId} connects`,
    )
    return peer
  }

  subscribe(topic, more = { qos: 1 }) {
    return within(this.client.subscribeAsync(topic, more), `${this.clientId} subscribes`)
  }

  publish(topic, payload, more = {}) {
    return within(this.client.publishAsync(topic, payload, more), `${this.clientId} publishes`)
  }

  receive() {
    if (this.messages.length > 0) return Promise.resolve(this.messages.shift())
    return within(new Promise((resolve) => this.waiting.push(resolve)), `${this.clientId} receives`)
  }

  async expect(topic, payload) {
    const packet = await this.receive()
    const got = packet.payload.toString()
    check(
      packet.topic === topic && got === payload.toString(),
      `${this.clientId}: ${packet.topic} ${got.slice(0, 60)}, not ${topic} ${payload.toString().slice(0, 60)}`,
    )
    return packet
  }

  disconnect() {
    return within(this.client.endAsync(), `${this.clientId} disconnects`)
  }

  /** Ends the connection without a DISCONNECT. */
  vanish() {
    const closed = new Promise((resolve) => this.client.once('close', resolve))
    this.client.stream.destroy()
    return within(closed, `${this.clientId} vanishes`)
  }
}

function scenarios(version) {
  const peer = (name, more) => Peer.connect(version, unique(name), more)
  const all = (peers) => Promise.all(peers.map((one) => one.disconnect()))

  const delivers = async (qos) => {
    const topic = unique('order')
    const [receiver, sender] = [await peer('receiver'), await peer('sender')]
    await receiver.subscribe(topic, { qos })
    for (let turn = 0; turn < COUNT; turn++) await sender.publish(topic, `${turn}`, { qos })
    for (let turn = 0; turn < COUNT; turn++) {
      const packet = await receiver.expect(topic, `${turn}`)
      check(packet.qos === qos && !packet.retain && !packet.dup, `QoS ${packet.qos}`)
    }
    await all([receiver, sender])
  }

  const found = {
    async 'connects cleanly'() {
      const name = unique('clean')
      for (let turn = 0; turn < 2; turn++) {
        const one = await Peer.connect(version, name)
        check(!one.connack.sessionPresent, 'a clean session was there before')
        await one.disconnect()
      }
    },

    async 'resumes a session'() {
      const [name, topic] = [unique('resume'), unique('resume')]
      let one = await Peer.connect(version, name, { clean: false })
      check(!one.connack.sessionPresent, 'a new session was there before')
      await one.subscribe(topic, { qos: 2 })
      await one.disconnect()
      const sender = await peer('sender')
      // Order is promised among messages of one QoS, and a client hands out QoS 2 only at PUBREL: one after the other.
      const qos = (turn) => (turn < COUNT / 2 ? 1 : 2)
      for (let turn = 0; turn < COUNT; turn++) await sender.publish(topic, `${turn}`, { qos: qos(turn) })
      one = await Peer.connect(version, name, { clean: false })
      check(one.connack.sessionPresent, 'the session was not kept')
      for (let turn = 0; turn < COUNT; turn++) {
        check((await one.expect(topic, `${turn}`)).qos === qos(turn), 'another QoS')
      }
      await all([one, sender])
      await (await Peer.connect(version, name)).disconnect()
    },

    'delivers QoS 0 in order': () => delivers(0),
    'delivers QoS 1 in order': () => delivers(1),
    'delivers QoS 2 in order': () => delivers(2),

    async retains() {
      const topic = unique('retain')
      const sender = await peer('sender')
      const kept = { qos: 1, retain: true }
      await sender.publish(`${topic}/a`, 'kept', kept)
      await sender.publish(`${topic}/b`, 'gone', kept)
      await sender.publish(`${topic}/b`, '', kept)
      const late = await peer('late')
      await late.subscribe(`${topic}/+`)
      check((await late.expect(`${topic}/a`, 'kept')).retain, 'not marked retained')
      await sender.publish(`${topic}/c`, 'live', kept)
      check(!(await late.expect(`${topic}/c`, 'live')).retain, 'a live message is marked retained')
      for (const last of 'ac') await sender.publish(`${topic}/${last}`, '', kept)
      await all([late, sender])
    },

    async 'publishes wills'() {
      const topic = unique('will')
      const watcher = await peer('watcher')
      await watcher.subscribe(topic)
      const will = { topic, payload: Buffer.from('gone'), qos: 1, retain: false }
      await (await peer('mortal', { will })).vanish()
      await watcher.expect(topic, 'gone')
      await (await peer('polite', { will })).disconnect()
      await watcher.publish(topic, 'end', { qos: 1 })
      await watcher.expect(topic, 'end')
      await watcher.disconnect()
    },

    async 'shares a subscription'() {
      const [topic, group] = [unique('shared'), unique('group')]
      const members = [await peer('member'), await peer('member'), await peer('member')]
      const counts = members.map(() => 0)
      members.forEach((member, at) => {
        member.client.on('message', () => counts[at]++)
        // One inbox for all.
        member.messages = members[0].messages
        member.waiting = members[0].waiting
      })
      for (const member of members) await member.subscribe(`$share/${group}/${topic}/+`)
      const sender = await peer('sender')
      for (let turn = 0; turn < COUNT; turn++) await sender.publish(`${topic}/${turn}`, `${turn}`, { qos: 1 })
      const numbers = []
      while (numbers.length < COUNT) numbers.push(Number((await members[0].receive()).payload.toString()))
      numbers.sort((a, b) => a - b)
      check(numbers.every((n, at) => n === at), `each message once: ${numbers}`)
      check(counts.every((n) => n > 0), `a member was left out: ${counts}`)
      check(members[0].messages.length === 0, 'a message came twice')
      await all([...members, sender])
    },

    async 'carries large payloads'() {
      const topic = unique('large')
      const payload = 'x'.repeat(900 * 1024)
      const [receiver, sender] = [await peer('receiver'), await peer('sender')]
      await receiver.subscribe(topic)
      for (const qos of [0, 1, 2]) {
        await sender.publish(topic, payload, { qos })
        await receiver.expect(topic, payload)
      }
      await all([receiver, sender])
    },

    async 'speaks unicode'() {
      const topic = `${unique('客服')}/заявка/🙂/naïve`
      const [receiver, sender] = [await peer('получатель'), await peer('客户')]
      await receiver.subscribe(topic.replace('🙂', '+'))
      await sender.publish(topic, '你好, Зоя 🙂', { qos: 1 })
      await receiver.expect(topic, '你好, Зоя 🙂')
      await all([receiver, sender])
    },

    async 'desk serves a customer'() {
      const customer = await peer('customer')
      const id = `js${version}`
      await customer.subscribe(`cs/1/main/customer/${id}/down`)
      const agents = [await peer('agent'), await peer('agent'), await peer('agent')]
      for (const agent of agents) await agent.subscribe('$share/support/cs/1/main/queue/support/messages/+')
      const first = Promise.race(agents.map(async (agent) => [agent, await agent.receive()]))
      await customer.publish(`cs/1/main/customer/${id}/up`, 'message 0', { qos: 1 })
      const [chosen, packet] = await first
      const others = agents.filter((agent) => agent !== chosen)
      const examine = ({ topic, payload }, turn) => {
        check(topic === `cs/1/main/queue/support/messages/${id}`, topic)
        const envelope = JSON.parse(payload.toString())
        const right = envelope.v === 1 && envelope.body === `message ${turn}` && envelope.type === 'text'
        check(right && envelope.from.role === 'customer' && envelope.from.id === id, payload.toString())
      }
      examine(packet, 0)
      for (let turn = 1; turn < 50; turn++) {
        await customer.publish(`cs/1/main/customer/${id}/up`, `message ${turn}`, { qos: 1 })
      }
      for (let turn = 1; turn < 50; turn++) examine(await chosen.receive(), turn)
      await chosen.publish(`cs/1/main/customer/${id}/down`, 'how can I help?', { qos: 1 })
      await customer.expect(`cs/1/main/customer/${id}/down`, 'how can I help?')
      // The others still wait for their first message: nothing may have answered that.
      check(others.every((agent) => agent.waiting.length === 1), 'another agent got a message too')
      for (const other of others) other.waiting.shift()({ topic: '', payload: Buffer.alloc(0) })
      await all([...agents, customer])
    },
  }
  if (version === 5) {
    Object.assign(found, {
      async 'carries properties'() {
        const topic = unique('properties')
        const [receiver, sender] = [await peer('receiver'), await peer('sender')]
        await receiver.subscribe(topic)
        const properties = {
          userProperties: { a: ['1', '2'], 客户: '名字' },
          responseTopic: 'reply/here',
          correlationData: Buffer.from([0, 1, 255]),
          contentType: 'application/json',
          payloadFormatIndicator: true,
          messageExpiryInterval: 600,
        }
        await sender.publish(topic, '{}', { qos: 1, properties })
        const got = (await receiver.expect(topic, '{}')).properties
        check(JSON.stringify(got.userProperties) === JSON.stringify(properties.userProperties), JSON.stringify(got))
        check(got.responseTopic === 'reply/here' && got.contentType === 'application/json', JSON.stringify(got))
        check(got.correlationData.equals(properties.correlationData), JSON.stringify(got))
        check(got.payloadFormatIndicator === true, JSON.stringify(got))
        check(got.messageExpiryInterval >= 590 && got.messageExpiryInterval <= 600, JSON.stringify(got))
        await all([receiver, sender])
      },

      async 'uses topic aliases in both directions'() {
        const topic = unique('alias')
        const receiver = await peer('receiver', { properties: { topicAliasMaximum: 5 } })
        const sender = await peer('sender', { autoAssignTopicAlias: true })
        check(sender.connack.properties.topicAliasMaximum >= 1, 'no aliases offered')
        await receiver.subscribe(topic)
        for (let turn = 0; turn < 20; turn++) await sender.publish(topic, `${turn}`, { qos: 1 })
        // MQTT.js resolves the aliases that the broker assigns; what it hands on has the name again.
        for (let turn = 0; turn < 20; turn++) {
          const packet = await receiver.receive()
          check(packet.payload.toString() === `${turn}`, `${packet.payload} at ${turn}`)
        }
        await all([receiver, sender])
      },
    })
  }
  return found
}

let failed = 0
for (const version of [4, 5]) {
  const name = version === 5 ? 'MQTT.js v5' : 'MQTT.js v3.1.1'
  for (const [scenario, play] of Object.entries(scenarios(version))) {
    if (!options.desk && scenario.startsWith('desk')) {
      console.log(`${name}  ${scenario}  skipped`)
      continue
    }
    try {
      await play()
      console.log(`${name}  ${scenario}  ok`)
    } catch (error) {
      failed += 1
      console.log(`${name}  ${scenario}  FAILED`)
      console.error(error)
    }
  }
}
process.exit(failed)
