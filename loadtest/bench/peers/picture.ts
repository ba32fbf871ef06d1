// Owns the picture of the benchmark: rates of eight clients as bars, and the growth of a page as lines. SVG without any
// package.

import { medianOf, type Result } from './results.ts'

const WIDTH = 900
const BAR = 14
const LABEL_WIDTH = 300
const CHART = { top: 40, height: 260, left: 60, right: 250 }
/** Colours that also differ in lightness, in the order in which sides first appear. */
export const COLOURS = ['#1b6ca8', '#e08e0b', '#7a9a01', '#a23b72', '#555555']
/** Clients of the bars. */
const CLIENTS = 8

export function renderPicture(results: readonly Result[]): string {
  const sides = [...new Set(results.map(({ side }) => side))]
  const colourOf = (side: string) => COLOURS[sides.indexOf(side) % COLOURS.length]!
  const bars = renderBars(results, colourOf)
  const lines = renderGrowth(results, colourOf, bars.height)
  const height = bars.height + CHART.top + CHART.height + 60
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" font-family="sans-serif" font-size="12">
<title>Tessera, its peers and the floor</title>
<rect width="${WIDTH}" height="${height}" fill="white"/>
${bars.text}
${lines}
</svg>
`
}

export const textAt = (x: number, y: number, text: string, more = '') =>
  `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" ${more}>${text.replace(/&/g, '&amp;').replace(/</g, '&lt;')}</text>`

/** Bars are relative to the fastest side of their case, because cases differ a hundredfold. */
function renderBars(results: readonly Result[], colourOf: (side: string) => string) {
  const clients = results.some((result) => result.clients === CLIENTS) ? CLIENTS : results[0]?.clients
  const shown = results.filter(({ one, clients: own }) => !one.growth && own === clients)
  const parts = [textAt(10, 20, `Requests per second with ${clients} clients`, 'font-weight="bold"')]
  let y = 34
  for (const name of new Set(shown.map(({ one }) => one.name))) {
    const own = shown.filter(({ one }) => one.name === name)
    const rates = own.map((result) => medianOf(result, ({ perSecond }) => perSecond) ?? 0)
    const most = Math.max(...rates, 1)
    parts.push(textAt(10, y + BAR - 3, name))
    for (const [index, { side }] of own.entries()) {
      const width = (rates[index]! / most) * (WIDTH - LABEL_WIDTH - 220)
      const label = `${side}: ${Math.round(rates[index]!).toLocaleString('en')}`
      parts.push(
        `<rect x="${LABEL_WIDTH}" y="${y}" width="${width.toFixed(1)}" height="${BAR - 2}" fill="${colourOf(side)}"/>`,
        textAt(LABEL_WIDTH + width + 6, y + BAR - 4, label, 'font-size="11"'),
      )
      y += BAR
    }
    y += 8
  }
  return { text: parts.join('\n'), height: y + 10 }
}

/** Both axes are logarithmic. */
function renderGrowth(results: readonly Result[], colourOf: (side: string) => string, above: number) {
  const points = results.flatMap((result) => {
    const p95 = medianOf(result, ({ p95Ms }) => p95Ms)
    const { growth } = result.one
    return growth && p95 ? [{ side: result.side, p95, ...growth }] : []
  })
  if (points.length === 0) return ''
  const top = above + CHART.top
  const bottom = top + CHART.height
  const right = WIDTH - CHART.right
  const scale = (values: readonly number[], from: number, to: number) => {
    const [least, most] = [Math.log10(Math.min(...values)), Math.log10(Math.max(...values))]
    return (value: number) => from + ((Math.log10(value) - least) / (most - least || 1)) * (to - from)
  }
  const allRows = [...new Set(points.map(({ rows }) => rows))].sort((a, b) => a - b)
  const times = points.map(({ p95 }) => p95)
  const decades = [0.1, 1, 10, 100, 1_000].flatMap((decade) => [decade, decade * 2, decade * 5])
  const floorMs = Math.max(...decades.filter((ms) => ms <= Math.min(...times)), 0.1)
  const ceilingMs = Math.min(...decades.filter((ms) => ms >= Math.max(...times)), 5_000)
  const x = scale(allRows, CHART.left, right)
  const y = scale([floorMs, ceilingMs], bottom, top)
  const parts = [
    textAt(
      10,
      top - 16,
      'p95 of a page of 100 in a box of one degree, ms, by the rows of its table',
      'font-weight="bold"',
    ),
  ]
  for (const ms of decades.filter((tick) => tick >= floorMs && tick <= ceilingMs))
    parts.push(
      `<line x1="${CHART.left}" x2="${right}" y1="${y(ms).toFixed(1)}" y2="${y(ms).toFixed(1)}" stroke="#dddddd"/>`,
      textAt(CHART.left - 8, y(ms) + 4, String(ms), 'text-anchor="end"'),
    )
  for (const rows of allRows)
    parts.push(textAt(x(rows), bottom + 18, rows.toLocaleString('en'), 'text-anchor="middle"'))
  const labels: { readonly at: number; readonly text: string; readonly colour: string }[] = []
  for (const isManaged of [false, true])
    for (const side of new Set(points.map((point) => point.side))) {
      const own = points.filter((point) => point.side === side && point.isManaged === isManaged)
      if (own.length === 0) continue
      const path = own.map(({ rows, p95 }) => `${x(rows).toFixed(1)},${y(p95).toFixed(1)}`).join(' ')
      const dashes = isManaged ? ' stroke-dasharray="6 4"' : ''
      parts.push(
        `<polyline points="${path}" fill="none" stroke="${colourOf(side)}" stroke-width="2"${dashes}/>`,
      )
      const last = own.at(-1)!
      labels.push({
        at: y(last.p95),
        text: `${side}${isManaged ? ', imported' : ''}: ${last.p95.toFixed(1)}`,
        colour: colourOf(side),
      })
    }
  // Labels at the ends of the lines move down until they do not cover one another.
  let free = 0
  for (const { at, text, colour } of labels.sort((a, b) => a.at - b.at)) {
    free = Math.max(at + 4, free)
    parts.push(textAt(right + 8, free, text, `fill="${colour}"`))
    free += 14
  }
  return parts.join('\n')
}
