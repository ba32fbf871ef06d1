// Owns `npm run conformance`, which rewrites docs/reference/conformance.md.

import { writeFileSync } from 'node:fs'
import { CONFORMANCE_FILE, makeConformance } from './conformance.ts'

writeFileSync(CONFORMANCE_FILE, makeConformance())
