// Tests the alerts and the dashboard for Prometheus: they name what gateways and the recorder export, each alert has its entry
// in the runbook, and promtool plays them.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { accessSync, constants, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { homedir, tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { after, test } from 'node:test'
import { makeRecorderMetrics } from '../../../cluster/backup/recorder-metrics.ts'
import type { DatabaseStatus } from '../../database/contract.ts'
import { makeMetrics } from '../../http/metrics.ts'

const root = join(import.meta.dirname, '../../..')
const folder = join(root, 'cluster/monitoring')
const read = (name: string) => readFileSync(join(folder, name), 'utf8')
const alerts = read('alerts.yml')
const trials = read('alerts.test.yml')
const dashboard = JSON.parse(read('dashboard.json')) as {
  panels: { title: string; targets: { expr: string }[] }[]
}
const expressions = dashboard.panels.flatMap(({ targets }) => targets.map(({ expr }) => expr))
const names = [...alerts.matchAll(/^ +- alert: (\w+)$/gm)].map(([, name]) => name!)

/** Labels of each metric; those of Prometheus itself have none here. */
const exported = new Map<string, readonly string[]>()
const metrics = makeMetrics()
metrics.watch({ status: () => ({}) as DatabaseStatus, lag: async () => new Map() })
const recorderMetrics = makeRecorderMetrics(() => assert.fail('nothing is scraped here'))
for (const metric of [...metrics.registry.getMetricsAsArray(), ...recorderMetrics.getMetricsAsArray()]) {
  const { name, type, labelNames } = metric as unknown as { name: string; type: string; labelNames: string[] }
  const series = String(type) === 'histogram' ? ['_count', '_sum', '_bucket'] : ['']
  for (const suffix of series)
    exported.set(name + suffix, [...labelNames, ...(suffix === '_bucket' ? ['le'] : [])])
}

const metricsIn = (text: string) => new Set([...text.matchAll(/\btessera_\w+/g)].map(([name]) => name))

test('alerts and the dashboard name only metrics that gateways and the recorder export', () => {
  assert.ok(exported.size > 20)
  for (const text of [alerts, trials, ...expressions])
    for (const name of metricsIn(text)) assert.ok(exported.has(name), name)
})

test('the dashboard shows every metric', () => {
  const shown = metricsIn(expressions.join('\n'))
  const histograms = [...exported.keys()]
    .filter((name) => name.endsWith('_bucket'))
    .map((name) => name.slice(0, -7))
  const missing = [...exported.keys()].filter(
    (name) =>
      !shown.has(name) &&
      !histograms.some((one) => name.startsWith(one) && [...shown].some((other) => other.startsWith(one))),
  )
  assert.deepEqual(missing, [])
})

test('trials of alerts have the labels of what is exported', () => {
  for (const [, name, labels] of trials.matchAll(/^ +- series: '(tessera_\w+)\{(.*)\}'$/gm)) {
    const given = [...labels!.matchAll(/(\w+)="/g)].map(([, label]) => label!).sort()
    assert.deepEqual(given, [...exported.get(name!)!, 'instance', 'job'].sort(), name)
  }
})

test('each alert is raised by a trial, and has its entry in the runbook', () => {
  assert.ok(names.length > 10)
  const runbook = readFileSync(join(root, 'docs/guides/runbook.md'), 'utf8')
  assert.deepEqual(
    [...runbook.matchAll(/^## (\w+)$/gm)].map(([, name]) => name),
    names,
  )
  const named = [...alerts.matchAll(/runbook: docs\/guides\/runbook\.md#(\w+)$/gm)].map(([, name]) => name)
  assert.deepEqual(
    named,
    names.map((name) => name.toLowerCase()),
  )
  for (const name of names) assert.match(trials, new RegExp(`ALERTS\\{alertname="${name}"`), name)
})

test('promtool accepts the configuration and the queries, and the alerts pass their trials', (t) => {
  const promtool = findPromtool()
  if (!promtool) {
    const reason =
      'SKIPPED: promtool is not installed, so that no alert was tried; go install github.com/prometheus/prometheus/cmd/promtool@v0.316.0'
    process.stderr.write(`\n*** ${reason} ***\n\n`)
    return t.skip(reason)
  }
  const run = (...args: string[]) => {
    try {
      return execFileSync(promtool, args, { cwd: folder, encoding: 'utf8', stdio: 'pipe' })
    } catch (error) {
      const { stdout, stderr } = error as { stdout: string; stderr: string }
      throw new Error(`promtool ${args.join(' ')}:\n${stdout}${stderr}`)
    }
  }
  run('check', 'config', '--lint=all', '--lint-fatal', 'prometheus.yml')
  run('test', 'rules', 'alerts.test.yml')
  // A query of the dashboard is checked as a rule that would record it. Grafana fills in its variables.
  const work = mkdtempSync(join(tmpdir(), 'tessera-promtool-'))
  after(() => rmSync(work, { recursive: true }))
  const rules = expressions.map((expr, index) => ({
    record: `query:${index}`,
    expr: expr.replaceAll('$__rate_interval', '1m').replaceAll('$instance', '.*'),
  }))
  const file = join(work, 'queries.yml')
  // JSON is YAML, too.
  writeFileSync(file, JSON.stringify({ groups: [{ name: 'dashboard', rules }] }))
  assert.match(run('check', 'rules', file), new RegExp(`${expressions.length} rules found`))
  return undefined
})

/** Returns promtool from the PATH, or where Go installs programs; undefined if it is not there. */
function findPromtool(): string | undefined {
  const { PATH = '', GOBIN, GOPATH } = process.env
  const folders = [...PATH.split(delimiter), GOBIN ?? join(GOPATH ?? join(homedir(), 'go'), 'bin')]
  return folders
    .map((one) => join(one, 'promtool'))
    .find((file) => {
      try {
        accessSync(file, constants.X_OK)
        return true
      } catch {
        return false
      }
    })
}
