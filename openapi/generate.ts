// `npm run openapi`: writes openapi.json and the client's types anew.

import { writeFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { DOCUMENT_FILE, makeDocument, makeTypes, TYPES_FILE } from './document.ts'

await writeFile(DOCUMENT_FILE, await makeDocument())
await writeFile(TYPES_FILE, await makeTypes(fileURLToPath(DOCUMENT_FILE)))
