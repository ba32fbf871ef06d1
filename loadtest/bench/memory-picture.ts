// Owns the picture of memory: what each work adds, over the share of its time. SVG without any package.

import type { Curve } from './memory.ts'
import { COLOURS, textAt } from './peers/picture.ts'

const WIDTH = 900
const CHART = { left: 60, right: 240, top: 50, bottom: 320 }
const HEIGHT = CHART.bottom + 50
/** Points of a line: more are not seen. */
const POINTS = 300
const STEP_MB = 10

export function renderCurves(curves: readonly Curve[], goal: number): string {
  const most = Math.max(goal, ...curves.flatMap(({ added }) => added))
  const top = Math.ceil(most / STEP_MB) * STEP_MB
  const right = WIDTH - CHART.right
  const x = (share: number) => CHART.left + share * (right - CHART.left)
  const y = (megabytes: number) => CHART.bottom - (Math.max(0, megabytes) / top) * (CHART.bottom - CHART.top)
  const parts = [
    textAt(10, 24, 'Resident memory that is added, MB, over the time of the work', 'font-weight="bold"'),
  ]
  for (let tick = 0; tick <= top; tick += STEP_MB * Math.max(1, Math.round(top / 100)))
    parts.push(
      `<line x1="${CHART.left}" x2="${right}" y1="${y(tick).toFixed(1)}" y2="${y(tick).toFixed(1)}" stroke="#dddddd"/>`,
      textAt(CHART.left - 8, y(tick) + 4, String(tick), 'text-anchor="end"'),
    )
  parts.push(
    `<line x1="${CHART.left}" x2="${right}" y1="${y(goal).toFixed(1)}" y2="${y(goal).toFixed(1)}" stroke="#b00020" stroke-dasharray="6 4"/>`,
    textAt(CHART.left + 6, y(goal) - 5, `goal: ${goal} MB`, 'fill="#b00020"'),
  )
  for (const share of [0, 0.25, 0.5, 0.75, 1])
    parts.push(textAt(x(share), CHART.bottom + 18, `${100 * share} %`, 'text-anchor="middle"'))
  for (const [index, { name, seconds, added }] of curves.entries()) {
    const colour = COLOURS[index % COLOURS.length]!
    const step = Math.max(1, Math.ceil(added.length / POINTS))
    // The greatest of each step, so that no peak is left out.
    const shown = Array.from({ length: Math.ceil(added.length / step) }, (_, part) =>
      Math.max(...added.slice(part * step, (part + 1) * step)),
    )
    const path = shown.map((value, at) => `${x((at + 1) / shown.length).toFixed(1)},${y(value).toFixed(1)}`)
    const dashes = index < COLOURS.length ? '' : ' stroke-dasharray="3 3"'
    const at = CHART.top + 16 * index
    parts.push(
      `<polyline points="${path.join(' ')}" fill="none" stroke="${colour}" stroke-width="1.5"${dashes}/>`,
      `<line x1="${right + 12}" x2="${right + 32}" y1="${at}" y2="${at}" stroke="${colour}" stroke-width="2"${dashes}/>`,
      textAt(right + 38, at + 4, `${name}: ${Math.max(...added).toFixed(0)} MB, ${seconds.toFixed(0)} s`),
    )
  }
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="sans-serif" font-size="12">
<title>Memory of exports and imports</title>
<rect width="${WIDTH}" height="${HEIGHT}" fill="white"/>
${parts.join('\n')}
</svg>
`
}
