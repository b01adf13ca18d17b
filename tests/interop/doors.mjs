// MQTT.js through every door: TCP, TLS, WebSocket and secure WebSocket, with a login, and without.
//
//   node doors.mjs HOST CA URL…

import { readFileSync } from 'node:fs'
import mqtt from 'mqtt'

const [host, ca, ...urls] = process.argv.slice(2)
const options = { ca: readFileSync(ca), reconnectPeriod: 0, connectTimeout: 10_000 }

const connect = (url, more) =>
  new Promise((resolve, reject) => {
    const client = mqtt.connect(url, { ...options, ...more })
    client.on('connect', () => resolve(client))
    const refused = (error) => {
      client.end(true)
      reject(error ?? new Error('closed'))
    }
    client.on('error', refused)
    client.on('close', refused)
  })

const check = (what, right) => {
  if (!right) throw new Error(what)
}

for (const url of urls) {
  for (const protocolVersion of [4, 5]) {
    const client = await connect(url, { protocolVersion, username: 'op', password: 'secret' })
    const topic = `doors/${protocolVersion}`
    const heard = new Promise((resolve) => client.on('message', (_, payload) => resolve(payload)))
    await client.subscribeAsync(topic, { qos: 2 })
    const said = Buffer.alloc(200_000, url)
    await client.publishAsync(topic, said, { qos: 2 })
    check(`${url}: another payload`, (await heard).equals(said))
    await client.endAsync()
    for (const login of [{ username: 'op', password: 'wrong' }, { username: 'nobody', password: 'secret' }, {}]) {
      const refused = await connect(url, { protocolVersion, ...login }).then(() => false, () => true)
      check(`${url}: let in ${JSON.stringify(login)}`, refused)
    }
  }
}
console.log(`MQTT.js: ${urls.length} doors of ${host}`)
