// Owns tables of facts, which have few columns: on a phone, each row is a card that names its columns.

import { html } from 'ghtml'

/** A column's heading, and its cells as HTML. The first column names the row. */
export type FactColumn<Row> = readonly [heading: string, cell: (row: Row) => string]

/**
 * Returns a table. Its roles are written down, because a browser takes cards for no table.
 * @param none text instead of a table without rows
 */
export function factTable<Row>(
  rows: readonly Row[],
  columns: readonly FactColumn<Row>[],
  none: string,
): string {
  if (rows.length === 0) return html`<p class="none">${none}</p>`
  const head = columns.map(([heading]) => html`<th scope="col" role="columnheader">${heading}</th>`)
  const body = rows.map((row) => {
    const cells = columns.map(([heading, cell], index) =>
      index === 0
        ? html`<th scope="row" role="rowheader">!${cell(row)}</th>`
        : html`<td role="cell" data-label="${heading}">!${cell(row)}</td>`,
    )
    return html`<tr role="row">!${cells.join('')}</tr>`
  })
  return html`<table class="facts" role="table"><thead role="rowgroup"><tr role="row">!${head.join('')}</tr></thead>
    <tbody role="rowgroup">!${body.join('')}</tbody></table>`
}

/** Returns the region around a table, which scrolls if the table is wider than the screen. @param label its name */
export const scrolling = (label: string, table: string) =>
  html`<div class="scroll" tabindex="0" role="region" aria-label="${label}">!${table}</div>`
