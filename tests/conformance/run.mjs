// Starts the suite's origin and the binary in front of it, runs the suite, prints the passes by kind
// and category, and fails below the floor. Nothing in here or in the binary knows any single test.

import { spawn } from 'node:child_process'
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, connect } from 'node:net'
import { join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'

const [binary, suite, work, floorFile, ...flags] = process.argv.slice(2)
const children = []

function freePort () {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.on('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address()
      server.close(() => resolve(port))
    })
  })
}

/** Waits until something listens. */
async function listening (port, name) {
  const until = Date.now() + 20000
  while (Date.now() < until) {
    const open = await new Promise(resolve => {
      const socket = connect(port, '127.0.0.1')
      socket.on('connect', () => { socket.destroy(); resolve(true) })
      socket.on('error', () => resolve(false))
    })
    if (open) return
    await new Promise(resolve => setTimeout(resolve, 50))
  }
  throw new Error(`${name} does not listen on port ${port}`)
}

function start (command, args, options) {
  const child = spawn(command, args, { stdio: ['ignore', 'ignore', 'inherit'], ...options })
  children.push(child)
  return child
}

/** The suite as it is laid out, in either of its editions. */
function parts (root) {
  const engine = join(root, 'test-engine')
  try {
    readFileSync(join(engine, 'cli.mjs'))
    return { engine, isNewer: true }
  } catch {
    return { engine: root, isNewer: false }
  }
}

async function main () {
  const root = resolve(suite)
  const { engine, isNewer } = parts(root)
  const [origin, port] = [await freePort(), await freePort()]
  const state = resolve(work, 'state')
  rmSync(state, { recursive: true, force: true })
  mkdirSync(state, { recursive: true })
  const config = resolve(work, 'penstock.toml')
  writeFileSync(config, `state_dir = "${state}"
[listen.http]
address = "127.0.0.1:${port}"
[upstream.origin]
servers = ["127.0.0.1:${origin}"]
[site.tests]
upstream = "origin"
[site.tests.cache]
`)
  const env = {
    ...process.env,
    npm_config_protocol: 'http',
    npm_config_port: `${origin}`,
    npm_config_pidfile: resolve(work, 'origin.pid')
  }
  start(process.execPath, ['--no-warnings', join(engine, 'server/server.mjs')], { cwd: root, env })
  start(binary, ['run', '--config', config], { cwd: resolve('.') })
  await listening(origin, 'the origin')
  await listening(port, 'penstock')

  const load = path => import(pathToFileURL(join(root, path)))
  const tests = (await load('tests/index.mjs')).default
  if (!isNewer) tests.push((await load('tests/surrogate-control.mjs')).default)
  const { runTests, getResults } = await import(pathToFileURL(join(engine, 'client/runner.mjs')))
  const base = `http://127.0.0.1:${port}`
  if (isNewer) {
    await runTests(tests, false, base)
  } else {
    // The suite brings the client that its edition was written for.
    const fetchPath = ['node_modules/node-fetch/src/index.js', '../node-fetch/lib/index.mjs']
      .map(path => join(root, path))
      .find(path => { try { readFileSync(path); return true } catch { return false } })
    const fetch = (await import(pathToFileURL(fetchPath))).default
    await runTests(tests, fetch, false, base)
  }
  return report(tests, getResults(), isNewer)
}

/** A test counts if those that it depends on pass; how it came out is the suite's own rule. */
function passes (tests, results, id, seen = new Set()) {
  if (seen.has(id)) return true
  seen.add(id)
  const test = tests.get(id)
  const depends = test?.depends_on ?? []
  return results[id] === true && depends.every(other => passes(tests, results, other, seen))
}

function report (suites, results, isNewer) {
  const byId = new Map(suites.flatMap(s => s.tests).map(test => [test.id, test]))
  const totals = {}
  const failed = []
  console.log('category'.padEnd(44), 'required'.padStart(10), 'optimal'.padStart(10), 'check'.padStart(10))
  for (const s of suites) {
    const row = { required: [0, 0], optimal: [0, 0], check: [0, 0] }
    for (const test of s.tests) {
      if (test.browser_only || !(test.id in results)) continue
      const kind = test.kind ?? 'required'
      row[kind][1]++
      if (passes(byId, results, test.id)) row[kind][0]++
      else if (kind !== 'check') failed.push([kind, test.id, results[test.id]])
    }
    const cell = ([pass, all]) => (all ? `${pass}/${all}` : '').padStart(10)
    console.log(s.name.slice(0, 44).padEnd(44), cell(row.required), cell(row.optimal), cell(row.check))
    for (const [kind, [pass, all]] of Object.entries(row)) {
      totals[kind] ??= [0, 0]
      totals[kind][0] += pass
      totals[kind][1] += all
    }
  }
  const total = kind => `${totals[kind][0]}/${totals[kind][1]}`.padStart(10)
  console.log('all'.padEnd(44), total('required'), total('optimal'), total('check'))
  for (const [kind, id, why] of failed.sort()) {
    const said = why === true ? 'a test that it depends on fails' : why?.join(': ')
    console.log(`  not passed, ${kind}: ${id}${flags.includes('--why') ? ` (${said})` : ''}`)
  }
  const floors = JSON.parse(readFileSync(floorFile))
  const floor = floors[isNewer ? 'newer' : 'package']
  let isBelow = false
  for (const kind of Object.keys(floor)) {
    const [pass] = totals[kind]
    if (pass < floor[kind]) {
      console.error(`${kind}: ${pass} pass, the floor is ${floor[kind]}`)
      isBelow = true
    } else if (pass > floor[kind]) {
      console.log(`${kind}: ${pass} pass, the floor of ${floor[kind]} in ${floorFile} can be raised`)
    }
  }
  return isBelow ? 1 : 0
}

function end () {
  children.forEach(child => child.kill('SIGKILL'))
}

main().then(code => { end(); process.exit(code) }, error => { console.error(error); end(); process.exit(1) })
