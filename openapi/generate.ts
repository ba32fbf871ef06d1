// Owns `npm run openapi`, which rewrites openapi.json and the client's types.

import { writeFile } from 'node:fs/promises'
import { DOCUMENT_FILE, makeDocument, makeTypes, TYPES_FILE } from './document.ts'

const document = await makeDocument()
await writeFile(DOCUMENT_FILE, document)
await writeFile(TYPES_FILE, await makeTypes(document))
