// An agent in MQTT.js: takes what it is offered, answers each message of a customer, and completes a conversation when
// the customer says good-bye. Prints one line of JSON when it is ready, and one for each conversation that is over.

import mqtt from 'mqtt'

const [host, port, name, version] = process.argv.slice(2)
const prefix = 'cs/1/main/'
const presence = `${prefix}agent/${name}/presence`
const client = mqtt.connect({
  host, port: Number(port), protocol: 'mqtt', protocolVersion: Number(version), clientId: `agent-${name}`,
  clean: true, reconnectPeriod: 0,
  will: { topic: presence, payload: JSON.stringify({ show: 'offline' }), qos: 1 },
})
const say = (topic, message) => client.publish(topic, JSON.stringify(message), { qos: 1 })
const seen = new Map()

client.on('error', (error) => {
  console.error(String(error))
  process.exit(1)
})
client.on('connect', () => {
  client.subscribe(`${prefix}agent/${name}/#`, { qos: 1 }, () => {
    say(presence, { show: 'ready', groups: ['care'], capacity: 3 })
  })
})
client.on('message', (topic, payload) => {
  const kind = topic.slice(`${prefix}agent/${name}/`.length).split('/')
  if (payload.length === 0) return
  const message = JSON.parse(payload)
  if (kind[0] === 'state' && message.show === 'ready' && !seen.has('ready')) {
    seen.set('ready', true)
    console.log(JSON.stringify({ ready: name }))
  } else if (kind[0] === 'offer' && message.over === undefined) {
    say(`${prefix}agent/${name}/answer`, { verb: 'accept', offer: message.offer })
  } else if (kind[0] === 'result' && !message.ok) {
    console.log(JSON.stringify({ wrong: message }))
  } else if (kind[0] === 'inbox') {
    const v = message.conversation
    const last = seen.get(v) ?? 0
    // After a reconnect messages come again; a gap never comes.
    if (message.seq <= last) return
    if (message.seq !== last + 1) console.log(JSON.stringify({ wrong: { gap: [last, message.seq] } }))
    seen.set(v, message.seq)
    if (message.from.role !== 'customer') return
    if (message.body === 'bye') {
      say(`${prefix}agent/${name}/answer`, { verb: 'complete', conversation: v })
      console.log(JSON.stringify({ over: v, messages: message.seq }))
    } else {
      say(`${prefix}conversation/${v}/reply`, { body: `re: ${message.body}`, re: message.id })
    }
  }
})
