// Owns the types of local.js.

import type { ColumnKind } from '../../../features/values/column.ts'

export function makeValueText(language: string): (value: unknown, kind?: ColumnKind) => string
