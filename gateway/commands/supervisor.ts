// Owns the message to systemd that the gateway serves, which units of Type=notify wait for.

import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { ConfigError, systemEnvironment } from '../config.ts'

/**
 * Reports that the gateway serves, if a supervisor waits for that. Its socket takes datagrams, which Node cannot send to a
 * path, so that systemd's own program does.
 * @throws ConfigError if it cannot: systemd would end a gateway later that it takes for one that hangs
 */
export async function reportReady(): Promise<void> {
  if (systemEnvironment().notifySocket === undefined) return
  try {
    await promisify(execFile)('systemd-notify', ['--ready'])
  } catch (cause) {
    throw new ConfigError(
      `NOTIFY_SOCKET is set, but systemd-notify could not report that Tessera serves: ${(cause as Error).message.trim()}`,
      { cause },
    )
  }
}
