// Owns the report page of a run: curves on one time axis, events and numbers, in one file that loads nothing.

import { html } from 'ghtml'
import type { Happening } from './observe.ts'
import { type Snapshot, tagValues } from './record.ts'
import { limitOf, numbersOf, type Summary, show } from './summary.ts'

type Point = readonly [seconds: number, value: number]
type Curve = { readonly name: string; readonly points: readonly Point[] }
type Chart = {
  readonly title: string
  readonly unit: string
  readonly curves: readonly Curve[]
  /** Least value at which the axis ends. */
  readonly most?: number
}

const WIDTH = 960
const HEIGHT = 190
const LEFT = 56
const RIGHT = 12
const TOP = 14
const BOTTOM = 24
const COLORS = ['#1f77b4', '#d95f02', '#2a9d5c', '#b0307f', '#7a5cc4', '#8c6d1f', '#4b8f9c', '#666666']
const TICKS = 4
/** Width of the number of a mark, in the units of the drawing. */
const NUMBER_WIDTH = 14

export type Report = {
  readonly summary: Summary
  readonly snapshots: readonly Snapshot[]
  readonly usage: readonly { readonly at: number; readonly cores: Readonly<Record<string, number>> }[]
}

export function renderReport({ summary, snapshots, usage }: Report): string {
  const start = Date.parse(summary.startedAt)
  const end = greatest(
    1,
    [...snapshots, ...usage].map(({ at }) => (at - start) / 1_000),
  )
  const curve = (name: string, metric: string, aggregate: string, scale = 1): Curve => ({
    name,
    points: snapshots.flatMap(({ at, metrics }): Point[] => {
      const value = metrics[metric]?.[aggregate]
      return value === undefined ? [] : [[(at - start) / 1_000, value * scale]]
    }),
  })
  const latencies = (kind: string): Curve[] =>
    ['med', 'p(95)', 'p(99)'].map((aggregate) =>
      curve(
        aggregate === 'med' ? 'p50' : `p${aggregate.slice(2, 4)}`,
        `http_req_duration{kind:${kind}}`,
        aggregate,
      ),
    )
  const byTag = (metric: string, tag: string) =>
    tagValues(snapshots, metric, tag).map((value) => curve(value, `${metric}{${tag}:${value}}`, 'rate'))
  const programs = [...new Set(usage.flatMap(({ cores }) => Object.keys(cores)))]
  const charts: Chart[] = [
    {
      title: 'Responses',
      unit: 'per second',
      curves: [
        curve('reads', 'http_reqs{kind:read}', 'rate'),
        curve('writes', 'http_reqs{kind:write}', 'rate'),
      ],
    },
    { title: 'Responses by part of the cluster', unit: 'per second', curves: byTag('http_reqs', 'flow') },
    { title: 'Duration of reads', unit: 'ms', curves: latencies('read') },
    { title: 'Duration of writes', unit: 'ms', curves: latencies('write') },
    { title: 'Not served', unit: 'per second', curves: byTag('errors', 'reason'), most: 1 },
    {
      title: 'Answered by secondaries',
      unit: '%',
      curves: [curve('share', 'from_secondary', 'rate', 100)],
      most: 100,
    },
    { title: 'Users', unit: '', curves: [curve('users', 'vus', 'value')] },
    {
      title: 'Cores in use on this machine',
      unit: 'cores',
      curves: programs.map((program) => ({
        name: program,
        points: usage.map(({ at, cores }): Point => [(at - start) / 1_000, cores[program] ?? 0]),
      })),
      most: summary.allCores,
    },
  ]
  const marks = summary.happenings.map((happening) => ({
    ...happening,
    seconds: Math.max(0, (happening.at - start) / 1_000),
  }))
  const drawn = charts.map((chart) => ({
    ...chart,
    curves: chart.curves.filter(({ points }) => points.length > 0),
  }))
  const { settings, thresholds } = summary
  return html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>${summary.name}, ${summary.startedAt}</title>
<style>
:root { color-scheme: light dark; --line: color-mix(in srgb, currentColor 18%, transparent); }
body { font: 15px/1.5 system-ui, sans-serif; max-width: ${WIDTH}px; margin: 2rem auto; padding: 0 1rem; }
h1, h2 { line-height: 1.2; margin: 1.6rem 0 .4rem; }
h2 { font-size: 1.05rem; }
table { border-collapse: collapse; }
td, th { text-align: left; padding: .15rem 1rem .15rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
.tables { display: flex; flex-wrap: wrap; gap: 0 3rem; }
svg { width: 100%; height: auto; display: block; }
svg text { font-size: 11px; fill: currentColor; }
.grid { stroke: var(--line); }
.mark { stroke-dasharray: 3 3; }
.legend span { margin-right: 1.2rem; white-space: nowrap; }
.legend i { display: inline-block; width: 1.2em; height: .25em; margin-right: .4em; vertical-align: middle; }
.unmet { color: #c0152f; font-weight: 600; }
</style>
</head>
<body>
<h1>${summary.name}</h1>
<p>${summary.startedAt.slice(0, 19).replace('T', ' ')}, ${show(summary.seconds)} s, ${settings.users} users, at ${settings.target}. ${limitOf(summary)}</p>
!${renderThresholds(thresholds)}
!${drawn
    .filter(({ curves }) => curves.length > 0)
    .map((chart) => renderChart(chart, end, marks))
    .join('')}
!${marks.length > 0 ? renderHappenings(marks) : ''}
<div class="tables">
<section><h2>Numbers</h2><table>!${numbersOf(summary)
    .map(([name, value]) => row(name, show(value)))
    .join('')}!${Object.entries(summary.errors)
    .map(([reason, count]) => row(`not served: ${reason}`, String(count)))
    .join('')}!${row('features left behind', show(summary.left))}</table></section>
<section><h2>Settings</h2><table>!${Object.entries({
    ...settings,
    commit: summary.commit,
    machine: summary.machine,
    k6: summary.k6,
  })
    .map(([name, value]) => row(name, String(value)))
    .join('')}</table></section>
</div>
</body>
</html>
`
}

const row = (name: string, value: string) => html`<tr><td>${name}</td><td class="number">${value}</td></tr>`

const renderThresholds = (thresholds: Summary['thresholds']) =>
  html`<h2>Thresholds</h2><table>!${thresholds
    .map(
      ({ metric, condition, isMet }) =>
        html`<tr><td>${metric}</td><td>${condition}</td><td class="${isMet ? 'met' : 'unmet'}">${isMet ? 'met' : 'not met'}</td></tr>`,
    )
    .join('')}</table>`

const renderHappenings = (marks: readonly (Happening & { readonly seconds: number })[]) =>
  html`<h2>What happened</h2><table>!${marks
    .map(
      ({ seconds, what }, index) =>
        html`<tr><td>${String(index + 1)}</td><td class="number">${seconds.toFixed(1)} s</td><td>${what}</td></tr>`,
    )
    .join('')}</table>`

function renderChart(
  { title, unit, curves, most = 0 }: Chart,
  end: number,
  marks: readonly (Happening & { readonly seconds: number })[],
): string {
  const values = curves.flatMap(({ points }) => points.map(([, value]) => value))
  const top = niceCeiling(greatest(most, values))
  const x = (seconds: number) => LEFT + (Math.min(seconds, end) / end) * (WIDTH - LEFT - RIGHT)
  const y = (value: number) => HEIGHT - BOTTOM - (value / top) * (HEIGHT - TOP - BOTTOM)
  const steps = Array.from({ length: TICKS + 1 }, (_, index) => index / TICKS)
  const grid = steps.map((step) => {
    const height = y(top * step).toFixed(1)
    return html`<line class="grid" x1="${String(LEFT)}" x2="${String(WIDTH - RIGHT)}" y1="${height}" y2="${height}"/>
<text x="${String(LEFT - 6)}" y="${height}" text-anchor="end" dominant-baseline="middle">${show(top * step)}</text>
<text x="${x(end * step).toFixed(1)}" y="${String(HEIGHT - 6)}" text-anchor="middle">${(end * step).toFixed(0)} s</text>`
  })
  const lines = curves.map(({ points }, index) => {
    const path = points.map(([seconds, value]) => `${x(seconds).toFixed(1)},${y(value).toFixed(1)}`).join(' ')
    return html`<polyline fill="none" stroke="${colorOf(index)}" stroke-width="1.6" points="${path}"/>`
  })
  // Only the first of several marks close together gets a number: overlapping numbers could not be read.
  let numberedAt = Number.NEGATIVE_INFINITY
  const flags = marks.map(({ seconds, isTrouble, what }, index) => {
    const at = x(seconds).toFixed(1)
    const isNumbered = x(seconds) - numberedAt >= NUMBER_WIDTH
    if (isNumbered) numberedAt = x(seconds)
    const color = isTrouble ? '#c0152f' : '#2a9d5c'
    return html`<g><title>${what}</title><line class="mark" stroke="${color}" x1="${at}" x2="${at}" y1="${String(TOP)}" y2="${String(HEIGHT - BOTTOM)}"/>
<text x="${at}" y="${String(TOP - 3)}" text-anchor="middle">${isNumbered ? String(index + 1) : ''}</text></g>`
  })
  const legend = curves.map(
    ({ name }, index) => html`<span><i style="background:${colorOf(index)}"></i>${name}</span>`,
  )
  return html`<section><h2>${title}${unit && `, ${unit}`}</h2>
<svg viewBox="0 0 ${String(WIDTH)} ${String(HEIGHT)}" role="img" aria-label="${title}">!${grid.join('')}!${lines.join('')}!${flags.join('')}</svg>
<div class="legend">!${legend.join('')}</div></section>`
}

/** Returns the greatest value. A long run has more values than Math.max could take as arguments. */
const greatest = (least: number, values: readonly number[]) =>
  values.reduce((most, value) => Math.max(most, value), least)

const colorOf = (index: number) => COLORS[index % COLORS.length]!

/** Rounds up to the next of 1, 2, 5, 10, 20, 50 …, so that the axis is easy to read. */
function niceCeiling(value: number): number {
  if (value <= 0) return 1
  const magnitude = 10 ** Math.floor(Math.log10(value))
  return [1, 2, 5, 10].map((step) => step * magnitude).find((step) => step >= value)!
}
