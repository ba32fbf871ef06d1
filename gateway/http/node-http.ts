// Owns what Node knows of HTTP: its methods, and the texts of statuses.

/**
 * Not by an import, which reads all exports of the module: one of them is a getter that loads Node's WebSocket client and
 * takes 40 ms of the start.
 */
export const { METHODS, STATUS_CODES } = process.getBuiltinModule('node:http')
